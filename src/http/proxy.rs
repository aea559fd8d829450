//! `GET /metrics/proxy` and `GET /metrics`: the node's own metrics.

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use tracing::error;

use super::Site;
use crate::metrics::TEXT_FORMAT;

pub(super) async fn metrics(State(site): State<Site>) -> Response {
    let unfinished = i64::try_from(site.memory.bytes());
    site.unfinished_bytes.set(unfinished.unwrap_or(i64::MAX));
    match site.metrics.render() {
        Ok(text) => ([(CONTENT_TYPE, TEXT_FORMAT)], text).into_response(),
        Err(failure) => {
            error!(error = %failure, "cannot write own metrics");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
