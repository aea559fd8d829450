//! Which applications serve the same series.
//!
//! Of two samples of one series Prometheus keeps one, and which one may change with every scrape. To look for such pairs
//! among all series would cost as much as the rest of a scrape. So each scrape looks at some of the families, the next
//! one at the following ones: applications that do not tell themselves apart have nearly all of their series in common.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use prometheus_rsocket_exposition::EqualSeries;
use tokio::time::Instant;
use tracing::warn;

use crate::limits::log_limit::{LogLimit, Suppressed};
use crate::rsocket::Handle;

/// Samples that one scrape looks at: some two milliseconds.
pub(super) const BUDGET: usize = 10_000;
/// A pair that was not seen for so long is not shown any more.
const KEPT: Duration = Duration::from_secs(15 * 60);
/// Pairs that are shown; the one that was not seen for longest makes room.
const MAX_PAIRS: usize = 16;

/// Two applications that serve a series both, or two targets of one agent.
#[derive(Debug, Clone)]
pub struct Duplicate {
    /// The one that connected earlier comes first; for two targets of one agent, its connection twice.
    pub connections: [Arc<Handle>; 2],
    /// When it was last seen.
    pub seen_at: SystemTime,
    until: Instant,
}

impl Duplicate {
    fn is_of(&self, pair: &[Arc<Handle>; 2]) -> bool {
        let ids = |pair: &[Arc<Handle>; 2]| [pair[0].id, pair[1].id];
        ids(&self.connections) == ids(pair)
    }
}

/// What scrapes have found.
#[derive(Debug, Default)]
pub struct Duplicates {
    next: AtomicUsize,
    /// The latest first.
    pairs: Mutex<VecDeque<Duplicate>>,
}

impl Duplicates {
    /// Where the next scrape begins to look.
    pub(super) fn next(&self) -> usize {
        self.next.load(Ordering::Relaxed)
    }

    /// Takes note of what a scrape of these applications has found.
    pub(super) fn note(&self, found: &EqualSeries, applications: &[&Arc<Handle>]) {
        self.next.store(found.next, Ordering::Relaxed);
        let application = |number: usize| applications.get(number).map(|handle| Arc::clone(handle));
        for &(one, other) in &found.pairs {
            if let Some((one, other)) = application(one).zip(application(other)) {
                self.seen([one, other]);
            }
        }
    }

    fn seen(&self, pair: [Arc<Handle>; 2]) {
        static LOG_LIMIT: LogLimit = LogLimit::new(10);
        let mut pairs = self.pairs.lock();
        let before = pairs.len();
        pairs.retain(|known| !known.is_of(&pair));
        if pairs.len() == before
            && let Some(suppressed) = LOG_LIMIT.due()
        {
            log(&pair, suppressed);
        }
        pairs.truncate(MAX_PAIRS - 1);
        pairs.push_front(Duplicate {
            connections: pair,
            seen_at: SystemTime::now(),
            until: Instant::now() + KEPT,
        });
    }

    /// Pairs of connected applications that were seen of late, the latest first.
    pub fn pairs(&self) -> Vec<Duplicate> {
        let now = Instant::now();
        let mut pairs = self.pairs.lock();
        pairs.retain(|pair| {
            pair.until > now && !pair.connections.iter().any(|handle| handle.has_left())
        });
        pairs.iter().cloned().collect()
    }
}

fn log([one, other]: &[Arc<Handle>; 2], suppressed: Suppressed) {
    if one.id == other.id {
        warn!(
            connection = one.id, peer = %one.peer, identity = one.identity.as_deref(), suppressed,
            "two targets of an agent serve the same series, and Prometheus keeps one of them: give them different labels"
        );
        return;
    }
    warn!(
        connection = one.id, peer = %one.peer, identity = one.identity.as_deref(),
        other_connection = other.id, other_peer = %other.peer, other_identity = other.identity.as_deref(),
        suppressed,
        "two applications serve the same series, and Prometheus keeps one of them: give them different labels"
    );
}
