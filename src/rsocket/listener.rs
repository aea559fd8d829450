//! Accepts connections and starts a task for each.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use prometheus_rsocket_wire::connection::Connection;
use prometheus_rsocket_wire::session::{Limits, Session};
use prometheus_rsocket_wire::transport::tcp::Tcp;
use prometheus_rsocket_wire::transport::websocket::WebSocket;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::admission::Admission;
use super::registry::{Registry, Transport};
use super::{KeyRing, PushSink, connection};
use crate::metrics::Metrics;
use crate::settings;

/// Connections that the kernel completes while none is accepted; it takes less where its own limit is lower.
const BACKLOG: u32 = 4096;
/// After a failed accept (out of descriptors, mostly), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The longest that a connection past its address' limit is left unanswered before it is closed.
const MAX_UNANSWERED: Duration = Duration::from_secs(60);

/// What all connections share.
pub struct Applications {
    /// The connected ones.
    pub registry: Arc<Registry>,
    /// What they seal with.
    pub keys: Arc<KeyRing>,
    /// Where their pushes go.
    pub pushes: Arc<dyn PushSink>,
    /// The node's metrics.
    pub metrics: Arc<Metrics>,
    limits: Limits,
    admission: Admission,
    tasks: TaskTracker,
    /// The node leaves: connections end in good order.
    pub(super) leaving: CancellationToken,
    /// The node has ended: connections end.
    ended: CancellationToken,
}

impl Applications {
    /// Once `ended`, every connection ends at once. `max_text` is the longest decompressed text, in bytes; what travels may be a little longer.
    pub fn new(
        settings: &settings::RSocket,
        max_text: usize,
        registry: Arc<Registry>,
        keys: Arc<KeyRing>,
        pushes: Arc<dyn PushSink>,
        metrics: Arc<Metrics>,
        ended: CancellationToken,
    ) -> Self {
        // Snappy lets text that does not compress grow by a sixth; the rest is for padding and the wrapped key.
        let max_payload = max_text
            .saturating_add(max_text / 6)
            .saturating_add(4 << 10);
        Self {
            registry,
            keys,
            pushes,
            metrics,
            limits: Limits {
                max_frame: settings.max_frame,
                max_payload,
                max_queued_frames: settings.max_queued_frames,
                setup_timeout: settings.setup_timeout,
                ..Limits::default()
            },
            admission: Admission::new(
                settings.max_connections,
                settings.max_connections_per_address,
            ),
            tasks: TaskTracker::new(),
            leaving: CancellationToken::new(),
            ended,
        }
    }

    /// Ends every connection once its pull is over, and waits until all have ended and every push that came is held or
    /// refused. No listener runs any more.
    pub async fn leave(&self) {
        self.leaving.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    async fn serve(&self, stream: TcpStream, peer: SocketAddr, transport: Transport) {
        let place = timeout(MAX_UNANSWERED, self.admission.place_of(peer.ip()));
        let Some(Ok(_place)) = self.leaving.run_until_cancelled(place).await else {
            return debug!(%peer, "no place for another connection of this address");
        };
        if let Err(error) = stream.set_nodelay(true) {
            return debug!(%peer, %error, "connection lost");
        }
        // Boxed, here and in `connection`, for what thousands of idle connections cost: a future is as large as the
        // largest of its branches, and holds what is moved within it twice.
        let session = Session::accepting(self.limits, Instant::now().into_std());
        match transport {
            Transport::Tcp => {
                let frames = Tcp::new(stream, self.limits.max_frame);
                let connection = Box::new(Connection::new(session, frames));
                Box::pin(connection::run(connection, peer, transport, self)).await;
            }
            Transport::WebSocket => {
                let handshake = WebSocket::accept(stream, self.limits.max_frame);
                let handshake = timeout(self.limits.setup_timeout, handshake);
                match Box::pin(self.leaving.run_until_cancelled(handshake)).await {
                    None => {}
                    Some(Ok(Ok(frames))) => {
                        let connection = Box::new(Connection::new(session, frames));
                        Box::pin(connection::run(connection, peer, transport, self)).await;
                    }
                    Some(Ok(Err(error))) => self.failed_handshake(peer, &error.to_string()),
                    Some(Err(_)) => self.failed_handshake(peer, "not finished in time"),
                }
            }
        }
    }

    fn failed_handshake(&self, peer: SocketAddr, reason: &str) {
        let label = Transport::WebSocket.label();
        self.metrics
            .connection_errors
            .with_label_values(&["handshake", label])
            .inc();
        debug!(%peer, reason, "WebSocket handshake failed");
    }
}

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
                    let serve = shared.serve(stream, peer, transport);
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
