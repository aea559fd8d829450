//! Taking a push and finding nodes to hold it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ledger::{Held, Holding, State};
use super::members::rank;
use super::{
    Content, Effects, Full, Kept, NodeId, Ownership, PushId, Replica, Request, Standing, Store,
};

/// A peer that had no room is not asked again for this long.
const FULL_FOR: Duration = Duration::from_secs(5);

impl Store {
    /// Takes a push. It may be acknowledged when [`Effects::acknowledged`], of this call or a later one, names it.
    pub fn accept(&mut self, content: Content, now: Instant) -> Result<(PushId, Effects), Full> {
        let push = PushId {
            acceptor: self.me.clone(),
            sequence: self.next_push,
        };
        let held = Held {
            content: Arc::new(content),
            expires: now + self.limits.ttl,
            ownership: Ownership {
                term: 0,
                owner: self.me.clone(),
            },
            holders: BTreeMap::new(),
            state: State::Pending,
            asked_since: BTreeSet::new(),
            orphaned: None,
        };
        self.ledger.insert(push.clone(), held)?;
        self.next_push += 1;
        let until = now + self.replication.acknowledge_within;
        self.unacknowledged.insert(push.clone(), until);
        self.unsettled.insert(push.clone());
        self.settle(&push, now);
        Ok((push, self.effects(now)))
    }

    /// Holds a push for its owner.
    pub(super) fn hold(&mut self, from: &NodeId, replica: Replica, now: Instant) -> Standing {
        let Replica {
            push,
            content,
            left,
            entry,
        } = replica;
        if self.ledger.get(&push).is_none() && !self.ledger.is_over(&push) {
            let others = entry.holders.iter().filter(|node| **node != self.me);
            let held = Held {
                content,
                expires: now + left.min(self.limits.ttl),
                ownership: entry.ownership.clone(),
                holders: others
                    .map(|node| (node.clone(), Holding::Asked(now)))
                    .collect(),
                state: State::Pending,
                asked_since: BTreeSet::new(),
                orphaned: None,
            };
            if self.ledger.insert(push.clone(), held).is_err() {
                self.out.tally.refused += 1;
                return Standing::Full;
            }
            self.change_owner(&push, entry.ownership.clone(), now);
        }
        self.learn(from, &push, &entry, now)
    }

    /// Brings an owned push nearer to being held by enough nodes, acknowledged, and handed over if this node leaves.
    pub(super) fn settle(&mut self, push: &PushId, now: Instant) {
        if !self.owns(push) {
            self.unsettled.remove(push);
            return;
        }
        let candidates = self.members.candidates();
        let wanted = self.wanted(candidates.len());
        if let Some(held) = self.ledger.get_mut(push) {
            let members = &self.members;
            held.holders.retain(|node, _| members.is_alive(node));
        }
        self.ask_further(push, &candidates, wanted, now);
        self.acknowledge_if_due(push, now);
        if self.members.am_draining() {
            self.hand_over(push, now);
        } else if !self.unacknowledged.contains_key(push)
            && self.count_holders(push, &candidates, |_| false) >= wanted
        {
            self.unsettled.remove(push);
        }
    }

    /// How many of so many candidates are to hold a push: one at least when this node leaves, so that there is one to hand
    /// it to.
    fn wanted(&self, candidates: usize) -> usize {
        let least = usize::from(self.members.am_draining());
        self.replication.replicas.max(least).min(candidates)
    }

    /// Asks as many more candidates as are missing; those that have been asked and do not answer come last.
    fn ask_further(&mut self, push: &PushId, candidates: &[NodeId], wanted: usize, now: Instant) {
        let resend = self.replication.resend;
        let is_fresh = |asked: Instant| now < asked + resend;
        let standing = self.count_holders(push, candidates, is_fresh);
        let missing = wanted.saturating_sub(standing);
        let Some(held) = self.ledger.get(push).filter(|_| missing > 0) else {
            return;
        };
        let mut free: Vec<_> = candidates
            .iter()
            .filter(|node| !self.full.contains_key(*node))
            .filter(|node| match held.holders.get(*node) {
                None => true,
                Some(Holding::Asked(at)) => !is_fresh(*at),
                Some(Holding::Confirmed) => false,
            })
            .collect();
        free.sort_by_cached_key(|node| (held.holders.contains_key(*node), rank(push, node)));
        free.truncate(missing);
        self.ask(push, &free, now);
    }

    fn ask(&mut self, push: &PushId, nodes: &[&NodeId], now: Instant) {
        let Some(held) = self.ledger.get_mut(push) else {
            return;
        };
        for node in nodes {
            let before = held.holders.insert((*node).clone(), Holding::Asked(now));
            if before.is_none() && matches!(held.state, State::Claimed { .. }) {
                held.asked_since.insert((*node).clone());
            }
        }
        let replica = Replica {
            push: push.clone(),
            content: Arc::clone(&held.content),
            left: held.expires.saturating_duration_since(now),
            entry: held.entry(&self.me, now),
        };
        for node in nodes {
            self.call(node, Request::Replicate(replica.clone()));
        }
    }

    /// The candidates that hold the push or, if `is_fresh` says so of the time, have been asked to.
    fn count_holders(
        &self,
        push: &PushId,
        candidates: &[NodeId],
        is_fresh: impl Fn(Instant) -> bool,
    ) -> usize {
        let Some(held) = self.ledger.get(push) else {
            return 0;
        };
        let holdings = candidates.iter().filter_map(|node| held.holders.get(node));
        holdings
            .filter(|holding| match holding {
                Holding::Confirmed => true,
                Holding::Asked(at) => is_fresh(*at),
            })
            .count()
    }

    fn acknowledge_if_due(&mut self, push: &PushId, now: Instant) {
        let (Some(held), Some(until)) = (self.ledger.get(push), self.unacknowledged.get(push))
        else {
            return;
        };
        let mut holdings = held.holders.values();
        if holdings.any(|holding| *holding == Holding::Confirmed) {
            self.acknowledge(push, Kept::Replicated);
        } else if self.members.peers().next().is_none() || self.replication.replicas == 0 {
            self.acknowledge(push, Kept::Alone);
        } else if held.holders.is_empty() || *until <= now {
            self.acknowledge(push, Kept::Short);
        }
    }

    /// Looks through the pushes whose acknowledgement has waited long enough.
    pub(super) fn acknowledge_late(&mut self, now: Instant) {
        let waiting = self.unacknowledged.iter();
        let late: Vec<_> = waiting
            .filter(|(_, until)| **until <= now)
            .map(|(push, _)| push.clone())
            .collect();
        for push in late {
            self.acknowledge_if_due(&push, now);
        }
    }

    /// Settles some of the unsettled pushes, each time the next ones.
    pub(super) fn repair(&mut self, now: Instant) {
        let from = self
            .settled_to
            .take()
            .map_or(Bound::Unbounded, Bound::Excluded);
        let rest = self.unsettled.range((from, Bound::Unbounded));
        let due: Vec<_> = rest.take(self.replication.max_repairs).cloned().collect();
        if due.len() == self.replication.max_repairs {
            self.settled_to = due.last().cloned();
        }
        for push in due {
            self.settle(&push, now);
        }
    }

    /// Notes that `node` has no room, and asks another one.
    pub(super) fn note_full(&mut self, node: &NodeId, push: &PushId, now: Instant) {
        self.full.insert(node.clone(), now + FULL_FOR);
        if let Some(held) = self.ledger.get_mut(push) {
            held.holders.remove(node);
        }
        self.settle(push, now);
    }

    /// How many pushes wait for further holders; `None` if `asker` is not among the nodes that may become one.
    pub(super) fn owed(&self, asker: &NodeId) -> Option<usize> {
        let candidates = self.members.candidates();
        let wanted = self.wanted(candidates.len());
        let short = self.unsettled.iter();
        let short = short.filter(|push| self.count_holders(push, &candidates, |_| false) < wanted);
        self.members.knows(asker).then(|| short.count())
    }
}
