//! What this node holds, push by push, for people who look for one.

use std::cmp::Ordering;
use std::time::{Duration, Instant};

use super::ledger::Held;
use super::{ConsumerName, PushId, Store};
use crate::nodes::NodeId;
use crate::tenant::Tenant;

/// One page of the pushes that a node holds, the newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// How many pushes all pages have.
    pub matching: usize,
    /// Those of this page.
    pub pushes: Vec<Listed>,
}

/// What is known of a push, but for its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name, the same at every node.
    pub push: PushId,
    /// Who pushed it.
    pub pusher: Tenant,
    /// For how long it has been held, here or elsewhere.
    pub age: Duration,
    /// How much longer it is held if no scrape takes it; once served, how much longer it is retained.
    pub left: Duration,
    /// Series, each once.
    pub series: usize,
    /// Samples.
    pub samples: usize,
    /// Bytes that it occupies here.
    pub bytes: usize,
    /// Where it is in its life.
    pub state: PushState,
    /// Who hands it to scrapes.
    pub owner: NodeId,
    /// The consumers that count and have not had it, as this node knows.
    pub waits_for: Vec<ConsumerName>,
}

/// Where a push is in its life, as the node that is asked knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushState {
    /// Owned, and waiting for a scrape.
    Pending,
    /// Owned, had by some consumers, and waiting for others.
    PartlyServed,
    /// Owned, and in a scrape.
    Claimed,
    /// Owned, served, and kept for the retention.
    Retained,
    /// Held for another node.
    Replica,
}

impl PushState {
    /// As the label `state` has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::PartlyServed => "partly_served",
            Self::Claimed => "claimed",
            Self::Retained => "retained",
            Self::Replica => "replica",
        }
    }
}

/// Of two with the same time the order is the same at every node.
fn newest_first(one: &(&PushId, &Held), other: &(&PushId, &Held)) -> Ordering {
    let by_time = other.1.order.cmp(&one.1.order);
    by_time.then_with(|| one.0.cmp(other.0))
}

impl Store {
    /// Up to `most` pushes after the `before` newest, of these pushers; of everybody where there are none.
    ///
    /// Every push is looked at once, which takes half a microsecond, and 16 bytes are kept for each that matches until the page is found. Only its own
    /// pushes are sorted.
    pub fn list(&self, of: &[Tenant], before: usize, most: usize, now: Instant) -> Listing {
        let wanted = |held: &Held| of.is_empty() || of.contains(&held.content.pusher);
        let all = self.ledger.iter().filter(|(_, held)| wanted(held));
        let mut all: Vec<(&PushId, &Held)> = all.collect();
        let matching = all.len();
        let end = before.saturating_add(most).min(matching);
        let start = before.min(end);
        if end < matching {
            all.select_nth_unstable_by(end, newest_first);
            all.truncate(end);
        }
        if start > 0 && start < end {
            all.select_nth_unstable_by(start, newest_first);
        }
        let page = all.get_mut(start..).unwrap_or_default();
        page.sort_unstable_by(newest_first);
        Listing {
            matching,
            pushes: page
                .iter()
                .map(|(push, held)| self.listed(push, held, now))
                .collect(),
        }
    }

    fn listed(&self, push: &PushId, held: &Held, now: Instant) -> Listed {
        let left = held.expires.saturating_duration_since(now);
        Listed {
            push: push.clone(),
            pusher: held.content.pusher.clone(),
            age: (now + self.limits.ttl).saturating_duration_since(held.expires),
            left: held.retained(now).unwrap_or(left),
            series: held.content.series.len(),
            samples: held.content.text.samples(),
            bytes: held.bytes(),
            state: self.stage(held),
            owner: held.ownership().owner.clone(),
            waits_for: self.waited_for(held),
        }
    }

    fn stage(&self, held: &Held) -> PushState {
        if held.ownership().owner != self.me {
            return PushState::Replica;
        }
        if held.is_over() {
            PushState::Retained
        } else if held.is_lent() {
            PushState::Claimed
        } else if held.is_served() {
            PushState::PartlyServed
        } else {
            PushState::Pending
        }
    }

    fn waited_for(&self, held: &Held) -> Vec<ConsumerName> {
        if held.is_over() {
            return Vec::new();
        }
        let waited_for = self.deciders.counting.without(held.had());
        self.consumers.names(waited_for)
    }
}
