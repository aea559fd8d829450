//! Nodes with a disk: what an acknowledgement waits for, and what comes back.

use super::disk::Disk;
use super::nodes::Nodes;
use super::*;
use crate::nodes::{NodeId, NodeState};

/// A node alone, and its disk.
struct Durable {
    store: Store,
    disk: Disk,
    now: Instant,
    lives: u64,
}

impl Durable {
    fn new() -> Self {
        let mut store = known_store(node(0), limits(), Replication::default());
        store.keep_on_disk();
        Self {
            store,
            disk: Disk::default(),
            now: Instant::now(),
            lives: 1,
        }
    }

    fn carry_out(&mut self, effects: Effects) -> (Vec<(PushId, Kept)>, Vec<PushId>) {
        self.disk.write(effects.writes, self.now);
        (effects.acknowledged, effects.refused)
    }

    fn push(&mut self, series: &[u64]) -> PushId {
        let (push, effects) = self.store.accept(content(series), self.now).unwrap();
        let (acknowledged, _) = self.carry_out(effects);
        assert_eq!(acknowledged, [], "it is not on disk yet");
        push
    }

    fn sync(&mut self) -> Vec<(PushId, Kept)> {
        let synced = self.disk.sync();
        let effects = self.store.written(synced, self.now);
        self.carry_out(effects).0
    }

    fn scrape(&mut self) -> Vec<PushId> {
        let (claim, effects) = self.store.begin(&prometheus(), self.now);
        self.carry_out(effects);
        let (claimed, effects) = self.store.choose(&claim, self.now).unwrap();
        self.carry_out(effects);
        let (_, effects) = self.store.commit(&claim, self.now);
        self.carry_out(effects);
        claimed.pushes
    }

    fn lose_power(&mut self) -> Tally {
        self.disk.lose_power();
        self.lives += 1;
        let id = NodeId::new("node-0", self.lives);
        let (store, effects, _) =
            self.disk
                .restore(&id, &limits(), &Replication::default(), self.now);
        self.store = store;
        let mut tally = effects.tally;
        self.carry_out(effects);
        tally.add(&self.tick());
        tally
    }

    fn tick(&mut self) -> Tally {
        let effects = self.store.tick(self.now);
        let tally = effects.tally;
        self.carry_out(effects);
        tally
    }
}

#[test]
fn a_push_is_acknowledged_once_it_is_on_disk_and_is_there_again_after_a_power_cut() {
    let mut node = Durable::new();
    let kept = node.push(&[1]);
    assert_eq!(node.sync(), [(kept.clone(), Kept::Alone)]);
    let lost = node.push(&[2]);
    let tally = node.lose_power();
    assert_eq!((tally.taken_over, tally.possible_duplicates), (1, 1));
    let new = node.push(&[1]);
    node.sync();
    assert_ne!(new, lost);
    assert_eq!(node.scrape(), [kept], "the older one first");
    assert_eq!(node.scrape(), [new]);
}

#[test]
fn what_was_served_does_not_come_back_once_the_end_is_on_disk() {
    let mut node = Durable::new();
    let push = node.push(&[1]);
    node.sync();
    assert_eq!(node.scrape(), std::slice::from_ref(&push));
    let tally = node.lose_power();
    assert_eq!(tally.possible_duplicates, 1, "the end was not on disk");
    assert_eq!(node.scrape(), [push]);
    node.sync();
    assert_eq!(node.lose_power(), Tally::default());
    assert_eq!(node.scrape(), []);
}

#[test]
fn a_push_that_the_disk_does_not_take_is_withdrawn_and_refused() {
    let mut node = Durable::new();
    let push = node.push(&[1]);
    let failed = node.disk.fail();
    let effects = node.store.written(failed, node.now);
    let (acknowledged, refused) = node.carry_out(effects);
    assert_eq!((acknowledged, refused), (vec![], vec![push]));
    assert_eq!(node.scrape(), []);
    assert_eq!(
        node.sync(),
        [],
        "nor does it come to life when the disk works again"
    );
    assert_eq!(node.lose_power(), Tally::default());
    assert_eq!(node.store.counts(), Counts::default());
}

#[test]
fn a_push_whose_write_takes_too_long_is_refused_too() {
    let mut node = Durable::new();
    let push = node.push(&[1]);
    node.now += Duration::from_secs(9);
    node.tick();
    assert_eq!(node.store.counts().pending, 1);
    node.now += Duration::from_secs(1);
    let effects = node.store.tick(node.now);
    assert_eq!(node.carry_out(effects), (vec![], vec![push]));
    assert_eq!(node.sync(), []);
}

#[test]
fn a_push_that_is_served_before_it_is_on_disk_is_acknowledged() {
    let mut node = Durable::new();
    let push = node.push(&[1]);
    let (claim, _) = node.store.begin(&prometheus(), node.now);
    node.store.choose(&claim, node.now);
    let (_, effects) = node.store.commit(&claim, node.now);
    assert_eq!(node.carry_out(effects).0, [(push, Kept::Replicated)]);
    assert_eq!(node.sync(), []);
}

/// Two nodes of three, of which the third has a disk.
fn cluster() -> (Nodes, Disk) {
    let mut nodes = Nodes::new(3, &limits(), &Replication::default());
    let mut disk = Disk::default();
    let (mut store, _, _) = disk.restore(&node(2), &limits(), &Replication::default(), nodes.now);
    store.members(view(&[0, 1, 2]), nodes.now);
    nodes.stores.insert(node(2), store);
    (nodes, disk)
}

/// Lets the third node take part, its disk with it.
fn push_at_third(nodes: &mut Nodes, disk: &mut Disk, series: &[u64]) -> PushId {
    let now = nodes.now;
    let store = nodes.stores.get_mut(&node(2)).unwrap();
    let (push, mut effects) = store.accept(content(series), now).unwrap();
    disk.write(std::mem::take(&mut effects.writes), now);
    nodes.carry_out(&node(2), effects);
    nodes.talk();
    push
}

/// The third node is started again, with another generation, in this state.
fn restart_third(nodes: &mut Nodes, disk: &mut Disk, state: NodeState) -> NodeId {
    nodes.stores.remove(&node(2));
    let mut others: View = view(&[0, 1]);
    nodes.see(&others);
    let id = NodeId::new("node-2", 2);
    let now = nodes.now;
    let (store, effects, _) = disk.restore(&id, &limits(), &Replication::default(), now);
    nodes.stores.insert(id.clone(), store);
    nodes.carry_out(&id, effects);
    others.insert(id.clone(), state);
    nodes.see(&others);
    id
}

#[test]
fn a_push_in_a_cluster_waits_for_the_disk_and_for_another_node() {
    let (mut nodes, mut disk) = cluster();
    let push = push_at_third(&mut nodes, &mut disk, &[1]);
    assert!(
        nodes.acknowledged.is_empty(),
        "others hold it, the disk does not"
    );
    let synced = disk.sync();
    let now = nodes.now;
    nodes.with(&node(2), |store| store.written(synced, now));
    assert_eq!(nodes.acknowledged.get(&push), Some(&Kept::Replicated));
}

#[test]
fn a_push_that_cannot_be_written_is_withdrawn_at_its_holders() {
    let (mut nodes, mut disk) = cluster();
    let push = push_at_third(&mut nodes, &mut disk, &[1]);
    assert_eq!(nodes.held(), 3);
    let now = nodes.now;
    nodes.with(&node(2), |store| store.written([(push, false)], now));
    nodes.talk();
    assert_eq!(nodes.held(), 0);
}

#[test]
fn what_others_have_served_while_a_node_was_down_is_over() {
    let (mut nodes, mut disk) = cluster();
    let push = push_at_third(&mut nodes, &mut disk, &[1]);
    disk.sync();
    nodes.stores.remove(&node(2));
    nodes.see(&view(&[0, 1]));
    nodes.wait(Duration::from_secs(5));
    assert_eq!(nodes.scrape(&node(0)), std::slice::from_ref(&push));
    let counted = nodes.tally.possible_duplicates;

    let id = restart_third(&mut nodes, &mut disk, NodeState::Starting);
    nodes.talk();
    assert!(nodes.holders(&push).is_empty());
    assert_eq!(nodes.scrape(&id), []);
    assert_eq!(nodes.tally.possible_duplicates, counted);
}

#[test]
fn a_node_that_was_started_again_is_a_holder_of_what_others_own() {
    let (mut nodes, mut disk) = cluster();
    let push = push_at_third(&mut nodes, &mut disk, &[1]);
    disk.sync();
    nodes.stores.remove(&node(2));
    nodes.see(&view(&[0, 1]));
    nodes.wait(Duration::from_secs(5));
    let owner = nodes.owner(&push);
    let id = restart_third(&mut nodes, &mut disk, NodeState::Active);
    nodes.wait(Duration::from_secs(5));
    assert_eq!(nodes.owner(&push), owner, "one owner, as before");
    assert_eq!(nodes.holders(&push).len(), 3);
    assert_eq!(nodes.scrape(&id), [push]);
}

#[test]
fn nothing_is_taken_over_before_the_node_is_in_service() {
    let (mut nodes, mut disk) = cluster();
    let push = push_at_third(&mut nodes, &mut disk, &[1]);
    disk.sync();
    nodes.stores.clear();
    let id = NodeId::new("node-2", 2);
    let now = nodes.now;
    let (mut store, effects, _) = disk.restore(&id, &limits(), &Replication::default(), now);
    store.members(View::from([(id.clone(), NodeState::Starting)]), now);
    nodes.stores.insert(id.clone(), store);
    nodes.carry_out(&id, effects);
    nodes.wait(Duration::from_secs(5));
    assert_eq!(nodes.scrape(&id), []);
    nodes.see(&View::from([(id.clone(), NodeState::Active)]));
    assert_eq!(nodes.scrape(&id), [push]);
}
