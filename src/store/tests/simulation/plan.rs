//! What one seed is about.

use fastrand::Rng;

use super::super::*;

/// What goes wrong with nodes in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Nothing.
    None,
    /// Nodes join, and leave when they may.
    Moves,
    /// The same, and one crash or partition at a time, the next when pushes are held by two nodes again.
    Single,
    /// Crashes, partitions, leaves and joins as they come.
    Chaos,
    /// As with chaos; and every node has a disk and comes back with it, as often as all lose their power at once.
    Power,
}

/// Times are milliseconds.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) rng: Rng,
    pub(super) nodes: usize,
    pub(super) trouble: Trouble,
    pub(super) limits: Limits,
    pub(super) replication: Replication,
    /// Pushes come and things go wrong for so long.
    pub(super) duration: u64,
    pub(super) push_every: u64,
    pub(super) consumers: Vec<Scraper>,
    /// Somebody looks once in a while, each time under another name.
    pub(super) look_every: u64,
    pub(super) series: u64,
    /// Of a thousand messages.
    pub(super) lost: u64,
    pub(super) repeated: u64,
    /// Of a thousand messages, those that take seconds.
    pub(super) late: u64,
    /// No message is lost or late.
    pub(super) clean: bool,
    /// A change of who lives reaches each node within this.
    pub(super) view_lag: u64,
    /// What holders know of two pushes decides which of them goes first.
    pub(super) in_order: bool,
}

/// A Prometheus.
#[derive(Debug, Clone)]
pub(super) struct Scraper {
    pub(super) every: u64,
    pub(super) scraped: Scraped,
    /// When it begins.
    pub(super) from: u64,
    /// When it is silent, for good if it does not come back.
    pub(super) silent: std::ops::Range<u64>,
}

/// Which nodes Prometheus knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scraped {
    One,
    All,
    Any,
}

impl Scraper {
    /// The first is there all the time. Others may come late, or be silent.
    fn new(number: usize, duration: u64, rng: &mut Rng) -> Self {
        let is_late = number > 0 && rng.u8(0..3) == 0;
        let from = if is_late { rng.u64(0..duration) } else { 1_000 };
        let silent = match rng.u8(0..6) {
            0 if number > 0 => rng.u64(from..duration + 1_001)..u64::MAX,
            1 if number > 0 => {
                let since = rng.u64(from..duration + 1_001);
                since..since + rng.u64(10_000..150_000)
            }
            _ => u64::MAX..u64::MAX,
        };
        let scraped = match rng.u8(0..3) {
            0 => Scraped::One,
            1 => Scraped::All,
            _ => Scraped::Any,
        };
        Self {
            every: rng.u64(1_000..15_000),
            scraped,
            from: from + rng.u64(0..5_000),
            silent,
        }
    }
}

impl Plan {
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let trouble = match rng.u8(0..10) {
            0 => Trouble::None,
            1..3 => Trouble::Moves,
            3..8 => Trouble::Single,
            _ => Trouble::Chaos,
        };
        let duration = rng.u64(30_000..120_000);
        let consumers = rng.usize(1..=3);
        let consumers = (0..consumers).map(|number| Scraper::new(number, duration, &mut rng));
        let consumers = consumers.collect();
        let retention = if rng.u8(0..8) == 0 { 5 } else { 0 };
        let ttl = if rng.u8(0..8) == 0 { 15 } else { 3600 };
        let replication = Replication {
            max_repairs: rng.usize(1..100),
            max_sent: rng.usize(1..20),
            ..Replication::default()
        };
        let clean = rng.u8(0..3) == 0;
        let share = if clean { 1 } else { 80 };
        Self {
            nodes: rng.usize(3..=7),
            trouble,
            limits: Limits {
                ttl: Duration::from_secs(ttl),
                retention: Duration::from_secs(retention),
                consumers: 1,
                max_bytes: if rng.u8(0..8) == 0 { 8_000 } else { usize::MAX },
            },
            replication,
            duration,
            push_every: rng.u64(100..3_000),
            consumers,
            look_every: rng.u64(5_000..100_000),
            series: rng.u64(20..200),
            lost: rng.u64(0..share),
            repeated: rng.u64(0..80),
            late: rng.u64(0..share) / 2,
            clean,
            view_lag: rng.u64(1..4_000),
            in_order: false,
            rng,
        }
    }

    /// Whether pushes live for longer than Prometheis are silent between two scrapes.
    pub(super) fn has_long_ttl(&self) -> bool {
        self.limits.ttl > Duration::from_secs(60)
    }

    /// Nodes and network do what they should, and many pushes have series in common.
    pub(super) fn in_order(seed: u64) -> Self {
        let plan = Self::new(seed);
        Self {
            trouble: Trouble::None,
            limits: Limits {
                ttl: Duration::from_secs(3600),
                retention: Duration::ZERO,
                consumers: 1,
                max_bytes: usize::MAX,
            },
            lost: 0,
            late: 0,
            clean: true,
            series: plan.series / 10,
            push_every: plan.push_every.max(500),
            in_order: true,
            ..plan
        }
    }
}
