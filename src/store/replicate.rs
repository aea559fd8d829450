//! Finding nodes to hold a push, and sending it to them: as fast as they answer, and no faster.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::holders::Holding;
use super::ledger::Held;
use super::members::rank;
use super::{PushId, Replica, Request, Store};
use crate::nodes::NodeId;
use crate::tenant::Tenant;

/// A peer that had no room is not asked to hold as much again for this long.
const FULL_FOR: Duration = Duration::from_secs(5);
/// A node that fails to take a push is asked again after twice as long each time, so often: up to half a minute with the
/// default of a second.
const MAX_DOUBLINGS: u32 = 5;
/// Of what may be on its way to a node, the part that pushes have which are acknowledged already.
const REPAIRS: usize = 4;
/// Pushes looked at for the next that can be sent when an answer has made room.
const MAX_LOOKED_AT: usize = 32;

/// What peers had no room for: the least of anybody's, or of one pusher's, whose share was used up there.
#[derive(Debug, Default)]
pub(super) struct FullPeers(BTreeMap<(NodeId, Option<Tenant>), NoRoom>);

/// The least that there was no room for, and until when that is believed.
#[derive(Debug)]
struct NoRoom {
    bytes: usize,
    until: Instant,
}

impl FullPeers {
    fn have_no_room(&self, node: &NodeId, pusher: &Tenant, bytes: usize) -> bool {
        let of = |pusher| self.0.get(&(node.clone(), pusher));
        !self.0.is_empty()
            && [of(None), of(Some(pusher.clone()))]
                .into_iter()
                .flatten()
                .any(|full| bytes >= full.bytes)
    }

    fn put(&mut self, node: &NodeId, pusher: Option<Tenant>, bytes: usize, now: Instant) {
        let until = now + FULL_FOR;
        let full = self.0.entry((node.clone(), pusher));
        let full = full.or_insert(NoRoom { bytes, until });
        full.bytes = full.bytes.min(bytes);
        full.until = until;
    }

    pub(super) fn forget(&mut self, now: Instant) {
        self.0.retain(|_, full| full.until > now);
    }
}

impl Store {
    /// Brings an owned push nearer to being held by enough nodes, acknowledged, and handed over if this node leaves.
    pub(super) fn settle(&mut self, push: &PushId, now: Instant) {
        self.queued.remove(push);
        if !self.owns(push) {
            self.unsettled.remove(push);
            return;
        }
        let candidates = self.members.candidates();
        let wanted = self.wanted(candidates.len());
        if let Some(held) = self.ledger.get_mut(push) {
            let members = &self.members;
            held.holders.retain(|node| members.is_alive(node));
        }
        self.ask_further(push, &candidates, wanted, now);
        self.acknowledge_if_due(push, now);
        if self.members.am_draining() {
            self.hand_over(push, now);
        } else if !self.unacknowledged.contains_key(push)
            && self.count_confirmed(push, &candidates) >= wanted
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

    /// Asks as many more candidates as are missing; those that have been asked and do not answer come last. Where too much
    /// is on its way to them, a push that is not acknowledged queues for the next room, others for their turn in repairs.
    fn ask_further(&mut self, push: &PushId, candidates: &[NodeId], wanted: usize, now: Instant) {
        let Some(held) = self.ledger.get(push) else {
            return;
        };
        let holding = |node: &&NodeId| self.may_be_holding(held, push, node, now);
        let standing = candidates.iter().filter(holding).count();
        let missing = wanted.saturating_sub(standing);
        if missing == 0 {
            return;
        }
        let bytes = held.bytes();
        let mut free: Vec<_> = candidates
            .iter()
            .filter(|node| self.may_be_asked(held, push, node, now))
            .collect();
        free.sort_by_cached_key(|node| {
            let asked = held.holders.contains(node);
            (asked, self.members.preference(node), rank(push, node))
        });
        let missing = missing.min(free.len());
        let share = self.share(push);
        free.retain(|node| self.underway.has_room(node, bytes, share));
        free.truncate(missing);
        if free.len() < missing && self.unacknowledged.contains_key(push) {
            self.queued.insert(push.clone());
        }
        self.ask(push, &free, now);
    }

    /// Replicas and bytes that may be on their way to a node for this one to go, too.
    fn share(&self, push: &PushId) -> (usize, usize) {
        let (calls, bytes) = (self.replication.max_sent, self.replication.max_sent_bytes);
        if self.unacknowledged.contains_key(push) {
            (calls, bytes)
        } else {
            (calls / REPAIRS, bytes / REPAIRS)
        }
    }

    /// Whether `node` holds the push, or has been asked to and may yet say that it does.
    fn may_be_holding(&self, held: &Held, push: &PushId, node: &NodeId, now: Instant) -> bool {
        let asked = match held.holders.get(node) {
            Some(Holding::Confirmed) => return true,
            Some(Holding::Asked { again, failures }) => *failures == 0 && now < *again,
            None => false,
        };
        asked || self.underway.since(node, push).is_some()
    }

    fn may_be_asked(&self, held: &Held, push: &PushId, node: &NodeId, now: Instant) -> bool {
        let due = match held.holders.get(node) {
            Some(Holding::Confirmed) => false,
            Some(Holding::Asked { again, .. }) => *again <= now,
            None => true,
        };
        let pusher = &held.content.pusher;
        due && self.underway.since(node, push).is_none()
            && !self.full.have_no_room(node, pusher, held.bytes())
    }

    /// What is said of a node that was asked to hold a push, or that another one says holds it.
    pub(super) fn asked(&self, now: Instant) -> Holding {
        Holding::Asked {
            again: now + self.replication.resend,
            failures: 0,
        }
    }

    fn ask(&mut self, push: &PushId, nodes: &[&NodeId], now: Instant) {
        let Some(held) = self.ledger.get_mut(push).filter(|_| !nodes.is_empty()) else {
            return;
        };
        let again = now + self.replication.resend;
        for node in nodes {
            let failures = match held.holders.get(node) {
                Some(Holding::Asked { failures, .. }) => *failures,
                Some(Holding::Confirmed) | None => 0,
            };
            let known = held.holders.put(node, Holding::Asked { again, failures });
            if !known && held.is_lent() {
                held.asked_since.insert((*node).clone());
            }
            self.underway.begin(node, push, held.bytes(), now);
        }
        let had = self.consumers.names(held.had());
        let replica = Replica {
            push: push.clone(),
            content: Arc::clone(&held.content),
            left: held.expires.saturating_duration_since(now),
            entry: held.entry(&self.me, had, now),
            order: Some(held.order),
        };
        for node in nodes {
            self.call(node, Request::Replicate(replica.clone()));
        }
    }

    fn count_confirmed(&self, push: &PushId, candidates: &[NodeId]) -> usize {
        let Some(held) = self.ledger.get(push) else {
            return 0;
        };
        let holdings = candidates.iter().filter_map(|node| held.holders.get(node));
        let confirmed = holdings.filter(|holding| **holding == Holding::Confirmed);
        confirmed.count()
    }

    /// Goes on after an answer, which has made room: with pushes that wait for their acknowledgement, then with the next
    /// of the others.
    pub(super) fn replicate_next(&mut self, now: Instant) {
        self.settle_queued(now);
        let calls = self.out.calls.len();
        let most = MAX_LOOKED_AT.min(self.unsettled.len());
        for _ in 0..most {
            self.repair_next(now);
            if self.out.calls.len() > calls {
                return;
            }
        }
    }

    /// Settles the pushes that wait for room, oldest first, until there is none.
    fn settle_queued(&mut self, now: Instant) {
        while let Some(push) = self.queued.first().cloned() {
            self.settle(&push, now);
            if self.queued.contains(&push) {
                return;
            }
        }
    }

    /// Settles some of the unsettled pushes, each time the next ones.
    pub(super) fn repair(&mut self, now: Instant) {
        self.settle_queued(now);
        let most = self.replication.max_repairs.min(self.unsettled.len());
        for _ in 0..most {
            self.repair_next(now);
        }
    }

    fn repair_next(&mut self, now: Instant) {
        let last = self.settled_to.take();
        let from = last.map_or(Bound::Unbounded, Bound::Excluded);
        let rest = self.unsettled.range((from, Bound::Unbounded)).next();
        let next = rest.or_else(|| self.unsettled.first()).cloned();
        if let Some(push) = next {
            self.settle(&push, now);
            self.settled_to = Some(push);
        }
    }

    /// Takes note that `node` will not answer the call to hold `push`.
    pub fn unreplicated(&mut self, node: &NodeId, push: &PushId, now: Instant) {
        self.underway.end(node, push);
        let resend = self.replication.resend;
        if let Some(held) = self.ledger.get_mut(push)
            && let Some(Holding::Asked { again, failures }) = held.holders.get_mut(node)
        {
            *again = now + resend * 2_u32.pow(*failures);
            *failures = (*failures + 1).min(MAX_DOUBLINGS);
        }
        if self.unacknowledged.contains_key(push) {
            self.queued.insert(push.clone());
        }
    }

    /// Notes that `node` has no room for the push, or for no more of its pusher's, and asks another one.
    pub(super) fn note_full(&mut self, node: &NodeId, push: &PushId, share: bool, now: Instant) {
        let Some(held) = self.ledger.get_mut(push) else {
            return;
        };
        held.holders.remove(node);
        let pusher = share.then(|| held.content.pusher.clone());
        self.full.put(node, pusher, held.bytes(), now);
        self.settle(push, now);
    }

    /// How many pushes wait for further holders and are not held by `asker`; `None` if it is not known here yet.
    pub(super) fn owed(&self, asker: &NodeId) -> Option<usize> {
        let candidates = self.members.candidates();
        let wanted = self.wanted(candidates.len());
        let short = self.unsettled.iter().filter(|push| {
            let held = self.ledger.get(push);
            let holding = held.and_then(|held| held.holders.get(asker));
            holding != Some(&Holding::Confirmed) && self.count_confirmed(push, &candidates) < wanted
        });
        self.members.knows(asker).then(|| short.count())
    }
}
