//! Scraping, as Prometheus does, and checking what came.

use std::fmt;
use std::io::Read as _;
use std::net::SocketAddr;
use std::time::Duration;

use flate2::read::GzDecoder;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HOST};
use hyper::{Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::Result;

/// The Java proxy's first scrape is its slowest.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Gzip,
    Plain,
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gzip => "gzip",
            Self::Plain => "plain",
        })
    }
}

/// The body of a scrape's response, as it came.
pub(crate) async fn get(web: SocketAddr, encoding: Encoding) -> Result<Bytes> {
    timeout(PATIENCE, response(web, encoding))
        .await
        .map_err(|_| format!("a scrape was not answered within {PATIENCE:?}"))?
}

async fn response(web: SocketAddr, encoding: Encoding) -> Result<Bytes> {
    let stream = TcpStream::connect(web).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let accept = match encoding {
        Encoding::Gzip => "gzip",
        Encoding::Plain => "identity",
    };
    let request = Request::get("/metrics/connected")
        .header(HOST, web.to_string())
        .header(ACCEPT_ENCODING, accept)
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let gzipped = response.headers().get(CONTENT_ENCODING);
    if !response.status().is_success() || gzipped.is_some() != (encoding == Encoding::Gzip) {
        return Err(format!("{} with encoding {gzipped:?}", response.status()).into());
    }
    Ok(response.into_body().collect().await?.to_bytes())
}

/// The text of a response.
pub(crate) fn text(body: &[u8], encoding: Encoding) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    match encoding {
        Encoding::Gzip => {
            GzDecoder::new(body).read_to_end(&mut text)?;
        }
        Encoding::Plain => text.extend_from_slice(body),
    }
    Ok(text)
}

/// How many samples are of the series that were asked for: the client has metrics of its own besides.
pub(crate) fn samples(text: &[u8]) -> usize {
    text.split(|byte| *byte == b'\n')
        .filter(|line| line.starts_with(b"interop_series"))
        .count()
}
