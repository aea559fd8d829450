//! What is counted of HTTP.

use prometheus::IntCounterVec;

use crate::metrics::{OwnMetrics, labels};

/// Answers and refusals; other codes are mistakes of the client, and appear with the first.
const CODES: [&str; 4] = ["200", "401", "429", "503"];

labels! {
    /// Why a connection ended early: the label `exception`.
    pub(super) enum HttpFault {
        Crowded = "crowded",
        Malformed = "malformed",
        Slow = "slow",
        Timeout = "timeout",
        Tls = "tls",
        Transport = "transport",
    }
}

/// What is counted of HTTP.
pub struct Metrics {
    /// Label `code`.
    pub(super) requests: IntCounterVec,
    /// Label `exception`.
    connection_errors: IntCounterVec,
}

impl Metrics {
    /// Registers them.
    pub fn register(own: &OwnMetrics) -> prometheus::Result<Self> {
        Ok(Self {
            requests: own.counters_of(
                "prometheus_proxy_http_requests_total",
                "Total number of HTTP requests answered, by status code.",
                "code",
                CODES,
            )?,
            connection_errors: own.counters_of(
                "prometheus_proxy_http_connection_errors_total",
                "Total number of HTTP connections that were closed early.",
                "exception",
                HttpFault::LABELS.iter().copied(),
            )?,
        })
    }

    /// The counter of connections that ended for this.
    pub(super) fn ended(&self, exception: HttpFault) -> prometheus::IntCounter {
        self.connection_errors
            .with_label_values(&[exception.label()])
    }
}
