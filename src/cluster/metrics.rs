//! What is counted of the cluster.

use prometheus::{IntCounter, IntCounterVec, IntGaugeVec};

use super::packet::Refusal;
use crate::metrics::{OwnMetrics, labels};
use crate::nodes::NodeState;

/// The state of a member that is not alive, beside those of [`NodeState`].
pub(super) const DEAD: &str = "dead";

labels! {
    /// Why a connection of another node ended: the label `reason`.
    pub(super) enum CallerFault {
        Crowded = "crowded",
        Handshake = "handshake",
        HandshakeTimeout = "handshake_timeout",
        Protocol = "protocol",
    }
}

/// What is counted of the cluster.
pub struct Metrics {
    /// Label `state`.
    members: IntGaugeVec,
    /// Label `direction`.
    gossip_packets: IntCounterVec,
    /// Label `direction`.
    gossip_bytes: IntCounterVec,
    /// Label `reason`.
    gossip_packets_dropped: IntCounterVec,
    pub(super) gossip_restarts: IntCounter,
    /// Labels `call`, `reason`.
    pub(super) calls_failed: IntCounterVec,
    /// Label `reason`.
    pub(super) replications_failed: IntCounterVec,
    /// Label `reason`.
    connection_errors: IntCounterVec,
}

impl Metrics {
    /// Registers them.
    pub fn register(own: &OwnMetrics) -> prometheus::Result<Self> {
        Ok(Self {
            members: own.gauges(
                "prometheus_proxy_cluster_members",
                "Current number of cluster members as this node sees them, itself included, by state.",
                "state",
            )?,
            gossip_packets: own.counters(
                "prometheus_proxy_gossip_packets_total",
                "Total number of gossip packets sent and received.",
                &["direction"],
            )?,
            gossip_bytes: own.counters(
                "prometheus_proxy_gossip_bytes_total",
                "Total size of gossip packets sent and received in bytes.",
                &["direction"],
            )?,
            gossip_packets_dropped: own.counters(
                "prometheus_proxy_gossip_packets_dropped_total",
                "Total number of gossip packets dropped.",
                &["reason"],
            )?,
            gossip_restarts: own.counter(
                "prometheus_proxy_gossip_restarts_total",
                "Total number of times that gossip failed and was restarted.",
            )?,
            calls_failed: own.counters(
                "prometheus_proxy_cluster_calls_failed_total",
                "Total number of failed calls to other nodes.",
                &["call", "reason"],
            )?,
            replications_failed: own.counters(
                "prometheus_proxy_push_replication_failures_total",
                "Total number of failed attempts to replicate a push to another node.",
                &["reason"],
            )?,
            connection_errors: own.counters_of(
                "prometheus_proxy_cluster_connection_errors_total",
                "Total number of connections from other nodes that were closed because of an error.",
                "reason",
                CallerFault::LABELS.iter().copied(),
            )?,
        })
    }

    /// Begins to count what gossip drops, at zero.
    pub(super) fn drops(&self) -> IntCounterVec {
        for refusal in Refusal::ALL {
            self.gossip_packets_dropped
                .with_label_values(&[refusal.name()]);
        }
        self.gossip_packets_dropped.clone()
    }

    /// Counts a gossip packet that was `sent` or `received`.
    pub(super) fn gossiped(&self, direction: &'static str, bytes: usize) {
        self.gossip_packets.with_label_values(&[direction]).inc();
        let sum = self.gossip_bytes.with_label_values(&[direction]);
        sum.inc_by(bytes as u64);
    }

    /// Says how many members there are of each state.
    pub(super) fn see_members(&self, states: impl IntoIterator<Item = &'static str>) {
        let states: Vec<_> = states.into_iter().collect();
        for state in NodeState::ALL
            .map(NodeState::name)
            .into_iter()
            .chain([DEAD])
        {
            let members = states.iter().filter(|member| **member == state).count();
            let gauge = self.members.with_label_values(&[state]);
            gauge.set(members.try_into().unwrap_or(i64::MAX));
        }
    }

    /// The counter of connections that ended for this.
    pub(super) fn ended(&self, exception: CallerFault) -> IntCounter {
        self.connection_errors
            .with_label_values(&[exception.label()])
    }
}
