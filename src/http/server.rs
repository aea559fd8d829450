//! Accepts HTTP connections and serves them within bounds: so many at a time, a request's head within a time, and a
//! reader that takes nothing for that long is given up.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
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
use crate::settings;

/// After a failed accept (out of descriptors, mostly), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
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
            while let Ok(place) = Arc::clone(&places).acquire_owned().await {
                match self.socket.accept().await {
                    Ok((stream, peer)) => {
                        let connection = door.clone().serve(stream, graceful.watcher());
                        let ended = ended.clone();
                        tokio::spawn(async move {
                            let end = ended.run_until_cancelled(connection).await;
                            if let Some(Err(error)) = end {
                                debug!(%peer, %error, "HTTP connection ended early");
                            }
                            drop(place);
                        });
                    }
                    Err(error) => {
                        warn!(%error, listener = "web", "no connection could be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
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
    io_timeout: Duration,
    stop: CancellationToken,
}

type Bounded = Pin<Box<TimeoutStream<TcpStream>>>;

impl Door {
    /// Serves one connection, from its handshake to its end.
    async fn serve(self, stream: TcpStream, watcher: Watcher) -> Result<(), EndError> {
        // Without it a scrape is a few milliseconds slower, that is all.
        let _ = stream.set_nodelay(true);
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(self.io_timeout));
        let stream = Box::pin(stream);
        let active = self.access.as_ref();
        match active.and_then(|active| active.borrow().tls.clone()) {
            None => self.speak(stream, watcher).await,
            Some(config) => {
                let secure = Box::pin(self.secure(stream, config));
                // Nothing is under way before the handshake is over: a node that leaves does not wait for it.
                match self.stop.run_until_cancelled(secure).await {
                    None => Ok(()),
                    Some(stream) => self.speak(stream?, watcher).await,
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

    async fn speak<S>(&self, stream: S, watcher: Watcher) -> Result<(), EndError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let outbox = Outbox::default();
        let io = Committing::new(stream, outbox.clone());
        let service = hyper_util::service::TowerToHyperService::new(AttachClaims {
            router: self.router.clone(),
            outbox,
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.io_timeout)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(io), service);
        Ok(watcher.watch(connection).await?)
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

/// The router, with each response's claim bound to the connection that carries it.
#[derive(Clone)]
struct AttachClaims {
    router: Router,
    outbox: Outbox,
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
        let outbox = self.outbox.clone();
        let response = self.router.call(request);
        Box::pin(async move { Ok(delivery::attach(response.await?, &outbox)) })
    }
}
