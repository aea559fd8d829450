//! From a proxy's address to a connection that sends SETUP: TCP, an HTTP proxy, TLS, WebSocket, each with a time limit.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use prometheus_rsocket_wire::transport::tcp::Tcp;
#[cfg(feature = "websocket")]
use prometheus_rsocket_wire::transport::websocket::{HandshakeError, WebSocket};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::Address;
use crate::address::Framing;
use crate::attempt::Stage;
use crate::connection::{self, MAX_FRAME, Running};
use crate::credentials::Credentials;
use crate::failure::Failure;
use crate::http_proxy::HttpProxy;
use crate::metrics::Reason;
use crate::state::State;
#[cfg(feature = "tls")]
use crate::tls::Tls;
use crate::tunnel;

/// Time limit for connecting, and for each handshake.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// How long each address of a name is tried alone before the next one is tried beside it (RFC 8305, section 5). An address
/// that does not answer at all must not delay the others.
const HEAD_START: Duration = Duration::from_millis(250);
/// Addresses of a name that one attempt tries. The next attempt takes others.
const MAX_ADDRESSES: usize = 16;

/// How sockets are made.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sockets {
    pub(crate) credentials: Credentials,
    pub(crate) http_proxy: Option<HttpProxy>,
    #[cfg(feature = "tls")]
    pub(crate) tls: Tls,
}

impl Sockets {
    /// The HTTP proxy through which this address is reached.
    fn http_proxy(&self, address: &Address) -> Option<&HttpProxy> {
        self.http_proxy
            .as_ref()
            .filter(|proxy| proxy.serves(address))
    }
}

/// A stream of bytes of whatever kind.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// The addresses to connect to: those of the host or, where there is one, of the HTTP proxy, which looks the host up itself.
/// Looked up for each attempt. Shuffled within each family, so that applications with one name spread over its addresses.
pub(crate) async fn resolve(
    sockets: &Sockets,
    address: &Address,
) -> Result<VecDeque<SocketAddr>, Failure> {
    match sockets.http_proxy(address) {
        None => look_up(&address.host, address.port).await,
        Some(proxy) => look_up(proxy.host(), proxy.port())
            .await
            .map_err(|failure| unreachable(proxy, &failure)),
    }
}

async fn look_up(host: &str, port: u16) -> Result<VecDeque<SocketAddr>, Failure> {
    let lookup = lookup_host((host, port));
    let found = timeout(STEP_TIMEOUT, lookup).await;
    let found = found.map_err(|_| late(Stage::LookUp))?;
    let found = found.map_err(|error| {
        let text = format!("cannot look up the name {host}: {error}");
        Failure::new(Reason::Network, text)
    })?;
    let mut found: Vec<SocketAddr> = found.collect();
    let preferred = found.first().map(SocketAddr::is_ipv6);
    fastrand::shuffle(&mut found);
    found.sort_by_key(|candidate| Some(candidate.is_ipv6()) != preferred);
    found.truncate(MAX_ADDRESSES);
    Ok(found.into())
}

/// Connects to the first of these addresses that accepts, and starts the connection's task. Removes those that were tried.
pub(crate) async fn connect(
    sockets: &Sockets,
    address: &Address,
    candidates: &mut VecDeque<SocketAddr>,
    state: &Arc<State>,
) -> Result<Running, Failure> {
    let stage = |stage| state.attempting(address, stage);
    let setup = sockets.credentials.setup(address).await?;
    let stream = secured(sockets, address, candidates, stage).await?;
    let state = Arc::clone(state);
    let running = match address.framing {
        Framing::Tcp => connection::start(state, setup, Tcp::new(stream, MAX_FRAME)),
        #[cfg(feature = "websocket")]
        Framing::WebSocket => {
            let uri = format!("{address}/");
            state.attempting(address, Stage::WebSocket);
            let handshake = WebSocket::connect(stream, &uri, MAX_FRAME);
            let frames = in_time(Stage::WebSocket, handshake).await?;
            let frames = frames.map_err(|error| not_websocket(&error))?;
            connection::start(state, setup, frames)
        }
    };
    running.map_err(|error| Failure::lasting(Reason::Protocol, error))
}

/// A connection to the first of these addresses that accepts one, with TLS where the scheme says so. `stage` is told what is
/// waited for.
pub(crate) async fn secured(
    sockets: &Sockets,
    address: &Address,
    candidates: &mut VecDeque<SocketAddr>,
    stage: impl Fn(Stage),
) -> Result<Box<dyn Stream>, Failure> {
    stage(Stage::Connection);
    let stream = match sockets.http_proxy(address) {
        None => tcp(candidates).await?,
        Some(proxy) => tunnelled(proxy, address, candidates).await?,
    };
    if !address.secure {
        return Ok(Box::new(stream));
    }
    #[cfg(feature = "tls")]
    {
        stage(Stage::Tls);
        let handshake = sockets.tls.handshake(&address.host, stream);
        let secured = in_time(Stage::Tls, handshake).await?;
        Ok(Box::new(secured.map_err(|error| error.failure())?))
    }
    #[cfg(not(feature = "tls"))]
    {
        let _ = sockets;
        Err(Failure::lasting(Reason::Tls, "TLS is not built in"))
    }
}

async fn tunnelled(
    proxy: &HttpProxy,
    address: &Address,
    candidates: &mut VecDeque<SocketAddr>,
) -> Result<TcpStream, Failure> {
    let connected = tcp(candidates).await;
    let mut stream = connected.map_err(|failure| unreachable(proxy, &failure))?;
    let opened = timeout(STEP_TIMEOUT, tunnel::open(&mut stream, proxy, address)).await;
    opened.unwrap_or_else(|_| {
        let text = format!("the HTTP proxy {proxy} did not answer CONNECT within 10 s");
        Err(Failure::new(Reason::Timeout, text))
    })?;
    Ok(stream)
}

fn unreachable(proxy: &HttpProxy, failure: &Failure) -> Failure {
    let text = format!("the HTTP proxy {proxy} cannot be reached: {failure}");
    Failure::new(failure.reason, text)
}

async fn tcp(candidates: &mut VecDeque<SocketAddr>) -> Result<TcpStream, Failure> {
    let connecting = first_of(candidates, TcpStream::connect);
    let connected = timeout(STEP_TIMEOUT, connecting).await;
    let connected = connected.map_err(|_| late(Stage::Connection))?;
    let stream = connected.map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused => Failure::new(
            Reason::Refused,
            "connection refused (is the proxy running, and is this its port?)",
        ),
        io::ErrorKind::TimedOut => late(Stage::Connection),
        _ => Failure::new(Reason::Network, error),
    })?;
    // Pushes and keys are small and must not wait for one another; without it they still arrive.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// The first connection that succeeds. An address is tried when the one before it has failed, or has had its head start.
/// The error is that of the attempt that failed last.
async fn first_of<C, F>(
    addresses: &mut VecDeque<SocketAddr>,
    connect: impl Fn(SocketAddr) -> F,
) -> io::Result<C>
where
    C: Send + 'static,
    F: Future<Output = io::Result<C>> + Send + 'static,
{
    let mut attempts = JoinSet::new();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        if let Some(address) = addresses.pop_front() {
            attempts.spawn(connect(address));
        }
        tokio::select! {
            attempted = attempts.join_next() => match attempted {
                Some(Ok(Ok(connection))) => return Ok(connection),
                Some(Ok(Err(error))) => failure = error,
                Some(Err(broken)) => failure = broken.into(),
                None => return Err(failure),
            },
            () = sleep(HEAD_START), if !addresses.is_empty() => {}
        }
    }
}

#[cfg(any(feature = "tls", feature = "websocket"))]
async fn in_time<T>(stage: Stage, handshake: impl Future<Output = T>) -> Result<T, Failure> {
    let done = timeout(STEP_TIMEOUT, handshake).await;
    done.map_err(|_| late(stage))
}

fn late(stage: Stage) -> Failure {
    Failure::new(Reason::Timeout, stage)
}

#[cfg(feature = "websocket")]
fn not_websocket(error: &HandshakeError) -> Failure {
    match error {
        HandshakeError::Io(error) => Failure::new(
            Reason::WebSocket,
            format!("the connection broke in the WebSocket handshake: {error}"),
        ),
        // A balancer without a backend, for one.
        HandshakeError::Refused(status @ 500..) => Failure::new(
            Reason::WebSocket,
            format!("the port answers the WebSocket handshake with HTTP status {status}"),
        ),
        HandshakeError::Unauthorized(reason) => Failure::lasting(Reason::Credentials, reason),
        HandshakeError::Refused(status) => Failure::lasting(
            Reason::WebSocket,
            format!(
                "the port answers the WebSocket handshake with HTTP status {status} (is it the proxy's port for \
                 WebSocket?)"
            ),
        ),
        HandshakeError::Invalid(_)
        | HandshakeError::Foreign(_)
        | HandshakeError::TooLong
        | HandshakeError::Mismatch
        | HandshakeError::Origin => Failure::lasting(
            Reason::WebSocket,
            "the port does not answer the WebSocket handshake as a WebSocket server does (is it one for wss:// or \
             tcp://?)",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::pin::Pin;

    use tokio::time::Instant;

    use super::*;

    type Attempt = Pin<Box<dyn Future<Output = io::Result<u16>> + Send>>;

    /// Port 1 is where nobody answers, port 2 where connections are refused; others give their number.
    fn connect(address: SocketAddr) -> Attempt {
        match address.port() {
            1 => Box::pin(pending()),
            2 => Box::pin(ready(Err(io::ErrorKind::ConnectionRefused.into()))),
            port => Box::pin(ready(Ok(port))),
        }
    }

    async fn first_of_ports(ports: &[u16]) -> io::Result<u16> {
        let addresses = ports
            .iter()
            .map(|port| SocketAddr::from(([127, 0, 0, 1], *port)));
        first_of(&mut addresses.collect(), connect).await
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_that_nobody_answers_at_keep_nobody_from_the_others() {
        let begin = Instant::now();
        assert_eq!(first_of_ports(&[1, 1, 3, 4]).await.unwrap(), 3);
        assert_eq!(begin.elapsed(), 2 * HEAD_START);
    }

    #[tokio::test]
    async fn those_that_were_not_tried_are_left() {
        let mut addresses = [2, 3, 4]
            .map(|port| SocketAddr::from(([127, 0, 0, 1], port)))
            .into();
        assert_eq!(first_of(&mut addresses, connect).await.unwrap(), 3);
        assert_eq!(first_of(&mut addresses, connect).await.unwrap(), 4);
        assert!(addresses.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_address_is_tried_at_once_where_one_refuses() {
        let begin = Instant::now();
        assert_eq!(first_of_ports(&[2, 2, 3]).await.unwrap(), 3);
        assert_eq!(begin.elapsed(), Duration::ZERO);
        let refused = first_of_ports(&[2, 2]).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        assert!(first_of_ports(&[]).await.is_err());
    }
}
