//! A scrape as Prometheus makes it, and whether everybody is in it.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use bytes::Bytes;
use flate2::write::GzDecoder;
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HeaderMap, HeaderName, HeaderValue};
use hyper::http::uri::Authority;
use memchr::memmem::Finder;

use super::failure::{FailureKind, LoadFailure};
use super::http::Connections;

/// What Prometheus tells how long it waits with.
const TIMEOUT_HEADER: HeaderName = HeaderName::from_static("x-prometheus-scrape-timeout-seconds");

/// How the answer travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Plain,
    Gzip,
}

/// One scrape that was answered in time.
#[derive(Debug, Default)]
pub(super) struct Scraped {
    /// From connecting to the last byte.
    pub(super) time: Duration,
    /// Of the body, as it was sent.
    pub(super) bytes: u64,
    /// Lines that begin with the marker.
    pub(super) marked: usize,
}

/// What is scraped, and how.
#[derive(Debug, Clone)]
pub(super) struct Page {
    pub(super) web: Authority,
    pub(super) path: String,
    pub(super) encoding: Encoding,
    /// As long as Prometheus would wait.
    pub(super) timeout: Duration,
}

/// Scrapes a page, and counts the lines that begin with `marker`.
pub(super) async fn scrape(
    connections: &Connections,
    page: &Page,
    marker: &str,
) -> Result<Scraped, LoadFailure> {
    let started = Instant::now();
    let timeout = page.timeout;
    let mut census = Census::new(marker);
    let answer = tokio::time::timeout(timeout, answer(connections, page, &mut census)).await;
    let Ok(answer) = answer else {
        let timeout = humantime::format_duration(timeout);
        return Err(failed(format!("not whole within {timeout}")));
    };
    let answer = answer?;
    let time = started.elapsed();
    Ok(Scraped {
        time,
        bytes: answer.bytes,
        marked: count(census, answer.packed).await?,
    })
}

fn failed(reason: impl ToString) -> LoadFailure {
    LoadFailure::new(FailureKind::Scrape, reason)
}

struct Answer {
    bytes: u64,
    /// What was not counted as it came: the clock runs, and Prometheus' own unpacking is not the proxy's work either.
    packed: Vec<Bytes>,
}

async fn answer(
    connections: &Connections,
    page: &Page,
    census: &mut Census,
) -> Result<Answer, LoadFailure> {
    let mut headers = HeaderMap::new();
    let seconds = page.timeout.as_secs_f64().to_string();
    headers.insert(
        TIMEOUT_HEADER,
        HeaderValue::try_from(seconds).map_err(failed)?,
    );
    if page.encoding == Encoding::Gzip {
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
    }
    let response = connections.get(&page.web, &page.path, headers).await;
    let response = response.map_err(failed)?;
    if response.status() != StatusCode::OK {
        return Err(failed(format!("{}: {}", page.path, response.status())));
    }
    let is_packed = response.headers().contains_key(CONTENT_ENCODING);
    let mut body: Incoming = response.into_body();
    let mut answer = Answer {
        bytes: 0,
        packed: Vec::new(),
    };
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame.map_err(failed)?.into_data() else {
            continue;
        };
        answer.bytes += piece.len() as u64;
        if is_packed {
            answer.packed.push(piece);
        } else {
            census.take(&piece);
        }
    }
    Ok(answer)
}

/// Finishes the census with what came packed, on a thread where that may take its time.
async fn count(census: Census, packed: Vec<Bytes>) -> Result<usize, LoadFailure> {
    if packed.is_empty() {
        return Ok(census.found);
    }
    let unpacking = tokio::task::spawn_blocking(move || -> io::Result<usize> {
        let mut unpacker = GzDecoder::new(census);
        for piece in packed {
            unpacker.write_all(&piece)?;
        }
        Ok(unpacker.finish()?.found)
    });
    unpacking.await.map_err(failed)?.map_err(failed)
}

/// Counts marked lines in a text that comes in pieces. A marker stands nowhere but at the beginning of a line.
struct Census {
    marker: Finder<'static>,
    /// The end of what came, in which a marker may have begun.
    tail: Vec<u8>,
    found: usize,
}

impl Census {
    fn new(marker: &str) -> Self {
        Self {
            marker: Finder::new(marker).into_owned(),
            tail: Vec::new(),
            found: 0,
        }
    }

    fn take(&mut self, piece: &[u8]) {
        let reach = self.marker.needle().len().saturating_sub(1);
        let head = piece.get(..reach.min(piece.len())).unwrap_or_default();
        self.tail.extend_from_slice(head);
        self.found += self.marker.find_iter(&self.tail).count();
        self.found += self.marker.find_iter(piece).count();
        if piece.len() >= reach {
            self.tail.clear();
            self.tail
                .extend_from_slice(piece.get(piece.len() - reach..).unwrap_or_default());
        } else {
            self.tail.drain(..self.tail.len().saturating_sub(reach));
        }
    }
}

impl Write for Census {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.take(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marked_lines_are_counted_once_however_the_text_is_cut() {
        let text = b"# HELP m{ x\nm{a=\"1\"} 1\nm{a=\"2\"} 1\nn{a=\"1\"} 1\nm{a=\"3\"} 1\n";
        for size in 1..=text.len() {
            let mut census = Census::new("m{a=");
            text.chunks(size).for_each(|piece| census.take(piece));
            assert_eq!(census.found, 3, "pieces of {size}");
        }
    }
}
