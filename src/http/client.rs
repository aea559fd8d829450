//! Asks a node as probes and Prometheus do.

use std::fmt;
use std::io;
use std::str::FromStr;
use std::sync::Arc;

use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderMap};
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Where a node serves HTTP: `http://HOST:PORT`, or `https://`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    scheme: Scheme,
    /// A name or an IP address, an IPv6 address without brackets.
    host: String,
    port: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

impl Scheme {
    fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

impl Address {
    /// This host (an IPv6 address without brackets) and port, in the clear.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self {
            scheme: Scheme::Http,
            host: host.into(),
            port,
        }
    }

    /// Whether TLS is spoken there.
    pub fn is_secure(&self) -> bool {
        self.scheme == Scheme::Https
    }

    /// The host, an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// `HOST:PORT`, an IPv6 address in brackets.
    pub fn authority(&self) -> String {
        let (host, port) = (&self.host, self.port);
        if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        }
    }
}

impl FromStr for Address {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let uri: Uri = text
            .parse()
            .map_err(|_| "an address is written as http://HOST:PORT")?;
        let scheme = match uri.scheme_str() {
            Some("http") => Scheme::Http,
            Some("https") => Scheme::Https,
            _ => return Err("an address begins with http:// or https://"),
        };
        if uri.path() != "/" || uri.query().is_some() {
            return Err("an address ends with its port: the paths are known");
        }
        let host = uri.host().unwrap_or_default();
        let port = match uri.authority() {
            Some(authority) if authority == host => scheme.port(),
            _ => uri
                .port_u16()
                .ok_or("the address' port is not a number between 1 and 65535")?,
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err("the address has no host");
        }
        Ok(Self {
            scheme,
            ..Self::new(host, port)
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.name(), self.authority())
    }
}

/// Why a request has no response.
#[derive(Debug, thiserror::Error)]
pub enum GetError {
    /// Nobody listens there, or the way is blocked.
    #[error("cannot connect: {0}")]
    Connect(#[from] io::Error),
    /// The two ends do not agree on TLS, or one does not trust the other.
    #[error("TLS: {0}")]
    Tls(io::Error),
    /// What listens there does not answer, or not in HTTP.
    #[error("no answer: {0}")]
    Http(#[from] hyper::Error),
    /// The path or a header cannot be written.
    #[error("{0}")]
    Request(#[from] axum::http::Error),
}

/// How to speak TLS with a node, and whose certificate it is to show.
pub struct Security {
    /// What is trusted, and shown.
    pub config: Arc<ClientConfig>,
    /// The name in the node's certificate.
    pub name: ServerName<'static>,
}

/// Sends one request over a connection of its own, in the clear or secured; the body of the response comes as it is read.
///
/// There is no time limit in here.
pub async fn get(
    address: &Address,
    security: Option<Security>,
    path: &str,
    headers: HeaderMap,
) -> Result<Response<Incoming>, GetError> {
    let stream = TcpStream::connect((address.host.as_str(), address.port)).await?;
    stream.set_nodelay(true)?;
    match security {
        None => ask(stream, address, path, headers).await,
        Some(Security { config, name }) => {
            let handshake = TlsConnector::from(config).connect(name, stream);
            let stream = Box::pin(handshake).await.map_err(GetError::Tls)?;
            ask(stream, address, path, headers).await
        }
    }
}

async fn ask<S>(
    stream: S,
    address: &Address,
    path: &str,
    headers: HeaderMap,
) -> Result<Response<Incoming>, GetError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the response. What it fails with, the response or its body fails with as well.
    tokio::spawn(connection);
    let mut request = Request::builder()
        .method(Method::GET)
        .uri(path)
        .header(HOST, address.authority())
        .body(Empty::<Bytes>::new())?;
    request.headers_mut().extend(headers);
    Ok(sender.send_request(request).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_reads_back_as_it_was_written() {
        for text in [
            "http://proxy:8080",
            "http://[::1]:8080",
            "https://proxy:8080",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        assert_eq!(
            "http://proxy/".parse::<Address>(),
            Ok(Address::new("proxy", 80))
        );
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "proxy:8080",
            "ftp://proxy:8080",
            "http://proxy:8080/-/ready",
            "http://:8080",
            "http://proxy:80800",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }
}
