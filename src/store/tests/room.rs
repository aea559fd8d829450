//! Whose room a push takes: no pusher fills the store for the others.

use super::nodes::Nodes;
use super::*;
use crate::tenant::Tenant;

fn limited(max_bytes: usize) -> Limits {
    Limits {
        max_bytes,
        ..limits()
    }
}

fn store(max_bytes: usize) -> Store {
    known_store(node(0), limited(max_bytes), Replication::default())
}

fn identity(name: &str) -> Tenant {
    Tenant::Identity(name.into())
}

/// What one push of one series takes.
fn one() -> usize {
    let mut store = store(usize::MAX);
    accept(&mut store, "a", 1).unwrap();
    store.counts().bytes
}

fn accept(store: &mut Store, pusher: &str, series: u64) -> Result<PushId, Refusal> {
    let content = content_of(identity(pusher), &[series]);
    let (push, _) = store.accept(content, Instant::now())?;
    Ok(push)
}

/// Pushes until one is refused; how many were taken, and why no more.
fn fill(store: &mut Store, pusher: &str) -> (usize, Refusal) {
    let mut pushes = 0;
    loop {
        let series = 1_000_000 + pushes as u64;
        if let Err(refusal) = accept(store, pusher, series) {
            return (pushes, refusal);
        }
        pushes += 1;
    }
}

#[test]
fn one_pusher_takes_half_of_the_store_and_others_half_of_what_is_left() {
    let mut store = store(60 * one());
    assert_eq!(fill(&mut store, "a"), (30, Refusal::Share));
    assert_eq!(fill(&mut store, "b"), (15, Refusal::Share));
    assert_eq!(fill(&mut store, "c").0, 7);
    for late in ["d", "e", "f"] {
        accept(&mut store, late, 1).unwrap();
    }
    assert_eq!(accept(&mut store, "a", 2), Err(Refusal::Share));
}

#[test]
fn greedy_pushers_that_come_at_once_leave_as_much_as_each_of_them_has() {
    let mut store = store(60 * one());
    let greedy = ["a", "b", "c", "d", "e"];
    let mut pushes = 0;
    for series in 0..60 {
        let taken = greedy.map(|pusher| accept(&mut store, pusher, series).is_ok());
        pushes += taken.iter().filter(|taken| **taken).count();
    }
    assert_eq!(pushes, 50);
    accept(&mut store, "z", 1).unwrap();
}

#[test]
fn what_has_been_served_or_has_expired_makes_room_for_its_pusher() {
    let now = Instant::now();
    let mut store = store(4 * one());
    assert_eq!(fill(&mut store, "a").0, 2);
    let (claim, _) = store.begin(&prometheus(), now);
    store.choose(&claim, now).unwrap();
    store.commit(&claim, now);
    assert_eq!(fill(&mut store, "a").0, 2);
    store.tick(now + 2 * TTL);
    assert_eq!(fill(&mut store, "a").0, 2);
    store.tick(now + 4 * TTL);
    assert!(store.ledger.accounts().are_closed());
}

#[test]
fn no_more_pushes_of_one_series_wait_than_so_many_and_others_may_push_it_all_the_same() {
    let now = Instant::now();
    let mut store = store(usize::MAX);
    for _ in 0..MAX_WAITING {
        accept(&mut store, "a", 1).unwrap();
    }
    assert_eq!(accept(&mut store, "a", 1), Err(Refusal::Backlog));
    let both = content_of(identity("a"), &[1, 2]);
    assert_eq!(store.accept(both, now).unwrap_err(), Refusal::Backlog);
    accept(&mut store, "a", 2).unwrap();
    accept(&mut store, "b", 1).unwrap();
    let (claim, _) = store.begin(&prometheus(), now);
    store.choose(&claim, now).unwrap();
    store.commit(&claim, now);
    accept(&mut store, "a", 1).unwrap();
    assert_eq!(accept(&mut store, "a", 1), Err(Refusal::Backlog));
}

#[test]
fn what_is_retained_waits_for_nothing() {
    let retaining = Limits {
        retention: TTL,
        ..limits()
    };
    let now = Instant::now();
    let mut store = known_store(node(0), retaining, Replication::default());
    for _ in 0..2 * MAX_WAITING {
        accept(&mut store, "a", 1).unwrap();
        let (claim, _) = store.begin(&prometheus(), now);
        store.choose(&claim, now).unwrap();
        store.commit(&claim, now);
    }
    store.tick(now + 2 * TTL);
    assert!(store.ledger.accounts().are_closed());
}

#[test]
fn who_has_most_and_who_was_refused_lately_is_told_within_bounds() {
    let now = Instant::now();
    let mut store = store(60 * one());
    accept(&mut store, "modest", 1).unwrap();
    fill(&mut store, "greedy");
    for _ in 0..3 {
        assert_eq!(accept(&mut store, "greedy", 1), Err(Refusal::Share));
    }
    let told = store.pushers(1);
    let [greedy] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!(greedy.pusher, identity("greedy"));
    assert_eq!(greedy.pushes, 29);
    assert!(greedy.bytes >= 29 * one());
    assert_eq!(greedy.refused.unwrap().share, 4);
    assert_eq!(store.pushers(2)[1].pusher, identity("modest"));
    let long = (0..10_000).collect::<Vec<_>>();
    for number in 0..1_000 {
        let content = content_of(identity(&format!("{number}")), &long);
        let refused = store.accept(content, Instant::now());
        assert_eq!(refused.unwrap_err(), Refusal::Full);
    }
    assert_eq!(store.pushers(usize::MAX / 2).len(), 2 + 64);
    store.tick(now + Duration::from_secs(1_000));
    assert!(store.pushers(9).is_empty());
}

#[test]
fn a_replica_takes_its_pushers_room_wherever_it_is() {
    let limits = limited(20 * one());
    let mut nodes = Nodes::new(3, &limits, &Replication::default());
    let push = |nodes: &mut Nodes, at: u64, pusher: &str, series| {
        let content = content_of(identity(pusher), &[series]);
        let store = nodes.stores.get_mut(&node(at)).unwrap();
        let (push, effects) = store.accept(content, nodes.now)?;
        nodes.carry_out(&node(at), effects);
        nodes.talk();
        Ok::<_, Refusal>(push)
    };
    for series in 0..10 {
        push(&mut nodes, series % 3, "a", series).unwrap();
    }
    for at in 0..3 {
        let refused = push(&mut nodes, at, "a", 100);
        assert_eq!(refused, Err(Refusal::Share), "at node {at}");
    }
    let other = push(&mut nodes, 0, "b", 1).unwrap();
    assert_eq!(nodes.holders(&other).len(), 3);
}

#[test]
fn a_node_without_room_for_one_pusher_is_asked_to_hold_what_others_push() {
    let mut nodes = Nodes::new(1, &limits(), &Replication::default());
    let small = known_store(node(1), limited(20 * one()), Replication::default());
    nodes.stores.insert(node(1), small);
    nodes.see(&view(&[0, 1]));
    let push = |nodes: &mut Nodes, pusher: &str, series| {
        let content = content_of(identity(pusher), &[series]);
        let store = nodes.stores.get_mut(&node(0)).unwrap();
        let (push, effects) = store.accept(content, nodes.now).unwrap();
        nodes.carry_out(&node(0), effects);
        nodes.talk();
        push
    };
    for series in 0..11 {
        push(&mut nodes, "greedy", series);
    }
    assert_eq!(nodes.tally.refused, 1);
    let short = push(&mut nodes, "greedy", 11);
    assert_eq!(nodes.acknowledged[&short], Kept::Short);
    assert_eq!(nodes.tally.refused, 1, "it is not even sent");
    let modest = push(&mut nodes, "modest", 12);
    assert_eq!(nodes.acknowledged[&modest], Kept::Replicated);
}
