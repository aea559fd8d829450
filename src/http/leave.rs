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
            "Draining over HTTP is disabled. Enable it with --web.enable-lifecycle.\n",
        );
    }
    info!("drain requested over HTTP");
    site.lifecycle.drain();
    (StatusCode::OK, "prometheus-rsocket-proxy is draining.\n")
}
