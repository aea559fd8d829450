//! Pushes on this node's disk: what is to be written, what an acknowledgement waits for, and what comes back after a
//! restart.
//!
//! The ledger notes every push that it takes in, changes or lets go ([`Changes`](super::changes::Changes)), and the next effects say what is to be
//! written ([`Effects::writes`]). A push that this node accepts is acknowledged once [`Store::written`] says that it is on
//! disk, besides what its acknowledgement waits for anyway. One that cannot be written, or not in time, is withdrawn here
//! and at its holders, and refused. Replicas are written, too, and nobody waits for that.
//!
//! What is restored belongs to an earlier life of its owner. This node asks every other one about it before it is in
//! service, and takes over what falls to it then, as a holder does whose owner is gone. An end that is known anywhere
//! ends it here: ends are on disk, too, for as long as a tombstone is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::changes::Change;
use super::consumers::{Consumers, Slots};
use super::holders::Holders;
use super::ledger::{Held, Ledger};
use super::{Effects, Kept, Ownership, PushId, Restored, Store, StoredStanding, Write};
use crate::nodes::NodeId;

/// A push that is not on disk after this is refused.
const WRITE_WITHIN: Duration = Duration::from_secs(10);

impl Held {
    fn stored(&self, consumers: &Consumers, now: Instant) -> StoredStanding {
        StoredStanding {
            order: self.order,
            left: self.expires.saturating_duration_since(now),
            ownership: self.ownership().clone(),
            had: consumers.names(self.had()),
            retained: self.retained(now),
        }
    }
}

impl Ledger {
    /// What is to be written because of what has changed since the last time.
    fn writes(&mut self, consumers: &Consumers, now: Instant) -> Vec<(PushId, Write)> {
        let changed = self.changes.take();
        let changed = changed.into_iter();
        let writes = changed.filter_map(|(push, change)| {
            let write = match change {
                Change::Ended { until } => Write::Over {
                    left: until.saturating_duration_since(now),
                },
                Change::Removed => Write::Removed,
                Change::Entered | Change::Altered => {
                    let held = self.get(&push)?;
                    let entered = matches!(change, Change::Entered);
                    Write::Held {
                        content: entered.then(|| Arc::clone(&held.content)),
                        standing: held.stored(consumers, now),
                    }
                }
            };
            Some((push, write))
        });
        writes.collect()
    }
}

#[derive(Debug)]
struct Unwritten {
    until: Instant,
    /// How it is held, once its acknowledgement waits for the disk alone.
    kept: Option<Kept>,
}

/// What waits for the disk, and what came from it.
#[derive(Debug, Default)]
pub(super) struct Durable {
    unwritten: BTreeMap<PushId, Unwritten>,
    /// Restored, and not known to belong to a node that lives.
    restored: BTreeSet<PushId>,
}

impl Durable {
    /// Whether `push` is not on disk yet; then its acknowledgement as `kept` is put off.
    pub(super) fn puts_off(&mut self, push: &PushId, kept: Kept) -> bool {
        let unwritten = self.unwritten.get_mut(push);
        unwritten
            .map(|unwritten| unwritten.kept = Some(kept))
            .is_some()
    }

    /// Nothing waits for the disk any more on behalf of `push`.
    pub(super) fn let_go(&mut self, push: &PushId) {
        self.unwritten.remove(push);
        self.restored.remove(push);
    }

    /// A node that lives owns `push`.
    pub(super) fn settle(&mut self, push: &PushId) {
        self.restored.remove(push);
    }

    /// Whether nothing waits.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.unwritten.is_empty() && self.restored.is_empty()
    }

    pub(super) fn is_restored(&self, push: &PushId) -> bool {
        self.restored.contains(push)
    }
}

impl Store {
    /// From now on effects say what is to be written, and acknowledgements wait for it.
    pub fn keep_on_disk(&mut self) {
        self.ledger.changes.begin();
    }

    /// Takes in what an earlier life of this node had on disk: its pushes, and the ends that it knew. All of them, even if
    /// the store is allowed fewer bytes now: they have been acknowledged.
    pub fn restore(
        &mut self,
        pushes: Vec<Restored>,
        over: Vec<(PushId, Duration)>,
        now: Instant,
    ) -> Effects {
        for (push, left) in over {
            self.ledger.restore_end(push, now + left);
        }
        for Restored {
            push,
            content,
            standing,
        } in pushes
        {
            self.clock.hear(standing.order, now);
            let expires = now + standing.left.min(self.limits.ttl);
            let mut held = Held::new(
                content,
                expires,
                standing.order,
                standing.ownership,
                Holders::default(),
            );
            let mut had = Slots::default();
            for name in &standing.had {
                if let Some(slot) = self.consumers.slot_or_new(name, now) {
                    had.insert(slot);
                }
            }
            let kept = standing.retained.unwrap_or(self.limits.retention);
            let kept_until = now + kept.min(self.limits.retention);
            held.restore(had, standing.retained.is_some(), kept_until);
            self.ledger.restore(push.clone(), held);
            self.durable.restored.insert(push);
        }
        self.ask_about_restored(now);
        self.effects(now)
    }

    /// The disk has, or could not take, what these pushes are. Those that nobody waits for are passed over.
    pub fn written(
        &mut self,
        results: impl IntoIterator<Item = (PushId, bool)>,
        now: Instant,
    ) -> Effects {
        for (push, written) in results {
            if !written {
                self.withdraw(&push, now);
            } else if let Some(Unwritten {
                kept: Some(kept), ..
            }) = self.durable.unwritten.remove(&push)
            {
                self.acknowledge(&push, kept);
            }
        }
        self.effects(now)
    }

    /// The acknowledgement of an accepted push waits for the disk.
    pub(super) fn await_write(&mut self, push: &PushId, now: Instant) {
        if self.ledger.changes.are_noted() {
            let until = now + WRITE_WITHIN;
            let unwritten = Unwritten { until, kept: None };
            self.durable.unwritten.insert(push.clone(), unwritten);
        }
    }

    /// Withdraws what the disk has not taken in time.
    pub(super) fn withdraw_late(&mut self, now: Instant) {
        let unwritten = self.durable.unwritten.iter();
        let late = unwritten.filter(|(_, unwritten)| unwritten.until <= now);
        for push in Vec::from_iter(late.map(|(push, _)| push.clone())) {
            self.withdraw(&push, now);
        }
    }

    /// Ends an accepted push that is not on disk, everywhere, and refuses it. One that is over is acknowledged: the disk has
    /// nothing to keep of it but that it may be served again.
    fn withdraw(&mut self, push: &PushId, now: Instant) {
        if self.durable.unwritten.remove(push).is_none() {
            return;
        }
        let held = self.ledger.get(push);
        if held.is_some_and(Held::is_over) {
            self.acknowledge(push, Kept::Replicated);
            return;
        }
        // A consumer has had it, or a response that has it may yet be delivered; and the push may be made again.
        let given = held.is_some_and(|held| held.is_served() || held.is_claimed(now));
        self.out.tally.possible_duplicates += usize::from(given);
        if self.unacknowledged.remove(push).is_some() {
            self.out.refused.push(push.clone());
        }
        self.queued.remove(push);
        self.end_everywhere(push, now);
    }

    /// Every node in the view may hold what was restored, or know its end: each is asked.
    pub(super) fn ask_about_restored(&mut self, now: Instant) {
        let asked = self.asked(now);
        let peers: Vec<_> = self.members.peers().cloned().collect();
        let restored = Vec::from_iter(self.durable.restored.iter().cloned());
        for push in restored {
            let Some(held) = self.ledger.get_mut(&push) else {
                continue;
            };
            let holders = &mut held.holders;
            let new: Vec<_> = peers
                .iter()
                .filter(|node| !holders.contains(node))
                .collect();
            for node in &new {
                holders.put(node, asked);
            }
            if !new.is_empty() {
                held.orphaned = None;
                self.tell_all(new, &push);
            }
        }
    }

    /// A node that says it owns a push lives: the push need not be asked about.
    pub(super) fn note_owner(&mut self, from: &NodeId, push: &PushId, ownership: &Ownership) {
        if ownership.owner == *from {
            self.durable.settle(push);
        }
    }

    pub(super) fn take_writes(&mut self, now: Instant) {
        self.out.writes = self.ledger.writes(&self.consumers, now);
    }
}
