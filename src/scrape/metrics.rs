//! What is counted of scrapes.

use prometheus::{IntCounter, IntCounterVec, IntGauge};

use crate::metrics::{Distribution, OwnMetrics};
use crate::rsocket::{self, TargetOutcome};

/// What is counted of scrapes.
pub struct Metrics {
    /// Labels `outcome`, `exception`.
    pub(super) pull_seconds: Distribution<2>,
    pub(super) payload_bytes: Distribution<0>,
    /// Label `outcome`.
    pub(super) target_failures: IntCounterVec,
    pub(super) round_seconds: Distribution<0>,
    pub(super) type_conflicts: IntGauge,
    pub(super) name_conflicts: IntGauge,
    pub(super) duplicate_series: IntGauge,
    pub(super) active: IntGauge,
    pub(super) refused: IntCounter,
    /// Label `version`.
    pub(super) envelopes: IntCounterVec,
}

impl Metrics {
    /// Registers them.
    pub fn register(own: &OwnMetrics, rsocket: &rsocket::Metrics) -> prometheus::Result<Self> {
        // Nobody counts it any more; dashboards and alerts may ask for it.
        own.counter(
            "prometheus_proxy_scrape_dropped_samples_total",
            "Always 0: merging drops no samples.",
        )?;
        Ok(Self {
            pull_seconds: own.distribution(
                "prometheus_proxy_scrape_seconds",
                "Duration of the scrape of one application in seconds.",
                ["outcome", "exception"],
                &[["success", "none"], ["closed", "none"]],
            )?,
            payload_bytes: own.distribution(
                "prometheus_proxy_scrape_payload_bytes",
                "Size of the decompressed text of one application in bytes.",
                [],
                &[[]],
            )?,
            target_failures: own.counters_of(
                "prometheus_proxy_scrape_target_failures_total",
                "Total number of agents' targets whose samples were missing from a scrape.",
                "outcome",
                TargetOutcome::ALL.map(TargetOutcome::name),
            )?,
            round_seconds: own.distribution(
                "prometheus_proxy_scrape_round_seconds",
                "Duration from Prometheus' request to the merged text in seconds.",
                [],
                &[[]],
            )?,
            type_conflicts: own.gauge(
                "prometheus_proxy_scrape_type_conflicts",
                "Number of metric families in the last scrape on whose type applications disagree.",
            )?,
            name_conflicts: own.gauge(
                "prometheus_proxy_scrape_name_conflicts",
                "Number of metric families in the last scrape that have one name with others once names are escaped.",
            )?,
            duplicate_series: own.gauge(
                "prometheus_proxy_scrape_duplicate_series",
                "Number of series that several applications expose, among those that the last scrape compared.",
            )?,
            active: own.gauge(
                "prometheus_proxy_scrapes_active",
                "Current number of scrapes in progress.",
            )?,
            envelopes: rsocket.envelopes.clone(),
            refused: own.counter(
                "prometheus_proxy_scrapes_refused_total",
                "Total number of scrapes answered with 503 because too many were in progress.",
            )?,
        })
    }
}
