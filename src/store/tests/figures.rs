//! What the store's steps cost, in processor time of this machine: printed, not checked.
//!
//! `cargo test --lib store::tests::figures -- --ignored --nocapture --test-threads 1`

use super::nodes::Nodes;
use super::*;

const PUSHES: u64 = 100_000;

fn roomy() -> Limits {
    Limits {
        max_bytes: usize::MAX,
        ttl: Duration::from_secs(3600),
        ..limits()
    }
}

/// `pushes` of so many series each, no two of which have one in common.
fn contents(pushes: u64, series: u64) -> Vec<Content> {
    let of = |push| Vec::from_iter((push * series..(push + 1) * series).map(scattered));
    (0..pushes).map(|push| content(&of(push))).collect()
}

/// As a hash is.
fn scattered(number: u64) -> u64 {
    number.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

#[test]
#[ignore = "prints figures instead of checking any"]
fn a_push_held_and_served() {
    for (pushes, series) in [(PUSHES, 1), (10_000, 100), (1_000, 1_000)] {
        let mut store = known_store(node(0), roomy(), Replication::default());
        let contents = contents(pushes, series);
        let now = Instant::now();
        for content in contents {
            store.accept(content, now).unwrap();
        }
        let accepting = now.elapsed();
        let started = Instant::now();
        let (claim, _) = store.begin(&prometheus(), now);
        let claiming = started.elapsed();
        store.choose(&claim, now).unwrap();
        let started = Instant::now();
        store.commit(&claim, now);
        let committing = started.elapsed();
        let each = |time: Duration| time / u32::try_from(pushes).unwrap();
        println!(
            "{pushes} pushes of {series} series: accepted in {:?} each, claimed in {:?} each, committed in {:?} each",
            each(accepting),
            each(claiming),
            each(committing)
        );
    }
}

#[test]
#[ignore = "prints figures instead of checking any"]
fn a_page_of_the_pushes_held() {
    let mut store = Store::new(node(0), roomy(), Replication::default());
    let now = Instant::now();
    for content in contents(PUSHES, 1) {
        store.accept(content, now).unwrap();
    }
    for before in [0, 50_000, 99_900] {
        let started = Instant::now();
        let listing = store.list(&[], before, 100, now);
        println!(
            "{PUSHES} pushes, {} after {before}: {:?}",
            listing.pushes.len(),
            started.elapsed()
        );
    }
}

#[test]
#[ignore = "prints figures instead of checking any"]
fn a_claim_where_most_are_replicas() {
    let mut nodes = Nodes::new(3, &roomy(), &Replication::default());
    for (number, content) in contents(PUSHES, 1).into_iter().enumerate() {
        let id = node(number as u64 % 3);
        let now = nodes.now;
        nodes.with(&id, |store| store.accept(content, now).unwrap().1);
        nodes.talk();
    }
    let started = Instant::now();
    let claim = nodes.begin(&node(0));
    println!(
        "{PUSHES} held, a third of them owned: the node's own part of a claim takes {:?}",
        started.elapsed()
    );
    nodes.release(&claim);
}

#[test]
#[ignore = "prints figures instead of checking any"]
fn a_take_over() {
    let mut nodes = Nodes::new(3, &roomy(), &Replication::default());
    for content in contents(PUSHES, 1) {
        let now = nodes.now;
        nodes.with(&node(0), |store| store.accept(content, now).unwrap().1);
        nodes.talk();
    }
    nodes.stores.remove(&node(0));
    nodes.see(&view(&[1, 2]));
    nodes.talk();
    let (lost, started) = (nodes.now, Instant::now());
    let mut longest = Duration::ZERO;
    while (nodes.tally.taken_over as u64) < PUSHES {
        nodes.now += Duration::from_millis(250);
        let ticking = Instant::now();
        nodes.tick();
        longest = longest.max(ticking.elapsed());
        nodes.talk();
    }
    println!(
        "{PUSHES} pushes taken over {:?} after their owner was lost, with {:?} of work, {longest:?} in one tick of both",
        nodes.now - lost,
        started.elapsed()
    );
}
