//! Takes the connections of other nodes, within bounds: so many at a time, a handshake within a time, and one that is
//! silent is ended.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use hyper::server::conn::http2;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_io_timeout::TimeoutStream;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::service::Service;
use super::{CallIdentity, Calling, MAX_PULLS, directory};
use crate::cluster::Metrics;
use crate::cluster::metrics::CallerFault;
use crate::cluster::roster::MAX_NODES;
use crate::limits::eviction::{self, Evictable, EvictionQueue};
use crate::sockets::canonical;

/// Connections at a time; more wait in the backlog, and have those ended that have not called for longest. Each other
/// node makes one and keeps it; a quarter more is for those of nodes that are gone and not yet found to be silent.
const MAX_CONNECTIONS: usize = MAX_NODES + MAX_NODES / 4;
/// Calls of one connection at a time; the caller keeps more back. Most are pulls.
const MAX_CALLS: u32 = 32 + MAX_PULLS as u32;
/// Bytes of a call's headers.
const MAX_HEADERS: u32 = 16 << 10;
/// A TLS handshake that takes longer is ended.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// The other end is asked for a sign of life after this.
const PING: Duration = Duration::from_secs(10);
/// A connection on which nothing comes, or nothing can be sent, for this long is ended.
const SILENT: Duration = Duration::from_secs(30);

/// An open port for other nodes.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    /// The real address, where port 0 was asked for.
    pub address: SocketAddr,
}

impl Listener {
    /// Opens the port.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpListener::bind(address).await?;
        let address = socket.local_addr()?;
        Ok(Self { socket, address })
    }

    /// Answers the calls of those that may call, which are those that `here` may call, until `ended`.
    pub fn run(
        self,
        here: &Calling,
        ended: CancellationToken,
    ) -> impl Future<Output = ()> + Send + use<> {
        let services = Services {
            pushes: Service::new(here),
            directory: directory::Service::new(here),
        };
        self.accept_all(
            services,
            here.identity.clone(),
            Arc::clone(&here.metrics),
            ended,
        )
    }

    async fn accept_all(
        self,
        services: Services,
        identity: Option<CallIdentity>,
        metrics: Arc<Metrics>,
        ended: CancellationToken,
    ) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let handshakes = EvictionQueue::new(MAX_CONNECTIONS);
        let evicted = metrics.ended(CallerFault::Crowded);
        loop {
            match self.socket.accept().await {
                Ok((stream, peer)) => {
                    let peer = canonical(peer);
                    let place = Arc::clone(&places).acquire_owned();
                    let (place, gone) = eviction::place(&[&handshakes], place).await;
                    evicted.inc_by(gone as u64);
                    let end = ended.child_token();
                    let evictable = handshakes.join(end.clone());
                    let connection = serve(stream, identity.clone(), services.clone(), evictable);
                    let metrics = Arc::clone(&metrics);
                    tokio::spawn(async move {
                        let end = end.run_until_cancelled(connection).await;
                        if let Some(Err(error)) = end {
                            metrics.ended((&error).into()).inc();
                            debug!(%peer, %error, "connection of another node ended early");
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    let gone = eviction::after_failed_accept(&error, "grpc", &[&handshakes]).await;
                    evicted.inc_by(gone as u64);
                }
            }
        }
    }
}

/// What answers calls.
#[derive(Clone)]
struct Services {
    pushes: Service,
    directory: directory::Service,
}

/// Why a connection was ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("handshake: {0}")]
    Handshake(io::Error),
    #[error("handshake: not done within {}", humantime::format_duration(HANDSHAKE))]
    HandshakeTimeout,
    #[error("HTTP/2: {0}")]
    Protocol(#[from] hyper::Error),
}

impl From<&Ended> for CallerFault {
    fn from(ended: &Ended) -> Self {
        match ended {
            Ended::Handshake(_) => Self::Handshake,
            Ended::HandshakeTimeout => Self::HandshakeTimeout,
            Ended::Protocol(_) => Self::Protocol,
        }
    }
}

async fn serve(
    stream: TcpStream,
    identity: Option<CallIdentity>,
    services: Services,
    evictable: Evictable,
) -> Result<(), Ended> {
    // Without it a call is a few milliseconds slower, that is all.
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_read_timeout(Some(SILENT));
    stream.set_write_timeout(Some(SILENT));
    let stream = shake_hands(Box::pin(stream), identity.as_ref()).await?;
    let pushes = TowerToHyperService::new(services.pushes.into_server());
    let directory = TowerToHyperService::new(services.directory.into_server());
    let evictable = Mutex::new(Some(evictable));
    let first_call_seen = service_fn(move |call: hyper::Request<_>| {
        drop(evictable.lock().take());
        match directory::is_directory(call.uri().path()) {
            true => directory.call(call).left_future(),
            false => pushes.call(call).right_future(),
        }
    });
    let serving = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .max_concurrent_streams(MAX_CALLS)
        .max_header_list_size(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), first_call_seen);
    Ok(serving.await?)
}

async fn shake_hands<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    identity: Option<&CallIdentity>,
) -> Result<impl AsyncRead + AsyncWrite + Unpin + use<S>, Ended> {
    let Some(identity) = identity else {
        return Ok(Either::Left(stream));
    };
    let handshake = timeout(HANDSHAKE, identity.acceptor().accept(stream)).await;
    let stream = handshake.map_err(|_| Ended::HandshakeTimeout)?;
    Ok(Either::Right(stream.map_err(Ended::Handshake)?))
}
