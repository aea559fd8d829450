//! Measures one phase of a run.

use std::num::NonZero;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use super::node::Node;
use super::process::Process;
use super::report::{GeneratorUsage, NodeUsage, Percentiles, Phase};

/// A phase under way.
#[derive(Debug)]
pub(super) struct Meter {
    name: &'static str,
    started: Instant,
    paused: Duration,
    node_cpu: Option<f64>,
    generator_cpu: Option<f64>,
    times: Vec<Duration>,
    received: u64,
}

impl Meter {
    pub(super) async fn start(name: &'static str, node: &Node) -> Self {
        node.reset_peak();
        Self {
            name,
            node_cpu: node.usage().await.cpu_seconds,
            generator_cpu: Process::current().cpu_seconds().ok(),
            started: Instant::now(),
            paused: Duration::ZERO,
            times: Vec::new(),
            received: 0,
        }
    }

    /// A step has succeeded and took this time.
    pub(super) fn step(&mut self, time: Duration) {
        self.times.push(time);
    }

    pub(super) fn received(&mut self, bytes: u64) {
        self.received += bytes;
    }

    pub(super) fn paused(&mut self, time: Duration) {
        self.paused += time;
    }

    pub(super) async fn finish(self, node: &Node) -> Phase {
        let wall = self.started.elapsed().saturating_sub(self.paused);
        let wall_seconds = wall.as_secs_f64();
        let generator_cpu = since(self.generator_cpu, Process::current().cpu_seconds().ok());
        let used = node.usage().await;
        Phase {
            name: self.name,
            count: self.times.len(),
            seconds: Percentiles::of(&self.times),
            wall_seconds,
            received_bytes: self.received,
            node: NodeUsage {
                cpu_seconds: since(self.node_cpu, used.cpu_seconds),
                resident_bytes: used.resident_bytes,
                peak_bytes: used.peak_bytes,
            },
            generator: GeneratorUsage {
                cpu_seconds: generator_cpu,
                machine_share: generator_cpu.map(|cpu| cpu / wall_seconds / processors() as f64),
            },
        }
    }
}

fn since(before: Option<f64>, after: Option<f64>) -> Option<f64> {
    Some((after? - before?).max(0.0))
}

/// Processors that this process may use.
pub(super) fn processors() -> usize {
    available_parallelism().map_or(1, NonZero::get)
}
