//! Fetches a target's text over HTTP.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Empty};
use hyper::header::{ACCEPT, USER_AGENT};
use hyper::{Request, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use prometheus_rsocket_exposition::ParseError;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::Service;
use tower_http::decompression::Decompression;
use tracing::debug;

use super::resolver::Resolver;

/// Format 0.0.4 is what the answer is made of; an OpenMetrics text is taken where there is nothing else.
const ACCEPTED: &str =
    "text/plain;version=0.0.4,application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1";
const TIMEOUT_HEADER: &str = "x-prometheus-scrape-timeout-seconds";
const AGENT: &str = concat!("prometheus-rsocket-proxy-agent/", env!("CARGO_PKG_VERSION"));
/// Connections kept for the next pull, per target.
const IDLE_PER_HOST: usize = 2;

/// Why a target is down.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    /// It could not be asked, or broke its answer off.
    #[error("{0}")]
    Broken(String),
    #[error("no whole answer in time")]
    Timeout,
    /// Redirects are among these: they are not followed.
    #[error("answered {0}")]
    Status(StatusCode),
    #[error("its text is longer than --scrape.max-payload")]
    TooLong,
    #[error("all texts together are longer than --scrape.max-answer")]
    Full,
    #[error("its text is invalid: {0}")]
    Invalid(#[from] ParseError),
    #[error("the agent is stopping")]
    Stopping,
}

impl Failure {
    /// The innermost cause says it: `Connection refused`, where those around it say `client error`.
    fn broken(error: &(dyn Error + 'static)) -> Self {
        let mut cause = error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        Self::Broken(cause.to_string())
    }
}

/// A text, and its part of what one answer may hold.
pub(super) struct Fetched {
    pub(super) text: Bytes,
    pub(super) share: OwnedSemaphorePermit,
}

/// Fetches; keeps connections for the next time.
pub(super) struct Fetcher {
    http: Decompression<Client<HttpsConnector<HttpConnector<Resolver>>, Empty<Bytes>>>,
    max_payload: usize,
}

impl Fetcher {
    /// Takes texts of at most `max_payload` bytes, decompressed.
    pub(super) fn new(max_payload: usize) -> Result<Self, rustls::Error> {
        let mut tcp = HttpConnector::new_with_resolver(Resolver::new());
        // What is not http:// is for the connector around it.
        tcp.enforce_http(false);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls()?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(IDLE_PER_HOST)
            .build(connector);
        Ok(Self {
            http: Decompression::new(client),
            max_payload,
        })
    }

    /// The whole text of the target. Whoever calls gives up after `timeout`, which the target is told.
    ///
    /// `budget` has a permit for each byte that all texts of an answer may have together.
    pub(super) async fn fetch(
        &self,
        uri: &Uri,
        timeout: Duration,
        budget: &Arc<Semaphore>,
    ) -> Result<Fetched, Failure> {
        let request = Request::get(uri)
            .header(ACCEPT, ACCEPTED)
            .header(USER_AGENT, AGENT)
            .header(TIMEOUT_HEADER, format!("{:.3}", timeout.as_secs_f64()))
            .body(Empty::new())
            .map_err(|error| Failure::broken(&error))?;
        // The client is always ready.
        let answer = self.http.clone().call(request).await;
        let response = answer.map_err(|error| Failure::broken(&error))?;
        if response.status() != StatusCode::OK {
            return Err(Failure::Status(response.status()));
        }
        let mut body = response.into_body();
        let mut text = BytesMut::new();
        let mut share = take(budget, 0)?;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Failure::broken(error.as_ref()))?;
            let Ok(piece) = frame.into_data() else {
                continue;
            };
            if piece.len() > self.max_payload - text.len() {
                return Err(Failure::TooLong);
            }
            share.merge(take(budget, piece.len())?);
            text.extend_from_slice(&piece);
        }
        Ok(Fetched {
            text: text.freeze(),
            share,
        })
    }
}

/// Takes so many bytes of the budget, until what is returned is dropped.
pub(super) fn take(budget: &Arc<Semaphore>, bytes: usize) -> Result<OwnedSemaphorePermit, Failure> {
    let permits = u32::try_from(bytes).map_err(|_| Failure::Full)?;
    Arc::clone(budget)
        .try_acquire_many_owned(permits)
        .map_err(|_| Failure::Full)
}

/// Trusts whom the system trusts.
fn tls() -> Result<ClientConfig, rustls::Error> {
    let found = rustls_native_certs::load_native_certs();
    for error in found.errors {
        debug!(%error, "certificates of the system not read");
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}
