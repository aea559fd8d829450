//! `cargo run --example rebalancing`: lets the plan of rebalancing work on simulated clusters, prints what came of it,
//! and draws the connections of every node over time into `docs/rebalancing/`. The same every time.
#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a program for developers, on values of its own making"
)]

mod balancer;
mod epoch;
mod plot;
mod scenario;
#[cfg(test)]
mod tests;
mod world;

use std::path::Path;

use balancer::Policy;
use plot::Plot;
use scenario::{Event, Scenario};
use world::World;

/// What docs/rebalancing.md shows, by file.
fn shown() -> Vec<(&'static str, Scenario)> {
    use Policy::{LeastConnections, Random, RoundRobin, Sticky};
    let grown = |policy| Scenario::new("", 2, 6_000, policy).then(Event::Join(1), 900);
    vec![
        ("random", grown(Random)),
        ("round-robin", grown(RoundRobin)),
        ("least-connections", grown(LeastConnections)),
        ("sticky", grown(Sticky)),
        (
            "steps",
            Scenario::new("", 4, 4_000, Random)
                .then(Event::Join(4), 900)
                .then(Event::Join(4), 900)
                .then(Event::Leave(6), 600),
        ),
        (
            "rolling-update",
            Scenario::new("", 4, 4_000, Random).rolling_update(45, 900),
        ),
        (
            "thousand",
            Scenario::new("", 700, 1_000_000, Random).then(Event::Join(300), 900),
        ),
    ]
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/rebalancing");
    std::fs::create_dir_all(&directory)?;
    println!(
        "| scenario | balancer | nodes | connections | closed | necessary | ratio | surplus | seconds | yields | at rest |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    for (name, mut scenario) in shown() {
        scenario.name = name.to_owned();
        let mut world = World::new(scenario);
        let mut plot = Plot::new(&world);
        while !world.is_over() {
            world.second();
            plot.note(&world);
        }
        plot.draw(&world, &directory.join(format!("{name}.svg")))?;
        report(&world);
    }
    Ok(())
}

fn report(world: &World) {
    let scenario = &world.scenario;
    for epoch in world.epochs.iter().filter(|epoch| epoch.shed() > 0) {
        let necessary = epoch.necessary(scenario.policy, &scenario.settings);
        println!(
            "| {} | {} | {} | {} | {} | {necessary} | {:.2} | {:.0} | {} | {} | {} |",
            scenario.name,
            scenario.policy.name(),
            world.active().count(),
            scenario.connections,
            epoch.shed(),
            epoch.shed() as f64 / necessary as f64,
            epoch.surplus(),
            epoch.ended - epoch.began,
            world.yields(),
            world.is_at_rest(),
        );
    }
}
