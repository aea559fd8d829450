//! `GET /metrics/app/ID`: one application, pulled now, wherever in the cluster it is connected.

use std::convert::Infallible;

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::http::header::HeaderMap;
use axum::response::{IntoResponse, Response};

use super::connected::{Timing, named};
use super::negotiate::Negotiated;
use super::refusal::refusal;
use super::{Site, parameters};
use crate::scrape::Reserve;
use crate::targets::{Pulled, Unserved};

/// Pulls the application and answers its text.
pub(super) async fn scrape(
    State(site): State<Site>,
    negotiated: Negotiated,
    Path(instance): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let job = match parameters::read(query.as_deref(), ["job"]) {
        Ok([job]) => job,
        Err(unreadable) => return unreadable.into(),
    };
    // One application's text takes no time worth keeping back more than the least.
    let timing = Timing::new(named(&headers), &site.scrape, &Reserve::default());
    let pulled = match site.targets.named(&instance, job.as_deref()) {
        Ok(id) => {
            let encoding = negotiated.encoding();
            site.targets.pull(&id, encoding, timing.deadline).await
        }
        Err(unserved) => Err(unserved),
    };
    timing.left(match pulled {
        Ok(pulled) => exposition(negotiated, pulled),
        Err(unserved) => refusal(status(&unserved), &unserved.to_string()),
    })
}

fn exposition(negotiated: Negotiated, pulled: Pulled) -> Response {
    let chunks = pulled.chunks.into_iter().map(Ok::<_, Infallible>);
    let body = Body::from_stream(futures_util::stream::iter(chunks));
    (negotiated, body).into_response()
}

fn status(unserved: &Unserved) -> StatusCode {
    match unserved {
        Unserved::Unknown => StatusCode::NOT_FOUND,
        Unserved::Ambiguous(_) => StatusCode::BAD_REQUEST,
        Unserved::Disconnected(_) => StatusCode::SERVICE_UNAVAILABLE,
        Unserved::Timeout(_) => StatusCode::GATEWAY_TIMEOUT,
        Unserved::Invalid(_) => StatusCode::BAD_GATEWAY,
        Unserved::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
    }
}
