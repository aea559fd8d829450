//! Accepts connections and starts a task for each.

use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use prometheus_rsocket_wire::connection::Connection;
use prometheus_rsocket_wire::session::Session;
use prometheus_rsocket_wire::transport::Transport as FrameTransport;
use prometheus_rsocket_wire::transport::tcp::Tcp;
use prometheus_rsocket_wire::transport::websocket::WebSocket;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::admission::MAX_UNANSWERED;
use super::applications::{Applications, Secured};
use super::connection;
use super::entry::Arrival;
use super::registry::Transport;
use crate::tls::names;

/// Connections that the kernel completes while none is accepted; it takes less where its own limit is lower.
const BACKLOG: u32 = 4096;
/// After a failed accept (out of descriptors, mostly), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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

/// Serves one connection, from its handshakes to its end.
async fn serve(apps: &Applications, stream: TcpStream, peer: SocketAddr, transport: Transport) {
    let (addresses, max) = (&apps.admission.addresses, apps.admission.max_per_address);
    let address = peer.ip();
    let place = timeout(MAX_UNANSWERED, addresses.place_of(&address, max));
    let Some(Ok(_place)) = apps.leaving.run_until_cancelled(place).await else {
        return debug!(%peer, "no place for another connection of this address");
    };
    if let Err(error) = stream.set_nodelay(true) {
        return debug!(%peer, %error, "connection lost");
    }
    let accepted_at = Instant::now();
    let mut visitor = Visitor {
        apps,
        arrival: Arrival {
            peer,
            transport,
            certificate: Vec::new(),
            due: accepted_at + apps.limits.setup_timeout,
        },
        // Boxed, here and in `connection`, for what thousands of idle connections cost: a future is as large as the
        // largest of its branches, and holds what is moved within it twice.
        session: Box::new(Session::accepting(apps.limits, accepted_at.into_std())),
    };
    match &apps.tls {
        None => visitor.speak(stream).await,
        Some(tls) => {
            if let Some(stream) = Box::pin(visitor.secure(stream, tls)).await {
                visitor.speak(stream).await;
            }
        }
    }
}

/// A connection before its SETUP.
struct Visitor<'a> {
    apps: &'a Applications,
    arrival: Arrival,
    session: Box<Session>,
}

impl<'a> Visitor<'a> {
    /// The TLS handshake. A client that was to show a certificate and has none is left unanswered until it is due: told
    /// so, a Java client would be back at once, for ever.
    async fn secure(
        &mut self,
        stream: TcpStream,
        tls: &Secured,
    ) -> Option<Box<TlsStream<TcpStream>>> {
        let config = Arc::clone(&tls.config.borrow());
        let stream = self
            .shake(TlsAcceptor::from(config).accept(stream), "tls")
            .await?;
        let certificates = stream.get_ref().1.peer_certificates();
        if let Some(certificate) = certificates.and_then(<[_]>::first) {
            self.arrival.certificate = names(certificate).unwrap_or_default();
        } else if tls.mutual && !self.apps.identities.borrow().asks() {
            self.failed("client_certificate", "the client shows no certificate");
            let patience = sleep_until(self.arrival.due);
            self.apps.leaving.run_until_cancelled(patience).await;
            return None;
        }
        Some(Box::new(stream))
    }

    /// What goes over the bytes: frames as they are, or in WebSocket messages.
    async fn speak<S>(self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'a,
    {
        let max_frame = self.apps.limits.max_frame;
        match self.arrival.transport {
            Transport::Tcp => self.converse(Tcp::new(stream, max_frame)).await,
            Transport::WebSocket => {
                let handshake = WebSocket::accept(stream, max_frame);
                if let Some(frames) = Box::pin(self.shake(handshake, "handshake")).await {
                    self.converse(frames).await;
                }
            }
        }
    }

    fn converse<T: FrameTransport + 'a>(self, frames: T) -> BoxFuture<'a, ()> {
        let connection = Box::new(Connection::new(*self.session, frames));
        let run = connection::run(connection, self.arrival, self.apps);
        Box::pin(run)
    }

    /// A handshake, or `None` when it failed or was not over in time.
    async fn shake<H, E: Display>(
        &self,
        handshake: impl Future<Output = Result<H, E>>,
        exception: &'static str,
    ) -> Option<H> {
        let handshake = timeout_at(self.arrival.due, handshake);
        let reason = match self.apps.leaving.run_until_cancelled(handshake).await? {
            Ok(Ok(done)) => return Some(done),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "not finished in time".into(),
        };
        self.failed(exception, &reason);
        None
    }

    fn failed(&self, exception: &'static str, reason: &str) {
        let labels = [exception, self.arrival.transport.label()];
        let errors = &self.apps.metrics.connection_errors;
        errors.with_label_values(&labels).inc();
        debug!(peer = %self.arrival.peer, exception, reason, "handshake failed");
    }
}
