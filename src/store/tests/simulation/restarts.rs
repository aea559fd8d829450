//! Nodes with disks: they crash alone and all at once, lose what was not synced, and come back with the rest.

use super::super::disk::Disk;
use super::super::*;
use super::plan::{Plan, Trouble};
use super::world::{Event, SimulatedNode, World};
use crate::nodes::{NodeId, NodeState};

/// A sync takes no longer than this.
const SYNC_WITHIN: u64 = 60;
/// A node waits no longer for others before it is in service.
const JOIN_WITHIN: u64 = 5_000;

/// The disk of a node that is down, and the node's name.
#[derive(Debug)]
pub(super) struct Shelved {
    name: String,
    disk: Disk,
}

impl Plan {
    /// Every node has a disk, and any may crash at any time, or all of them.
    pub(super) fn durable(seed: u64) -> Self {
        let plan = Self::new(seed);
        Self {
            trouble: Trouble::Power,
            duration: plan.duration.max(60_000),
            ..plan
        }
    }
}

impl World {
    /// What a node is to write goes to its disk, and is synced a little later.
    pub(super) fn write(&mut self, id: &NodeId, writes: Vec<(PushId, Write)>) {
        let now = self.now();
        let disk = self.nodes.get_mut(id).and_then(|node| node.disk.as_mut());
        if let Some(disk) = disk
            && !writes.is_empty()
        {
            disk.write(writes, now);
            let later = self.plan.rng.u64(1..SYNC_WITHIN);
            self.after(later, Event::Sync(id.clone()));
        }
    }

    /// The disk syncs what it has, or fails to and will do it the next time.
    pub(super) fn sync(&mut self, id: &NodeId) {
        let healed = self.is_quiet();
        let fails = !healed && self.plan.rng.u8(0..50) == 0;
        let disk = self.nodes.get_mut(id).and_then(|node| node.disk.as_mut());
        let Some(disk) = disk else {
            return;
        };
        let reported = if fails { disk.fail() } else { disk.sync() };
        if fails {
            self.after(SYNC_WITHIN, Event::Sync(id.clone()));
        }
        self.with(id, |store, now| ((), store.written(reported, now)));
    }

    /// One node loses its power, or all do.
    pub(super) fn power_cut(&mut self) {
        let all = self.plan.rng.u8(0..3) == 0;
        let nodes: Vec<_> = self.nodes.keys().cloned().collect();
        let one = nodes.get(self.plan.rng.usize(0..nodes.len().max(1)));
        let victims = if all {
            nodes.clone()
        } else {
            Vec::from_iter(one.cloned())
        };
        for victim in victims {
            self.crash(&victim);
        }
    }

    /// Puts the disk of a node that has ended aside, and starts the node again later.
    pub(super) fn shelve(&mut self, id: &NodeId, node: SimulatedNode) {
        let Some(mut disk) = node.disk else {
            return;
        };
        disk.lose_power();
        self.down += 1;
        let back = self.plan.rng.u64(100..20_000);
        let name = id.name.to_string();
        self.after(back, Event::Restart(Shelved { name, disk }));
    }

    pub(super) fn restart(&mut self, shelved: Shelved) {
        let Shelved { name, mut disk } = shelved;
        self.down -= 1;
        let id = NodeId::new(&name, self.next_node);
        self.next_node += 1;
        let now = self.now();
        let (limits, replication) = (&self.plan.limits, &self.plan.replication);
        let (store, effects, expired) = disk.restore(&id, limits, replication, now);
        self.account.expired_while_down(expired);
        self.enter(&id, store, Some(disk), NodeState::Starting);
        self.with(&id, |_, _| ((), effects));
        self.after(JOIN_WITHIN, Event::Activate(id));
    }

    pub(super) fn activate(&mut self, id: &NodeId) {
        if let Some(node) = self.nodes.get_mut(id)
            && node.state == NodeState::Starting
        {
            node.state = NodeState::Active;
            self.news_of(id);
        }
    }
}
