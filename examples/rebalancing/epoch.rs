//! What came of one change of the cluster, and what an ideal plan would have made of it.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use prometheus_rsocket_proxy::rebalance::Settings;

use crate::balancer::{Balancer, Policy};

/// From one change of the cluster to the next. Times are seconds since the beginning.
#[derive(Debug, Clone, Default)]
pub(crate) struct Epoch {
    /// Connections of each active node, before the first was closed.
    before: Vec<(usize, usize)>,
    pub(crate) began: u64,
    pub(crate) ended: u64,
    /// Connections closed by each node.
    shed: BTreeMap<usize, usize>,
    /// The fewest connections that a node had after closing some, as a part of the mean.
    pub(crate) lowest: Option<f64>,
}

impl Epoch {
    pub(crate) fn begin(&mut self, at: u64, counts: Vec<(usize, usize)>) {
        if self.before.is_empty() {
            self.began = at;
            self.before = counts;
        }
    }

    pub(crate) fn closed(&mut self, at: u64, node: usize, closed: usize, left: usize) {
        if closed > 0 {
            *self.shed.entry(node).or_default() += closed;
            self.ended = at;
            let part = left as f64 / self.mean();
            self.lowest = Some(self.lowest.map_or(part, |lowest| lowest.min(part)));
        }
    }

    pub(crate) fn mean(&self) -> f64 {
        let all: usize = self.before.iter().map(|(_, count)| count).sum();
        all as f64 / self.before.len().max(1) as f64
    }

    pub(crate) fn shed(&self) -> usize {
        self.shed.values().sum()
    }

    /// What the nodes had above the mean.
    pub(crate) fn surplus(&self) -> f64 {
        let mean = self.mean();
        let above = self
            .before
            .iter()
            .map(|(_, count)| (*count as f64 - mean).max(0.0));
        above.sum()
    }

    /// What has to be closed, with this balancer, for all who closed something to get to where they stop: one at a time,
    /// always from the one that has most, in full knowledge. With a random balancer that is more than moves, because a
    /// part comes back to nodes that have too many.
    pub(crate) fn necessary(&self, policy: Policy, settings: &Settings) -> usize {
        let mean = self.mean();
        let stop = mean + ((settings.tolerance - 1.0) * mean / 4.0).max(1.0);
        let mut rng = Rng::with_seed(1);
        let mut balancer = Balancer::new(policy);
        let mut counts: BTreeMap<usize, usize> = self.before.iter().copied().collect();
        for (node, count) in &counts {
            balancer.add(*node, *count);
        }
        let count = |node: &usize| Some((*counts.get(node)?, *node));
        let mut fullest: BTreeSet<_> = self.shed.keys().filter_map(count).collect();
        let mut closed = 0;
        while let Some((count, from)) = fullest.pop_last() {
            if count as f64 <= stop {
                break;
            }
            closed += 1;
            fullest.insert((count - 1, from));
            counts.insert(from, count - 1);
            balancer.note(from, count, count - 1);
            let to = balancer.choose(&mut rng, None);
            let before = counts[&to];
            if fullest.remove(&(before, to)) {
                fullest.insert((before + 1, to));
            }
            counts.insert(to, before + 1);
            balancer.note(to, before, before + 1);
        }
        closed
    }
}
