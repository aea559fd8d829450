//! The pushes that a node holds: pending, then claimed by one scrape, then served, then gone.
//!
//! Plain data: no lock, no clock, no socket. Whoever owns the store passes in the time.
//!
//! - A claim hands each push to exactly one scrape. [`Store::commit`] ends the life of what the scrape delivered,
//!   [`Store::release`] gives it back to the next one.
//! - Pushes with a series in common never go out in one scrape: Prometheus would keep the first sample and drop the
//!   others. The later push waits for the next scrape and is counted as deferred.
//! - With a retention, a served push goes out in every scrape until that long after the first, or until a newer push
//!   brings one of its series.
//! - What nobody claims is dropped after the time to live. Past the byte limit a push is refused.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus_rsocket_exposition::Exposition;

/// Bounds of a store.
#[derive(Debug, Clone)]
pub struct Limits {
    /// A push that no scrape served is dropped after this.
    pub ttl: Duration,
    /// How long a push is served again after the first scrape that served it; zero: once.
    pub retention: Duration,
    /// Bytes of all pushes held.
    pub max_bytes: usize,
}

/// Why a push was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the proxy holds as many bytes of pushes as it may")]
pub struct Full;

/// Names one push; later pushes have greater ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PushId(u64);

/// Names one claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClaimId(u64);

/// What one scrape is to serve.
#[derive(Debug)]
pub struct Claimed {
    /// To be given to [`Store::commit`] or [`Store::release`].
    pub id: ClaimId,
    /// The texts, oldest first; no two have a series in common.
    pub texts: Vec<Arc<Exposition>>,
    /// Pushes that wait for the next scrape because a series of theirs is in `texts` already.
    pub deferred: usize,
}

/// How many pushes are in which state, and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Waiting for a scrape.
    pub pending: usize,
    /// Handed to a scrape whose response is not over.
    pub claimed: usize,
    /// Served, and kept for the retention.
    pub retained: usize,
    /// Bytes of all of them.
    pub bytes: usize,
}

#[derive(Debug)]
enum State {
    Pending,
    Claimed(ClaimId),
    Retained { until: Instant },
}

#[derive(Debug)]
struct Push {
    text: Arc<Exposition>,
    series: Vec<u64>,
    bytes: usize,
    expires: Instant,
    state: State,
}

/// The pushes of one node.
#[derive(Debug)]
pub struct Store {
    limits: Limits,
    pushes: BTreeMap<PushId, Push>,
    bytes: usize,
    next_push: u64,
    next_claim: u64,
}

impl Store {
    /// An empty store.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            pushes: BTreeMap::new(),
            bytes: 0,
            next_push: 0,
            next_claim: 0,
        }
    }

    /// Takes a push. `series` are the hashes of its series, as [`Exposition::series`] gives them.
    pub fn accept(
        &mut self,
        text: Arc<Exposition>,
        series: Vec<u64>,
        now: Instant,
    ) -> Result<PushId, Full> {
        let bytes = text.text_len() + size_of_val(&series[..]) + size_of::<Push>();
        if self.bytes.saturating_add(bytes) > self.limits.max_bytes {
            return Err(Full);
        }
        let id = PushId(self.next_push);
        self.next_push += 1;
        self.bytes += bytes;
        self.pushes.insert(
            id,
            Push {
                text,
                series,
                bytes,
                expires: now + self.limits.ttl,
                state: State::Pending,
            },
        );
        Ok(id)
    }

    /// Hands out what the next scrape is to serve: the pending pushes, and those retained that no newer push replaces.
    pub fn claim(&mut self) -> Claimed {
        let id = ClaimId(self.next_claim);
        self.next_claim += 1;
        let mut taken = HashSet::new();
        let mut chosen = BTreeMap::new();
        let deferred = self.claim_pending(id, &mut taken, &mut chosen);
        self.claim_retained(&mut taken, &mut chosen);
        Claimed {
            id,
            texts: chosen.into_values().collect(),
            deferred,
        }
    }

    /// Oldest first, so that a deferred push is the first of its series the next time.
    fn claim_pending(
        &mut self,
        claim: ClaimId,
        taken: &mut HashSet<u64>,
        chosen: &mut BTreeMap<PushId, Arc<Exposition>>,
    ) -> usize {
        let mut deferred = 0;
        let mut waiting = HashSet::<u64>::new();
        for (id, push) in &mut self.pushes {
            if !matches!(push.state, State::Pending) {
                continue;
            }
            // A push behind a deferred one of the same series must not overtake it.
            if push
                .series
                .iter()
                .any(|series| taken.contains(series) || waiting.contains(series))
            {
                waiting.extend(&push.series);
                deferred += 1;
                continue;
            }
            taken.extend(&push.series);
            chosen.insert(*id, Arc::clone(&push.text));
            push.state = State::Claimed(claim);
        }
        deferred
    }

    /// Newest first: what a newer push brought again is over.
    fn claim_retained(
        &mut self,
        taken: &mut HashSet<u64>,
        chosen: &mut BTreeMap<PushId, Arc<Exposition>>,
    ) {
        let mut replaced = Vec::new();
        for (id, push) in self.pushes.iter().rev() {
            if !matches!(push.state, State::Retained { .. }) {
                continue;
            }
            if push.series.iter().any(|series| taken.contains(series)) {
                replaced.push(*id);
            } else {
                taken.extend(&push.series);
                chosen.insert(*id, Arc::clone(&push.text));
            }
        }
        for id in replaced {
            self.remove(id);
        }
    }

    /// The response with this claim has been handed over whole: its pushes are served. Gives their number.
    pub fn commit(&mut self, claim: ClaimId, now: Instant) -> usize {
        let claimed = self.claimed_by(claim);
        for id in &claimed {
            if self.limits.retention.is_zero() {
                self.remove(*id);
            } else if let Some(push) = self.pushes.get_mut(id) {
                push.state = State::Retained {
                    until: now + self.limits.retention,
                };
            }
        }
        claimed.len()
    }

    /// The response with this claim broke off: the next scrape gets its pushes.
    pub fn release(&mut self, claim: ClaimId) {
        for id in self.claimed_by(claim) {
            if let Some(push) = self.pushes.get_mut(&id) {
                push.state = State::Pending;
            }
        }
    }

    /// Drops what has outlived its time and gives the number of those that no scrape ever served.
    ///
    /// A claimed push is left to its scrape, which may be about to deliver it.
    pub fn expire(&mut self, now: Instant) -> usize {
        let over: Vec<_> = self
            .pushes
            .iter()
            .filter(|(_, push)| match push.state {
                State::Pending => push.expires <= now,
                State::Claimed(_) => false,
                State::Retained { until } => until <= now,
            })
            .map(|(id, push)| (*id, matches!(push.state, State::Pending)))
            .collect();
        for (id, _) in &over {
            self.remove(*id);
        }
        over.iter().filter(|(_, unserved)| *unserved).count()
    }

    /// How many pushes are in which state.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts {
            bytes: self.bytes,
            ..Counts::default()
        };
        for push in self.pushes.values() {
            match push.state {
                State::Pending => counts.pending += 1,
                State::Claimed(_) => counts.claimed += 1,
                State::Retained { .. } => counts.retained += 1,
            }
        }
        counts
    }

    fn claimed_by(&self, claim: ClaimId) -> Vec<PushId> {
        self.pushes
            .iter()
            .filter(|(_, push)| matches!(push.state, State::Claimed(id) if id == claim))
            .map(|(id, _)| *id)
            .collect()
    }

    fn remove(&mut self, id: PushId) {
        if let Some(push) = self.pushes.remove(&id) {
            self.bytes -= push.bytes;
        }
    }
}
