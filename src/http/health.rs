//! `GET /-/healthy` and `GET /-/ready`: for probes.

use axum::extract::State;
use axum::http::StatusCode;

use super::Site;
use crate::nodes::NodeState;

/// The process answers.
pub(super) async fn healthy() -> &'static str {
    "prometheus-rsocket-proxy is healthy.\n"
}

/// 200 while applications and scrapes are served; 503 while starting and from the first moment of a drain.
pub(super) async fn ready(State(site): State<Site>) -> (StatusCode, &'static str) {
    match site.lifecycle.state() {
        NodeState::Starting => (
            StatusCode::SERVICE_UNAVAILABLE,
            "prometheus-rsocket-proxy is starting.\n",
        ),
        NodeState::Active => (StatusCode::OK, "prometheus-rsocket-proxy is ready.\n"),
        NodeState::Draining => (
            StatusCode::SERVICE_UNAVAILABLE,
            "prometheus-rsocket-proxy is draining.\n",
        ),
    }
}
