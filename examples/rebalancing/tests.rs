//! What must come of any change of a cluster, whatever its size, its balancer and its gossip.
//!
//! `PROXY_SIMULATION_SEED=17` runs one seed, `PROXY_SIMULATION_SEEDS=10000` that many.

use std::panic::catch_unwind;

use fastrand::Rng;
use prometheus_rsocket_proxy::rebalance::Turn;

use crate::balancer::Policy;
use crate::epoch::Epoch;
use crate::scenario::{Event, Scenario};
use crate::world::World;

const SEEDS: u64 = 24;
/// A random balancer does not deal evenly: so many standard deviations are not the plan's doing.
const DEVIATIONS: f64 = 4.0;
const DEALING: [Policy; 3] = [Policy::Random, Policy::RoundRobin, Policy::LeastConnections];

fn variable(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().expect("a number"))
}

/// Runs `check` with many seeds, and says with which it failed.
fn with_seeds(check: fn(u64)) {
    let seeds = match variable("PROXY_SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..variable("PROXY_SIMULATION_SEEDS").unwrap_or(SEEDS),
    };
    let failed: Vec<_> = seeds
        .filter(|seed| catch_unwind(|| check(*seed)).is_err())
        .take(10)
        .collect();
    assert!(
        failed.is_empty(),
        "run one again with PROXY_SIMULATION_SEED: {failed:?}"
    );
}

/// Any cluster of up to 64 nodes.
fn any(seed: u64, policies: &[Policy]) -> (Rng, Scenario) {
    let mut rng = Rng::with_seed(seed);
    let nodes = 2 << rng.u32(..5);
    let nodes = rng.usize(nodes..=2 * nodes);
    let each = 20 << rng.u32(..6);
    let policy = policies[rng.usize(..policies.len())];
    let mut scenario = Scenario::new("", nodes, nodes * rng.usize(each..2 * each), policy);
    scenario.seed = seed;
    scenario.gossip_late = rng.u64(..5);
    scenario.gossip_lost = rng.u64(..40);
    scenario.scrape_every = [None, Some(10), Some(15), Some(30), Some(60)][rng.usize(..5)];
    (rng, scenario)
}

fn run(scenario: Scenario) -> World {
    let mut world = World::new(scenario);
    while !world.is_over() {
        world.second();
    }
    world
}

/// The standard deviation of a node's connections where they are dealt at random.
fn deviation(mean: f64) -> f64 {
    DEVIATIONS * mean.sqrt()
}

/// No node has so many connections that it would begin to close some.
fn assert_even(world: &World) {
    let counts: Vec<_> = world.active().map(|node| node.count() as f64).collect();
    let mean = counts.iter().sum::<f64>() / counts.len() as f64;
    let settings = &world.scenario.settings;
    let limit = (mean * settings.tolerance).max(mean + settings.min_surplus as f64);
    let most = counts.iter().copied().fold(0.0, f64::max);
    assert!(most <= limit, "{most} connections, {limit} tolerated");
    assert!(world.is_at_rest(), "still at work");
}

fn assert_economical(world: &World, epoch: &Epoch) {
    let scenario = &world.scenario;
    let necessary = epoch.necessary(scenario.policy, &scenario.settings);
    let closed = epoch.shed();
    assert!(
        closed as f64 <= 1.5 * necessary as f64 + 10.0,
        "{closed} closed, {necessary} were necessary"
    );
}

/// Having got its share, no node begins again; and none closes so many that it has too few.
fn assert_steady(world: &World) {
    let begun = |node: usize| {
        let turns = world.turns.iter();
        turns.filter(move |(_, other, turn)| *other == node && *turn == Turn::Begun)
    };
    let again = (0..world.nodes.len()).filter(|node| begun(*node).count() > world.epochs.len());
    assert_eq!(again.count(), 0, "began again");
    for epoch in &world.epochs {
        let mean = epoch.mean();
        let least = 0.8 * mean - deviation(mean);
        if let Some(lowest) = epoch.lowest {
            assert!(lowest * mean >= least, "{lowest} of the mean are left");
        }
    }
}

fn grow_and_shrink(seed: u64) {
    let (mut rng, scenario) = any(seed, &DEALING);
    let joining = rng.usize(1..=scenario.nodes);
    let leaving = rng.usize(1..scenario.nodes);
    let scenario = scenario
        .then(Event::Join(joining), 3_600)
        .then(Event::Leave(leaving), 1_800)
        .then(Event::Join(1), 1_800);
    let world = run(scenario);
    assert_even(&world);
    assert_steady(&world);
    for epoch in &world.epochs {
        assert_economical(&world, epoch);
    }
}

#[test]
fn connections_become_even_without_waste_and_stay_so() {
    with_seeds(grow_and_shrink);
}

fn thousand(policy: Policy, quiet: u64) {
    let scenario = Scenario::new("", 700, 1_000_000, policy);
    let world = run(scenario.then(Event::Join(300), quiet));
    assert_even(&world);
    assert_steady(&world);
    assert_economical(&world, world.epochs.last().expect("one"));
}

#[test]
fn a_thousand_nodes_share_a_million_connections_that_come_back_at_random() {
    thousand(Policy::Random, 540);
}

#[test]
fn a_thousand_nodes_share_a_million_connections_that_come_back_where_there_are_fewest() {
    thousand(Policy::LeastConnections, 240);
}

fn stuck(seed: u64) {
    let (mut rng, scenario) = any(seed, &[Policy::Sticky]);
    let joining = rng.usize(scenario.nodes / 2..=scenario.nodes) + 1;
    let scenario = scenario.then(Event::Join(joining), 3_600);
    let world = run(scenario);
    let closed = world.epochs.last().expect("one").shed();
    let surplus = world.epochs.last().expect("one").surplus();
    if closed > 0 {
        assert!(world.yields() > 0, "{closed} closed, and still hopeful");
    }
    assert!(
        closed as f64 <= 4.0 * surplus + 100.0,
        "{closed} closed in vain in an hour, {surplus} too many"
    );
}

#[test]
fn a_node_yields_where_what_it_closes_comes_back() {
    with_seeds(stuck);
}
