//! What happens to a cluster.

use clap::Parser;
use prometheus_rsocket_proxy::rebalance::Settings;

use crate::balancer::Policy;

/// Nodes come or go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// So many nodes start.
    Join(usize),
    /// So many nodes drain and are gone.
    Leave(usize),
}

/// Times are seconds.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    pub(crate) seed: u64,
    pub(crate) nodes: usize,
    pub(crate) connections: usize,
    pub(crate) policy: Policy,
    pub(crate) settings: Settings,
    /// How long after the beginning.
    pub(crate) events: Vec<(u64, Event)>,
    pub(crate) duration: u64,
    /// `None`: nobody scrapes.
    pub(crate) scrape_every: Option<u64>,
    /// Counts are at least so old.
    pub(crate) gossip_late: u64,
    /// Of a hundred counts, those that did not arrive and are older.
    pub(crate) gossip_lost: u64,
}

impl Scenario {
    pub(crate) fn new(name: &str, nodes: usize, connections: usize, policy: Policy) -> Self {
        Self {
            name: name.to_owned(),
            seed: 1,
            nodes,
            connections,
            policy,
            settings: Settings::parse_from([""]),
            events: Vec::new(),
            duration: 0,
            scrape_every: Some(15),
            gossip_late: 1,
            gossip_lost: 10,
        }
    }

    /// `event` happens then, and for so long nothing else.
    pub(crate) fn then(mut self, event: Event, quiet: u64) -> Self {
        let calm = if self.events.is_empty() { 60 } else { 0 };
        self.events.push((self.duration + calm, event));
        self.duration += calm + quiet;
        self
    }

    /// Each node is replaced, one after the other; after that, for so long nothing else.
    pub(crate) fn rolling_update(mut self, pause: u64, quiet: u64) -> Self {
        for _ in 0..self.nodes {
            self = self
                .then(Event::Join(1), pause)
                .then(Event::Leave(1), pause);
        }
        self.duration += quiet;
        self
    }
}
