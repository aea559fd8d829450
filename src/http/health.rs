//! `GET /-/healthy` and `GET /-/ready`: for probes.

use axum::extract::State;
use axum::http::StatusCode;

use super::Site;
use crate::drain;

/// The process answers.
pub(super) async fn healthy() -> &'static str {
    "prometheus-rsocket-proxy is healthy.\n"
}

/// 200 while applications and scrapes are served; 503 while starting and from the first moment of a drain.
pub(super) async fn ready(State(site): State<Site>) -> (StatusCode, &'static str) {
    match site.lifecycle.state() {
        drain::State::Starting => (
            StatusCode::SERVICE_UNAVAILABLE,
            "prometheus-rsocket-proxy is starting.\n",
        ),
        drain::State::Active => (StatusCode::OK, "prometheus-rsocket-proxy is ready.\n"),
        drain::State::Draining => (
            StatusCode::SERVICE_UNAVAILABLE,
            "prometheus-rsocket-proxy is draining.\n",
        ),
    }
}
