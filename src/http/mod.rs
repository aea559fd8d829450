//! What Prometheus, probes and people ask over HTTP.
//!
//! | path | |
//! |---|---|
//! | `GET /metrics/connected` | every application's samples and the pushes that are due |
//! | `GET /metrics/pushes` | the pushes that are due, alone |
//! | `GET /targets` | service discovery: a target for each application of the cluster |
//! | `GET /metrics/app/ID` | one application's samples, wherever it is connected |
//! | `GET /metrics/proxy`, `GET /metrics` | the node's own metrics |
//! | `GET /-/healthy`, `GET /-/ready` | for probes |
//! | `PUT /-/drain`, `POST /-/drain` | the node leaves, where that is enabled |
//! | `POST /api/v1/push` | a push, where that is enabled |
//! | `GET /api/v1/status` | what the node knows, as JSON |
//! | `GET /api/v1/applications` | the applications of the cluster, by name |
//! | `GET /api/v1/pushes` | the pushes that this node holds |
//! | `GET /`, `GET /applications`, `GET /pushes` | these as pages for people |

mod application;
mod applications;
pub mod client;
mod connected;
mod consumer;
mod delivery;
mod health;
mod leave;
mod metrics;
mod negotiate;
mod page;
mod parameters;
mod proxy;
mod push_receiver;
mod pushes;
mod refusal;
mod server;
mod settings;
mod status;
mod targets;
mod timestamp;
mod words;

use std::sync::Arc;

use axum::Router;
use axum::http::uri::Authority;
use axum::routing::{get, post, put};
pub use metrics::Metrics;
use prometheus::IntGauge;
use prometheus_rsocket_wire::memory::Memory;
pub use push_receiver::{PushReceiver, Senders};
pub use server::{Listener, Server};
pub use settings::Settings;
pub use status::Identity;
use tokio::sync::watch;

use crate::cluster::Members;
use crate::drain::Lifecycle;
use crate::metrics::OwnMetrics;
use crate::push::Pushes;
use crate::rebalance::Report;
use crate::rsocket::{KeyRing, Registry};
use crate::scrape::{self, Scraper};
use crate::targets::Targets;

/// What the pages are made from.
#[derive(Clone)]
pub struct Site {
    /// Who this node is.
    pub identity: Arc<Identity>,
    /// Makes scrapes.
    pub scraper: Arc<Scraper>,
    /// How long a scrape may take.
    pub scrape: Arc<scrape::Settings>,
    /// The node's metrics.
    pub metrics: OwnMetrics,
    /// The one that is set when it is asked for.
    pub unfinished_bytes: IntGauge,
    /// What connections hold of payloads that are not opened yet.
    pub memory: Arc<Memory>,
    /// The connected applications.
    pub registry: Arc<Registry>,
    /// The keys that applications seal to.
    pub keys: Arc<KeyRing>,
    /// Finds applications and pulls them one by one.
    pub targets: Arc<Targets>,
    /// What Prometheus is told to scrape, where that is not the address that it asks at.
    pub targets_address: Option<Authority>,
    /// The pushes held.
    pub pushes: Arc<Pushes>,
    /// The nodes of the cluster.
    pub members: watch::Receiver<Members>,
    /// How rebalancing stands.
    pub rebalancing: watch::Receiver<Report>,
    /// Whether the node is ready.
    pub lifecycle: Arc<Lifecycle>,
    /// Whether a request may drain the node.
    pub lifecycle_enabled: bool,
    /// Takes pushes over HTTP, where that is enabled.
    pub push_receiver: Option<Arc<PushReceiver>>,
}

/// Where pushes are taken.
const PUSH: &str = "/api/v1/push";

impl Site {
    /// The path where those who ask show who they are as applications do, instead of with a password of the web
    /// configuration.
    pub fn own_credentials(&self) -> Option<&'static str> {
        let receiver = self.push_receiver.as_ref();
        receiver.filter(|receiver| receiver.asks()).map(|_| PUSH)
    }
}

/// All paths.
pub fn router(site: Site) -> Router {
    Router::new()
        .route(
            "/metrics/connected",
            get(connected::scrape).head(connected::head),
        )
        .route(
            "/metrics/pushes",
            get(connected::pushes).head(connected::head),
        )
        .route(
            "/metrics/app/{*instance}",
            get(application::scrape).head(connected::head),
        )
        .route("/targets", get(targets::targets))
        .route("/metrics/proxy", get(proxy::metrics).head(connected::head))
        .route("/metrics", get(proxy::metrics).head(connected::head))
        .route("/-/healthy", get(health::healthy))
        .route("/-/ready", get(health::ready))
        .route("/-/drain", put(leave::drain).post(leave::drain))
        .route(PUSH, post(push_receiver::push))
        .route("/api/v1/status", get(status::status))
        .route("/api/v1/applications", get(applications::applications))
        .route("/api/v1/pushes", get(pushes::pushes))
        .merge(page::routes())
        .with_state(site)
}

/// What a fuzz target enters by.
#[cfg(fuzzing)]
pub mod fuzzing {
    use std::time::Duration;

    use axum::http::HeaderMap;

    /// How long the scraper says that it waits.
    pub fn timeout(headers: &HeaderMap) -> Option<Duration> {
        super::connected::named(headers)
    }

    /// The address of the status page that shows what this query asks for.
    pub fn page(query: &str) -> String {
        super::page::address_of(query)
    }
}
