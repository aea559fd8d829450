//! Asks the nodes over HTTP.

use bytes::Bytes;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::http::uri::{Authority, Scheme, Uri};
use hyper::{Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// Why a request has no response.
#[derive(Debug, thiserror::Error)]
pub(super) enum GetError {
    /// It cannot be written.
    #[error("{0}")]
    Request(#[from] hyper::http::Error),
    /// Nobody listens there, or what listens does not answer in HTTP.
    #[error("{0}")]
    Http(#[from] hyper_util::client::legacy::Error),
}

/// Connections that are used again, as Prometheus does.
#[derive(Debug, Clone)]
pub(super) struct Connections(Client<HttpConnector, Empty<Bytes>>);

impl Connections {
    /// None yet.
    pub(super) fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self(Client::builder(TokioExecutor::new()).build(connector))
    }

    /// The response's body comes as it is read. There is no time limit in here.
    pub(super) async fn get(
        &self,
        web: &Authority,
        path: &str,
        headers: HeaderMap,
    ) -> Result<Response<Incoming>, GetError> {
        let uri = Uri::builder()
            .scheme(Scheme::HTTP)
            .authority(web.clone())
            .path_and_query(path);
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.uri_mut() = uri.build()?;
        *request.headers_mut() = headers;
        Ok(self.0.request(request).await?)
    }
}
