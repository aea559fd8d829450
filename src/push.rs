//! Pushes: an application's last words, held until a scrape has served them.
//!
//! A push arrives from a connection, is opened and checked, and goes into the [`Store`]; from then on it may be
//! acknowledged. A scrape takes what is due as a [`Claim`]. The claim is committed once the response has been handed
//! over whole; dropped before, it gives its pushes back.

use std::collections::hash_map::RandomState;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus_rsocket_exposition::Exposition;
use prometheus_rsocket_wire::ErrorCode;
use tokio::sync::Notify;
use tracing::{debug, warn};

use crate::metrics::Metrics;
use crate::rsocket::{KeyRing, Opener, PushOutcome, PushSink, Rejection, Sealed, Unusable};
use crate::store::{ClaimId, Counts, Limits, Store};

/// How often pushes are looked through for those past their time to live.
const EXPIRY_TICK: Duration = Duration::from_secs(1);

/// The pushes of this node, and the way in and out.
pub struct Pushes {
    store: Mutex<Store>,
    opener: Opener,
    keys: Arc<KeyRing>,
    metrics: Arc<Metrics>,
    hasher: RandomState,
    changed: Notify,
    /// Set and read with the store's lock held.
    closed: AtomicBool,
}

impl Pushes {
    /// Nothing held yet.
    pub fn new(limits: Limits, opener: Opener, keys: Arc<KeyRing>, metrics: Arc<Metrics>) -> Self {
        Self {
            store: Mutex::new(Store::new(limits)),
            opener,
            keys,
            metrics,
            hasher: RandomState::new(),
            changed: Notify::new(),
            closed: AtomicBool::new(false),
        }
    }

    /// Takes what the next scrape is to serve.
    pub fn claim(self: &Arc<Self>) -> Claim {
        let mut store = self.store();
        self.expire(&mut store, Instant::now());
        let claimed = store.claim();
        self.metrics.pushes_deferred.inc_by(claimed.deferred as u64);
        self.publish(&store);
        Claim {
            id: Some(claimed.id),
            texts: claimed.texts,
            pushes: Arc::clone(self),
        }
    }

    /// How many pushes are held, by state.
    pub fn counts(&self) -> Counts {
        self.store().counts()
    }

    /// Drops what outlives its time, for ever.
    pub async fn run(&self) {
        let mut tick = tokio::time::interval(EXPIRY_TICK);
        loop {
            tick.tick().await;
            let mut store = self.store();
            self.expire(&mut store, Instant::now());
            self.publish(&store);
        }
    }

    /// Waits until no push is pending or claimed. From then on none is taken.
    pub async fn all_served(&self) {
        loop {
            let changed = self.changed.notified();
            if self.close_if_served() {
                return;
            }
            changed.await;
        }
    }

    fn close_if_served(&self) -> bool {
        let store = self.store();
        let counts = store.counts();
        let served = counts.pending + counts.claimed == 0;
        if served {
            self.closed.store(true, Ordering::Relaxed);
        }
        served
    }

    /// Takes no more pushes: nobody would serve them. Those who bring one take it elsewhere.
    pub fn close(&self) {
        let _store = self.store();
        self.closed.store(true, Ordering::Relaxed);
    }

    async fn take(&self, sealed: Sealed, peer: SocketAddr) -> Result<(), Rejection> {
        let keys = self.keys.subscribe().borrow().clone();
        let opened = match self.opener.open(sealed, &keys).await {
            Ok(opened) => opened,
            Err(unusable) => return Err(self.refuse(&unusable, peer)),
        };
        self.metrics
            .envelopes
            .with_label_values(&[opened.envelope])
            .inc();
        if opened.exposition.has_timestamps() {
            return Err(self.refuse_with(
                "timestamp",
                ErrorCode::INVALID,
                "a pushed sample has a timestamp, and would be out of date when it is scraped"
                    .into(),
                peer,
            ));
        }
        let series = self.series_of(&opened.exposition);
        let accepted = {
            let mut store = self.store();
            if self.closed.load(Ordering::Relaxed) {
                return Err(Rejection {
                    code: ErrorCode::CONNECTION_CLOSE,
                    reason: "the proxy is shutting down".into(),
                });
            }
            let now = Instant::now();
            self.expire(&mut store, now);
            let accepted = store.accept(Arc::clone(&opened.exposition), series, now);
            self.publish(&store);
            accepted
        };
        accepted.map_err(|full| {
            self.refuse_with("full", ErrorCode::APPLICATION_ERROR, full.to_string(), peer)
        })?;
        self.metrics.pushes_accepted.inc();
        debug!(%peer, samples = opened.exposition.samples(), bytes = opened.bytes, "push accepted");
        Ok(())
    }

    /// The push's series, each once; those that stand twice are counted.
    fn series_of(&self, exposition: &Exposition) -> Vec<u64> {
        let mut series: Vec<_> = exposition.series(&self.hasher).collect();
        let all = series.len();
        series.sort_unstable();
        series.dedup();
        series.shrink_to_fit();
        self.metrics
            .push_duplicate_series
            .inc_by((all - series.len()) as u64);
        series
    }

    fn refuse(&self, unusable: &Unusable, peer: SocketAddr) -> Rejection {
        let (label, code) = match unusable {
            Unusable::Envelope(_) => ("envelope", ErrorCode::APPLICATION_ERROR),
            Unusable::Exposition(_) => ("exposition", ErrorCode::INVALID),
            Unusable::Memory => ("memory", ErrorCode::APPLICATION_ERROR),
            Unusable::Aborted => ("aborted", ErrorCode::APPLICATION_ERROR),
        };
        self.refuse_with(label, code, unusable.to_string(), peer)
    }

    fn refuse_with(
        &self,
        label: &'static str,
        code: ErrorCode,
        reason: String,
        peer: SocketAddr,
    ) -> Rejection {
        self.metrics
            .pushes_refused
            .with_label_values(&[label])
            .inc();
        warn!(%peer, reason, "push refused");
        Rejection { code, reason }
    }

    fn expire(&self, store: &mut Store, now: Instant) {
        let expired = store.expire(now);
        if expired > 0 {
            self.metrics.pushes_expired.inc_by(expired as u64);
            warn!(
                pushes = expired,
                "dropped pushes that no scrape served within --push.ttl"
            );
        }
    }

    fn publish(&self, store: &Store) {
        let counts = store.counts();
        let set = |state: &str, value: usize| {
            self.metrics
                .pushes
                .with_label_values(&[state])
                .set(value.try_into().unwrap_or(i64::MAX));
        };
        set("pending", counts.pending);
        set("claimed", counts.claimed);
        set("retained", counts.retained);
        self.metrics
            .push_bytes
            .set(counts.bytes.try_into().unwrap_or(i64::MAX));
        self.changed.notify_waiters();
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// [`Pushes`] as what connections hand their pushes to.
pub struct Sink(pub Arc<Pushes>);

impl PushSink for Sink {
    fn push(&self, sealed: Sealed, peer: SocketAddr) -> PushOutcome {
        let pushes = Arc::clone(&self.0);
        Box::pin(async move { pushes.take(sealed, peer).await })
    }
}

/// Pushes handed to one scrape: committed when they have been served, given back when dropped before.
pub struct Claim {
    id: Option<ClaimId>,
    /// The texts to serve, oldest first.
    pub texts: Vec<Arc<Exposition>>,
    pushes: Arc<Pushes>,
}

impl Claim {
    /// The response has been handed over whole.
    pub fn commit(mut self) {
        if let Some(id) = self.id.take() {
            let mut store = self.pushes.store();
            let served = store.commit(id, Instant::now());
            self.pushes.metrics.pushes_served.inc_by(served as u64);
            self.pushes.publish(&store);
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            let mut store = self.pushes.store();
            store.release(id);
            self.pushes.publish(&store);
        }
    }
}
