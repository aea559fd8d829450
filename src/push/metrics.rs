//! What is counted of pushes.

use std::time::Duration;

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use crate::metrics::{Distribution, OwnMetrics};
use crate::rsocket;
use crate::store::{ConsumerCounts, Counts, Tally};

/// What is counted of pushes.
pub struct Metrics {
    /// Label `state`.
    held: IntGaugeVec,
    bytes: IntGauge,
    /// Label `version`.
    pub(super) envelopes: IntCounterVec,
    /// Label `reason`.
    pub(super) refused: IntCounterVec,
    /// Label `state`.
    consumers: IntGaugeVec,
    pub(super) consumers_forgotten: IntCounter,
    expired: IntCounter,
    missed: IntCounter,
    pub(super) accepted: IntCounter,
    pub(super) served: IntCounter,
    pub(super) deliveries: IntCounter,
    pub(super) deferred: IntCounter,
    pub(super) duplicate_series: IntCounter,
    /// What other nodes have to do with them.
    pub(super) copies: Copies,
    /// What `--push.dir` has to do with them.
    pub(super) disk: DiskMetrics,
}

/// What is counted of `--push.dir`.
#[derive(Clone)]
pub(super) struct DiskMetrics {
    seconds: Distribution<0>,
    bytes: IntGauge,
    free: IntGauge,
    failing: IntGauge,
    failures: IntCounter,
    /// Label `outcome`.
    restored: IntCounterVec,
}

/// What is counted of pushes that several nodes hold.
pub(super) struct Copies {
    peers: IntGauge,
    pub(super) replicated: IntCounter,
    pub(super) short: IntCounter,
    pub(super) alone: IntCounter,
    pub(super) seconds: Distribution<0>,
    /// Label `outcome`.
    pub(super) key_lookups: IntCounterVec,
    pub(super) claims_late: IntCounter,
    taken_over: IntCounter,
    handed_over: IntCounter,
    possible_duplicates: IntCounter,
    possibly_out_of_order: IntCounter,
    refused: IntCounter,
    untold: IntCounter,
}

impl Metrics {
    /// Registers them. `max_bytes` is the bound of the pushes held.
    pub fn register(
        own: &OwnMetrics,
        rsocket: &rsocket::Metrics,
        max_bytes: usize,
    ) -> prometheus::Result<Self> {
        let max = own.gauge(
            "prometheus_proxy_push_max_bytes",
            "Maximum memory for the pushes held in bytes (--push.max-bytes).",
        )?;
        max.set(gauge(max_bytes));
        let metrics = Self {
            held: own.gauges(
                "prometheus_proxy_pushes",
                "Current number of pushes held, by state.",
                "state",
            )?,
            bytes: own.gauge(
                "prometheus_proxy_push_bytes",
                "Current memory of the pushes held in bytes.",
            )?,
            envelopes: rsocket.envelopes.clone(),
            refused: rsocket.pushes_refused.clone(),
            expired: own.counter(
                "prometheus_proxy_pushes_expired_total",
                "Total number of pushes dropped because no consumer that counts got them within --push.ttl.",
            )?,
            missed: own.counter(
                "prometheus_proxy_pushes_missed_total",
                "Total number of times that a push was dropped before a consumer that had counted got it.",
            )?,
            consumers: own.gauges(
                "prometheus_proxy_push_consumers",
                "Current number of consumers of pushes, by state.",
                "state",
            )?,
            consumers_forgotten: own.counter(
                "prometheus_proxy_push_consumers_forgotten_total",
                "Total number of consumers of pushes that were forgotten because there were too many.",
            )?,
            accepted: own.counter(
                "prometheus_proxy_pushes_accepted_total",
                "Total number of pushes accepted.",
            )?,
            served: own.counter(
                "prometheus_proxy_pushes_served_total",
                "Total number of pushes delivered to a scrape for the first time.",
            )?,
            deliveries: own.counter(
                "prometheus_proxy_push_deliveries_total",
                "Total number of times that a push was delivered to a consumer that had not had it.",
            )?,
            deferred: own.counter(
                "prometheus_proxy_pushes_deferred_total",
                "Total number of times that a push waited for another scrape because an earlier push had one of its series.",
            )?,
            duplicate_series: own.counter(
                "prometheus_proxy_push_duplicate_series_total",
                "Total number of series that occurred twice in a push; Prometheus keeps the first.",
            )?,
            copies: Copies::register(own)?,
            disk: DiskMetrics::register(own)?,
        };
        metrics.hold(&Counts::default());
        metrics.see_consumers(&ConsumerCounts::default());
        Ok(metrics)
    }

    /// Says what is held.
    pub(super) fn hold(&self, counts: &Counts) {
        for (state, pushes) in [
            ("pending", counts.pending),
            ("partly_served", counts.partly_served),
            ("claimed", counts.claimed),
            ("retained", counts.retained),
            ("replica", counts.replicas),
        ] {
            self.held.with_label_values(&[state]).set(gauge(pushes));
        }
        self.bytes.set(gauge(counts.bytes));
    }

    /// Says how many consumers there are.
    pub(super) fn see_consumers(&self, counts: &ConsumerCounts) {
        for (state, consumers) in [
            ("new", counts.new),
            ("counting", counts.counting),
            ("stopped", counts.stopped),
        ] {
            let gauge_of = self.consumers.with_label_values(&[state]);
            gauge_of.set(gauge(consumers));
        }
    }

    /// Says how many other nodes pushes are shared with.
    pub(super) fn see_peers(&self, peers: usize) {
        self.copies.peers.set(gauge(peers));
    }

    /// Adds what a step of the store came to.
    pub(super) fn add(&self, tally: &Tally) {
        let copies = &self.copies;
        for (counter, number) in [
            (&self.expired, tally.expired),
            (&self.missed, tally.missed),
            (&copies.taken_over, tally.taken_over),
            (&copies.handed_over, tally.handed_over),
            (&copies.possible_duplicates, tally.possible_duplicates),
            (&copies.possibly_out_of_order, tally.possibly_out_of_order),
            (&copies.refused, tally.refused),
            (&copies.untold, tally.untold),
        ] {
            counter.inc_by(number as u64);
        }
    }
}

impl Copies {
    fn register(own: &OwnMetrics) -> prometheus::Result<Self> {
        Ok(Self {
            peers: own.gauge(
                "prometheus_proxy_push_peers",
                "Current number of other nodes that pushes are shared with.",
            )?,
            replicated: own.counter(
                "prometheus_proxy_pushes_replicated_total",
                "Total number of pushes acknowledged that another node holds too.",
            )?,
            short: own.counter(
                "prometheus_proxy_pushes_acknowledged_short_total",
                "Total number of pushes acknowledged although no other node confirmed in time that it holds them.",
            )?,
            alone: own.counter(
                "prometheus_proxy_pushes_acknowledged_alone_total",
                "Total number of pushes acknowledged that only this node holds: it knows no other, or --push.replicas is 0.",
            )?,
            seconds: own.distribution(
                "prometheus_proxy_push_replication_seconds",
                "Duration from accepting a push to the confirmation that another node holds it in seconds.",
                [],
                &[[]],
            )?,
            key_lookups: own.counters(
                "prometheus_proxy_push_key_lookups_total",
                "Total number of pushes encrypted for another node, by the result of asking the other nodes for the key.",
                &["outcome"],
            )?,
            claims_late: own.counter(
                "prometheus_proxy_push_claims_late_total",
                "Total number of scrapes that did not wait for the pushes of every node.",
            )?,
            taken_over: own.counter(
                "prometheus_proxy_pushes_taken_over_total",
                "Total number of pushes taken over from a node that is gone.",
            )?,
            handed_over: own.counter(
                "prometheus_proxy_pushes_handed_over_total",
                "Total number of pushes handed to another node because this one shuts down.",
            )?,
            possible_duplicates: own.counter(
                "prometheus_proxy_pushes_possible_duplicates_total",
                "Total number of pushes that may have been served twice.",
            )?,
            possibly_out_of_order: own.counter(
                "prometheus_proxy_pushes_possibly_out_of_order_total",
                "Total number of pushes that may have been served before an older one with one of the same series.",
            )?,
            refused: own.counter(
                "prometheus_proxy_push_replicas_refused_total",
                "Total number of pushes of other nodes refused because of --push.max-bytes.",
            )?,
            untold: own.counter(
                "prometheus_proxy_push_ends_untold_total",
                "Total number of times that another node could not be told which pushes were served.",
            )?,
        })
    }
}

impl DiskMetrics {
    fn register(own: &OwnMetrics) -> prometheus::Result<Self> {
        Ok(Self {
            seconds: own.distribution(
                "prometheus_proxy_push_disk_write_seconds",
                "Duration of writing what has gathered to --push.dir, until it is on disk, in seconds.",
                [],
                &[[]],
            )?,
            bytes: own.gauge(
                "prometheus_proxy_push_disk_bytes",
                "Current size of the file in --push.dir in bytes.",
            )?,
            free: own.gauge(
                "prometheus_proxy_push_disk_free_bytes",
                "Current free space on the disk of --push.dir in bytes.",
            )?,
            failing: own.gauge(
                "prometheus_proxy_push_disk_failing",
                "Whether pushes are refused because --push.dir cannot be written.",
            )?,
            failures: own.counter(
                "prometheus_proxy_push_disk_failures_total",
                "Total number of failed attempts to write to --push.dir.",
            )?,
            restored: own.counters_of(
                "prometheus_proxy_pushes_restored_total",
                "Total number of pushes found in --push.dir at the start, by what became of them.",
                "outcome",
                ["restored", "expired", "unreadable"],
            )?,
        })
    }

    pub(super) fn restored(&self, restored: usize, expired: usize, unreadable: usize) {
        for (outcome, pushes) in [
            ("restored", restored),
            ("expired", expired),
            ("unreadable", unreadable),
        ] {
            let counter = self.restored.with_label_values(&[outcome]);
            counter.inc_by(pushes as u64);
        }
    }

    pub(super) fn wrote(&self, within: Duration) {
        self.seconds.observe([], within.as_secs_f64());
    }

    pub(super) fn measured(&self, bytes: u64, free: u64) {
        for (gauge, value) in [(&self.bytes, bytes), (&self.free, free)] {
            gauge.set(value.try_into().unwrap_or(i64::MAX));
        }
    }

    pub(super) fn failed(&self) {
        self.failures.inc();
        self.failing.set(1);
    }

    pub(super) fn recovered(&self) {
        self.failing.set(0);
    }
}

fn gauge(number: usize) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}
