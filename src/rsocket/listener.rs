//! Accepts connections and starts a task for each.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use prometheus_rsocket_wire::connection::Connection;
use prometheus_rsocket_wire::session::Session;
use prometheus_rsocket_wire::transport::tcp::Tcp;
use prometheus_rsocket_wire::transport::websocket::WebSocket;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::applications::Applications;
use super::connection;
use super::registry::Transport;

/// Connections that the kernel completes while none is accepted; it takes less where its own limit is lower.
const BACKLOG: u32 = 4096;
/// After a failed accept (out of descriptors, mostly), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The longest that a connection past its address' limit is left unanswered before it is closed.
const MAX_UNANSWERED: Duration = Duration::from_secs(60);

/// An open port for applications.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    transport: Transport,
    /// The real address, where port 0 was asked for.
    pub address: SocketAddr,
}

impl Listener {
    /// Opens the port.
    pub fn bind(address: SocketAddr, transport: Transport) -> io::Result<Self> {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let socket = socket.listen(BACKLOG)?;
        let address = socket.local_addr()?;
        Ok(Self {
            socket,
            transport,
            address,
        })
    }

    /// Accepts connections until `stop`; then the port is closed and the connections go on.
    pub async fn run(self, apps: Arc<Applications>, stop: CancellationToken) {
        let accept = async {
            loop {
                let (stream, peer) = match self.socket.accept().await {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        warn!(%error, listener = self.transport.name(), "no connection could be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                };
                // This one is left unanswered until there is a place, and those behind it wait in the backlog. A place
                // taken before accepting would be kept from the other listener while this one has no visitor.
                let Some(place) = apps.admission.place().await else {
                    return;
                };
                let transport = self.transport;
                let shared = Arc::clone(&apps);
                apps.tasks.spawn(async move {
                    let serve = serve(&shared, stream, peer, transport);
                    shared.ended.run_until_cancelled(serve).await;
                    drop(place);
                });
            }
        };
        tokio::select! {
            () = accept => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Serves one connection, from its handshake to its end.
async fn serve(apps: &Applications, stream: TcpStream, peer: SocketAddr, transport: Transport) {
    let place = timeout(MAX_UNANSWERED, apps.admission.place_of(peer.ip()));
    let Some(Ok(_place)) = apps.leaving.run_until_cancelled(place).await else {
        return debug!(%peer, "no place for another connection of this address");
    };
    if let Err(error) = stream.set_nodelay(true) {
        return debug!(%peer, %error, "connection lost");
    }
    // Boxed, here and in `connection`, for what thousands of idle connections cost: a future is as large as the
    // largest of its branches, and holds what is moved within it twice.
    let session = Session::accepting(apps.limits, Instant::now().into_std());
    match transport {
        Transport::Tcp => {
            let frames = Tcp::new(stream, apps.limits.max_frame);
            let connection = Box::new(Connection::new(session, frames));
            Box::pin(connection::run(connection, peer, transport, apps)).await;
        }
        Transport::WebSocket => {
            let handshake = WebSocket::accept(stream, apps.limits.max_frame);
            let handshake = timeout(apps.limits.setup_timeout, handshake);
            match Box::pin(apps.leaving.run_until_cancelled(handshake)).await {
                None => {}
                Some(Ok(Ok(frames))) => {
                    let connection = Box::new(Connection::new(session, frames));
                    Box::pin(connection::run(connection, peer, transport, apps)).await;
                }
                Some(Ok(Err(error))) => failed_handshake(apps, peer, &error.to_string()),
                Some(Err(_)) => failed_handshake(apps, peer, "not finished in time"),
            }
        }
    }
}

fn failed_handshake(apps: &Applications, peer: SocketAddr, reason: &str) {
    let label = Transport::WebSocket.label();
    apps.metrics
        .connection_errors
        .with_label_values(&["handshake", label])
        .inc();
    debug!(%peer, reason, "WebSocket handshake failed");
}
