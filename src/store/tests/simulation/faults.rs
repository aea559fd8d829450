//! What goes wrong with nodes and between them, and how the others get to know.

use super::super::disk::Disk;
use super::super::*;
use super::plan::Trouble;
use super::world::{Event, SimulatedNode, World};
use crate::nodes::{NodeId, NodeState};

/// A node that leaves is given this long.
const GRACE: u64 = 30_000;
/// No more nodes than this at a time.
const MAX_NODES: usize = 8;

impl World {
    pub(super) fn start_node(&mut self) -> NodeId {
        // Half of them take the name of one that is gone, with another generation.
        let number = self.next_node;
        self.next_node += 1;
        let id = NodeId::new(&format!("node-{}", number % 4), number);
        let (limits, replication) = (self.plan.limits.clone(), self.plan.replication.clone());
        let mut store = Store::new(id.clone(), limits, replication);
        let disk = (self.plan.trouble == Trouble::Power).then(|| {
            store.keep_on_disk();
            Disk::default()
        });
        self.enter(&id, store, disk, NodeState::Active);
        id
    }

    pub(super) fn enter(
        &mut self,
        id: &NodeId,
        mut store: Store,
        disk: Option<Disk>,
        state: NodeState,
    ) {
        let view = View::from([(id.clone(), state)]);
        store.members(view.clone(), self.now());
        let node = SimulatedNode {
            store,
            disk,
            state,
            view,
            leaves_by: None,
        };
        self.nodes.insert(id.clone(), node);
        let first = self.plan.rng.u64(0..200);
        self.after(first, Event::Tick(id.clone()));
        self.news_of(id);
        for other in self.nodes.keys().cloned().collect::<Vec<_>>() {
            let lag = self.plan.rng.u64(0..self.plan.view_lag);
            self.after(lag, Event::Notice(id.clone(), other));
        }
    }

    /// Everybody notices, each in its own time.
    pub(super) fn news_of(&mut self, subject: &NodeId) {
        for observer in self.nodes.keys().cloned().collect::<Vec<_>>() {
            let own = observer == *subject;
            let lag = if own {
                0
            } else {
                self.plan.rng.u64(0..self.plan.view_lag)
            };
            self.after(lag, Event::Notice(observer, subject.clone()));
        }
    }

    pub(super) fn notice(&mut self, observer: &NodeId, subject: &NodeId) {
        let reached = self.reaches(observer, subject);
        let subject_node = self.nodes.get(subject).filter(|_| reached);
        let state = subject_node.map(|node| node.state);
        let Some(node) = self.nodes.get_mut(observer) else {
            return;
        };
        match state {
            Some(state) => node.view.insert(subject.clone(), state),
            None => node.view.remove(subject),
        };
        let view = node.view.clone();
        self.with(observer, |store, now| ((), store.members(view, now)));
    }

    pub(super) fn trouble(&mut self) {
        if self.clock > self.plan.duration {
            return;
        }
        let single = self.plan.trouble == Trouble::Single;
        if single && !self.is_safe() {
            self.after(500, Event::Trouble);
            return;
        }
        let gap = if matches!(self.plan.trouble, Trouble::Chaos | Trouble::Power) {
            500..8_000
        } else {
            8_000..20_000
        };
        let gap = self.plan.rng.u64(gap);
        self.after(gap, Event::Trouble);
        let kinds = if self.plan.trouble == Trouble::Moves {
            2
        } else {
            4
        };
        match self.plan.rng.u8(0..kinds) {
            0 if self.nodes.len() < MAX_NODES => {
                self.start_node();
            }
            0 | 1 => self.drain_one(),
            2 if self.plan.trouble == Trouble::Power => self.power_cut(),
            2 => self.crash_one(),
            _ => self.part(),
        }
    }

    /// Whether the next crash may come: no partition, nobody about to leave, every view up to date, and every push that
    /// was acknowledged as replicated is held by two nodes and within its time, or over: a long response may keep it for
    /// longer, and its replicas are dropped uncounted if its owner is lost then.
    fn is_safe(&self) -> bool {
        let live: View = self
            .nodes
            .iter()
            .map(|(id, node)| (id.clone(), node.state))
            .collect();
        let mut nodes = self.nodes.values();
        let agree = nodes.all(|node| node.view == live && node.leaves_by.is_none());
        let mut replicated = self.account.replicated();
        agree
            && self.apart.is_empty()
            && replicated.all(|push| self.copies(push) != 1 && !self.is_overdue(push))
    }

    fn is_overdue(&self, push: &PushId) -> bool {
        let mut nodes = self.nodes.values();
        nodes.any(|node| {
            let held = node.store.ledger.get(push);
            held.is_some_and(|held| held.expires <= self.now())
        })
    }

    fn copies(&self, push: &PushId) -> usize {
        let nodes = self.nodes.values();
        nodes
            .filter(|node| node.store.ledger.get(push).is_some())
            .count()
    }

    fn crash_one(&mut self) {
        if self.nodes.len() > 2 {
            let at = self.plan.rng.usize(0..self.nodes.len());
            let victim = self.nodes.keys().nth(at).cloned();
            self.crash(&victim.expect("a node"));
            let back = self.plan.rng.u64(100..30_000);
            self.after(back, Event::Start);
        }
    }

    pub(super) fn crash(&mut self, victim: &NodeId) {
        self.account.crashes += 1;
        let mine = |claim: &ClaimId| claim.scraper == *victim;
        let open = self.responses.extract_if(.., |claim, _| mine(claim));
        for (claim, pushes) in open.collect::<Vec<_>>() {
            // Handed over whole right before the crash, with nobody told.
            if self.plan.rng.bool() {
                self.account.served(&self.consumers[&claim], &pushes);
            }
        }
        self.remove(victim);
    }

    fn remove(&mut self, id: &NodeId) {
        let node = self.nodes.remove(id);
        self.apart.remove(id);
        self.news_of(id);
        if let Some(node) = node {
            self.shelve(id, node);
        }
    }

    fn drain_one(&mut self) {
        let active = self
            .nodes
            .iter()
            .filter(|(_, node)| node.leaves_by.is_none());
        let active: Vec<_> = active.map(|(id, _)| id.clone()).collect();
        if active.len() <= 2 {
            return;
        }
        let id = &active[self.plan.rng.usize(0..active.len())];
        if let Some(node) = self.nodes.get_mut(id) {
            node.state = NodeState::Draining;
            node.leaves_by = Some(self.clock + GRACE);
            self.news_of(id);
        }
    }

    pub(super) fn leave_if_due(&mut self, id: &NodeId) {
        let Some(node) = self.nodes.get(id) else {
            return;
        };
        let Some(by) = node.leaves_by else {
            return;
        };
        let settled = node.view.get(id) == Some(&NodeState::Draining);
        if settled && node.store.may_leave(self.now()) {
            self.remove(id);
        } else if by <= self.clock {
            self.crash(id);
        } else {
            return;
        }
        // One with a disk comes back by itself.
        if self.plan.trouble != Trouble::Power {
            self.after(5_000, Event::Start);
        }
    }

    fn part(&mut self) {
        if !self.apart.is_empty() {
            return;
        }
        self.account.partitions += 1;
        for id in self.nodes.keys() {
            if self.plan.rng.bool() {
                self.apart.insert(id.clone());
            }
        }
        self.everybody_looks();
        let time = self.plan.rng.u64(500..40_000);
        self.after(time, Event::Heal);
    }

    pub(super) fn heal(&mut self) {
        self.apart.clear();
        self.everybody_looks();
    }

    fn everybody_looks(&mut self) {
        for id in self.nodes.keys().cloned().collect::<Vec<_>>() {
            self.news_of(&id);
        }
    }
}
