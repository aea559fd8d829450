//! Accepts connections and starts a task for each.

use std::fmt::Display;
use std::future::pending;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use prometheus_rsocket_wire::ErrorCode;
use prometheus_rsocket_wire::connection::Connection;
use prometheus_rsocket_wire::session::Session;
use prometheus_rsocket_wire::transport::Transport as FrameTransport;
use prometheus_rsocket_wire::transport::tcp::Tcp;
use prometheus_rsocket_wire::transport::websocket::{self, HandshakeError, Request, WebSocket};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, copy, sink};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::admission::Place;
use super::applications::{Applications, Secured};
use super::entry::{Arrival, place_among};
use super::metrics::ConnectionFault;
use super::proxy_protocol::HeaderError;
use super::transport::Transport;
use super::{connection, proxy_protocol};
use crate::limits::eviction::{self, Evictable};
use crate::limits::log_limit::LogLimit;
use crate::sockets::{BindError, Ports, canonical, forwarded_for, is_lost, is_trusted};
use crate::tenant::network;
use crate::tls::names;

/// Connections that the kernel completes while none is accepted.
const BACKLOG: u32 = 4096;
/// Why a handshake failed that took too long.
const LATE: &str = "not finished in time";
/// What a client hears that sent no certificate.
const NO_CERTIFICATE: &str = "the proxy requires a client certificate, and this client sent none";
/// What a client hears whose certificate does not hold.
const BAD_CERTIFICATE: &str =
    "the proxy does not accept this client's certificate (see its --rsocket.tls.client-ca-file)";
/// Bytes that are read of a connection that cannot be used.
const MAX_IGNORED: u64 = 64 << 10;

/// Open ports for applications.
#[derive(Debug)]
pub struct Listener {
    ports: Ports,
    transport: Transport,
}

impl Listener {
    /// Opens the ports.
    pub fn bind(addresses: &[SocketAddr], transport: Transport) -> Result<Self, BindError> {
        let ports = Ports::open(addresses, BACKLOG)?;
        Ok(Self { ports, transport })
    }

    /// The real addresses, where port 0 was asked for.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.ports.addresses
    }

    /// Accepts connections until `stop`; then the ports are closed and the connections go on.
    pub async fn run(mut self, apps: Arc<Applications>, stop: CancellationToken) {
        let accept = async {
            loop {
                let (stream, peer) = match self.ports.accept().await {
                    Ok((stream, peer)) => (stream, canonical(peer)),
                    Err(error) => {
                        let name = self.transport.name();
                        let gone =
                            eviction::after_failed_accept(&error, name, &apps.eviction_queues())
                                .await;
                        evicted(&apps, self.transport, gone);
                        continue;
                    }
                };
                let transport = self.transport;
                // This one is left unanswered until there is a place, and those behind it wait in the backlog. A place
                // taken before accepting would be kept from the other listener while this one has no handshake.
                let Some(place) = place(&apps, transport).await else {
                    return;
                };
                let shared = Arc::clone(&apps);
                let end = apps.ended.child_token();
                let evictable = apps.handshakes.join(end.clone());
                apps.tasks.spawn(async move {
                    let serve = serve(&shared, stream, peer, transport, evictable);
                    end.run_until_cancelled(serve).await;
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

/// A place among all connections, and among those that are not set up. Where there is none, the one whose handshakes take the
/// longest has to go; for one among all, also the one that has been left unanswered for the longest.
async fn place(apps: &Applications, transport: Transport) -> Option<OwnedSemaphorePermit> {
    let (place, gone) = eviction::place(&apps.eviction_queues(), apps.admission.place()).await;
    let gone = gone + usize::from(apps.handshakes.room().await);
    evicted(apps, transport, gone);
    place
}

/// So many connections had to go.
fn evicted(apps: &Applications, transport: Transport, gone: usize) {
    static LOG_LIMIT: LogLimit = LogLimit::new(1);
    if gone == 0 {
        return;
    }
    apps.metrics
        .failed(ConnectionFault::Crowded, transport, gone);
    if let Some(suppressed) = LOG_LIMIT.due() {
        warn!(
            suppressed,
            "too many connections before SETUP (--rsocket.max-handshakes, --rsocket.max-connections): \
             closing the oldest of them"
        );
    }
}

/// Serves one connection, from its handshakes to its end.
async fn serve(
    apps: &Applications,
    mut stream: TcpStream,
    peer: SocketAddr,
    transport: Transport,
    evictable: Evictable,
) {
    if let Err(error) = stream.set_nodelay(true) {
        return debug!(%peer, %error, "connection lost");
    }
    let mut arrival = Arrival {
        peer,
        transport,
        certificate: Vec::new(),
        due: Instant::now() + apps.limits.setup_timeout,
        evictable,
    };
    if is_trusted(&apps.balancers, peer) {
        let origin = Box::pin(origin(&mut stream, &mut arrival, apps));
        let Some(peer) = origin.await else {
            return;
        };
        arrival.peer = peer;
    }
    // Behind a trusted reverse proxy, the client's address is known from its request only: see `open_websocket`.
    let _place = if is_of_reverse_proxy(&arrival, apps) {
        None
    } else {
        let Some(place) = Box::pin(place_of_address(&mut arrival, apps)).await else {
            return;
        };
        Some(place)
    };
    let mut handshake = Handshake { apps, arrival };
    match &apps.tls {
        None => handshake.speak(stream).await,
        Some(tls) => {
            if let Some(stream) = Box::pin(handshake.secure(stream, tls)).await {
                handshake.speak(stream).await;
            }
        }
    }
}

/// Whether the request for a WebSocket is to say where the connection comes from.
fn is_of_reverse_proxy(arrival: &Arrival, apps: &Applications) -> bool {
    arrival.transport == Transport::WebSocket && is_trusted(&apps.reverse_proxies, arrival.peer)
}

/// A place among the connections from its address, or `None` after a long time without one. From then on there is time for
/// what goes before its SETUP: it may have waited for longer than that may take.
async fn place_of_address(arrival: &mut Arrival, apps: &Applications) -> Option<Place<IpAddr>> {
    let address = (network(arrival.peer.ip()), apps.admission.max_per_address);
    let place = place_among(
        &apps.admission.addresses,
        address,
        ConnectionFault::AddressConnections,
        arrival,
        apps,
    );
    let place = apps.leaving.run_until_cancelled(place).await??;
    arrival.evictable.move_to(&apps.handshakes);
    arrival.due = Instant::now() + apps.limits.setup_timeout;
    Some(place)
}

/// Where a connection comes from that a balancer passes on.
async fn origin(
    stream: &mut TcpStream,
    arrival: &mut Arrival,
    apps: &Applications,
) -> Option<SocketAddr> {
    let header = timeout_at(arrival.due, proxy_protocol::origin(stream, arrival.peer));
    let reason = match apps.leaving.run_until_cancelled(header).await? {
        Ok(Ok(peer)) => return Some(peer),
        // Whether the port is open is asked so, too.
        Ok(Err(HeaderError::Lost(error))) => {
            debug!(peer = %arrival.peer, %error, "connection lost");
            return None;
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => LATE.into(),
    };
    failed(apps, arrival, ConnectionFault::ProxyProtocol, &reason);
    log_failed(arrival, ConnectionFault::ProxyProtocol, &reason);
    leave_unanswered(stream, arrival, apps).await;
    None
}

/// Waits until a connection that cannot be used is due, or its peer closes it. If it was closed immediately, a Java
/// client on the wrong port, or without a trusted certificate, would reconnect in a tight loop.
async fn leave_unanswered(
    stream: &mut (impl AsyncRead + Unpin),
    arrival: &mut Arrival,
    apps: &Applications,
) {
    arrival.evictable.move_to(&apps.unanswered);
    let ended = async {
        // What is behind that is not worth reading, even to see the end.
        let read = copy(&mut stream.take(MAX_IGNORED), &mut sink()).await;
        if matches!(read, Ok(MAX_IGNORED)) {
            pending::<()>().await;
        }
    };
    let ended = timeout_at(arrival.due, Box::pin(ended));
    apps.leaving.run_until_cancelled(ended).await;
}

fn failed(apps: &Applications, arrival: &Arrival, exception: ConnectionFault, reason: &str) {
    apps.metrics.failed(exception, arrival.transport, 1);
    apps.registry
        .refuse(arrival.peer, arrival.transport, exception, reason);
}

fn log_failed(arrival: &Arrival, exception: ConnectionFault, reason: &str) {
    static LOG_LIMIT: LogLimit = LogLimit::new(5);
    let (peer, transport) = (arrival.peer, arrival.transport.name());
    let exception = exception.label();
    match LOG_LIMIT.due() {
        Some(suppressed) => {
            info!(%peer, transport, exception, reason, suppressed, "handshake failed");
        }
        None => debug!(%peer, transport, exception, reason, "handshake failed"),
    }
}

/// Why a handshake failed.
trait HandshakeFailure: Display {
    /// Whether the connection just ended.
    fn is_lost(&self) -> bool;
}

impl HandshakeFailure for io::Error {
    fn is_lost(&self) -> bool {
        is_lost(self)
    }
}

impl HandshakeFailure for HandshakeError {
    fn is_lost(&self) -> bool {
        matches!(self, Self::Io(error) if is_lost(error))
    }
}

/// A connection before its SETUP.
struct Handshake<'a> {
    apps: &'a Applications,
    arrival: Arrival,
}

impl<'a> Handshake<'a> {
    /// The TLS handshake. A client without a required certificate, or with an invalid one, gets no answer until it is due:
    /// if it was told at once, a Java client would reconnect in a tight loop. (In TLS 1.3 its handshake is over by then.)
    async fn secure(
        &mut self,
        stream: TcpStream,
        tls: &Secured,
    ) -> Option<Box<TlsStream<TcpStream>>> {
        let offer = Arc::clone(&tls.offer.borrow());
        let config = Arc::clone(&offer.config);
        let handshake = TlsAcceptor::from(config).accept(stream).into_fallible();
        let mut stream = self.shake(handshake, |_| ConnectionFault::Tls).await?;
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let wanted = tls.mutual && !self.apps.identities.borrow().asks();
        let refused = match chain.first() {
            None => wanted.then(|| {
                let reason = "the client sent no certificate".to_owned();
                (NO_CERTIFICATE, reason)
            }),
            Some(_) => offer
                .verify(chain)
                .err()
                .map(|error| (BAD_CERTIFICATE, error.to_string())),
        };
        if let Some((told, reason)) = refused {
            self.failed(ConnectionFault::ClientCertificate, &reason);
            log_failed(&self.arrival, ConnectionFault::ClientCertificate, &reason);
            leave_unanswered(&mut stream, &mut self.arrival, self.apps).await;
            self.tell(stream, told).await;
            return None;
        }
        self.arrival.certificate = chain
            .first()
            .and_then(|own| names(own).ok())
            .unwrap_or_default();
        Some(Box::new(stream))
    }

    /// Says why the connection is refused. TLS cannot: its handshake is over.
    async fn tell(&self, stream: TlsStream<TcpStream>, why: &'static str) {
        let limits = self.apps.limits;
        match self.arrival.transport {
            Transport::Tcp => {
                let session = Session::accepting(limits, Instant::now().into_std());
                let mut connection = Connection::new(session, Tcp::new(stream, limits.max_frame));
                connection.session().close(ErrorCode::REJECTED_SETUP, why);
                Box::pin(connection.finish()).await;
            }
            Transport::WebSocket => Box::pin(websocket::refuse(stream, why)).await,
        }
    }

    /// What goes over the bytes: frames as they are, or in WebSocket messages.
    async fn speak<S>(mut self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'a,
    {
        match self.arrival.transport {
            Transport::Tcp => {
                let frames = Tcp::new(stream, self.apps.limits.max_frame);
                self.converse(frames).await;
            }
            Transport::WebSocket => {
                let opened = Box::pin(self.open_websocket(stream));
                if let Some((frames, _place)) = opened.await {
                    self.converse(frames).await;
                }
            }
        }
    }

    /// The WebSocket handshake. A reverse proxy's request says where the connection comes from; with the WebSocket comes its
    /// place among the connections from there.
    async fn open_websocket<S>(
        &mut self,
        stream: S,
    ) -> Option<(WebSocket<S>, Option<Place<IpAddr>>)>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin,
    {
        let label = |failure: Option<&HandshakeError>| match failure {
            Some(HandshakeError::Origin) => ConnectionFault::Origin,
            _ => ConnectionFault::Handshake,
        };
        let request = self.shake(Request::read(stream), label).await?;
        let place = if is_of_reverse_proxy(&self.arrival, self.apps) {
            let lines = request.values(forwarded_for::NAME);
            let peer = self.arrival.peer;
            self.arrival.peer = forwarded_for::client(peer, lines, &self.apps.reverse_proxies);
            Some(place_of_address(&mut self.arrival, self.apps).await?)
        } else {
            None
        };
        let max_frame = self.apps.limits.max_frame;
        let accepted = WebSocket::accept(request, max_frame, &self.apps.allowed_origins);
        Some((self.shake(accepted, label).await?, place))
    }

    fn converse<T: FrameTransport + 'a>(self, frames: T) -> BoxFuture<'a, ()> {
        let (limits, memory) = (self.apps.limits, Arc::clone(&self.apps.memory));
        let since = self.arrival.due - limits.setup_timeout;
        let session = Session::accepting(limits, since.into_std());
        // Boxed, here and in `connection`, for what thousands of idle connections cost: a future is as large as the
        // largest of its branches, and holds what is moved within it twice.
        let connection = Box::new(Connection::new(session, frames).sharing(memory));
        let run = connection::run(connection, self.arrival, self.apps);
        Box::pin(run)
    }

    /// A handshake, or `None` when it failed or was not over in time. `exception` gives the label of a failure, none of
    /// which is known where the time was over.
    async fn shake<H, E: HandshakeFailure, S: AsyncRead + Unpin>(
        &mut self,
        handshake: impl Future<Output = Result<H, (E, S)>>,
        exception: impl Fn(Option<&E>) -> ConnectionFault,
    ) -> Option<H> {
        let handshake = timeout_at(self.arrival.due, handshake);
        match self.apps.leaving.run_until_cancelled(handshake).await? {
            Ok(Ok(done)) => return Some(done),
            Ok(Err((error, mut stream))) => {
                let (fault, reason) = (exception(Some(&error)), error.to_string());
                self.failed(fault, &reason);
                if !error.is_lost() {
                    log_failed(&self.arrival, fault, &reason);
                }
                leave_unanswered(&mut stream, &mut self.arrival, self.apps).await;
            }
            Err(_) => {
                let fault = exception(None);
                self.failed(fault, LATE);
                log_failed(&self.arrival, fault, LATE);
            }
        }
        None
    }

    fn failed(&self, exception: ConnectionFault, reason: &str) {
        failed(self.apps, &self.arrival, exception, reason);
    }
}
