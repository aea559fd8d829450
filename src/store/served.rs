//! What consumers have had, and which pushes are over for that.

use std::time::Instant;

use super::consumers::{Slot, Slots};
use super::ledger::{Held, Taker};
use super::selection::SeriesMap;
use super::{ConsumerName, Kept, KnownConsumers, Over, PushId, Store};
use crate::nodes::NodeId;

impl Store {
    /// A consumer scrapes some node of the cluster.
    pub(super) fn note_scrape(&mut self, consumer: &ConsumerName, now: Instant) {
        let (_, forgotten) = self.consumers.scrapes(consumer, now);
        self.note_forgotten(forgotten);
        self.reconsider(now);
    }

    /// Takes over what another node knows of consumers.
    pub(super) fn hear_of_consumers(&mut self, known: &KnownConsumers, now: Instant) {
        let forgotten = self.consumers.hear(known, now);
        self.note_forgotten(forgotten);
        self.reconsider(now);
    }

    fn note_forgotten(&mut self, forgotten: impl IntoIterator<Item = (Slot, ConsumerName)>) {
        for (slot, name) in forgotten {
            // Should it scrape again, it gets again what it has had.
            let again = self.ledger.forget_consumers(Slots::of(slot));
            self.out.tally.possible_duplicates += again;
            self.out.forgotten.push(name);
        }
    }

    /// Forgets consumers that were silent for longer than pushes live.
    pub(super) fn forget_silent(&mut self, now: Instant) {
        let kept = self.limits.ttl + self.limits.retention;
        let silent = self.consumers.forget(kept, now);
        if !silent.is_empty() {
            self.ledger.forget_consumers(silent);
        }
    }

    /// For whom a claim takes pushes.
    pub(super) fn taker(&self, consumer: Option<&ConsumerName>) -> Taker {
        let Some(consumer) = consumer else {
            return Taker::Anybody;
        };
        let slot = self.consumers.slot(consumer);
        slot.map_or(Taker::Unremembered, Taker::Consumer)
    }

    /// Ends what is over now that consumers count which did not, or the other way round.
    pub(super) fn reconsider(&mut self, now: Instant) {
        let deciders = self.consumers.deciders(self.replication.watch, now);
        if deciders == self.deciders {
            return;
        }
        self.deciders = deciders;
        let finished = self
            .ledger
            .iter()
            .filter(|(_, held)| self.is_finished(held));
        let finished: Vec<_> = finished.map(|(push, _)| push.clone()).collect();
        for push in finished {
            self.finish(&push, now);
        }
    }

    /// Whether an owned push is over and nobody has said so: every consumer that counts has had it, and enough of them.
    fn is_finished(&self, held: &Held) -> bool {
        let deciders = &self.deciders;
        let enough = held.had().and(deciders.counted).len() >= self.limits.consumers;
        held.ownership().owner == self.me
            && !held.is_over()
            && deciders.complete
            && enough
            && deciders.counting.without(held.had()).is_empty()
    }

    /// Whether every consumer that counts, and one at least, has had each owned push.
    pub fn is_all_had(&self) -> bool {
        self.ledger.iter().all(|(_, held)| {
            let owned = held.ownership().owner == self.me;
            let waits = !self.deciders.counting.without(held.had()).is_empty();
            !owned || held.is_over() || (held.is_served() && !waits)
        })
    }

    pub(super) fn finish_if_due(&mut self, push: &PushId, now: Instant) {
        let held = self.ledger.get(push);
        if held.is_some_and(|held| self.is_finished(held)) {
            self.finish(push, now);
        }
    }

    /// An owned push is over because of those that have had it.
    fn finish(&mut self, push: &PushId, now: Instant) {
        if let Some(held) = self.ledger.get(push) {
            self.out.tally.missed += self.deciders.counted.without(held.had()).len();
        }
        self.end_for_all(push, now);
    }

    /// An owned push waits for nobody any more.
    pub(super) fn end_for_all(&mut self, push: &PushId, now: Instant) {
        if let Some(held) = self.ledger.get(push) {
            let others: Vec<_> = held.holders.nodes().cloned().collect();
            self.relay(others, &Over::served(push));
        }
        self.retain_or_end(push, now);
    }

    fn retain_or_end(&mut self, push: &PushId, now: Instant) {
        if self.limits.retention.is_zero() {
            self.end(push, now);
        } else {
            self.ledger.set_over(push, now + self.limits.retention);
            self.acknowledge(push, Kept::Replicated);
        }
    }

    /// Takes note of what a scrape has served or replaced, or of what is over, also of what is not here yet.
    pub(super) fn note_over(&mut self, over: &Over, now: Instant) {
        for (consumer, pushes) in &over.had {
            let slot = self.consumers.slot_or_new(consumer, now);
            let taker = slot.map_or(Taker::Unremembered, Taker::Consumer);
            self.out.tally.possibly_out_of_order += self.count_overtaken(pushes, taker, now);
            for push in pushes {
                self.note_had_by(push, (slot, consumer), now);
            }
        }
        let served = &over.served;
        self.out.tally.possibly_out_of_order += self.count_overtaken(served, Taker::Anybody, now);
        for push in served {
            self.end_one_served(push, now);
        }
        for push in &over.replaced {
            self.end(push, now);
        }
    }

    /// Pushes of this node's that wait, or are in a response under way, while newer ones of other nodes with a series in
    /// common have been served.
    fn count_overtaken(&self, served: &[PushId], taker: Taker, now: Instant) -> usize {
        let counts = self.ledger.counts();
        if counts.pending + counts.claimed + counts.partly_served == 0 {
            return 0;
        }
        let mut newest = SeriesMap::default();
        for held in served.iter().filter_map(|push| self.ledger.get(push)) {
            if held.ownership().owner != self.me && !held.is_had_by(taker) {
                let order = held.order;
                let series = held.content.series.iter();
                newest.extend(series.map(|series| (*series, order)));
            }
        }
        if newest.is_empty() {
            return 0;
        }
        let overtaken = self.ledger.iter().filter(|(_, held)| {
            let waits = held.ownership().owner == self.me && !held.is_had_by(taker);
            let claimed = held.is_claimed_from(taker, now);
            let since = if claimed { 0 } else { held.order };
            let mut series = held.content.series.iter();
            waits && series.any(|series| newest.get(series) > Some(&since))
        });
        overtaken.count()
    }

    fn note_had_by(
        &mut self,
        push: &PushId,
        (slot, consumer): (Option<Slot>, &ConsumerName),
        now: Instant,
    ) {
        let Some(slot) = slot else {
            // It is not remembered, and gets the push again.
            self.out.tally.possible_duplicates += usize::from(self.owns(push));
            return;
        };
        let Some(unaware) = self.note_had(push, Slots::of(slot), now) else {
            return;
        };
        let mut over = Over::default();
        over.had.insert(consumer.clone(), vec![push.clone()]);
        self.relay(unaware, &over);
        self.finish_if_due(push, now);
    }

    /// Consumers have had a push. Gives the holders that nobody else tells, if this is news.
    fn note_had(&mut self, push: &PushId, slots: Slots, now: Instant) -> Option<Vec<NodeId>> {
        let kept_until = now + self.limits.retention;
        let news = self.ledger.add_had(push, slots, kept_until);
        news.then(|| self.unaware(push))
    }

    /// Consumers have had a push, as another holder says.
    pub(super) fn learn_had(&mut self, push: &PushId, consumers: &[ConsumerName], now: Instant) {
        let mut slots = Slots::default();
        for consumer in consumers {
            if let Some(slot) = self.consumers.slot_or_new(consumer, now) {
                slots.insert(slot);
            }
        }
        if self
            .ledger
            .add_had(push, slots, now + self.limits.retention)
        {
            self.finish_if_due(push, now);
        }
    }

    /// A push is over, as another node says.
    fn end_one_served(&mut self, push: &PushId, now: Instant) {
        let Some(held) = self.ledger.get(push) else {
            // A replica on its way is not to be held; one that will be retained is, and its owner will say so.
            if self.limits.retention.is_zero() {
                self.end(push, now);
            }
            return;
        };
        if held.is_over() {
            return;
        }
        if self.owns(push) {
            self.finish(push, now);
            return;
        }
        let unaware = self.unaware(push);
        self.retain_or_end(push, now);
        self.relay(unaware, &Over::served(push));
    }

    /// Who claimed a push tells those that held it then; these are the others. But this node must not leave before all know.
    fn unaware(&mut self, push: &PushId) -> Vec<NodeId> {
        let draining = self.members.am_draining();
        let Some(held) = self.ledger.get_mut(push) else {
            return Vec::new();
        };
        if draining {
            held.holders.nodes().cloned().collect()
        } else {
            std::mem::take(&mut held.asked_since).into_iter().collect()
        }
    }
}
