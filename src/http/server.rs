//! Accepts HTTP connections and serves them within bounds: so many at a time, a request's head within a time, and a
//! reader that takes nothing for that long is given up.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tower_http::compression::CompressionLayer;
use tower_http::compression::CompressionLevel;
use tracing::{debug, warn};

use super::delivery::{self, Committing, Outbox};
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

    /// Serves `router` until told to finish; once `ended`, every connection ends at once.
    pub fn serve(self, router: Router, ended: CancellationToken) -> Server {
        let stop = CancellationToken::new();
        let run = self.run(router, stop.clone(), ended.clone());
        let accepting = tokio::spawn(async move { ended.run_until_cancelled_owned(run).await });
        Server { stop, accepting }
    }

    async fn run(self, router: Router, stop: CancellationToken, ended: CancellationToken) {
        // The fastest level: a scrape goes over the network once, and its CPU is spent every few seconds.
        let router = router.layer(CompressionLayer::new().quality(CompressionLevel::Fastest));
        let graceful = GracefulShutdown::new();
        let places = Arc::new(Semaphore::new(self.settings.max_connections));
        let accept = async {
            while let Ok(place) = Arc::clone(&places).acquire_owned().await {
                match self.socket.accept().await {
                    Ok((stream, peer)) => {
                        let connection = self.connection(stream, &router, &graceful);
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
            () = stop.cancelled() => {}
        }
        drop(self.socket);
        graceful.shutdown().await;
    }

    fn connection(
        &self,
        stream: TcpStream,
        router: &Router,
        graceful: &GracefulShutdown,
    ) -> impl Future<Output = hyper::Result<()>> + Send + use<> {
        // Without it a scrape is a few milliseconds slower, that is all.
        let _ = stream.set_nodelay(true);
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(self.settings.io_timeout));
        let outbox = Outbox::default();
        let io = Committing::new(Box::pin(stream), outbox.clone());
        let service = hyper_util::service::TowerToHyperService::new(AttachClaims {
            router: router.clone(),
            outbox,
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.settings.io_timeout)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(io), service);
        graceful.watch(connection)
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
