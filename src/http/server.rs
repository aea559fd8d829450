//! Accepts HTTP connections and serves them within bounds: so many at a time, a request's head within a time, and a
//! reader that takes nothing for that long, or too little, is given up.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::http::HeaderValue;
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use ipnet::IpNet;
use parking_lot::Mutex;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::error::Elapsed;
use tokio::time::{sleep, timeout};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tower_http::compression::CompressionLayer;
use tower_http::compression::CompressionLevel;
use tracing::{debug, info, warn};

use super::delivery::{self, Committing, Left, Outbox};
use super::metrics::HttpFault;
use super::{Metrics, Settings};
use crate::access::{Active, Guard, guard};
use crate::limits::eviction::{self, Evictable, EvictionQueue};
use crate::limits::log_limit::LogLimit;
use crate::sockets::{BindError, Ports, canonical, forwarded_for, is_lost};

/// Bytes of a request's head; a scrape's has a few hundred.
const MAX_HEAD: usize = 16 << 10;
/// Connections that the kernel completes while none is accepted.
const BACKLOG: u32 = 1024;

/// Open ports for Prometheus, probes and people.
#[derive(Debug)]
pub struct Listener {
    ports: Ports,
    settings: Settings,
}

/// A running HTTP server.
#[derive(Debug)]
pub struct Server {
    stop: CancellationToken,
    accepting: JoinHandle<Option<()>>,
}

impl Listener {
    /// Opens the ports.
    pub fn bind(settings: Settings) -> Result<Self, BindError> {
        let ports = Ports::open(&settings.listen_addresses, BACKLOG)?;
        Ok(Self { ports, settings })
    }

    /// The real addresses, where port 0 was asked for.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.ports.addresses
    }

    /// Serves `router`, to those that `access` allows, until told to finish; once `ended`, every connection ends at once.
    /// The path `own_credentials` asks for credentials of its own.
    pub fn serve(
        self,
        router: Router,
        access: Option<watch::Receiver<Arc<Active>>>,
        own_credentials: Option<&'static str>,
        metrics: Arc<Metrics>,
        ended: CancellationToken,
    ) -> Server {
        let stop = CancellationToken::new();
        let router = match &access {
            None => router,
            Some(active) => {
                let active = active.clone();
                let state = Guard {
                    active,
                    own_credentials,
                };
                router.layer(from_fn_with_state(state, guard))
            }
        };
        // The fastest level: a scrape goes over the network once, and its CPU is spent every few seconds. Of zstd that is 1,
        // with a window of 512 KiB.
        let router = router.layer(CompressionLayer::new().quality(CompressionLevel::Fastest));
        let handler = ConnectionHandler {
            router,
            access,
            idle: EvictionQueue::new(usize::MAX),
            metrics,
            forwarded_for_trusted: self.settings.forwarded_for_trusted.clone().into(),
            io_timeout: self.settings.io_timeout,
            stop: stop.clone(),
        };
        let run = self.run(handler, ended.clone());
        let accepting = tokio::spawn(async move { ended.run_until_cancelled_owned(run).await });
        Server { stop, accepting }
    }

    async fn run(mut self, handler: ConnectionHandler, ended: CancellationToken) {
        let graceful = GracefulShutdown::new();
        let places = Arc::new(Semaphore::new(self.settings.max_connections));
        let accept = async {
            loop {
                match self.ports.accept().await {
                    Ok((stream, peer)) => {
                        let peer = canonical(peer);
                        let place = Arc::clone(&places).acquire_owned();
                        let (place, gone) = eviction::place(&[&handler.idle], place).await;
                        handler.evicted(gone);
                        let end = ended.child_token();
                        let handler = handler.clone();
                        let watcher = graceful.watcher();
                        tokio::spawn(async move {
                            let connection = handler.serve(stream, peer, watcher, &end);
                            if let Some(Err(error)) = end.run_until_cancelled(connection).await {
                                handler.failed(peer, &error);
                            }
                            drop(place);
                        });
                    }
                    Err(error) => {
                        handler.evicted(
                            eviction::after_failed_accept(&error, "web", &[&handler.idle]).await,
                        );
                    }
                }
            }
        };
        tokio::select! {
            () = accept => {}
            () = handler.stop.cancelled() => {}
        }
        drop(self.ports);
        graceful.shutdown().await;
    }
}

/// Why a connection ended before its time.
#[derive(Debug, thiserror::Error)]
enum EndError {
    #[error("TLS: {0}")]
    Tls(#[from] io::Error),
    #[error("TLS: handshake not finished in time")]
    Late(#[from] Elapsed),
    #[error("{0}")]
    Http(#[from] hyper::Error),
}

impl EndError {
    /// Whether the TLS handshake failed, and not because the client just went.
    fn is_of_tls(&self) -> bool {
        match self {
            Self::Tls(error) => !is_lost(error),
            Self::Late(_) => true,
            Self::Http(_) => false,
        }
    }
}

/// What every connection comes through.
#[derive(Clone)]
struct ConnectionHandler {
    router: Router,
    access: Option<watch::Receiver<Arc<Active>>>,
    /// Connections on which nothing is asked at the moment.
    idle: Arc<EvictionQueue>,
    metrics: Arc<Metrics>,
    /// Who is believed where a request comes from.
    forwarded_for_trusted: Arc<[IpNet]>,
    io_timeout: Duration,
    stop: CancellationToken,
}

type Bounded = Pin<Box<TimeoutStream<TcpStream>>>;

impl ConnectionHandler {
    /// Serves one connection, from its handshake to its end.
    async fn serve(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        watcher: Watcher,
        end: &CancellationToken,
    ) -> Result<(), EndError> {
        let idle = Idle::new(&self.idle, end);
        // Without it a scrape is a few milliseconds slower, that is all.
        let _ = stream.set_nodelay(true);
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(self.io_timeout));
        let stream = Box::pin(stream);
        let active = self.access.as_ref();
        match active.and_then(|active| active.borrow().tls.clone()) {
            None => self.speak(stream, peer, watcher, idle).await,
            Some(config) => {
                let secure = Box::pin(self.secure(stream, config));
                // Nothing is under way before the handshake is over: a node that leaves does not wait for it.
                match self.stop.run_until_cancelled(secure).await {
                    None => Ok(()),
                    Some(stream) => self.speak(stream?, peer, watcher, idle).await,
                }
            }
        }
    }

    async fn secure(
        &self,
        stream: Bounded,
        config: Arc<ServerConfig>,
    ) -> Result<Box<TlsStream<Bounded>>, EndError> {
        let handshake = TlsAcceptor::from(config).accept(stream);
        Ok(Box::new(timeout(self.io_timeout, handshake).await??))
    }

    async fn speak<S>(
        &self,
        stream: S,
        peer: SocketAddr,
        watcher: Watcher,
        idle: Idle,
    ) -> Result<(), EndError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let outbox = Outbox::new();
        let asked = Arc::clone(&idle.asked);
        let io = Committing::new(stream, outbox.clone());
        let service = hyper_util::service::TowerToHyperService::new(AttachClaims {
            router: self.router.clone(),
            peer,
            forwarded_for_trusted: Arc::clone(&self.forwarded_for_trusted),
            metrics: Arc::clone(&self.metrics),
            outbox,
            idle,
            io_timeout: self.io_timeout,
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.io_timeout)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(io), service);
        match watcher.watch(connection).await {
            // Nothing more was asked, as between two scrapes.
            Err(error) if error.is_timeout() && asked.load(Ordering::Relaxed) => Ok(()),
            ended => Ok(ended?),
        }
    }
}

impl ConnectionHandler {
    /// So many had to go because nothing was asked on them.
    fn evicted(&self, connections: usize) {
        static LOG_LIMIT: LogLimit = LogLimit::new(1);
        if connections == 0 {
            return;
        }
        let errors = self.metrics.ended(HttpFault::Crowded);
        errors.inc_by(connections as u64);
        if let Some(suppressed) = LOG_LIMIT.due() {
            warn!(
                suppressed,
                "too many HTTP connections (--web.max-connections): closing the one idle for longest"
            );
        }
    }

    fn failed(&self, peer: SocketAddr, error: &EndError) {
        static LOG_LIMIT: LogLimit = LogLimit::new(5);
        let exception = match error {
            EndError::Tls(_) => HttpFault::Tls,
            EndError::Late(_) => HttpFault::Timeout,
            EndError::Http(error) if error.is_timeout() => HttpFault::Timeout,
            EndError::Http(error) if error.is_parse() => HttpFault::Malformed,
            EndError::Http(_) => HttpFault::Transport,
        };
        self.metrics.ended(exception).inc();
        match error.is_of_tls().then(|| LOG_LIMIT.due()).flatten() {
            Some(suppressed) => info!(%peer, %error, suppressed, "HTTP connection failed"),
            None => debug!(%peer, %error, "HTTP connection ended early"),
        }
    }
}

impl Server {
    /// Takes no more connections, answers what is under way, and ends.
    pub async fn finish(self) {
        self.stop.cancel();
        // It panics or is aborted only together with the process.
        let _ = self.accepting.await;
    }
}

/// One connection among those on which nothing is asked, except while something is.
#[derive(Clone)]
struct Idle {
    queue: Arc<EvictionQueue>,
    end: CancellationToken,
    waits: Arc<Mutex<Waits>>,
    /// Whether anything ever was.
    asked: Arc<AtomicBool>,
}

struct Waits {
    /// Requests under way; a second one may come before the response to the first is handed over.
    requests: usize,
    evictable: Option<Evictable>,
}

impl Idle {
    fn new(queue: &Arc<EvictionQueue>, end: &CancellationToken) -> Self {
        let waits = Waits {
            requests: 0,
            evictable: Some(queue.join(end.clone())),
        };
        Self {
            queue: Arc::clone(queue),
            end: end.clone(),
            waits: Arc::new(Mutex::new(waits)),
            asked: Arc::default(),
        }
    }

    /// Something is asked, until what is returned is dropped.
    fn asked(&self) -> Asked {
        let mut waits = self.waits.lock();
        waits.requests += 1;
        waits.evictable = None;
        self.asked.store(true, Ordering::Relaxed);
        Asked {
            idle: self.clone(),
            end: None,
        }
    }
}

/// A request is under way, or its response is.
struct Asked {
    idle: Idle,
    /// Ends the connection of a reader that takes too long.
    end: Option<AbortOnDropHandle<()>>,
}

impl Asked {
    /// The connection ends unless the response is handed over within this time. One that takes a little again and again is
    /// never without progress, and would hold what the response holds for hours.
    fn end_after(&mut self, time: Duration, metrics: Arc<Metrics>) {
        let connection = self.idle.end.clone();
        let ending = tokio::spawn(async move {
            sleep(time).await;
            metrics.ended(HttpFault::Slow).inc();
            connection.cancel();
        });
        self.end = Some(AbortOnDropHandle::new(ending));
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let mut waits = self.idle.waits.lock();
        waits.requests -= 1;
        if waits.requests == 0 {
            let evictable = self.idle.queue.join(self.idle.end.clone());
            waits.evictable = Some(evictable);
        }
    }
}

/// The router, with each response's claim bound to the connection that carries it.
#[derive(Clone)]
struct AttachClaims {
    router: Router,
    peer: SocketAddr,
    forwarded_for_trusted: Arc<[IpNet]>,
    metrics: Arc<Metrics>,
    outbox: Outbox<Asked>,
    idle: Idle,
    io_timeout: Duration,
}

impl tower::Service<Request<hyper::body::Incoming>> for AttachClaims {
    type Response = Response;
    type Error = std::convert::Infallible;
    type Future = futures_util::future::BoxFuture<'static, Result<Response, Self::Error>>;

    fn poll_ready(
        &mut self,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Self::Error>> {
        tower::Service::<Request<hyper::body::Incoming>>::poll_ready(&mut self.router, context)
    }

    fn call(&mut self, mut request: Request<hyper::body::Incoming>) -> Self::Future {
        let lines = request.headers().get_all(forwarded_for::NAME).iter();
        let lines = lines.map(HeaderValue::as_bytes);
        let client = forwarded_for::client(self.peer, lines, &self.forwarded_for_trusted);
        request.extensions_mut().insert(ConnectInfo(client));
        let mut asked = self.idle.asked();
        let outbox = self.outbox.clone();
        let metrics = Arc::clone(&self.metrics);
        let io_timeout = self.io_timeout;
        let response = self.router.call(request);
        Box::pin(async move {
            let mut response = response.await?;
            let code = response.status();
            metrics.requests.with_label_values(&[code.as_str()]).inc();
            let left = response.extensions_mut().remove::<Left>();
            let left = left.map_or(io_timeout, |Left(left)| left);
            asked.end_after(left.saturating_add(io_timeout), metrics);
            Ok(delivery::attach(response, &outbox, asked))
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::metrics::OwnMetrics;
    use axum::body::{Body, Bytes};
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio::time::Instant;

    use super::*;

    const IO_TIMEOUT: Duration = Duration::from_secs(30);

    /// The reader's end of a connection that serves a short text, and one without end that is asked for within 10 seconds.
    fn connection() -> (DuplexStream, Arc<Metrics>) {
        let endless = || async {
            let pieces = futures_util::stream::repeat(Bytes::from_static(&[b'#'; 1024]));
            let pieces = futures_util::StreamExt::map(pieces, Ok::<_, std::convert::Infallible>);
            let mut response = Response::new(Body::from_stream(pieces));
            let left = Left(Duration::from_secs(10));
            response.extensions_mut().insert(left);
            response
        };
        let router = Router::new()
            .route("/short", get(|| async { "up 1\n" }))
            .route("/endless", get(endless));
        let metrics = Arc::new(Metrics::register(&OwnMetrics::new().unwrap()).unwrap());
        let handler = ConnectionHandler {
            router,
            access: None,
            idle: EvictionQueue::new(usize::MAX),
            metrics: Arc::clone(&metrics),
            forwarded_for_trusted: Arc::default(),
            io_timeout: IO_TIMEOUT,
            stop: CancellationToken::new(),
        };
        let (reader, stream) = tokio::io::duplex(1024);
        tokio::spawn(async move {
            let end = CancellationToken::new();
            let idle = Idle::new(&handler.idle, &end);
            let graceful = GracefulShutdown::new();
            let peer = ([127, 0, 0, 1], 1).into();
            let speaking = handler.speak(stream, peer, graceful.watcher(), idle);
            end.run_until_cancelled(speaking).await
        });
        (reader, metrics)
    }

    fn slow(metrics: &Metrics) -> u64 {
        metrics.ended(HttpFault::Slow).get()
    }

    async fn ask(reader: &mut DuplexStream, path: &str) {
        let request = format!("GET {path} HTTP/1.1\r\nhost: proxy\r\n\r\n");
        reader.write_all(request.as_bytes()).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_a_little_again_and_again_is_given_up() {
        let (mut reader, metrics) = connection();
        let began = Instant::now();
        ask(&mut reader, "/endless").await;
        let mut little = [0; 100];
        while reader.read(&mut little).await.unwrap() > 0 {
            assert!(began.elapsed() < 3 * IO_TIMEOUT, "it is not given up");
            sleep(Duration::from_secs(1)).await;
        }
        assert!(began.elapsed() >= Duration::from_secs(10) + IO_TIMEOUT);
        assert_eq!(slow(&metrics), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_is_done_may_ask_again() {
        let (mut reader, metrics) = connection();
        for _ in 0..5 {
            ask(&mut reader, "/short").await;
            let mut text = [0; 1000];
            assert!(reader.read(&mut text).await.unwrap() > 0);
            sleep(IO_TIMEOUT - Duration::from_secs(1)).await;
        }
        assert_eq!(slow(&metrics), 0);
    }
}
