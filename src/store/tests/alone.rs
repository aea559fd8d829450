//! A node without peers.

use std::collections::{BTreeMap, HashSet};

use proptest::prelude::*;

use super::*;
use crate::tenant::Tenant;

fn store(retention: Duration, max_bytes: usize) -> Store {
    let limits = Limits {
        retention,
        max_bytes,
        ..limits()
    };
    known_store(node(0), limits, Replication::default())
}

fn push(store: &mut Store, series: &[u64], now: Instant) -> Result<PushId, Refusal> {
    let (push, effects) = store.accept(content(series), now)?;
    assert_eq!(effects.acknowledged, [(push.clone(), Kept::Alone)]);
    assert!(effects.calls.is_empty());
    Ok(push)
}

fn claim(store: &mut Store, now: Instant) -> (ClaimId, Claimed) {
    let (claim, _) = store.begin(&prometheus(), now);
    assert!(store.awaited(&claim).next().is_none());
    let (claimed, effects) = store.choose(&claim, now).unwrap();
    assert!(effects.calls.is_empty());
    (claim, claimed)
}

fn expired(store: &mut Store, now: Instant) -> usize {
    store.tick(now).tally.expired
}

#[test]
fn a_claimed_push_goes_to_nobody_else_until_it_is_given_back() {
    let now = Instant::now();
    let mut store = store(Duration::ZERO, usize::MAX);
    push(&mut store, &[1], now).unwrap();
    let (first, claimed) = claim(&mut store, now);
    assert_eq!(claimed.texts.len(), 1);
    assert!(claim(&mut store, now).1.texts.is_empty());
    store.release(&first, now);
    let (second, claimed) = claim(&mut store, now);
    assert_eq!(claimed.texts.len(), 1);
    assert_eq!(store.commit(&second, now).0.first, 1);
    assert_eq!(store.counts(), Counts::default());
}

#[test]
fn a_push_is_counted_for_what_its_families_cost() {
    let mut store = store(Duration::ZERO, 10_000);
    let text: String = (0..100).map(|number| format!("a{number} 1\n")).collect();
    assert!(text.len() < 1_000);
    let content = Content {
        text: Arc::new(Exposition::parse(text.into()).unwrap()),
        series: (0..100).collect(),
        pusher: Tenant::Unknown,
    };
    assert!(store.accept(content, Instant::now()).is_err());
}

#[test]
fn a_scrape_that_outlives_lease_and_time_to_live_still_delivers() {
    let now = Instant::now();
    let mut store = store(Duration::ZERO, usize::MAX);
    push(&mut store, &[1], now).unwrap();
    let (claim, _) = claim(&mut store, now);
    assert_eq!(expired(&mut store, now + 2 * TTL), 0);
    assert_eq!(store.commit(&claim, now + 2 * TTL).0.first, 1);
}

#[test]
fn what_nobody_scrapes_is_dropped_and_counted() {
    let now = Instant::now();
    let mut store = store(Duration::ZERO, usize::MAX);
    push(&mut store, &[1], now).unwrap();
    assert_eq!(expired(&mut store, now + TTL / 2), 0);
    assert_eq!(expired(&mut store, now + TTL), 1);
    assert_eq!(store.counts(), Counts::default());
}

#[test]
fn a_push_behind_a_deferred_one_does_not_overtake_it() {
    let now = Instant::now();
    let mut store = store(Duration::ZERO, usize::MAX);
    for series in [&[1][..], &[1, 2], &[2, 3], &[3]] {
        push(&mut store, series, now).unwrap();
    }
    let mut served = Vec::new();
    let mut deferred = Vec::new();
    while served.len() < 4 {
        let (claim, claimed) = claim(&mut store, now);
        served.push(claimed.texts.len());
        deferred.push(claimed.deferred);
        store.commit(&claim, now);
    }
    assert_eq!(served, [1, 1, 1, 1]);
    assert_eq!(deferred, [3, 2, 1, 0]);
}

#[test]
fn a_push_waits_while_a_response_that_is_under_way_has_one_of_its_series() {
    let now = Instant::now();
    let mut store = store(Duration::ZERO, usize::MAX);
    let first = push(&mut store, &[1], now).unwrap();
    let (slow, _) = claim(&mut store, now);
    for series in [&[1, 2][..], &[2], &[3]] {
        push(&mut store, series, now).unwrap();
    }
    let (quick, claimed) = claim(&mut store, now);
    assert_eq!(claimed.texts.len(), 1, "only the last one is free");
    assert_eq!(claimed.deferred, 2);
    store.commit(&quick, now);
    store.release(&slow, now);
    let (next, claimed) = claim(&mut store, now);
    assert_eq!(claimed.pushes, [first]);
    store.commit(&next, now);
    assert_eq!(claim(&mut store, now).1.texts.len(), 1);
}

#[test]
fn past_the_byte_limit_a_push_is_refused_and_room_comes_back() {
    let now = Instant::now();
    let mut store = store(Duration::ZERO, usize::MAX);
    push(&mut store, &[1], now).unwrap();
    let one = store.counts().bytes;
    let mut store = self::store(Duration::ZERO, 3 * one);
    push(&mut store, &[1], now).unwrap();
    push(&mut store, &[2], now).unwrap();
    assert_eq!(push(&mut store, &[3], now), Err(Refusal::Full));
    let (claim, _) = claim(&mut store, now);
    store.commit(&claim, now);
    push(&mut store, &[3], now).unwrap();
}

#[test]
fn the_shortest_push_counts_for_what_it_takes_to_hold_it() {
    let now = Instant::now();
    let mut store = store(Duration::ZERO, 100_000);
    let mut pushes = 0;
    while push(&mut store, &[pushes], now).is_ok() {
        pushes += 1;
    }
    assert!((50..=100).contains(&pushes), "{pushes}");
}

#[test]
fn a_retained_push_gives_way_to_a_newer_one_and_to_its_time() {
    let now = Instant::now();
    let mut store = store(TTL, usize::MAX);
    for series in [&[1][..], &[2]] {
        push(&mut store, series, now).unwrap();
    }
    let (first, _) = claim(&mut store, now);
    store.commit(&first, now);
    assert_eq!(store.counts().retained, 2);
    push(&mut store, &[2], now).unwrap();
    let (second, claimed) = claim(&mut store, now);
    assert_eq!((claimed.texts.len(), claimed.again.len()), (1, 1));
    assert_eq!(store.commit(&second, now + TTL / 2).0.first, 1);
    assert_eq!(
        expired(&mut store, now + TTL),
        0,
        "what was served does not count as expired"
    );
    assert_eq!(store.counts().retained, 1);
}

#[derive(Debug, Clone)]
enum Step {
    Push(Vec<u64>),
    Claim,
    Commit(prop::sample::Index),
    Release(prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => prop::collection::vec(0..6_u64, 1..3).prop_map(Step::Push),
        2 => Just(Step::Claim),
        1 => any::<prop::sample::Index>().prop_map(Step::Commit),
        1 => any::<prop::sample::Index>().prop_map(Step::Release),
    ]
}

proptest! {
    /// Any interleaving of pushes, scrapes, and scrapes that break off: each push is served once, none is lost, and
    /// no response holds a series twice.
    #[test]
    fn each_push_is_served_exactly_once(steps in prop::collection::vec(step(), 0..60)) {
        let now = Instant::now();
        let mut store = store(Duration::ZERO, usize::MAX);
        let mut pushed: BTreeMap<PushId, Vec<u64>> = BTreeMap::new();
        let mut open: Vec<(ClaimId, Claimed)> = Vec::new();
        let mut served: Vec<PushId> = Vec::new();
        for step in steps {
            match step {
                Step::Push(series) => {
                    pushed.insert(push(&mut store, &series, now).unwrap(), series);
                }
                Step::Claim => open.push(claim(&mut store, now)),
                Step::Commit(at) if !open.is_empty() => {
                    let (claim, claimed) = open.swap_remove(at.index(open.len()));
                    prop_assert_eq!(store.commit(&claim, now).0.first, claimed.pushes.len());
                    served.extend(claimed.pushes);
                }
                Step::Release(at) if !open.is_empty() => {
                    store.release(&open.swap_remove(at.index(open.len())).0, now);
                }
                Step::Commit(_) | Step::Release(_) => {}
            }
            for (_, claimed) in &open {
                let mut series = HashSet::new();
                for push in &claimed.pushes {
                    for one in HashSet::<&u64>::from_iter(&pushed[push]) {
                        prop_assert!(series.insert(*one), "a series twice in one response");
                    }
                }
            }
        }
        for (claim, _) in open {
            store.release(&claim, now);
        }
        while store.counts().pending > 0 {
            let (claim, claimed) = claim(&mut store, now);
            prop_assert!(!claimed.texts.is_empty());
            store.commit(&claim, now);
            served.extend(claimed.pushes);
        }
        prop_assert_eq!(served.len(), pushed.len());
        prop_assert_eq!(HashSet::<_>::from_iter(&served).len(), pushed.len());
        prop_assert_eq!(store.counts(), Counts::default());
    }
}
