//! Taking a push: from an application, and from its owner.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::holders::Holders;
use super::ledger::Held;
use super::{Content, Effects, Kept, Ownership, PushId, Refusal, Replica, Standing, Store};
use crate::nodes::NodeId;

impl Store {
    /// Takes a push. It may be acknowledged when [`Effects::acknowledged`], of this call or a later one, names it.
    pub fn accept(&mut self, content: Content, now: Instant) -> Result<(PushId, Effects), Refusal> {
        let pusher = content.pusher.clone();
        let taken = self.take_in(content, now);
        if let Err(refusal) = taken {
            self.ledger.accounts_mut().refuse(&pusher, refusal, now);
        }
        Ok((taken?, self.effects(now)))
    }

    fn take_in(&mut self, content: Content, now: Instant) -> Result<PushId, Refusal> {
        if self.ledger.accounts().is_behind(&content) {
            return Err(Refusal::Backlog);
        }
        let push = PushId {
            acceptor: self.me.clone(),
            sequence: self.next_push,
        };
        let ownership = Ownership {
            term: 0,
            owner: self.me.clone(),
            lost_before: false,
        };
        let expires = now + self.limits.ttl;
        let order = self.clock.stamp(now);
        let held = Held::new(
            Arc::new(content),
            expires,
            order,
            ownership,
            Holders::default(),
        );
        self.ledger.insert(push.clone(), held)?;
        self.next_push += 1;
        let until = now + self.replication.acknowledge_within;
        self.unacknowledged.insert(push.clone(), until);
        self.await_write(&push, now);
        self.unsettled.insert(push.clone());
        self.settle(&push, now);
        Ok(push)
    }

    /// Holds a push for its owner.
    pub(super) fn hold(&mut self, from: &NodeId, replica: Replica, now: Instant) -> Standing {
        let Replica {
            push,
            content,
            left,
            entry,
            order,
        } = replica;
        let order = self.order(order, left, now);
        if self.ledger.get(&push).is_none() && !self.ledger.is_over(&push) {
            let others = entry.holders.iter().filter(|node| **node != self.me);
            let others = others.map(|node| (self.members.known(node), self.asked(now)));
            let expires = now + left.min(self.limits.ttl);
            let held = Held::new(
                content,
                expires,
                order,
                entry.ownership.clone(),
                others.collect(),
            );
            let named = PushId {
                acceptor: self.members.known(&push.acceptor),
                ..push
            };
            if let Err(refusal) = self.ledger.insert(named, held) {
                self.out.tally.refused += 1;
                return Standing::Full {
                    share: refusal == Refusal::Share,
                };
            }
            self.change_owner(&push, &entry.ownership, now);
        }
        self.learn(from, &push, &entry, now)
    }

    /// The place of another node's push among all. Where it does not say, that is told from its age.
    pub(super) fn order(&mut self, said: Option<u64>, left: Duration, now: Instant) -> u64 {
        let Some(order) = said else {
            let age = self.limits.ttl.saturating_sub(left).as_micros();
            let age = u64::try_from(age).unwrap_or(u64::MAX);
            return self.clock.read(now).saturating_sub(age);
        };
        self.clock.hear(order, now);
        order
    }

    pub(super) fn acknowledge_if_due(&mut self, push: &PushId, now: Instant) {
        let (Some(held), Some(until)) = (self.ledger.get(push), self.unacknowledged.get(push))
        else {
            return;
        };
        if held.holders.any_confirmed() {
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
