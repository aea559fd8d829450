//! Accepts HTTP connections and serves them within bounds: so many at a time, a request's head within a time, and a
//! reader that takes nothing for that long is given up.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::error::Elapsed;
use tokio::time::timeout;
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tower_http::compression::CompressionLayer;
use tower_http::compression::CompressionLevel;
use tracing::{debug, warn};

use super::delivery::{self, Committing, Outbox};
use crate::access::{Active, guard};
use crate::crowd::{self, Crowd, Newcomer};
use crate::metrics::Metrics;
use crate::seldom::Seldom;
use crate::settings;

/// Bytes of a request's head; a scrape's has a few hundred.
const MAX_HEAD: usize = 16 << 10;

/// An open port for Prometheus, probes and people.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    settings: settings::Web,
    /// The real address, where port 0 was asked for.
    pub address: SocketAddr,
}

/// A running HTTP server.
#[derive(Debug)]
pub struct Server {
    stop: CancellationToken,
    accepting: JoinHandle<Option<()>>,
}

impl Listener {
    /// Opens the port.
    pub async fn bind(settings: settings::Web) -> io::Result<Self> {
        let socket = TcpListener::bind(settings.listen_address).await?;
        let address = socket.local_addr()?;
        Ok(Self {
            socket,
            settings,
            address,
        })
    }

    /// Serves `router`, to those that `access` lets in, until told to finish; once `ended`, every connection ends at once.
    pub fn serve(
        self,
        router: Router,
        access: Option<watch::Receiver<Active>>,
        metrics: Arc<Metrics>,
        ended: CancellationToken,
    ) -> Server {
        let stop = CancellationToken::new();
        let router = match &access {
            None => router,
            Some(active) => router.layer(from_fn_with_state(active.clone(), guard)),
        };
        // The fastest level: a scrape goes over the network once, and its CPU is spent every few seconds.
        let router = router.layer(CompressionLayer::new().quality(CompressionLevel::Fastest));
        let door = Door {
            router,
            access,
            idle: Crowd::new(usize::MAX),
            metrics,
            io_timeout: self.settings.io_timeout,
            stop: stop.clone(),
        };
        let run = self.run(door, ended.clone());
        let accepting = tokio::spawn(async move { ended.run_until_cancelled_owned(run).await });
        Server { stop, accepting }
    }

    async fn run(self, door: Door, ended: CancellationToken) {
        let graceful = GracefulShutdown::new();
        let places = Arc::new(Semaphore::new(self.settings.max_connections));
        let accept = async {
            loop {
                match self.socket.accept().await {
                    Ok((stream, peer)) => {
                        let place = Arc::clone(&places).acquire_owned();
                        let (place, gone) = crowd::place(&[&door.idle], place).await;
                        door.crowded(gone);
                        let end = ended.child_token();
                        let door = door.clone();
                        let watcher = graceful.watcher();
                        tokio::spawn(async move {
                            let connection = door.serve(stream, watcher, &end);
                            if let Some(Err(error)) = end.run_until_cancelled(connection).await {
                                door.failed(&error);
                                debug!(%peer, %error, "HTTP connection ended early");
                            }
                            drop(place);
                        });
                    }
                    Err(error) => {
                        door.crowded(crowd::unaccepted(&error, "web", &[&door.idle]).await);
                    }
                }
            }
        };
        tokio::select! {
            () = accept => {}
            () = door.stop.cancelled() => {}
        }
        drop(self.socket);
        graceful.shutdown().await;
    }
}

/// Why a connection ended before its time.
#[derive(Debug, thiserror::Error)]
enum EndError {
    #[error("TLS: {0}")]
    Tls(#[from] io::Error),
    #[error("TLS: the handshake was not over in time")]
    Late(#[from] Elapsed),
    #[error("{0}")]
    Http(#[from] hyper::Error),
}

/// What every connection comes through.
#[derive(Clone)]
struct Door {
    router: Router,
    access: Option<watch::Receiver<Active>>,
    /// Connections on which nothing is asked at the moment.
    idle: Arc<Crowd>,
    metrics: Arc<Metrics>,
    io_timeout: Duration,
    stop: CancellationToken,
}

type Bounded = Pin<Box<TimeoutStream<TcpStream>>>;

impl Door {
    /// Serves one connection, from its handshake to its end.
    async fn serve(
        &self,
        stream: TcpStream,
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
            None => self.speak(stream, watcher, idle).await,
            Some(config) => {
                let secure = Box::pin(self.secure(stream, config));
                // Nothing is under way before the handshake is over: a node that leaves does not wait for it.
                match self.stop.run_until_cancelled(secure).await {
                    None => Ok(()),
                    Some(stream) => self.speak(stream?, watcher, idle).await,
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

    async fn speak<S>(&self, stream: S, watcher: Watcher, idle: Idle) -> Result<(), EndError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let outbox = Outbox::default();
        let asked = Arc::clone(&idle.asked);
        let io = Committing::new(stream, outbox.clone());
        let service = hyper_util::service::TowerToHyperService::new(AttachClaims {
            router: self.router.clone(),
            metrics: Arc::clone(&self.metrics),
            outbox,
            idle,
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

impl Door {
    /// So many had to go because nothing was asked on them.
    fn crowded(&self, connections: usize) {
        static SAID: Seldom = Seldom::new(1);
        if connections == 0 {
            return;
        }
        let errors = &self.metrics.http_connection_errors;
        let errors = errors.with_label_values(&["crowded"]);
        errors.inc_by(connections as u64);
        if let Some(left_out) = SAID.due() {
            warn!(
                left_out,
                "too many HTTP connections (--web.max-connections): the one idle for longest is ended"
            );
        }
    }

    fn failed(&self, error: &EndError) {
        let exception = match error {
            EndError::Tls(_) => "tls",
            EndError::Late(_) => "timeout",
            EndError::Http(error) if error.is_timeout() => "timeout",
            EndError::Http(error) if error.is_parse() => "malformed",
            EndError::Http(_) => "transport",
        };
        let errors = &self.metrics.http_connection_errors;
        errors.with_label_values(&[exception]).inc();
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
    crowd: Arc<Crowd>,
    end: CancellationToken,
    waits: Arc<Mutex<Option<Newcomer>>>,
    /// Whether anything ever was.
    asked: Arc<AtomicBool>,
}

impl Idle {
    fn new(crowd: &Arc<Crowd>, end: &CancellationToken) -> Self {
        Self {
            crowd: Arc::clone(crowd),
            end: end.clone(),
            waits: Arc::new(Mutex::new(Some(crowd.join(end.clone())))),
            asked: Arc::default(),
        }
    }

    /// Something is asked, until what is returned is dropped.
    fn asked(&self) -> Asked {
        self.set(None);
        self.asked.store(true, Ordering::Relaxed);
        Asked(self.clone())
    }

    fn set(&self, newcomer: Option<Newcomer>) {
        *self.waits.lock().unwrap_or_else(PoisonError::into_inner) = newcomer;
    }
}

/// A request is under way, or its response is.
struct Asked(Idle);

impl Drop for Asked {
    fn drop(&mut self) {
        let Self(idle) = self;
        idle.set(Some(idle.crowd.join(idle.end.clone())));
    }
}

/// The router, with each response's claim bound to the connection that carries it.
#[derive(Clone)]
struct AttachClaims {
    router: Router,
    metrics: Arc<Metrics>,
    outbox: Outbox,
    idle: Idle,
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

    fn call(&mut self, request: Request<hyper::body::Incoming>) -> Self::Future {
        let asked = self.idle.asked();
        let outbox = self.outbox.clone();
        let requests = self.metrics.http_requests.clone();
        let response = self.router.call(request);
        Box::pin(async move {
            let response = response.await?;
            requests
                .with_label_values(&[response.status().as_str()])
                .inc();
            Ok(delivery::attach(response, &outbox, asked))
        })
    }
}
