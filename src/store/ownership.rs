//! Who hands a push to scrapes: taking it over from a node that is gone, and giving it to another one when leaving.

use std::collections::BTreeSet;
use std::time::Instant;

use super::holders::Holding;
use super::{Kept, Ownership, PushId, Store};
use crate::nodes::NodeId;

/// Pushes taken over in one [`Store::tick`], so that it takes no longer than some other steps do; the rest follows in the
/// next.
const MAX_TAKEN_OVER: usize = 10_000;

impl Store {
    pub(super) fn owns(&self, push: &PushId) -> bool {
        let held = self.ledger.get(push);
        held.is_some_and(|held| held.ownership().owner == self.me)
    }

    /// Looks at every push after a change of view.
    pub(super) fn review_all(&mut self, now: Instant) {
        let all: Vec<_> = self.ledger.iter().map(|(push, _)| push.clone()).collect();
        for push in all {
            if self.owns(&push) {
                self.forgive_failures(&push, now);
                self.unsettled.insert(push);
            } else {
                self.review(&push, now);
            }
        }
        let members = &self.members;
        self.handing.retain(|_, unaware| {
            unaware.retain(|node| members.is_alive(node));
            !unaware.is_empty()
        });
    }

    /// What made a node fail to take a push may be over.
    fn forgive_failures(&mut self, push: &PushId, now: Instant) {
        let held = self.ledger.get_mut(push).into_iter();
        for holding in held.flat_map(|held| held.holders.holdings_mut()) {
            if let Holding::Asked { again, failures } = holding
                && *failures > 0
            {
                *again = now;
            }
        }
    }

    /// Takes a push over if its owner is gone and it falls to this node, and the other holders, who are asked first, know
    /// neither of another owner nor of its end.
    pub(super) fn review(&mut self, push: &PushId, now: Instant) {
        if self.owns(push) {
            return;
        }
        let falls_to_me = self.presumed_owner(push) == Some(&self.me);
        let Some(held) = self.ledger.get_mut(push) else {
            return;
        };
        if !falls_to_me {
            // Should its owner be lost a second time, the others are to be asked again.
            held.orphaned = None;
            return;
        }
        let holders = held.holders.nodes();
        let others: Vec<_> = holders
            .filter(|node| self.members.is_alive(node))
            .cloned()
            .collect();
        let since = *held.orphaned.get_or_insert(now);
        let due = since + self.replication.resend;
        if self.durable.is_restored(push) && self.members.am_starting() {
            self.tell_all(&others, push);
            return;
        }
        if !others.is_empty() && now < due {
            self.orphans.insert((due, push.clone()));
            self.tell_all(&others, push);
            return;
        }
        self.out.tally.taken_over += 1;
        let ownership = Ownership {
            term: held.ownership().term + 1,
            owner: self.me.clone(),
            lost_before: true,
        };
        self.out.tally.possible_duplicates +=
            self.ledger.note_taken_over(push, self.consumers.all());
        self.change_owner(push, &ownership, now);
    }

    /// Takes over what falls to this node and no other holder has spoken up for.
    pub(super) fn take_over(&mut self, now: Instant) {
        for _ in 0..MAX_TAKEN_OVER {
            if self.orphans.first().is_none_or(|(due, _)| *due > now) {
                return;
            }
            if let Some((_, push)) = self.orphans.pop_first() {
                self.review(&push, now);
            }
        }
    }

    /// Who owns a push of another node's or is to take it over.
    pub(super) fn presumed_owner(&self, push: &PushId) -> Option<&NodeId> {
        let held = self.ledger.get(push)?;
        let owner = &held.ownership().owner;
        if self.members.is_alive(owner) && held.holders.contains(owner) {
            return Some(owner);
        }
        let holders = held.holders.nodes().chain([&self.me]);
        self.members.heir(push, holders)
    }

    /// Accepts an ownership. The new owner tells all other holders.
    pub(super) fn change_owner(&mut self, push: &PushId, ownership: &Ownership, now: Instant) {
        let asked = self.asked(now);
        self.members.heard_of(&ownership.owner, now);
        let owner = self.members.known(&ownership.owner);
        self.ledger.set_ownership(
            push,
            Ownership {
                owner: owner.clone(),
                ..*ownership
            },
        );
        let Some(held) = self.ledger.get_mut(push) else {
            return;
        };
        held.orphaned = None;
        self.durable.settle(push);
        if owner != self.me {
            if !held.holders.contains(&owner) {
                held.holders.put(&owner, asked);
            }
            self.unsettled.remove(push);
            self.acknowledge(push, Kept::Replicated);
            return;
        }
        for holding in held.holders.holdings_mut() {
            if *holding != Holding::Confirmed {
                // Whether they hold it they say in the answer; until then they are not sent the text.
                *holding = asked;
            }
        }
        let others: Vec<_> = held.holders.nodes().cloned().collect();
        self.unsettled.insert(push.clone());
        self.handing.remove(push);
        self.tell_all(&others, push);
        self.finish_if_due(push, now);
    }

    /// Gives an owned push to an active node that holds it, unless a scrape has it. From now on this node does not own
    /// it, so that there are never two owners; that the others hear of it is repeated until they have answered.
    pub(super) fn hand_over(&mut self, push: &PushId, now: Instant) {
        let held = self.ledger.get(push);
        let Some(held) = held.filter(|held| !held.is_claimed(now)) else {
            return;
        };
        let resend = self.replication.resend;
        let is_fresh = |since| now < since + resend;
        let sent = |node| self.underway.since(node, push);
        let just_sent = held.holders.nodes().filter_map(sent).any(is_fresh);
        if just_sent {
            // A replica with the old owner's name on it may be about to arrive.
            return;
        }
        let confirmed = held.holders.iter().filter_map(|(node, holding)| {
            let may = holding == Holding::Confirmed && self.members.is_active(node);
            may.then_some(node)
        });
        let Some(heir) = self.members.heir(push, confirmed).cloned() else {
            return;
        };
        let others: BTreeSet<_> = held.holders.nodes().cloned().collect();
        let ownership = Ownership {
            term: held.ownership().term + 1,
            owner: heir,
            lost_before: held.ownership().lost_before,
        };
        // Leases that have run out; these claims may yet turn out to have been served.
        self.out.tally.possible_duplicates += self.ledger.take_back(push);
        self.ledger.set_ownership(push, ownership);
        self.out.tally.handed_over += 1;
        self.unsettled.remove(push);
        self.tell_all(&others, push);
        self.handing.insert(push.clone(), others);
    }

    /// `node` has answered: if it knows the owner that this node has named, or needs not know, it is not told again.
    pub(super) fn note_aware(&mut self, node: &NodeId, push: &PushId, known: Option<&Ownership>) {
        let Some(held) = self.ledger.get(push) else {
            return;
        };
        if known.is_some_and(|known| known < held.ownership()) {
            return;
        }
        if let Some(unaware) = self.handing.get_mut(push) {
            unaware.remove(node);
            if unaware.is_empty() {
                self.handing.remove(push);
            }
        }
    }
}
