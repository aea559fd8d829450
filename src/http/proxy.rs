//! `GET /metrics/proxy` and `GET /metrics`: the node's own metrics.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use prometheus_rsocket_exposition::{Encoding, Exposition, Format, Limits, merge_as};
use tracing::error;

use super::Site;
use super::negotiate::Negotiated;

pub(super) async fn metrics(State(site): State<Site>, negotiated: Negotiated) -> Response {
    let unfinished = i64::try_from(site.memory.bytes());
    site.unfinished_bytes.set(unfinished.unwrap_or(i64::MAX));
    let text = site.metrics.render().map_err(|failure| failure.to_string());
    match text.and_then(|text| written(text.into(), negotiated.encoding())) {
        Ok(text) => (negotiated, text).into_response(),
        Err(failure) => {
            error!(error = %failure, "cannot write own metrics");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// A text of format 0.0.4 in this encoding.
fn written(text: Bytes, encoding: Encoding) -> Result<Bytes, String> {
    if encoding == Encoding::TEXT {
        return Ok(text);
    }
    let exposition = Exposition::parse_as(text, Format::Text, &Limits::NONE);
    let exposition = exposition.map_err(|error| error.to_string())?;
    let mut chunks = merge_as(encoding, vec![Arc::new(exposition).into()]).into_chunks(usize::MAX);
    Ok(chunks.next().unwrap_or_default())
}
