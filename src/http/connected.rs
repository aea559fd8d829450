//! `GET /metrics/connected` and `GET /metrics/pushes`: Prometheus' request in, one exposition out.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::http::header::{HeaderMap, RETRY_AFTER};
use axum::response::{IntoResponse, Response};
use tokio::time::Instant;

use super::consumer::{self, Consumer};
use super::delivery::{Carries, Left};
use super::negotiate::Negotiated;
use super::{Site, parameters};
use crate::scrape::{Reserve, Scrape, ScrapeError, Settings};

/// How long Prometheus waits for the answer, in seconds.
const TIMEOUT_HEADER: &str = "x-prometheus-scrape-timeout-seconds";
/// A request that names a longer timeout is taken to mean this.
const MAX_TIMEOUT: Duration = Duration::from_secs(600);
/// Bytes of text in one piece of the body.
const CHUNK: usize = 64 << 10;

/// How long a request waits, and how much of that is for pulls.
pub(super) struct Timing {
    began: Instant,
    named: Option<Duration>,
    timeout: Duration,
    /// Until when applications and other nodes are waited for.
    pub(super) deadline: Instant,
}

impl Timing {
    /// Of a request that came now, and says `named`.
    pub(super) fn new(named: Option<Duration>, settings: &Settings, reserve: &Reserve) -> Self {
        let began = Instant::now();
        Self {
            began,
            named,
            timeout: named.unwrap_or(settings.timeout),
            deadline: began + pulling(named, settings, reserve),
        }
    }

    /// When the scraper gives the response up, if it says so.
    fn end(&self) -> Option<Instant> {
        self.named.map(|named| self.began + named)
    }

    /// The response, with how long the scraper still waits for it.
    pub(super) fn left(&self, mut response: Response) -> Response {
        let left = Left(self.timeout.saturating_sub(self.began.elapsed()));
        response.extensions_mut().insert(left);
        response
    }
}

/// Pulls every application and answers the merged text.
pub(super) async fn scrape(
    State(site): State<Site>,
    Consumer(consumer): Consumer,
    negotiated: Negotiated,
    headers: HeaderMap,
) -> Response {
    let timing = Timing::new(named(&headers), &site.scrape, site.scraper.reserve());
    let (encoding, deadline) = (negotiated.encoding(), timing.deadline);
    let scraping = site
        .scraper
        .scrape(&consumer, encoding, deadline, timing.end());
    let scrape = scraping.await;
    timing.left(answer(negotiated, scrape))
}

/// Answers the pushes that are due, and pulls nobody.
pub(super) async fn pushes(
    State(site): State<Site>,
    negotiated: Negotiated,
    RawQuery(query): RawQuery,
    Consumer(consumer): Consumer,
    headers: HeaderMap,
) -> Response {
    if let Err(unreadable) = parameters::read(query.as_deref(), [consumer::PARAMETER]) {
        return unreadable.into();
    }
    let timing = Timing::new(named(&headers), &site.scrape, site.scraper.reserve());
    let (encoding, deadline) = (negotiated.encoding(), timing.deadline);
    let pushes = site.scraper.pushes(&consumer, encoding, deadline).await;
    timing.left(answer(negotiated, pushes))
}

fn answer(negotiated: Negotiated, scrape: Result<Scrape, ScrapeError>) -> Response {
    match scrape {
        Ok(scrape) => exposition(negotiated, scrape),
        Err(error) => unavailable(error),
    }
}

/// The head alone: nobody is pulled for it, and no push is served.
pub(super) async fn head(negotiated: Negotiated) -> Response {
    // An empty body would have a length, which is not that of the text.
    let unknown = futures_util::stream::empty::<Result<Bytes, Infallible>>();
    (negotiated, Body::from_stream(unknown)).into_response()
}

/// How long the scraper waits for the answer, if it says so.
pub(super) fn named(headers: &HeaderMap) -> Option<Duration> {
    headers
        .get(TIMEOUT_HEADER)
        .and_then(|value| value.to_str().ok()?.trim().parse::<f64>().ok())
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .filter(|named| !named.is_zero())
        .map(|named| named.min(MAX_TIMEOUT))
}

/// How long pulls may take: what the request allows, less what the response needs.
fn pulling(named: Option<Duration>, settings: &Settings, reserve: &Reserve) -> Duration {
    match named {
        None => settings.timeout,
        Some(named) => named.saturating_sub(reserve.of(named, settings.timeout_offset)),
    }
}

fn exposition(negotiated: Negotiated, scrape: Scrape) -> Response {
    let Scrape {
        merged,
        claim,
        held,
    } = scrape;
    let chunks = merged.into_chunks(CHUNK).map(move |chunk| {
        let _until_the_last_chunk = &held;
        Ok::<_, Infallible>(chunk)
    });
    let body = Body::from_stream(futures_util::stream::iter(chunks));
    let mut response = (negotiated, body).into_response();
    response.extensions_mut().insert(Carries::new(claim));
    response
}

fn unavailable(error: ScrapeError) -> Response {
    let headers = [(RETRY_AFTER, "1")];
    (
        StatusCode::SERVICE_UNAVAILABLE,
        headers,
        format!("{error}\n"),
    )
        .into_response()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn asked(header: Option<&str>) -> Duration {
        let settings = Settings::parse_from([""]);
        let mut headers = HeaderMap::new();
        if let Some(value) = header {
            headers.insert(TIMEOUT_HEADER, value.parse().unwrap());
        }
        pulling(named(&headers), &settings, &Reserve::default())
    }

    #[test]
    fn the_deadline_is_the_requests_timeout_less_the_offset() {
        assert_eq!(asked(Some("10")), Duration::from_millis(9500));
        assert_eq!(asked(Some("2.5")), Duration::from_secs(2));
    }

    #[test]
    fn a_timeout_shorter_than_the_offset_leaves_half_of_itself() {
        assert_eq!(asked(Some("0.4")), Duration::from_millis(200));
    }

    #[test]
    fn without_a_sensible_header_the_setting_counts() {
        for header in [
            None,
            Some("soon"),
            Some("-1"),
            Some("0"),
            Some("NaN"),
            Some("inf"),
        ] {
            assert_eq!(asked(header), Duration::from_secs(10), "{header:?}");
        }
    }

    #[test]
    fn an_absurd_timeout_is_bounded() {
        assert!(asked(Some("1e18")) <= MAX_TIMEOUT);
    }
}
