//! `PUT /-/drain`: for people and scripts that cannot send a signal.

use axum::extract::State;
use axum::http::StatusCode;
use tracing::info;

use super::Site;

/// Begins a drain, at whose end the process exits; asked again, it goes on as it did.
pub(super) async fn drain(State(site): State<Site>) -> (StatusCode, &'static str) {
    if !site.lifecycle_enabled {
        return (
            StatusCode::FORBIDDEN,
            "Draining over HTTP is not enabled: --web.enable-lifecycle does that.\n",
        );
    }
    info!("asked over HTTP to drain");
    site.lifecycle.drain();
    (StatusCode::OK, "prometheus-rsocket-proxy is draining.\n")
}
