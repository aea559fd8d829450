//! The pushes that a node holds, their bytes, and the tombstones of those whose life is over.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::accounts::{Accounts, SERIES_BYTES};
use super::holders::Holders;
use super::tombstones::Tombstones;
use super::{ClaimId, Content, Counts, Entry, Ownership, PushId, Refusal};
use crate::nodes::NodeId;

/// A tombstone outlives the push by the longest that a message may be under way.
const LATE: Duration = Duration::from_secs(60);
/// A replica outlives its time by this, so that it is the owner that drops the push and counts it.
const REPLICA_GRACE: Duration = Duration::from_secs(10);

/// Bytes that a push occupies beside what [`Content::bytes`] counts: what is known of it, its places in maps, which keep
/// room for more, and the blocks that even the shortest text is spread over. Measured with three nodes: 700 to 880; with
/// what an account takes that has no other push, 200 more.
const OVERHEAD: usize = 1152;

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
    /// Its place among all pushes, the same at every holder: see [`super::clock`].
    pub(super) order: u64,
    ownership: Ownership,
    pub(super) holders: Holders,
    state: State,
    /// Holders asked since the push was handed to a scrape, which therefore does not know them.
    pub(super) asked_since: BTreeSet<NodeId>,
    /// Since when its owner is known to be gone and the push falls to this node.
    pub(super) orphaned: Option<Instant>,
}

impl Held {
    pub(super) fn new(
        content: Arc<Content>,
        expires: Instant,
        order: u64,
        ownership: Ownership,
        holders: Holders,
    ) -> Self {
        Self {
            content,
            expires,
            order,
            ownership,
            holders,
            state: State::Pending,
            asked_since: BTreeSet::new(),
            orphaned: None,
        }
    }

    pub(super) fn ownership(&self) -> &Ownership {
        &self.ownership
    }

    pub(super) fn state(&self) -> &State {
        &self.state
    }

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

    /// Lengthens a lease; says whether the push goes with this claim.
    pub(super) fn renew(&mut self, of: &ClaimId, to: Instant) -> bool {
        match &mut self.state {
            State::Claimed { claim, until } if claim == of => {
                *until = (*until).max(to);
                true
            }
            State::Retained { .. } => true,
            State::Claimed { .. } | State::Pending => false,
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
        self.holders.nodes().chain([me]).cloned().collect()
    }

    /// When it is dropped if nothing happens to it. A replica waits for its owner's word first.
    fn dropped_at(&self, me: &NodeId) -> Instant {
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

    /// Bytes that it occupies.
    pub(super) fn bytes(&self) -> usize {
        self.content.bytes() + SERIES_BYTES * self.content.series.len() + OVERHEAD
    }
}

/// What a node holds.
#[derive(Debug)]
pub(super) struct Ledger {
    me: NodeId,
    /// Boxed, because a map keeps room for up to as many again as it has.
    pushes: BTreeMap<PushId, Box<Held>>,
    /// When each is dropped if nothing happens to it.
    ends: BTreeSet<(Instant, PushId)>,
    counts: Counts,
    accounts: Accounts,
    tombstones: Tombstones,
    max_bytes: usize,
}

impl Ledger {
    pub(super) fn new(me: NodeId, max_bytes: usize) -> Self {
        Self {
            me,
            pushes: BTreeMap::new(),
            ends: BTreeSet::new(),
            counts: Counts::default(),
            accounts: Accounts::default(),
            tombstones: Tombstones::default(),
            max_bytes,
        }
    }

    /// Takes a push in that is not here yet.
    pub(super) fn insert(&mut self, push: PushId, held: Held) -> Result<(), Refusal> {
        self.find_room(&held)?;
        let bytes = held.bytes();
        self.counts.bytes += bytes;
        self.accounts.enter(&held.content, bytes);
        *self.counts.of(&held, &self.me) += 1;
        let end = (held.dropped_at(&self.me), push.clone());
        self.ends.insert(end);
        self.pushes.insert(push, Box::new(held));
        Ok(())
    }

    /// A pusher may have at most as many bytes as are free then, so that there is always room for one more pusher.
    fn find_room(&self, held: &Held) -> Result<(), Refusal> {
        let bytes = held.bytes();
        let taken = self.counts.bytes.saturating_add(bytes);
        let free = self.max_bytes.saturating_sub(taken);
        if bytes > free {
            return Err(Refusal::Full);
        }
        if self.accounts.bytes(&held.content.pusher) + bytes > free {
            return Err(Refusal::Share);
        }
        Ok(())
    }

    pub(super) fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    pub(super) fn accounts_mut(&mut self) -> &mut Accounts {
        &mut self.accounts
    }

    pub(super) fn get(&self, push: &PushId) -> Option<&Held> {
        self.pushes.get(push).map(Box::as_ref)
    }

    pub(super) fn get_mut(&mut self, push: &PushId) -> Option<&mut Held> {
        self.pushes.get_mut(push).map(Box::as_mut)
    }

    pub(super) fn set_state(&mut self, push: &PushId, state: State) {
        self.change(push, |held| held.state = state);
    }

    pub(super) fn set_ownership(&mut self, push: &PushId, ownership: Ownership) {
        self.change(push, |held| held.ownership = ownership);
    }

    /// A push that this claim has waits for a scrape again.
    pub(super) fn give_back(&mut self, push: &PushId, of: &ClaimId) {
        let held = self.get(push);
        let state = held.map(|held| &held.state);
        if matches!(state, Some(State::Claimed { claim, .. }) if claim == of) {
            self.set_state(push, State::Pending);
        }
    }

    /// Changes what a push counts as, and when it ends.
    fn change(&mut self, push: &PushId, change: impl FnOnce(&mut Held)) {
        let Some(held) = self.pushes.get_mut(push) else {
            return;
        };
        let before = held.dropped_at(&self.me);
        let waited = !held.is_retained();
        *self.counts.of(held, &self.me) -= 1;
        change(held);
        *self.counts.of(held, &self.me) += 1;
        if waited && held.is_retained() {
            self.accounts.stop_waiting(&held.content);
        }
        let after = held.dropped_at(&self.me);
        if before != after {
            let push = push.clone();
            self.ends.remove(&(before, push.clone()));
            self.ends.insert((after, push));
        }
    }

    /// The pushes that have outlived their time, but for those that a scrape has.
    pub(super) fn due(&self, now: Instant) -> impl Iterator<Item = (&PushId, &Held)> {
        let due = self.ends.iter().take_while(move |(end, _)| *end <= now);
        let due = due.filter_map(|(_, push)| Some((push, self.get(push)?)));
        due.filter(move |(_, held)| !held.is_claimed(now))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&PushId, &Held)> {
        self.pushes.iter().map(|(push, held)| (push, held.as_ref()))
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
    pub(super) fn end(&mut self, push: &PushId, now: Instant, ttl: Duration) {
        let held = self.remove(push);
        let expires = held.map_or(now + ttl, |held| held.expires);
        self.tombstones.put(push.clone(), expires.max(now) + LATE);
    }

    /// Lets a push go of which another node has the say.
    pub(super) fn remove(&mut self, push: &PushId) -> Option<Box<Held>> {
        let held = self.pushes.remove(push)?;
        self.counts.bytes -= held.bytes();
        if !held.is_retained() {
            self.accounts.stop_waiting(&held.content);
        }
        self.accounts.leave(&held.content, held.bytes());
        *self.counts.of(&held, &self.me) -= 1;
        self.ends.remove(&(held.dropped_at(&self.me), push.clone()));
        Some(held)
    }

    /// Whether the push's life is known to be over.
    pub(super) fn is_over(&self, push: &PushId) -> bool {
        self.tombstones.contains(push)
    }

    /// Forgets tombstones that are no longer needed, and refusals of long ago.
    pub(super) fn forget(&mut self, now: Instant) {
        self.tombstones.forget(now);
        self.accounts.forget(now);
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }
}

impl Counts {
    /// Those that `held` is one of.
    fn of(&mut self, held: &Held, me: &NodeId) -> &mut usize {
        if held.ownership.owner != *me {
            return &mut self.replicas;
        }
        match held.state {
            State::Pending => &mut self.pending,
            State::Claimed { .. } => &mut self.claimed,
            State::Retained { .. } => &mut self.retained,
        }
    }
}
