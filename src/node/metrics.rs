//! All metrics of a node, part by part.

use std::sync::Arc;

use crate::metrics::{FileMetrics, OwnMetrics};
use crate::{cluster, drain, http, push, rebalance, rsocket, scrape, targets};

/// All metrics of a node, part by part.
pub(super) struct Metrics {
    pub(super) own: OwnMetrics,
    pub(super) files: FileMetrics,
    pub(super) http: Arc<http::Metrics>,
    pub(super) rsocket: Arc<rsocket::Metrics>,
    pub(super) scrape: Arc<scrape::Metrics>,
    pub(super) targets: Arc<targets::Metrics>,
    pub(super) push: Arc<push::Metrics>,
    pub(super) cluster: Arc<cluster::Metrics>,
    pub(super) rebalance: rebalance::Metrics,
    pub(super) drain: drain::Metrics,
}

impl Metrics {
    pub(super) fn register(push_max_bytes: usize) -> prometheus::Result<Self> {
        let own = OwnMetrics::new()?;
        let rsocket = rsocket::Metrics::register(&own)?;
        Ok(Self {
            files: FileMetrics::register(&own)?,
            http: Arc::new(http::Metrics::register(&own)?),
            scrape: Arc::new(scrape::Metrics::register(&own, &rsocket)?),
            targets: Arc::new(targets::Metrics::register(&own)?),
            push: Arc::new(push::Metrics::register(&own, &rsocket, push_max_bytes)?),
            cluster: Arc::new(cluster::Metrics::register(&own)?),
            rebalance: rebalance::Metrics::register(&own)?,
            drain: drain::Metrics::register(&own)?,
            rsocket: Arc::new(rsocket),
            own,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_alerts_count_begins_at_zero() {
        let text = Metrics::register(1).unwrap().own.render().unwrap();
        for series in [
            "connection_error_total{exception=\"credentials\",transport=\"TCP\"}",
            "connection_error_total{exception=\"tls\",transport=\"Websocket\"}",
            "connections_opened_total{transport=\"TCP\"}",
            "connections_retired_total{cause=\"revoked\"}",
            "http_requests_total{code=\"401\"}",
            "http_connection_errors_total{exception=\"crowded\"}",
            "pushes_refused_total{reason=\"full\"}",
            "cluster_connection_errors_total{reason=\"handshake\"}",
        ] {
            let line = format!("\nprometheus_proxy_{series} 0\n");
            assert!(text.contains(&line), "{series}: {text}");
        }
        // Of what is not in use nothing is said.
        assert!(!text.contains("prometheus_proxy_config_"), "{text}");
    }
}
