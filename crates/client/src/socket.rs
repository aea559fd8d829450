//! From a proxy's address to a connection that sends SETUP: TCP, TLS, WebSocket, each with a time limit.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use prometheus_rsocket_wire::transport::tcp::Tcp;
#[cfg(feature = "websocket")]
use prometheus_rsocket_wire::transport::websocket::WebSocket;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::Address;
use crate::address::Framing;
use crate::connection::{self, MAX_FRAME, Running};
use crate::credentials::Credentials;
use crate::failure::Failure;
use crate::metrics::Reason;
use crate::state::State;
#[cfg(feature = "tls")]
use crate::tls::Tls;

/// For the connection to be made, and for each handshake on it; a proxy that takes longer is as good as not there.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);

/// How sockets are made.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sockets {
    pub(crate) credentials: Credentials,
    #[cfg(feature = "tls")]
    pub(crate) tls: Tls,
}

/// A stream of bytes of whatever kind.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Connects to `address` and starts the connection's task.
pub(crate) async fn connect(
    sockets: &Sockets,
    address: &Address,
    state: &Arc<State>,
) -> Result<Running, Failure> {
    let setup = sockets.credentials.setup(address).await?;
    let stream = secured(sockets, address).await?;
    let state = Arc::clone(state);
    let running = match address.framing {
        Framing::Tcp => connection::start(state, setup, Tcp::new(stream, MAX_FRAME)),
        #[cfg(feature = "websocket")]
        Framing::WebSocket => {
            let uri = format!("{address}/");
            let handshake = WebSocket::connect(stream, &uri, MAX_FRAME);
            let frames = in_time(Reason::WebSocket, handshake).await?;
            connection::start(state, setup, frames)
        }
    };
    running.map_err(|error| Failure::new(Reason::Protocol, error))
}

async fn secured(sockets: &Sockets, address: &Address) -> Result<Box<dyn Stream>, Failure> {
    let stream = tcp(address).await?;
    if !address.secure {
        return Ok(Box::new(stream));
    }
    #[cfg(feature = "tls")]
    {
        let handshake = sockets.tls.handshake(&address.host, stream);
        Ok(Box::new(in_time(Reason::Tls, handshake).await?))
    }
    #[cfg(not(feature = "tls"))]
    {
        let _ = sockets;
        Err(Failure::new(Reason::Tls, "TLS is not built in"))
    }
}

async fn tcp(address: &Address) -> Result<TcpStream, Failure> {
    let connecting = TcpStream::connect((address.host.as_str(), address.port));
    let connected = timeout(STEP_TIMEOUT, connecting).await.map_err(late)?;
    let stream = connected.map_err(|error| {
        let reason = match error.kind() {
            io::ErrorKind::ConnectionRefused => Reason::Refused,
            io::ErrorKind::TimedOut => Reason::Timeout,
            _ => Reason::Network,
        };
        Failure::new(reason, error)
    })?;
    // Pushes and keys are small and must not wait for one another; without it they still arrive.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

#[cfg(any(feature = "tls", feature = "websocket"))]
async fn in_time<T, E: std::fmt::Display>(
    reason: Reason,
    handshake: impl Future<Output = Result<T, E>>,
) -> Result<T, Failure> {
    let done = timeout(STEP_TIMEOUT, handshake).await.map_err(late)?;
    done.map_err(|error| Failure::new(reason, error))
}

fn late(_: tokio::time::error::Elapsed) -> Failure {
    Failure::new(Reason::Timeout, "took longer than 10 s")
}
