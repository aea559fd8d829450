use super::nodes::Nodes;
use super::*;
use crate::nodes::NodeId;

const SECOND: Duration = Duration::from_secs(1);

fn pusher(number: u64) -> Tenant {
    content(&[number]).pusher
}

/// The pushers of a page, first the newest.
fn page(store: &Store, of: &[Tenant], before: usize, most: usize, now: Instant) -> Vec<Tenant> {
    let listing = store.list(of, before, most, now);
    let pushers = listing.pushes.into_iter().map(|listed| listed.pusher);
    pushers.collect()
}

fn pushers(numbers: impl IntoIterator<Item = u64>) -> Vec<Tenant> {
    numbers.into_iter().map(pusher).collect()
}

#[test]
fn pages_have_the_newest_first_and_each_push_once() {
    let begin = Instant::now();
    let mut store = Store::new(node(0), limits(), Replication::default());
    for number in 0..10 {
        let now = begin + number as u32 * SECOND;
        store.accept(content(&[number]), now).unwrap();
    }
    let now = begin + 20 * SECOND;
    assert_eq!(page(&store, &[], 0, 4, now), pushers([9, 8, 7, 6]));
    assert_eq!(page(&store, &[], 4, 4, now), pushers([5, 4, 3, 2]));
    assert_eq!(page(&store, &[], 8, 4, now), pushers([1, 0]));
    assert_eq!(page(&store, &[], 0, 100, now), pushers((0..10).rev()));
    for before in [10, 11, usize::MAX] {
        let listing = store.list(&[], before, 4, now);
        assert_eq!((listing.matching, listing.pushes.len()), (10, 0));
    }
    let of = [pusher(3), pusher(7), pusher(99)];
    let listing = store.list(&of, 0, 1, now);
    assert_eq!((listing.matching, listing.pushes.len()), (2, 1));
    assert_eq!(page(&store, &of, 0, 10, now), pushers([7, 3]));
}

#[test]
fn a_push_is_listed_with_its_age_and_what_is_left() {
    let begin = Instant::now();
    let retaining = Limits {
        retention: 5 * SECOND,
        ..limits()
    };
    let mut store = known_store(node(0), retaining, Replication::default());
    let (push, _) = store.accept(content(&[1, 2]), begin).unwrap();
    let now = begin + 10 * SECOND;
    let listed = |store: &Store, now| store.list(&[], 0, 1, now).pushes.remove(0);
    let pending = listed(&store, now);
    let expected = Listed {
        push,
        pusher: pusher(1),
        age: 10 * SECOND,
        left: TTL - 10 * SECOND,
        series: 2,
        samples: 1,
        bytes: store.counts().bytes,
        state: PushState::Pending,
        owner: node(0),
        waits_for: vec![prometheus()],
    };
    assert_eq!(pending, expected);
    let (claim, _) = store.begin(&prometheus(), now);
    store.choose(&claim, now).unwrap();
    assert_eq!(listed(&store, now).state, PushState::Claimed);
    // A scrape that has it may be about to deliver it when its time is over.
    let late = listed(&store, begin + TTL + SECOND);
    assert_eq!((late.age, late.left), (TTL + SECOND, Duration::ZERO));
    store.commit(&claim, now);
    let retained = listed(&store, now + SECOND);
    assert_eq!(retained.state, PushState::Retained);
    assert!(retained.waits_for.is_empty());
    assert_eq!((retained.age, retained.left), (11 * SECOND, 4 * SECOND));
}

#[test]
fn a_replica_is_listed_by_the_same_name_with_its_owner() {
    let mut nodes = Nodes::new(2, &limits(), &Replication::default());
    let now = nodes.now;
    nodes.with(&node(0), |store| {
        store.accept(content(&[1]), now).unwrap().1
    });
    nodes.talk();
    let listed = |at: &NodeId| nodes.stores[at].list(&[], 0, 1, now).pushes.remove(0);
    let (own, replica) = (listed(&node(0)), listed(&node(1)));
    assert_eq!(replica.state, PushState::Replica);
    let expected = Listed {
        state: PushState::Replica,
        ..own
    };
    assert_eq!(replica, expected);
}
