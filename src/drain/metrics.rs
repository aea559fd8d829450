//! What metrics say of a drain.

use prometheus::{IntGauge, IntGaugeVec};

use super::Stage;
use crate::metrics::OwnMetrics;

/// What metrics say of a drain.
#[derive(Clone)]
pub struct Metrics {
    draining: IntGauge,
    /// Label `stage`.
    stage: IntGaugeVec,
}

impl Metrics {
    /// Registers them.
    pub fn register(own: &OwnMetrics) -> prometheus::Result<Self> {
        Ok(Self {
            draining: own.gauge(
                "prometheus_proxy_draining",
                "1 when the node is shutting down, else 0.",
            )?,
            stage: own.gauges(
                "prometheus_proxy_drain_stage",
                "1 for the current stage of the shutdown; absent before it begins.",
                "stage",
            )?,
        })
    }

    /// Says what the drain is at.
    pub(super) fn enter(&self, stage: Stage) {
        self.draining.set(1);
        self.stage.reset();
        self.stage.with_label_values(&[stage.label()]).set(1);
    }
}
