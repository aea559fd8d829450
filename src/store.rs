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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    const TTL: Duration = Duration::from_secs(60);

    fn store(retention: Duration, max_bytes: usize) -> Store {
        Store::new(Limits {
            ttl: TTL,
            retention,
            max_bytes,
        })
    }

    fn text(series: u64) -> Arc<Exposition> {
        let text = Bytes::from(format!("series_{series} 1\n"));
        Arc::new(Exposition::parse(text).expect("a valid text"))
    }

    fn push(store: &mut Store, series: &[u64], now: Instant) -> Result<PushId, Full> {
        let first = series.first().copied().unwrap_or_default();
        store.accept(text(first), series.to_vec(), now)
    }

    #[test]
    fn a_claimed_push_goes_to_nobody_else_until_it_is_given_back() {
        let now = Instant::now();
        let mut store = store(Duration::ZERO, usize::MAX);
        push(&mut store, &[1], now).unwrap();
        let first = store.claim();
        assert_eq!(first.texts.len(), 1);
        assert!(store.claim().texts.is_empty());
        store.release(first.id);
        let second = store.claim();
        assert_eq!(second.texts.len(), 1);
        assert_eq!(store.commit(second.id, now), 1);
        assert_eq!(store.counts(), Counts::default());
    }

    #[test]
    fn a_scrape_that_outlives_the_time_to_live_still_delivers() {
        let now = Instant::now();
        let mut store = store(Duration::ZERO, usize::MAX);
        push(&mut store, &[1], now).unwrap();
        let claim = store.claim();
        assert_eq!(store.expire(now + 2 * TTL), 0);
        assert_eq!(store.commit(claim.id, now + 2 * TTL), 1);
    }

    #[test]
    fn a_push_behind_a_deferred_one_does_not_overtake_it() {
        let now = Instant::now();
        let mut store = store(Duration::ZERO, usize::MAX);
        for series in [&[1][..], &[1, 2], &[2, 3], &[3]] {
            push(&mut store, series, now).unwrap();
        }
        let mut served = Vec::new();
        while served.len() < 4 {
            let claim = store.claim();
            served.push(claim.texts.len());
            store.commit(claim.id, now);
        }
        assert_eq!(served, [1, 1, 1, 1]);
    }

    #[test]
    fn past_the_byte_limit_a_push_is_refused_and_room_comes_back() {
        let now = Instant::now();
        let mut store = store(Duration::ZERO, usize::MAX);
        push(&mut store, &[1], now).unwrap();
        let one = store.counts().bytes;
        let mut store = self::store(Duration::ZERO, 2 * one);
        push(&mut store, &[1], now).unwrap();
        push(&mut store, &[2], now).unwrap();
        assert_eq!(push(&mut store, &[3], now), Err(Full));
        let claim = store.claim();
        store.commit(claim.id, now);
        push(&mut store, &[3], now).unwrap();
    }

    #[test]
    fn a_retained_push_gives_way_to_a_newer_one_and_to_its_time() {
        let now = Instant::now();
        let mut store = store(TTL, usize::MAX);
        for series in [&[1][..], &[2]] {
            push(&mut store, series, now).unwrap();
        }
        let claim = store.claim();
        store.commit(claim.id, now);
        assert_eq!(store.counts().retained, 2);
        push(&mut store, &[2], now).unwrap();
        let claim = store.claim();
        assert_eq!(claim.texts.len(), 2);
        store.commit(claim.id, now + TTL / 2);
        assert_eq!(
            store.expire(now + TTL),
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
            // The texts are kept alive: an address stands for one push.
            let mut pushed: HashMap<*const Exposition, (Arc<Exposition>, Vec<u64>)> = HashMap::new();
            let mut open: Vec<Claimed> = Vec::new();
            let mut served: Vec<*const Exposition> = Vec::new();
            for step in steps {
                match step {
                    Step::Push(series) => {
                        let text = text(0);
                        pushed.insert(Arc::as_ptr(&text), (Arc::clone(&text), series.clone()));
                        store.accept(text, series, now).unwrap();
                    }
                    Step::Claim => open.push(store.claim()),
                    Step::Commit(at) if !open.is_empty() => {
                        let claim = open.swap_remove(at.index(open.len()));
                        prop_assert_eq!(store.commit(claim.id, now), claim.texts.len());
                        served.extend(claim.texts.iter().map(Arc::as_ptr));
                    }
                    Step::Release(at) if !open.is_empty() => {
                        store.release(open.swap_remove(at.index(open.len())).id);
                    }
                    Step::Commit(_) | Step::Release(_) => {}
                }
                for claim in &open {
                    let mut series = HashSet::new();
                    for text in &claim.texts {
                        for one in HashSet::<&u64>::from_iter(&pushed[&Arc::as_ptr(text)].1) {
                            prop_assert!(series.insert(*one), "a series twice in one response");
                        }
                    }
                }
            }
            for claim in open {
                store.release(claim.id);
            }
            while store.counts().pending > 0 {
                let claim = store.claim();
                prop_assert!(!claim.texts.is_empty());
                store.commit(claim.id, now);
                served.extend(claim.texts.iter().map(Arc::as_ptr));
            }
            prop_assert_eq!(served.len(), pushed.len());
            prop_assert_eq!(HashSet::<_>::from_iter(&served).len(), pushed.len());
            prop_assert_eq!(store.counts(), Counts::default());
        }
    }
}
