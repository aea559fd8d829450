//! Where a balancer sends an application that connects.

use std::collections::BTreeSet;

use fastrand::Rng;

/// How it chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    /// Any node.
    Random,
    /// One after the other.
    RoundRobin,
    /// The one that has fewest connections.
    LeastConnections,
    /// Where the application was before, as long as that node is there.
    Sticky,
}

impl Policy {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::RoundRobin => "round-robin",
            Self::LeastConnections => "least-connections",
            Self::Sticky => "sticky",
        }
    }
}

/// A balancer and the nodes that it knows.
#[derive(Debug, Clone)]
pub(crate) struct Balancer {
    policy: Policy,
    targets: Vec<usize>,
    next: usize,
    /// Connections of each target, where these decide.
    counts: BTreeSet<(usize, usize)>,
}

impl Balancer {
    pub(crate) fn new(policy: Policy) -> Self {
        Self {
            policy,
            targets: Vec::new(),
            next: 0,
            counts: BTreeSet::new(),
        }
    }

    pub(crate) fn targets(&self) -> &[usize] {
        &self.targets
    }

    pub(crate) fn add(&mut self, node: usize, connections: usize) {
        self.targets.push(node);
        self.counts.insert((connections, node));
    }

    pub(crate) fn remove(&mut self, node: usize, connections: usize) {
        self.targets.retain(|target| *target != node);
        self.counts.remove(&(connections, node));
    }

    /// The connections of a node changed.
    pub(crate) fn note(&mut self, node: usize, before: usize, after: usize) {
        if self.policy == Policy::LeastConnections && self.counts.remove(&(before, node)) {
            self.counts.insert((after, node));
        }
    }

    /// The node for an application that was at `home`.
    pub(crate) fn choose(&mut self, rng: &mut Rng, home: Option<usize>) -> usize {
        match self.policy {
            Policy::LeastConnections => {
                return self.counts.first().expect("an active node").1;
            }
            Policy::Sticky => {
                if let Some(home) = home.filter(|home| self.targets.contains(home)) {
                    return home;
                }
            }
            Policy::RoundRobin => {
                self.next += 1;
                return self.targets[self.next % self.targets.len()];
            }
            Policy::Random => {}
        }
        self.targets[rng.usize(..self.targets.len())]
    }
}
