//! Packets that are dropped: all are counted, a few are logged.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus::IntCounterVec;
use tracing::warn;

use super::packet::Refusal;

/// A reason is logged at most once in this time: anyone can send packets, and must not be able to fill the disk with them.
const LOG_EVERY: Duration = Duration::from_secs(60);

pub(super) struct Drops {
    counters: IntCounterVec,
    logged_at: Mutex<HashMap<&'static str, Instant>>,
}

impl Drops {
    pub(super) fn new(counters: IntCounterVec) -> Self {
        Self {
            counters,
            logged_at: Mutex::default(),
        }
    }

    pub(super) fn note(&self, refusal: Refusal, peer: SocketAddr) {
        let reason = refusal.name();
        self.counters.with_label_values(&[reason]).inc();
        if self.is_due(reason, Instant::now()) {
            warn!(reason, %peer, "gossip packets dropped");
        }
    }

    fn is_due(&self, reason: &'static str, now: Instant) -> bool {
        let mut logged_at = self.logged_at.lock();
        let due = logged_at
            .get(reason)
            .is_none_or(|at| now.duration_since(*at) >= LOG_EVERY);
        if due {
            logged_at.insert(reason, now);
        }
        due
    }
}
