//! The node's own metrics: registered once, handed to the parts as fields.
//!
//! Names that the Java proxy's dashboards use stay; the others follow Prometheus' naming rules under
//! `prometheus_proxy_`. Label values come from closed sets.

mod distribution;
mod files;

pub use distribution::Distribution;
pub use files::{File, Reloads};
use prometheus::core::Collector;
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

/// Label values that counters begin with at zero. A value that is counted and not here is a series that appears with
/// its first event.
const TRANSPORTS: &[&str] = &["TCP", "Websocket"];
const CONNECTION_ERRORS: &[&str] = &[
    "address_connections",
    "client_certificate",
    "credentials",
    "credentials_unverified",
    "crowded",
    "handshake",
    "identity_connections",
    "keepalive_timeout",
    "no_credentials",
    "origin",
    "peer_error",
    "protocol_violation",
    "proxy_protocol",
    "setup_timeout",
    "tls",
    "transport",
    "unfinished",
];
const RETIREMENTS: &[&str] = &["drain", "rebalance", "revoked"];
/// Answers and refusals; other codes are mistakes of whoever asks.
const HTTP_CODES: &[&str] = &["200", "401", "429", "503"];
const HTTP_CONNECTION_ERRORS: &[&str] = &[
    "crowded",
    "malformed",
    "slow",
    "timeout",
    "tls",
    "transport",
];
const PUSH_REFUSALS: &[&str] = &[
    "aborted",
    "backlog",
    "busy",
    "envelope",
    "exposition",
    "full",
    "limit",
    "memory",
    "payload",
    "rate",
    "revoked",
    "share",
    "timestamp",
];
const TARGET_OUTCOMES: &[&str] = &["down", "invalid", "limit"];
const CLUSTER_CONNECTION_ERRORS: &[&str] =
    &["crowded", "handshake", "handshake_timeout", "protocol"];

/// Every metric of one node.
pub struct Metrics {
    registry: Registry,
    /// One pull: labels `outcome`, `exception`.
    pub scrape_seconds: Distribution<2>,
    /// Decompressed text of one pull that was opened.
    pub scrape_payload_bytes: Distribution<0>,
    /// Targets of agents that were missing from an answer: label `outcome`.
    pub target_failures: IntCounterVec,
    /// One answer to Prometheus, from the request to the merged text.
    pub scrape_round_seconds: Distribution<0>,
    /// RSocket requests of ours: label `signal_type`.
    pub request_response_seconds: Distribution<1>,
    /// Connections that are pulled.
    pub active_connections: IntGauge,
    /// Connections that passed SETUP: label `transport`.
    pub connections_opened: IntCounterVec,
    /// Connections that failed: labels `exception`, `transport`.
    pub connection_errors: IntCounterVec,
    /// Connections that worked and were let go: label `cause`.
    pub connections_retired: IntCounterVec,
    /// Payloads opened: label `version`.
    pub envelopes: IntCounterVec,
    /// Families of the last scrape on whose type applications disagreed.
    pub type_conflicts: IntGauge,
    /// Series of several applications among those that the last scrape looked at.
    pub duplicate_series: IntGauge,
    /// Scrapes whose answer is being made or handed over.
    pub scrapes_active: IntGauge,
    /// Bytes of payloads half received or not opened yet.
    pub unfinished_bytes: IntGauge,
    /// HTTP requests answered: label `code`.
    pub http_requests: IntCounterVec,
    /// HTTP connections that ended before their time: label `exception`.
    pub http_connection_errors: IntCounterVec,
    /// Scrapes answered 503 because too many were under way.
    pub scrapes_refused: IntCounter,
    /// Pushes by state: label `state`.
    pub pushes: IntGaugeVec,
    /// Bytes of the pushes held.
    pub push_bytes: IntGauge,
    /// Bytes that pushes may have, all together.
    pub push_max_bytes: IntGauge,
    /// Pushes taken.
    pub pushes_accepted: IntCounter,
    /// Pushes delivered to a scrape.
    pub pushes_served: IntCounter,
    /// Pushes dropped because no scrape came.
    pub pushes_expired: IntCounter,
    /// Pushes turned away: label `reason`.
    pub pushes_refused: IntCounterVec,
    /// Times that a push waited for a further scrape because another brought one of its series.
    pub pushes_deferred: IntCounter,
    /// Series that stood twice in one push, of which Prometheus keeps the first.
    pub push_duplicate_series: IntCounter,
    /// Members of the cluster, this node among them: label `state`.
    pub cluster_members: IntGaugeVec,
    /// Gossip packets: label `direction`.
    gossip_packets: IntCounterVec,
    /// Bytes of the gossip packets: label `direction`.
    gossip_bytes: IntCounterVec,
    /// Gossip packets that were not taken: label `reason`.
    pub gossip_packets_dropped: IntCounterVec,
    /// Times that the gossip failed and was started again.
    pub gossip_restarts: IntCounter,
    /// Other nodes that pushes are shared with.
    pub push_peers: IntGauge,
    /// Pushes acknowledged that another node holds too.
    pub pushes_replicated: IntCounter,
    /// Pushes acknowledged although no other node had confirmed in time that it holds them.
    pub pushes_short: IntCounter,
    /// Pushes acknowledged by this node alone: it knew no other, or is to keep no replicas.
    pub pushes_alone: IntCounter,
    /// From taking a push to another node's confirmation that it holds it.
    pub push_replication_seconds: Distribution<0>,
    /// Attempts to have a push held by another node that failed: label `reason`.
    pub push_replication_failures: IntCounterVec,
    /// Replicas turned away for want of room.
    pub push_replicas_refused: IntCounter,
    /// Times that other nodes were asked, or would have been, for the key of a push: label `outcome`.
    pub push_key_lookups: IntCounterVec,
    /// Pushes taken over from a node that is gone.
    pub pushes_taken_over: IntCounter,
    /// Pushes given to another node because this one leaves.
    pub pushes_handed_over: IntCounter,
    /// Pushes that may have been served twice.
    pub pushes_possible_duplicates: IntCounter,
    /// Pushes that may have been served before an older one with a series in common.
    pub pushes_possibly_out_of_order: IntCounter,
    /// Ends of claims that another node was not told of.
    pub push_ends_untold: IntCounter,
    /// Scrapes that did not wait for every node's pushes.
    pub push_claims_late: IntCounter,
    /// Calls to other nodes that failed: labels `call`, `reason`.
    pub cluster_calls_failed: IntCounterVec,
    /// Connections from other nodes, or from whoever reaches the port, that were ended: label `reason`.
    pub cluster_connection_errors: IntCounterVec,
    /// What each node would have if connections were even.
    pub rebalance_target: IntGauge,
    /// What this node has above that.
    pub rebalance_surplus: IntGauge,
    /// 1 for what rebalancing is doing: label `phase`.
    pub rebalance_phase: IntGaugeVec,
    /// Connections closed so that they come back to other nodes.
    pub rebalance_shed: IntCounter,
    /// Connections opened on this node meanwhile.
    pub rebalance_came_back: IntCounter,
    /// Rounds in which connections were closed.
    pub rebalance_rounds: IntCounter,
    /// Times that this was of no use.
    pub rebalance_ineffective: IntCounter,
    /// Times that it was given up for a while.
    pub rebalance_yields: IntCounter,
    /// 1 from the first moment of a drain.
    pub draining: IntGauge,
    /// 1 for what a drain is at: label `stage`.
    drain_stage: IntGaugeVec,
    files: files::Files,
}

impl Metrics {
    /// A registry of its own, so that several nodes fit into one process.
    pub fn new() -> prometheus::Result<Self> {
        let own = Own(Registry::new());
        // Nobody counts it any more; dashboards and alerts may ask for it.
        own.counter(
            "prometheus_proxy_scrape_dropped_samples_total",
            "Always 0: a merge leaves no sample out.",
        )?;
        let metrics = Self {
            scrape_seconds: own.add(
                Distribution::new(
                    "prometheus_proxy_scrape_seconds",
                    "Time of one application's pull.",
                    ["outcome", "exception"],
                )?
                .expect(["success", "none"])
                .expect(["closed", "none"]),
            )?,
            scrape_payload_bytes: own.add(
                Distribution::new(
                    "prometheus_proxy_scrape_payload_bytes",
                    "Decompressed text of one application's pull.",
                    [],
                )?
                .expect([]),
            )?,
            target_failures: own.counters(
                "prometheus_proxy_scrape_target_failures_total",
                "Targets of agents whose samples were missing from a pull.",
                &["outcome"],
            )?,
            scrape_round_seconds: own.add(
                Distribution::new(
                    "prometheus_proxy_scrape_round_seconds",
                    "Time from Prometheus' request to the merged text.",
                    [],
                )?
                .expect([]),
            )?,
            request_response_seconds: own.add(
                Distribution::new(
                    "rsocket_request_response_seconds",
                    "Time of one RSocket request to an application.",
                    ["signal_type"],
                )?
                .expect(["ON_COMPLETE"])
                .expect(["ON_ERROR"])
                .expect(["CANCEL"]),
            )?,
            active_connections: own.gauge(
                "prometheus_proxy_scrape_active_connections",
                "Connections of applications.",
            )?,
            connections_opened: own.counters(
                "prometheus_proxy_connections_opened_total",
                "Connections that passed SETUP.",
                &["transport"],
            )?,
            connection_errors: own.counters(
                "prometheus_proxy_connection_error_total",
                "Connections that failed.",
                &["exception", "transport"],
            )?,
            connections_retired: own.counters(
                "prometheus_proxy_connections_retired_total",
                "Connections that worked and that this node let go so that they serve another.",
                &["cause"],
            )?,
            envelopes: own.counters(
                "prometheus_proxy_envelopes_opened_total",
                "Answers and pushes opened, by the version of their envelope.",
                &["version"],
            )?,
            type_conflicts: own.gauge(
                "prometheus_proxy_scrape_type_conflicts",
                "Families of the last scrape on whose type applications disagree.",
            )?,
            duplicate_series: own.gauge(
                "prometheus_proxy_scrape_duplicate_series",
                "Series that more than one application serves, among those that the last scrape looked at.",
            )?,
            scrapes_active: own.gauge(
                "prometheus_proxy_scrapes_active",
                "Scrapes whose answer is being made or handed over.",
            )?,
            unfinished_bytes: own.gauge(
                "prometheus_proxy_unfinished_bytes",
                "Bytes of payloads half received or not opened yet.",
            )?,
            http_requests: own.counters(
                "prometheus_proxy_http_requests_total",
                "HTTP requests answered.",
                &["code"],
            )?,
            http_connection_errors: own.counters(
                "prometheus_proxy_http_connection_errors_total",
                "HTTP connections that ended before their time.",
                &["exception"],
            )?,
            scrapes_refused: own.counter(
                "prometheus_proxy_scrapes_refused_total",
                "Scrapes answered 503 because too many were under way.",
            )?,
            pushes: own.gauges("prometheus_proxy_pushes", "Pushes held, by state.", &["state"])?,
            push_bytes: own.gauge("prometheus_proxy_push_bytes", "Bytes of the pushes held.")?,
            push_max_bytes: own.gauge(
                "prometheus_proxy_push_max_bytes",
                "Bytes that the pushes held may have (--push.max-bytes).",
            )?,
            pushes_accepted: own.counter("prometheus_proxy_pushes_accepted_total", "Pushes taken.")?,
            pushes_served: own.counter(
                "prometheus_proxy_pushes_served_total",
                "Pushes delivered to a scrape.",
            )?,
            pushes_expired: own.counter(
                "prometheus_proxy_pushes_expired_total",
                "Pushes dropped because no scrape came before their time to live was over.",
            )?,
            pushes_refused: own.counters(
                "prometheus_proxy_pushes_refused_total",
                "Pushes turned away.",
                &["reason"],
            )?,
            pushes_deferred: own.counter(
                "prometheus_proxy_pushes_deferred_total",
                "Times that a push waited for a further scrape because an earlier push brought one of its series.",
            )?,
            push_duplicate_series: own.counter(
                "prometheus_proxy_push_duplicate_series_total",
                "Series that stood twice in one push, of which Prometheus keeps the first.",
            )?,
            cluster_members: own.gauges(
                "prometheus_proxy_cluster_members",
                "Members of the cluster as this node sees them, itself among them, by state.",
                &["state"],
            )?,
            gossip_packets: own.counters(
                "prometheus_proxy_gossip_packets_total",
                "Gossip packets between nodes, sent and received.",
                &["direction"],
            )?,
            gossip_bytes: own.counters(
                "prometheus_proxy_gossip_bytes_total",
                "Bytes of the gossip packets between nodes, sent and received.",
                &["direction"],
            )?,
            gossip_packets_dropped: own.counters(
                "prometheus_proxy_gossip_packets_dropped_total",
                "Gossip packets that were not taken.",
                &["reason"],
            )?,
            gossip_restarts: own.counter(
                "prometheus_proxy_gossip_restarts_total",
                "Times that the gossip between nodes failed and was started again.",
            )?,
            push_peers: own.gauge(
                "prometheus_proxy_push_peers",
                "Other nodes that pushes are shared with.",
            )?,
            pushes_replicated: own.counter(
                "prometheus_proxy_pushes_replicated_total",
                "Pushes acknowledged that another node holds too.",
            )?,
            pushes_short: own.counter(
                "prometheus_proxy_pushes_acknowledged_short_total",
                "Pushes acknowledged although no other node had confirmed in time that it holds them.",
            )?,
            pushes_alone: own.counter(
                "prometheus_proxy_pushes_acknowledged_alone_total",
                "Pushes acknowledged that no other node was to hold: none is known, or --push.replicas is 0.",
            )?,
            push_replication_seconds: own.add(
                Distribution::new(
                    "prometheus_proxy_push_replication_seconds",
                    "Time from taking a push to another node's confirmation that it holds it.",
                    [],
                )?
                .expect([]),
            )?,
            push_replication_failures: own.counters(
                "prometheus_proxy_push_replication_failures_total",
                "Attempts to have a push held by another node that failed.",
                &["reason"],
            )?,
            push_replicas_refused: own.counter(
                "prometheus_proxy_push_replicas_refused_total",
                "Pushes of other nodes turned away for want of room.",
            )?,
            push_key_lookups: own.counters(
                "prometheus_proxy_push_key_lookups_total",
                "Pushes sealed to a key that this node does not have, by what came of asking the other nodes for it.",
                &["outcome"],
            )?,
            pushes_taken_over: own.counter(
                "prometheus_proxy_pushes_taken_over_total",
                "Pushes taken over from a node that is gone.",
            )?,
            pushes_handed_over: own.counter(
                "prometheus_proxy_pushes_handed_over_total",
                "Pushes given to another node because this one leaves.",
            )?,
            pushes_possible_duplicates: own.counter(
                "prometheus_proxy_pushes_possible_duplicates_total",
                "Pushes that may have been served twice.",
            )?,
            pushes_possibly_out_of_order: own.counter(
                "prometheus_proxy_pushes_possibly_out_of_order_total",
                "Pushes that may have been served before an older one with a series in common.",
            )?,
            push_ends_untold: own.counter(
                "prometheus_proxy_push_ends_untold_total",
                "Ends of claims that another node was not told of in spite of repetition.",
            )?,
            push_claims_late: own.counter(
                "prometheus_proxy_push_claims_late_total",
                "Scrapes that did not wait for the pushes of every node.",
            )?,
            cluster_calls_failed: own.counters(
                "prometheus_proxy_cluster_calls_failed_total",
                "Calls to other nodes that failed.",
                &["call", "reason"],
            )?,
            cluster_connection_errors: own.counters(
                "prometheus_proxy_cluster_connection_errors_total",
                "Connections to the port for other nodes that were ended for an error.",
                &["reason"],
            )?,
            rebalance_target: own.gauge(
                "prometheus_proxy_rebalance_target_connections",
                "Connections that this node would have if all active nodes had the same.",
            )?,
            rebalance_surplus: own.gauge(
                "prometheus_proxy_rebalance_surplus_connections",
                "Connections that this node has above the target.",
            )?,
            rebalance_phase: own.gauges(
                "prometheus_proxy_rebalance_phase",
                "1 for what rebalancing is doing.",
                &["phase"],
            )?,
            rebalance_shed: own.counter(
                "prometheus_proxy_rebalance_connections_shed_total",
                "Connections closed so that they come back to other nodes.",
            )?,
            rebalance_came_back: own.counter(
                "prometheus_proxy_rebalance_connections_came_back_total",
                "Connections opened on this node in and right after each round, up to as many as the round closed.",
            )?,
            rebalance_rounds: own.counter(
                "prometheus_proxy_rebalance_rounds_total",
                "Rounds in which connections were closed.",
            )?,
            rebalance_ineffective: own.counter(
                "prometheus_proxy_rebalance_ineffective_total",
                "Times that closing connections was found to be of no use because they came back.",
            )?,
            rebalance_yields: own.counter(
                "prometheus_proxy_rebalance_yields_total",
                "Times that closing connections was given up for a while because it was of no use.",
            )?,
            draining: own.gauge("prometheus_proxy_draining", "1 from the first moment of a drain.")?,
            drain_stage: own.gauges(
                "prometheus_proxy_drain_stage",
                "1 for what the drain under way is at; nothing before a drain.",
                &["stage"],
            )?,
            files: files::Files::register(&own)?,
            registry: own.0,
        };
        metrics.register_build_info()?;
        for state in ["pending", "claimed", "retained", "replica"] {
            metrics.pushes.with_label_values(&[state]).set(0);
        }
        metrics.begin_at_zero();
        #[cfg(target_os = "linux")]
        metrics.registry.register(Box::new(
            prometheus::process_collector::ProcessCollector::for_self(),
        ))?;
        Ok(metrics)
    }

    /// Makes the series whose first event matters, so that `increase()` sees it.
    fn begin_at_zero(&self) {
        for transport in TRANSPORTS {
            self.connections_opened.with_label_values(&[transport]);
            for exception in CONNECTION_ERRORS {
                self.connection_errors
                    .with_label_values(&[exception, transport]);
            }
        }
        for (counters, values) in [
            (&self.connections_retired, RETIREMENTS),
            (&self.http_requests, HTTP_CODES),
            (&self.http_connection_errors, HTTP_CONNECTION_ERRORS),
            (&self.pushes_refused, PUSH_REFUSALS),
            (&self.cluster_connection_errors, CLUSTER_CONNECTION_ERRORS),
            (&self.target_failures, TARGET_OUTCOMES),
        ] {
            for value in values {
                counters.with_label_values(&[value]);
            }
        }
    }

    fn register_build_info(&self) -> prometheus::Result<()> {
        let info = IntGaugeVec::new(
            Opts::new(
                "prometheus_proxy_build_info",
                "Always 1; the labels say what runs.",
            ),
            &["version"],
        )?;
        info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        self.registry.register(Box::new(info))
    }

    /// Takes note of a gossip packet that was `sent` or `received`.
    pub fn count_gossip(&self, direction: &'static str, bytes: usize) {
        self.gossip_packets.with_label_values(&[direction]).inc();
        self.gossip_bytes
            .with_label_values(&[direction])
            .inc_by(bytes as u64);
    }

    /// Sets how many members there are of each state.
    pub fn count_members(&self, states: impl IntoIterator<Item = &'static str>) {
        let states: Vec<_> = states.into_iter().collect();
        for state in ["starting", "active", "draining", "dead"] {
            let members = states.iter().filter(|member| **member == state).count();
            self.cluster_members
                .with_label_values(&[state])
                .set(i64::try_from(members).unwrap_or(i64::MAX));
        }
    }

    /// Says what a drain is at.
    pub fn enter_drain_stage(&self, stage: &'static str) {
        self.drain_stage.reset();
        self.drain_stage.with_label_values(&[stage]).set(1);
    }

    /// Text format 0.0.4.
    pub fn render(&self) -> prometheus::Result<String> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

/// A registry that hands back what is registered.
struct Own(Registry);

impl Own {
    fn add<C: Collector + Clone + 'static>(&self, collector: C) -> prometheus::Result<C> {
        self.0.register(Box::new(collector.clone()))?;
        Ok(collector)
    }

    fn gauge(&self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        self.add(IntGauge::new(name, help)?)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
        self.add(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    fn counter(&self, name: &str, help: &str) -> prometheus::Result<IntCounter> {
        self.add(IntCounter::new(name, help)?)
    }

    fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<IntCounterVec> {
        self.add(IntCounterVec::new(Opts::new(name, help), labels)?)
    }
}

/// The media type of [`Metrics::render`] and of the merged exposition.
pub const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_alerts_count_begins_at_zero() {
        let text = Metrics::new().unwrap().render().unwrap();
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
