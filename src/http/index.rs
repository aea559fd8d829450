//! `GET /`: where to find everything.

use axum::extract::State;
use axum::response::Html;

use super::Site;

pub(super) async fn index(State(site): State<Site>) -> Html<String> {
    let version = env!("CARGO_PKG_VERSION");
    let state = site.lifecycle.state().name();
    let connections = site.registry.len();
    Html(format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Prometheus RSocket Proxy</title></head>\n\
         <body><h1>Prometheus RSocket Proxy</h1>\n\
         <p>Version {version}, {state}, {connections} connected applications.</p>\n\
         <ul>\n\
         <li><a href=\"/metrics/connected\">Applications' metrics</a> (a real scrape: serves pushes)</li>\n\
         <li><a href=\"/metrics/proxy\">This node's metrics</a></li>\n\
         <li><a href=\"/api/v1/status\">Status as JSON</a></li>\n\
         <li><a href=\"/-/healthy\">Health</a>, <a href=\"/-/ready\">readiness</a></li>\n\
         </ul></body></html>\n"
    ))
}
