//! The pushes that a node holds, their bytes, and the tombstones of those whose life is over.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::accounts::{Accounts, SERIES_BYTES};
use super::changes::Changes;
use super::consumers::{ConsumerName, Slot, Slots};
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

/// A push handed to a scrape. When the lease has run out it may be handed to another one of the same consumer, and is this
/// one's until then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) claim: ClaimId,
    pub(super) taker: Taker,
    pub(super) until: Instant,
}

/// For whom a claim takes pushes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taker {
    /// A consumer that is remembered.
    Consumer(Slot),
    /// One that is not: it is served what others may get, and takes nothing.
    Unremembered,
    /// A claim of a node of an older release, which does not name its consumer: it takes for all.
    Anybody,
}

impl Taker {
    /// Whether what one of the two has been handed must not go to the other at the same time.
    fn excludes(self, other: Self) -> bool {
        match (self, other) {
            (Self::Unremembered, Self::Unremembered) => false,
            (Self::Anybody, _) | (_, Self::Anybody) => true,
            (one, other) => one == other,
        }
    }

    fn is_one_of(self, consumers: Slots) -> bool {
        matches!(self, Self::Consumer(slot) if consumers.contains(slot))
    }
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
    /// The consumers that have had it, wherever that is known.
    had: Slots,
    /// A consumer has had it, also one that has been forgotten since.
    served: bool,
    /// Every consumer that it waited for has had it, or its time to live has ended.
    over: bool,
    /// Once it has been served: it is served again until then.
    kept_until: Option<Instant>,
    /// Where an owner was lost, which may have handed it to anybody: to whom a second time has been counted.
    maybe_had: Option<Slots>,
    /// The scrapes that it has been handed to. Only the owner hands it out.
    leases: Vec<Lease>,
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
            had: Slots::default(),
            served: false,
            over: false,
            kept_until: None,
            maybe_had: None,
            leases: Vec::new(),
            asked_since: BTreeSet::new(),
            orphaned: None,
        }
    }

    /// As it was when it was written to disk: had by these consumers, over if it says so, and kept until then.
    pub(super) fn restore(&mut self, had: Slots, over: bool, kept_until: Instant) {
        self.had = had;
        self.served = over || !had.is_empty();
        self.over = over;
        self.kept_until = self.served.then_some(kept_until);
    }

    /// What the disk keeps of how it stands.
    fn stored_standing(&self) -> (Slots, bool, Ownership) {
        (self.had, self.over, self.ownership.clone())
    }

    pub(super) fn ownership(&self) -> &Ownership {
        &self.ownership
    }

    /// The consumers that have had it.
    pub(super) fn had(&self) -> Slots {
        self.had
    }

    /// Whether a consumer has had it.
    pub(super) fn is_served(&self) -> bool {
        self.served
    }

    /// Whether it is over, and kept to be served again.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// Whether it is served again to those that have had it.
    pub(super) fn is_kept(&self, now: Instant) -> bool {
        self.kept_until.is_some_and(|until| until > now)
    }

    /// Whether it has been handed to a scrape whose end is not known.
    pub(super) fn is_lent(&self) -> bool {
        !self.leases.is_empty()
    }

    /// Whether a scrape that is under way has it.
    pub(super) fn is_claimed(&self, now: Instant) -> bool {
        self.leases.iter().any(|lease| lease.until > now)
    }

    /// Whether a scrape that is under way has it, so that `taker` must wait for its end.
    pub(super) fn is_claimed_from(&self, taker: Taker, now: Instant) -> bool {
        let mut leases = self.leases.iter();
        leases.any(|lease| lease.until > now && lease.taker.excludes(taker))
    }

    /// Whether `taker` needs it no more.
    pub(super) fn is_had_by(&self, taker: Taker) -> bool {
        match taker {
            _ if self.over => true,
            Taker::Consumer(slot) => self.had.contains(slot),
            Taker::Unremembered => false,
            // Which consumer a node of an older release serves, nobody knows: what one has had waits for the others.
            Taker::Anybody => self.served,
        }
    }

    /// How much longer it is retained, if it is over.
    pub(super) fn retained(&self, now: Instant) -> Option<Duration> {
        let until = self.kept_until.filter(|_| self.over)?;
        Some(until.saturating_duration_since(now))
    }

    /// Lengthens a lease; says whether the claim has one.
    pub(super) fn renew(&mut self, of: &ClaimId, to: Instant) -> bool {
        let mut leases = self.leases.iter_mut();
        let lease = leases.find(|lease| lease.claim == *of);
        let Some(lease) = lease else {
            return false;
        };
        lease.until = lease.until.max(to);
        true
    }

    /// As `me` tells others about it.
    pub(super) fn entry(&self, me: &NodeId, had: Vec<ConsumerName>, now: Instant) -> Entry {
        Entry {
            ownership: self.ownership.clone(),
            holders: self.all_holders(me),
            had,
            retained: self.retained(now),
        }
    }

    /// The holders with `me`.
    pub(super) fn all_holders(&self, me: &NodeId) -> Vec<NodeId> {
        self.holders.nodes().chain([me]).cloned().collect()
    }

    /// When it is dropped if nothing happens to it. A replica waits for its owner's word first.
    fn dropped_at(&self, me: &NodeId) -> Instant {
        let kept_until = self.kept_until.filter(|_| self.over);
        let until = kept_until.unwrap_or(self.expires);
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
    /// What the disk does not have yet.
    pub(super) changes: Changes,
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
            changes: Changes::default(),
        }
    }

    /// Takes a push in that is not here yet.
    pub(super) fn insert(&mut self, push: PushId, held: Held) -> Result<(), Refusal> {
        self.find_room(&held)?;
        self.changes.enter(&push);
        self.put(push, held);
        Ok(())
    }

    /// Takes a push in that is on disk, whatever room there is.
    pub(super) fn restore(&mut self, push: PushId, held: Held) {
        self.put(push, held);
    }

    /// Takes an end in that is on disk.
    pub(super) fn restore_end(&mut self, push: PushId, until: Instant) {
        self.tombstones.put(push, until);
    }

    fn put(&mut self, push: PushId, held: Held) {
        let bytes = held.bytes();
        self.counts.bytes += bytes;
        self.accounts.enter(&held.content, bytes);
        *self.counts.of(&held, &self.me) += 1;
        let end = (held.dropped_at(&self.me), push.clone());
        self.ends.insert(end);
        self.pushes.insert(push, Box::new(held));
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

    /// These consumers have had it, and whatever is served is served again until `kept_until`. Says whether that is news.
    pub(super) fn add_had(&mut self, push: &PushId, slots: Slots, kept_until: Instant) -> bool {
        let news = self.get(push).is_some_and(|held| {
            let added = slots.without(held.had);
            !added.is_empty()
        });
        if news {
            self.change(push, |held| {
                held.had = held.had.with(slots);
                held.leases.retain(|lease| !lease.taker.is_one_of(slots));
                held.served = true;
                held.kept_until.get_or_insert(kept_until);
            });
        }
        news
    }

    /// It is over, and kept until then.
    pub(super) fn set_over(&mut self, push: &PushId, kept_until: Instant) {
        self.change(push, |held| {
            held.served = true;
            held.over = true;
            held.kept_until.get_or_insert(kept_until);
        });
    }

    pub(super) fn set_ownership(&mut self, push: &PushId, ownership: Ownership) {
        self.change(push, |held| held.ownership = ownership);
    }

    /// A push has been taken over, and may have been handed to `consumers`, or to others that are not known yet. Gives the
    /// number of the former that may get it again; others count when it is handed to them.
    pub(super) fn note_taken_over(&mut self, push: &PushId, consumers: Slots) -> usize {
        let Some(held) = self.get_mut(push).filter(|held| !held.over) else {
            return 0;
        };
        held.maybe_had = Some(consumers);
        consumers.without(held.had).len()
    }

    /// Hands a push to a scrape. Gives the number of times that a consumer may get it again: scrapes of the same consumer
    /// that had it, and whose leases have run out; and those of former owners.
    pub(super) fn lease(&mut self, push: &PushId, lease: Lease) -> usize {
        let mut again = 0;
        self.change(push, |held| {
            if held.ownership.lost_before
                && let Taker::Consumer(slot) = lease.taker
            {
                let counted = held.maybe_had.get_or_insert(held.had);
                again += usize::from(!counted.contains(slot));
                counted.insert(slot);
            }
            if held.leases.is_empty() {
                held.asked_since.clear();
            }
            let before = held.leases.len();
            held.leases
                .retain(|other| !other.taker.excludes(lease.taker));
            again += before - held.leases.len();
            held.leases.push(lease);
        });
        again
    }

    /// What this claim has is handed to others again.
    pub(super) fn give_back(&mut self, push: &PushId, of: &ClaimId) {
        let held = self.get(push);
        if held.is_some_and(|held| held.leases.iter().any(|lease| lease.claim == *of)) {
            self.change(push, |held| held.leases.retain(|lease| lease.claim != *of));
        }
    }

    /// Takes a push from all scrapes that have it; how many there were.
    pub(super) fn take_back(&mut self, push: &PushId) -> usize {
        let leases = self.get(push).map_or(0, |held| held.leases.len());
        if leases > 0 {
            self.change(push, |held| held.leases = Vec::new());
        }
        leases
    }

    /// Forgets what consumers have had that are not known any more. Gives the number of times that one of them may get a
    /// push again.
    pub(super) fn forget_consumers(&mut self, slots: Slots) -> usize {
        let times = |held: &Held| {
            let leases = held.leases.iter();
            let leased = leases.filter(|lease| lease.taker.is_one_of(slots));
            held.had.and(slots).len() + leased.count()
        };
        let concerned = self.iter().filter(|(_, held)| times(held) > 0);
        let concerned: Vec<_> = concerned.map(|(push, _)| push.clone()).collect();
        let mut again = 0;
        for push in concerned {
            self.change(&push, |held| {
                again += if held.over { 0 } else { times(held) };
                held.had = held.had.without(slots);
                held.maybe_had = held.maybe_had.map(|consumers| consumers.without(slots));
                held.leases.retain(|lease| !lease.taker.is_one_of(slots));
            });
        }
        again
    }

    /// Changes what a push counts as, and when it ends.
    fn change(&mut self, push: &PushId, change: impl FnOnce(&mut Held)) {
        let Some(held) = self.pushes.get_mut(push) else {
            return;
        };
        let before = held.dropped_at(&self.me);
        let waited = !held.served;
        let stored = held.stored_standing();
        *self.counts.of(held, &self.me) -= 1;
        change(held);
        *self.counts.of(held, &self.me) += 1;
        if waited && held.served {
            self.accounts.stop_waiting(&held.content);
        }
        if stored != held.stored_standing() {
            self.changes.alter(push);
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
        let until = expires.max(now) + LATE;
        self.changes.end(push, until);
        self.tombstones.put(push.clone(), until);
    }

    /// Lets a push go of which another node has the say.
    pub(super) fn remove(&mut self, push: &PushId) -> Option<Box<Held>> {
        let held = self.pushes.remove(push)?;
        self.changes.remove(push);
        self.counts.bytes -= held.bytes();
        if !held.served {
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
        match held {
            Held { over: true, .. } => &mut self.retained,
            held if held.is_lent() => &mut self.claimed,
            Held { served: true, .. } => &mut self.partly_served,
            _ => &mut self.pending,
        }
    }
}
