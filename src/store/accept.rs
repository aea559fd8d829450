//! Taking a push: from an application, and from its owner.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use super::ledger::{Held, Holding, State};
use super::{Content, Effects, Full, Kept, NodeId, Ownership, PushId, Replica, Standing, Store};

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
                holders: others.map(|node| (node.clone(), self.asked(now))).collect(),
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

    pub(super) fn acknowledge_if_due(&mut self, push: &PushId, now: Instant) {
        let (Some(held), Some(until)) = (self.ledger.get(push), self.unacknowledged.get(push))
        else {
            return;
        };
        let mut holdings = held.holders.values();
        if holdings.any(|holding| *holding == Holding::Confirmed) {
            self.acknowledge(push, Kept::Replicated);
        } else if self.members.peers().next().is_none() || self.replication.replicas == 0 {
            self.acknowledge(push, Kept::Alone);
        } else if *until <= now || (held.holders.is_empty() && !self.queued.contains(push)) {
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
}
