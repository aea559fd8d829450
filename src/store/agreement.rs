//! Holders compare what they hold, so that whatever one of them missed is made up for.

use std::time::Instant;

use super::holders::Holding;
use super::{Entry, Kept, Over, PushId, Request, Standing, Store};
use crate::nodes::NodeId;

/// Pushes in one call.
const MAX_ENTRIES: usize = 500;
/// Pushes in one round; the next round goes on from there.
const MAX_PER_ROUND: usize = 10_000;

impl Store {
    /// Compares some pushes if it is time to, each time the next ones.
    pub(super) fn agree(&mut self, now: Instant) {
        if self.next_agreement.is_some_and(|next| now < next) {
            return;
        }
        self.next_agreement = Some(now + self.replication.agree_every);
        let round = self.ledger.next(self.agreed_to.as_ref(), MAX_PER_ROUND);
        self.agreed_to = round.last().cloned();
        for push in round {
            self.review(&push, now);
            let partners = self.partners(&push);
            self.tell_all(&partners, &push);
        }
    }

    /// With whom to compare: an owner with all that hold the push, another holder with the owner.
    fn partners(&self, push: &PushId) -> Vec<NodeId> {
        let Some(held) = self.ledger.get(push) else {
            return Vec::new();
        };
        if held.ownership().owner != self.me {
            let owner = self.presumed_owner(push);
            return owner
                .filter(|node| **node != self.me)
                .into_iter()
                .cloned()
                .collect();
        }
        let confirmed = held.holders.iter().filter(|(node, holding)| {
            *holding == Holding::Confirmed && self.members.is_alive(node)
        });
        confirmed.map(|(node, _)| node.clone()).collect()
    }

    /// Lets the next effects tell `nodes` what this one knows about `push`.
    pub(super) fn tell_all<'a>(
        &mut self,
        nodes: impl IntoIterator<Item = &'a NodeId>,
        push: &PushId,
    ) {
        for node in nodes {
            let words = self.words.entry(node.clone()).or_default();
            words.insert(push.clone());
        }
    }

    /// Makes calls of what has gathered to be told.
    pub(super) fn say_words(&mut self, now: Instant) {
        for (node, pushes) in std::mem::take(&mut self.words) {
            let entries: Vec<_> = pushes
                .into_iter()
                .filter_map(|push| {
                    let entry = self.entry(&push, now)?;
                    Some((push, entry))
                })
                .collect();
            for entries in entries.chunks(MAX_ENTRIES) {
                self.call(&node, Request::Sync(entries.to_vec()));
            }
        }
        for (node, over) in std::mem::take(&mut self.served_words) {
            self.post(&node, None, over, now);
        }
    }

    /// What this node tells others of a push.
    pub(super) fn entry(&self, push: &PushId, now: Instant) -> Option<Entry> {
        let held = self.ledger.get(push)?;
        let had = self.consumers.names(held.had());
        Some(held.entry(&self.me, had, now))
    }

    /// Tells `holders` what has become of a push, with the next effects.
    pub(super) fn relay(&mut self, holders: impl IntoIterator<Item = NodeId>, over: &Over) {
        for node in holders {
            let words = self.served_words.entry(node).or_default();
            words.served.extend(over.served.iter().cloned());
            words.replaced.extend(over.replaced.iter().cloned());
            for (consumer, pushes) in &over.had {
                let had = words.had.entry(consumer.clone()).or_default();
                had.extend(pushes.iter().cloned());
            }
        }
    }

    /// Answers what another holder says of its pushes.
    pub(super) fn compare(
        &mut self,
        from: &NodeId,
        entries: Vec<(PushId, Entry)>,
        now: Instant,
    ) -> Vec<(PushId, Standing)> {
        entries
            .into_iter()
            .map(|(push, entry)| {
                let standing = self.learn(from, &push, &entry, now);
                (push, standing)
            })
            .collect()
    }

    /// Takes over what `from`, which holds the push, knows better, and says how the push stands here.
    pub(super) fn learn(
        &mut self,
        from: &NodeId,
        push: &PushId,
        entry: &Entry,
        now: Instant,
    ) -> Standing {
        self.doubts.answered(from, push);
        let asked = self.asked(now);
        let Some(held) = self.ledger.get_mut(push) else {
            return if self.ledger.is_over(push) {
                Standing::Gone
            } else {
                Standing::Unknown
            };
        };
        let newer = entry.ownership > *held.ownership();
        if newer || (entry.ownership == *held.ownership() && entry.ownership.owner == *from) {
            let known = std::mem::take(&mut held.holders);
            let others = entry.holders.iter().filter(|node| **node != self.me);
            held.holders = others
                .map(|node| {
                    let holding = known.get(node).copied();
                    (self.members.known(node), holding.unwrap_or(asked))
                })
                .collect();
        }
        let from = self.members.known(from);
        held.holders.put(&from, Holding::Confirmed);
        if let Some(left) = entry.retained {
            self.note_retained(push, now + left);
        }
        self.note_owner(&from, push, &entry.ownership);
        if newer {
            self.change_owner(push, &entry.ownership, now);
        }
        self.learn_had(push, &entry.had, now);
        self.standing(push, now)
    }

    fn standing(&self, push: &PushId, now: Instant) -> Standing {
        match self.ledger.get(push) {
            Some(held) => Standing::Held {
                ownership: held.ownership().clone(),
                had: self.consumers.names(held.had()),
                retained: held.retained(now),
            },
            None if self.ledger.is_over(push) => Standing::Gone,
            None => Standing::Unknown,
        }
    }

    /// It is over, as another holder knows.
    fn note_retained(&mut self, push: &PushId, until: Instant) {
        let held = self.ledger.get(push);
        if held.is_some_and(|held| !held.is_over()) {
            self.ledger.set_over(push, until);
            self.acknowledge(push, Kept::Replicated);
        }
    }

    /// Takes what `from` said of a push.
    pub(super) fn heed(&mut self, from: &NodeId, push: &PushId, standing: &Standing, now: Instant) {
        self.doubts.answered(from, push);
        if self.ledger.get(push).is_none() {
            return;
        }
        match standing {
            Standing::Held {
                ownership,
                had,
                retained,
            } => {
                self.note_aware(from, push, Some(ownership));
                self.note_holder(from, push);
                self.note_owner(from, push, ownership);
                if let Some(left) = retained {
                    self.note_retained(push, now + *left);
                }
                let held = self.ledger.get(push);
                if held.is_some_and(|held| ownership > held.ownership()) {
                    self.change_owner(push, ownership, now);
                }
                self.learn_had(push, had, now);
                self.settle(push, now);
            }
            Standing::Gone if self.owns(push) => self.end_everywhere(push, now),
            Standing::Gone => self.end(push, now),
            Standing::Unknown => {
                self.note_aware(from, push, None);
                self.note_unknown(from, push, now);
            }
            Standing::Full { share } => self.note_full(from, push, *share, now),
        }
    }

    fn note_holder(&mut self, node: &NodeId, push: &PushId) {
        if let Some(held) = self.ledger.get_mut(push) {
            held.holders
                .put(&self.members.known(node), Holding::Confirmed);
        }
    }

    /// `node` does not hold it: an owner replicates it again, another holder looks for another owner.
    fn note_unknown(&mut self, node: &NodeId, push: &PushId, now: Instant) {
        if let Some(held) = self.ledger.get_mut(push) {
            held.holders.remove(node);
        }
        if self.owns(push) {
            self.unsettled.insert(push.clone());
        } else {
            self.review(push, now);
        }
    }
}
