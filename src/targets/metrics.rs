//! What is counted of targets.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::Unserved;
use crate::directory::Counts;
use crate::metrics::OwnMetrics;

/// What becomes of requests for an application.
const RESULTS: [&str; 7] = [
    "served",
    "unknown",
    "ambiguous",
    "disconnected",
    "timeout",
    "invalid",
    "too_many",
];

/// What is counted of targets.
pub struct Metrics {
    /// Label `state`.
    applications: IntGaugeVec,
    superseded: IntGauge,
    /// Label `result`.
    requests: IntCounterVec,
    refused: IntCounter,
    forgotten: IntCounter,
}

impl Metrics {
    /// Registers them.
    pub fn register(own: &OwnMetrics) -> prometheus::Result<Self> {
        let metrics = Self {
            applications: own.gauges(
                "prometheus_proxy_applications",
                "Current number of applications of the cluster, as this node knows them, by state.",
                "state",
            )?,
            superseded: own.gauge(
                "prometheus_proxy_applications_superseded",
                "Current number of connections of the cluster, as this node knows them, whose application is another with the same name.",
            )?,
            requests: own.counters_of(
                "prometheus_proxy_target_requests_total",
                "Total number of requests for a single application, by result.",
                "result",
                RESULTS,
            )?,
            refused: own.counter(
                "prometheus_proxy_applications_refused_total",
                "Total number of applications that are no targets because they would take up too much room in the directory.",
            )?,
            forgotten: own.counter(
                "prometheus_proxy_applications_forgotten_total",
                "Total number of disconnected applications that were forgotten early because others needed their room in the directory.",
            )?,
        };
        metrics.note(&Counts::default());
        Ok(metrics)
    }

    /// Says what there is, and how many applications were refused since the last time.
    pub(super) fn note(&self, counts: &Counts) -> u64 {
        for (state, number) in [
            ("connected", counts.connected),
            ("lost", counts.lost),
            ("moved", counts.moved),
        ] {
            let gauge = self.applications.with_label_values(&[state]);
            gauge.set(number.try_into().unwrap_or(i64::MAX));
        }
        let superseded = counts.superseded.try_into().unwrap_or(i64::MAX);
        self.superseded.set(superseded);
        let refused = counts.tally.refused.saturating_sub(self.refused.get());
        self.refused.inc_by(refused);
        let forgotten = counts.tally.forgotten.saturating_sub(self.forgotten.get());
        self.forgotten.inc_by(forgotten);
        refused
    }

    /// Counts a request for an application.
    pub(super) fn note_request(&self, unserved: Option<&Unserved>) {
        let result = match unserved {
            None => "served",
            Some(Unserved::Unknown) => "unknown",
            Some(Unserved::Ambiguous(_)) => "ambiguous",
            Some(Unserved::Disconnected(_)) => "disconnected",
            Some(Unserved::Timeout(_)) => "timeout",
            Some(Unserved::Invalid(_)) => "invalid",
            Some(Unserved::TooMany(_)) => "too_many",
        };
        self.requests.with_label_values(&[result]).inc();
    }
}
