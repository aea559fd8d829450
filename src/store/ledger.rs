//! The pushes that a node holds, their bytes, and the tombstones of those whose life is over.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::tombstones::Tombstones;
use super::{ClaimId, Content, Counts, Entry, Full, NodeId, Ownership, PushId};

/// A tombstone outlives the push by the longest that a message may be under way.
const LATE: Duration = Duration::from_secs(60);
/// A replica outlives its time by this, so that it is the owner that drops the push and counts it.
const REPLICA_GRACE: Duration = Duration::from_secs(10);

/// What is known of another holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holding {
    /// It was asked, or named by another holder, and has not answered. It may be asked again then. How often it failed to
    /// take the push.
    Asked { again: Instant, failures: u32 },
    /// It holds the push.
    Confirmed,
}

/// Where a push is in its life. Only its owner's word counts, except that served is served wherever it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// Waiting for a scrape.
    Pending,
    /// Handed to a scrape. When the lease has run out it may be handed to another one, and is this one's until then.
    Claimed { claim: ClaimId, until: Instant },
    /// Served, and handed to every scrape until then.
    Retained { until: Instant },
}

/// A push and what this node knows about it.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) content: Arc<Content>,
    pub(super) expires: Instant,
    pub(super) ownership: Ownership,
    /// The other holders.
    pub(super) holders: BTreeMap<NodeId, Holding>,
    pub(super) state: State,
    /// Holders asked since the push was handed to a scrape, which therefore does not know them.
    pub(super) asked_since: BTreeSet<NodeId>,
    /// Since when its owner is known to be gone and the push falls to this node.
    pub(super) orphaned: Option<Instant>,
}

impl Held {
    /// Whether a scrape that is under way has it.
    pub(super) fn is_claimed(&self, now: Instant) -> bool {
        matches!(self.state, State::Claimed { until, .. } if until > now)
    }

    /// Whether it has been served and is kept.
    pub(super) fn is_retained(&self) -> bool {
        matches!(self.state, State::Retained { .. })
    }

    /// How much longer it is retained, if it is.
    pub(super) fn retained(&self, now: Instant) -> Option<Duration> {
        match self.state {
            State::Retained { until } => Some(until.saturating_duration_since(now)),
            State::Pending | State::Claimed { .. } => None,
        }
    }

    /// As `me` tells others about it.
    pub(super) fn entry(&self, me: &NodeId, now: Instant) -> Entry {
        Entry {
            ownership: self.ownership.clone(),
            holders: self.all_holders(me),
            retained: self.retained(now),
        }
    }

    /// The holders with `me`.
    pub(super) fn all_holders(&self, me: &NodeId) -> Vec<NodeId> {
        self.holders.keys().chain([me]).cloned().collect()
    }

    /// When it is dropped if nothing happens to it. A replica waits for its owner's word first.
    pub(super) fn dropped_at(&self, me: &NodeId) -> Instant {
        let until = match self.state {
            State::Retained { until } => until,
            State::Pending | State::Claimed { .. } => self.expires,
        };
        if self.ownership.owner == *me {
            until
        } else {
            until + REPLICA_GRACE
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.content.bytes() + size_of::<Self>()
    }
}

/// What a node holds.
#[derive(Debug)]
pub(super) struct Ledger {
    pushes: BTreeMap<PushId, Held>,
    tombstones: Tombstones,
    bytes: usize,
    max_bytes: usize,
}

impl Ledger {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self {
            pushes: BTreeMap::new(),
            tombstones: Tombstones::default(),
            bytes: 0,
            max_bytes,
        }
    }

    /// Takes a push in that is not here yet.
    pub(super) fn insert(&mut self, push: PushId, held: Held) -> Result<(), Full> {
        let bytes = held.bytes();
        if self.bytes.saturating_add(bytes) > self.max_bytes {
            return Err(Full);
        }
        self.bytes += bytes;
        self.pushes.insert(push, held);
        Ok(())
    }

    pub(super) fn get(&self, push: &PushId) -> Option<&Held> {
        self.pushes.get(push)
    }

    pub(super) fn get_mut(&mut self, push: &PushId) -> Option<&mut Held> {
        self.pushes.get_mut(push)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&PushId, &Held)> {
        self.pushes.iter()
    }

    /// At most `most` pushes, those that follow `after` first, then from the beginning.
    pub(super) fn next(&self, after: Option<&PushId>, most: usize) -> Vec<PushId> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let rest = self.pushes.range((from, Bound::Unbounded));
        let most = most.min(self.pushes.len());
        let round = rest.chain(&self.pushes).take(most);
        round.map(|(push, _)| push.clone()).collect()
    }

    /// Ends a push's life, also of one that is not here, whose replica may be under way.
    pub(super) fn end(&mut self, push: &PushId, now: Instant, ttl: Duration) -> Option<Held> {
        let held = self.remove(push);
        let expires = held.as_ref().map_or(now + ttl, |held| held.expires);
        self.tombstones.put(push.clone(), expires.max(now) + LATE);
        held
    }

    /// Lets a push go of which another node has the say.
    pub(super) fn remove(&mut self, push: &PushId) -> Option<Held> {
        let held = self.pushes.remove(push)?;
        self.bytes -= held.bytes();
        Some(held)
    }

    /// Whether the push's life is known to be over.
    pub(super) fn is_over(&self, push: &PushId) -> bool {
        self.tombstones.contains(push)
    }

    /// Forgets tombstones that are no longer needed.
    pub(super) fn forget(&mut self, now: Instant) {
        self.tombstones.forget(now);
    }

    pub(super) fn counts(&self, me: &NodeId, now: Instant) -> Counts {
        let mut counts = Counts {
            bytes: self.bytes,
            ..Counts::default()
        };
        for held in self.pushes.values() {
            if held.ownership.owner != *me {
                counts.replicas += 1;
            } else if held.is_retained() {
                counts.retained += 1;
            } else if held.is_claimed(now) {
                counts.claimed += 1;
            } else {
                counts.pending += 1;
            }
        }
        counts
    }
}
