//! Fetches a target's text over HTTP, asking as Prometheus asks.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, USER_AGENT,
};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_rustls::{
    DefaultServerNameResolver, FixedServerNameResolver, HttpsConnector, ResolveServerName,
};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use prometheus_rsocket_exposition::{Format, ParseError};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::budget::{Budget, Full, HeldBytes};
use super::content_type;
use super::credentials::Credentials;
use super::gzip;
use super::redirect::{self, MAX_REQUESTS};
use super::resolver::Resolver;

/// What Prometheus 3.16 sends, so that a target answers as it answers Prometheus.
const ACCEPTED: &str = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.7,\
                        application/openmetrics-text;version=0.0.1;q=0.6,\
                        text/plain;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                        text/plain;version=0.0.4;q=0.4,*/*;q=0.3";
const TIMEOUT_HEADER: &str = "x-prometheus-scrape-timeout-seconds";
const AGENT: &str = concat!("prometheus-rsocket-proxy-agent/", env!("CARGO_PKG_VERSION"));
/// Connections kept for the next pull, per target.
const IDLE_PER_HOST: usize = 2;

/// Why a target is down.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum FetchFailure {
    /// It could not be asked, or broke its answer off.
    #[error("{0}")]
    Broken(String),
    #[error("no complete answer in time")]
    Timeout,
    #[error("answered {0}")]
    Status(StatusCode),
    #[error(transparent)]
    Redirect(#[from] redirect::Nowhere),
    #[error("stopped after {MAX_REQUESTS} redirects")]
    Redirects,
    /// What it is to be shown cannot be read.
    #[error("credentials: {0}")]
    Credentials(String),
    #[error(transparent)]
    ContentType(#[from] content_type::Unknown),
    #[error(transparent)]
    Gzip(#[from] gzip::Broken),
    #[error("its text is longer than --scrape.max-payload or body_size_limit")]
    TooLong,
    #[error(transparent)]
    Full(#[from] Full),
    #[error("its text is invalid: {0}")]
    Invalid(#[from] ParseError),
    #[error("the agent is stopping")]
    Stopping,
}

impl FetchFailure {
    /// The innermost cause says it: `Connection refused`, where those around it say `client error`.
    fn broken(error: &(dyn Error + 'static)) -> Self {
        let mut cause = error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        Self::Broken(cause.to_string())
    }
}

/// A body as it came.
pub(super) struct Fetched {
    body: Bytes,
    is_gzip: bool,
    /// What its text is.
    pub(super) format: Format,
    held: HeldBytes,
}

impl Fetched {
    /// The text, of at most `max` bytes, and what it holds of its answer's memory. This is CPU time.
    pub(super) fn text(self, max: usize) -> Result<(Bytes, HeldBytes), FetchFailure> {
        let Self {
            body,
            is_gzip,
            mut held,
            ..
        } = self;
        if !is_gzip {
            return Ok((body, held));
        }
        let compressed = held.bytes();
        let text = gzip::decompress(&body, |more| {
            if held.bytes() - compressed + more > max {
                return Err(FetchFailure::TooLong);
            }
            Ok(held.take(more)?)
        })?;
        held.shrink(text.len());
        Ok((text.into(), held))
    }
}

/// Fetches; keeps connections for the next time.
#[derive(Debug)]
pub(super) struct Fetcher {
    http: Client<HttpsConnector<HttpConnector<Resolver>>, Empty<Bytes>>,
    credentials: Option<Credentials>,
    follow_redirects: bool,
    max_body: usize,
}

impl Fetcher {
    /// Takes bodies of at most `max_body` bytes. `server_name`: what targets' certificates are to name, instead of the
    /// host that is asked.
    pub(super) fn new(
        tls: ClientConfig,
        server_name: Option<ServerName<'static>>,
        resolver: Resolver,
        credentials: Option<Credentials>,
        follow_redirects: bool,
        max_body: usize,
    ) -> Self {
        let mut tcp = HttpConnector::new_with_resolver(resolver);
        // What is not http:// is for the connector around it.
        tcp.enforce_http(false);
        let names: Arc<dyn ResolveServerName + Send + Sync> = match server_name {
            Some(name) => Arc::new(FixedServerNameResolver::new(name)),
            None => Arc::new(DefaultServerNameResolver::default()),
        };
        let connector = HttpsConnector::new(tcp, tls, false, names);
        Self {
            http: Client::builder(TokioExecutor::new())
                .pool_max_idle_per_host(IDLE_PER_HOST)
                .build(connector),
            credentials,
            follow_redirects,
            max_body,
        }
    }

    /// The whole body of the target. The caller gives up after `timeout`, which the target is told.
    ///
    /// What it takes is counted in `budget`.
    pub(super) async fn fetch(
        &self,
        uri: &Uri,
        timeout: Duration,
        fallback: Option<Format>,
        budget: &Budget,
    ) -> Result<Fetched, FetchFailure> {
        let mut credentials = match &self.credentials {
            Some(credentials) => Some(
                credentials
                    .header()
                    .await
                    .map_err(FetchFailure::Credentials)?,
            ),
            None => None,
        };
        let mut place = uri.clone();
        for _ in 0..MAX_REQUESTS {
            let response = self.ask(&place, timeout, credentials.as_ref()).await?;
            let (status, headers) = (response.status(), response.headers());
            let next = match self.follow_redirects {
                true => redirect::target(status, headers, &place)?,
                false => None,
            };
            let Some(next) = next else {
                return self.take(response, fallback, budget).await;
            };
            // Once they are kept back, they stay kept back.
            credentials = credentials.filter(|_| redirect::may_show(&place, &next));
            place = next;
        }
        Err(FetchFailure::Redirects)
    }

    async fn ask(
        &self,
        uri: &Uri,
        timeout: Duration,
        credentials: Option<&HeaderValue>,
    ) -> Result<Response<Incoming>, FetchFailure> {
        let mut request = Request::get(uri)
            .header(ACCEPT, ACCEPTED)
            .header(ACCEPT_ENCODING, "gzip")
            .header(USER_AGENT, AGENT)
            .header(TIMEOUT_HEADER, format!("{:.3}", timeout.as_secs_f64()));
        if let Some(credentials) = credentials {
            request = request.header(AUTHORIZATION, credentials);
        }
        let request = request
            .body(Empty::new())
            .map_err(|error| FetchFailure::broken(&error))?;
        let answer = self.http.request(request).await;
        answer.map_err(|error| FetchFailure::broken(&error))
    }

    async fn take(
        &self,
        response: Response<Incoming>,
        fallback: Option<Format>,
        budget: &Budget,
    ) -> Result<Fetched, FetchFailure> {
        if response.status() != StatusCode::OK {
            return Err(FetchFailure::Status(response.status()));
        }
        let header = |name| response.headers().get(name).map(HeaderValue::as_bytes);
        let format = content_type::format(header(CONTENT_TYPE), fallback)?;
        let is_gzip = header(CONTENT_ENCODING) == Some(b"gzip");
        let mut body = response.into_body();
        let mut bytes = BytesMut::new();
        let mut held = budget.hold();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| FetchFailure::broken(&error))?;
            let Ok(piece) = frame.into_data() else {
                continue;
            };
            if piece.len() > self.max_body - bytes.len() {
                return Err(FetchFailure::TooLong);
            }
            held.take(piece.len())?;
            bytes.extend_from_slice(&piece);
        }
        Ok(Fetched {
            body: bytes.freeze(),
            is_gzip,
            format,
            held,
        })
    }
}
