//! What a run has measured, for people and for scripts.
//!
//! The JSON's keys are the fields' names here; they stay, more may come. Times are seconds, sizes are bytes, and what
//! could not be read is `null`.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::Mode;
use super::failure::Failures;

/// A run, from its settings to its failures.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Of the program.
    pub version: &'static str,
    /// How many applications were to connect.
    pub apps: usize,
    /// How they were scraped.
    pub mode: Mode,
    /// Samples in the text of each.
    pub series: usize,
    /// What the texts were made from.
    pub seed: u64,
    /// Whether the node was started for this run, on the same machine.
    pub own_node: bool,
    /// Processors of the load generator's machine.
    pub processors: usize,
    /// What was done, in this order.
    pub phases: Vec<Phase>,
    /// What went wrong, by kind.
    pub failures: Failures,
    /// Ended by a signal: the last phase is what there was until then.
    pub interrupted: bool,
}

/// One part of a run.
#[derive(Debug, Serialize)]
pub struct Phase {
    /// `connect`, `discover`, `scrape_plain`, `scrape_gzip`, `push` or `scrape_pushes`.
    pub name: &'static str,
    /// Steps that succeeded: connections with a key, whole lists, whole scrapes, acknowledged pushes.
    pub count: usize,
    /// Time of one such step.
    pub seconds: Option<Percentiles>,
    /// From the first step's beginning to the last one's end, without the pauses between scrapes.
    pub wall_seconds: f64,
    /// Bytes of HTTP bodies, as they were sent.
    pub received_bytes: u64,
    /// What the node used in this phase.
    pub node: NodeUsage,
    /// What the load generator used in this phase.
    pub generator: GeneratorUsage,
}

/// What a node used in a phase.
#[derive(Debug, Serialize)]
pub struct NodeUsage {
    /// CPU time. A node that was not started for this run tells it in whole seconds.
    pub cpu_seconds: Option<f64>,
    /// In memory at the end.
    pub resident_bytes: Option<u64>,
    /// The most that was in memory at a time; known of an own node.
    pub peak_bytes: Option<u64>,
}

/// What the load generator used in a phase.
#[derive(Debug, Serialize)]
pub struct GeneratorUsage {
    /// CPU time.
    pub cpu_seconds: Option<f64>,
    /// That, as a share of what its machine's processors had in the same time. Where it is close to 1, or close to what
    /// an own node leaves of 1, the generator is what was measured.
    pub machine_share: Option<f64>,
}

/// How a phase's times are spread; each is the time of a step (nearest rank).
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Percentiles {
    /// Half took no longer.
    pub p50: f64,
    /// Nine of ten took no longer.
    pub p90: f64,
    /// All but one in a hundred took no longer.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

impl Percentiles {
    /// Of these times; `None` if there are none.
    pub fn of(times: &[Duration]) -> Option<Self> {
        let mut times = times.to_vec();
        times.sort_unstable();
        let rank = |percent: usize| {
            let rank = (times.len() * percent).div_ceil(100);
            times.get(rank.checked_sub(1)?).map(Duration::as_secs_f64)
        };
        Some(Self {
            p50: rank(50)?,
            p90: rank(90)?,
            p99: rank(99)?,
            max: rank(100)?,
        })
    }
}

impl Report {
    /// Whether anything went wrong.
    pub fn failed(&self) -> bool {
        !self.failures.is_empty()
    }
}

/// The table. A node's memory is its peak in the phase where that is known, else what it had at the end.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let node = if self.own_node {
            "a node of its own"
        } else {
            "a running node"
        };
        writeln!(
            f,
            "{} applications × {} series, {}, seed {}, {node}, {} processors here\n",
            self.apps,
            self.series,
            match self.mode {
                Mode::Connected => "scraped together",
                Mode::Targets => "each a target",
            },
            self.seed,
            self.processors
        )?;
        writeln!(
            f,
            "{:14}{:>8}{:>11}{:>11}{:>11}{:>11}{:>9}{:>10}{:>10}{:>13}{:>15}",
            "",
            "count",
            "p50",
            "p90",
            "p99",
            "max",
            "wall",
            "received",
            "node CPU",
            "node memory",
            "generator CPU"
        )?;
        for phase in &self.phases {
            writeln!(f, "{phase}")?;
        }
        for (kind, count) in self.failures.iter() {
            writeln!(
                f,
                "\nfailed: {} × {}: {}",
                count.count,
                kind.name(),
                count.first
            )?;
        }
        if self.interrupted {
            writeln!(
                f,
                "\ninterrupted: the last line shows the results until then"
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |of: fn(&Percentiles) -> f64| {
            let seconds = self.seconds.as_ref().map(of);
            or_dash(seconds, |seconds| format!("{:.1} ms", seconds * 1e3))
        };
        write!(f, "{:14}{:>8}", self.name, self.count)?;
        for of in [
            (|p| p.p50) as fn(&Percentiles) -> f64,
            |p| p.p90,
            |p| p.p99,
            |p| p.max,
        ] {
            write!(f, "{:>11}", time(of))?;
        }
        let memory = self.node.peak_bytes.or(self.node.resident_bytes);
        let share = or_dash(self.generator.machine_share, |share| {
            format!("{:.0} %", share * 100.0)
        });
        write!(
            f,
            "{:>9}{:>10}{:>10}{:>13}{:>15}",
            format!("{:.2} s", self.wall_seconds),
            megabytes(self.received_bytes),
            or_dash(self.node.cpu_seconds, |seconds| format!("{seconds:.2} s")),
            or_dash(memory, megabytes),
            or_dash(self.generator.cpu_seconds, |seconds| format!(
                "{seconds:.2} s, {share}"
            )),
        )
    }
}

fn or_dash<T>(value: Option<T>, written: impl Fn(T) -> String) -> String {
    value.map_or_else(|| "-".to_owned(), written)
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let times: Vec<_> = (1..=200).rev().map(Duration::from_secs).collect();
        let expected = Percentiles {
            p50: 100.0,
            p90: 180.0,
            p99: 198.0,
            max: 200.0,
        };
        assert_eq!(Percentiles::of(&times), Some(expected));
        assert_eq!(Percentiles::of(&[]), None);
        let one = Percentiles::of(&[Duration::from_secs(3)]).unwrap();
        assert_eq!((one.p50, one.max), (3.0, 3.0));
    }
}
