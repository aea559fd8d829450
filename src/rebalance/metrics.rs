//! What is counted of rebalancing.

use prometheus::{IntCounter, IntGauge, IntGaugeVec};

use super::plan::{Phase, Tally};
use crate::metrics::OwnMetrics;

/// What is counted of rebalancing.
#[derive(Clone)]
pub struct Metrics {
    target: IntGauge,
    surplus: IntGauge,
    /// Label `phase`.
    phase: IntGaugeVec,
    shed: IntCounter,
    came_back: IntCounter,
    rounds: IntCounter,
    ineffective: IntCounter,
    yields: IntCounter,
}

impl Metrics {
    /// Registers them.
    pub fn register(own: &OwnMetrics) -> prometheus::Result<Self> {
        Ok(Self {
            target: own.gauge(
                "prometheus_proxy_rebalance_target_connections",
                "Number of connections that each active node would have if all had the same.",
            )?,
            surplus: own.gauge(
                "prometheus_proxy_rebalance_surplus_connections",
                "Number of connections that this node has above the target.",
            )?,
            phase: own.gauges(
                "prometheus_proxy_rebalance_phase",
                "1 for the current phase of rebalancing, else 0.",
                "phase",
            )?,
            shed: own.counter(
                "prometheus_proxy_rebalance_connections_shed_total",
                "Total number of connections closed so that applications reconnect to other nodes.",
            )?,
            came_back: own.counter(
                "prometheus_proxy_rebalance_connections_came_back_total",
                "Total number of connections opened on this node during and right after each round, at most as many as the \
                 round closed.",
            )?,
            rounds: own.counter(
                "prometheus_proxy_rebalance_rounds_total",
                "Total number of rounds in which connections were closed.",
            )?,
            ineffective: own.counter(
                "prometheus_proxy_rebalance_ineffective_total",
                "Total number of times that closed connections came back to this node.",
            )?,
            yields: own.counter(
                "prometheus_proxy_rebalance_yields_total",
                "Total number of times that rebalancing paused because connections came back.",
            )?,
        })
    }

    /// Says how things are.
    pub(super) fn tell(&self, target: f64, surplus: f64, current: Phase) {
        self.target.set(target.round() as i64);
        self.surplus.set(surplus.round() as i64);
        for phase in Phase::ALL {
            let gauge = self.phase.with_label_values(&[phase.name()]);
            gauge.set(i64::from(phase == current));
        }
    }

    /// Adds what has happened between two tallies.
    pub(super) fn add(&self, before: &Tally, after: &Tally) {
        self.shed.inc_by(after.shed - before.shed);
        self.came_back.inc_by(after.came_back - before.came_back);
        self.rounds.inc_by(after.rounds - before.rounds);
        self.ineffective
            .inc_by(after.ineffective - before.ineffective);
        self.yields.inc_by(after.yields - before.yields);
    }
}
