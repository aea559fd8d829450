//! Pushes: an application's last words, held until each consumer has had them.
//!
//! A push arrives from a connection, is opened and checked, and goes into the [`Store`]; it is acknowledged when another
//! node holds it too, or none does in time, or there is none. A scrape takes what is due, here and at the other nodes, as
//! a [`Claim`]. The claim is committed once the response has been handed over whole; dropped before, it gives its pushes
//! back.
//!
//! The store is plain data behind one lock that is never held for longer than a step takes. What it wants other nodes to
//! be told goes to [`Peers`], what they say comes back as [`Holder`].

mod calls;
mod claim;
mod disk;
mod foreign;
mod metrics;
mod settings;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::RandomState;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use prometheus_rsocket_exposition::Exposition;
use prometheus_rsocket_wire::ErrorCode;
use prometheus_rsocket_wire::envelope::OpenError;
use tokio::sync::{Notify, oneshot, watch};
use tracing::{debug, info, warn};

pub use self::claim::Claim;
use self::disk::Disk;
pub use self::disk::{Directory, DirectoryError, DiskReport};
use self::foreign::Lookups;
pub use self::metrics::Metrics;
pub use self::settings::Settings;
use crate::cluster::calls::{Calling, Holder, Peer, Peers};
use crate::identity::Terms;
use crate::limits::log_limit::LogLimit;
use crate::nodes::{NodeId, NodeState};
use crate::rsocket::{
    KeyRing, OpenFailure, Opened, Opener, PlainText, PushOutcome, PushRefusal, PushSink, Rejection,
    Sealed,
};
use crate::store::{
    ClaimId, ConsumerName, ConsumerStatus, Content, Counts, Effects, Holdings, Kept, Limits,
    Listing, PushId, Refusal, Replication, Store, Tally, View,
};
use crate::tenant::Tenant;

/// How often the store does what is due: calls repeated, claims renewed, pushes past their time to live dropped.
const TICK: Duration = Duration::from_millis(250);

/// The longest text that is put on disk.
pub const MAX_DISK_TEXT: usize = 1 << 30;

/// The pushes of this node, and the way in and out.
pub struct Pushes {
    me: NodeId,
    held: Mutex<HeldPushes>,
    peers: Arc<Peers>,
    opener: Opener,
    keys: Arc<KeyRing>,
    metrics: Arc<Metrics>,
    hasher: RandomState,
    lookups: Lookups,
    /// Where `--push.dir` is set.
    disk: Option<Disk>,
    changed: Notify,
    answers: Notify,
}

/// What the lock protects.
struct HeldPushes {
    store: Store,
    /// Pushes not yet acknowledged; their number is bounded by that of pushes under way on connections.
    waiting: BTreeMap<PushId, oneshot::Sender<Result<Kept, Untaken>>>,
    /// Claims under way, with the nodes that cannot be asked.
    scrapes: BTreeMap<ClaimId, BTreeSet<NodeId>>,
    /// No other node is known.
    alone: bool,
    /// Another node is known that is not about to leave.
    others_stay: bool,
    /// This node is scraped no more.
    unscraped: bool,
    /// No push is taken any more.
    closed: bool,
}

impl HeldPushes {
    /// Whether a scrape may yet come for what is pushed now.
    fn may_be_served(&self) -> bool {
        !self.closed && (!self.unscraped || self.others_stay)
    }
}

/// Who pushes.
pub(crate) struct Sender {
    peer: SocketAddr,
    identity: Option<Arc<str>>,
}

impl Sender {
    /// One at this address for which these terms hold.
    pub(crate) fn new(terms: &Terms, peer: SocketAddr) -> Self {
        Self {
            peer,
            identity: terms.identity.clone(),
        }
    }

    /// One at this address that has not shown who it is.
    pub(crate) fn unknown(peer: SocketAddr) -> Self {
        Self {
            peer,
            identity: None,
        }
    }

    /// Whom its pushes are put down to.
    pub(crate) fn tenant(&self) -> Tenant {
        Tenant::of(self.identity.as_ref(), self.peer)
    }
}

/// A text that was opened, ready to be held.
struct Read {
    opened: Opened,
    content: Content,
    /// Series that stand in it again.
    repeated: usize,
}

/// A push that is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) samples: usize,
    pub(crate) series: usize,
    /// Of the text as it came.
    pub(crate) bytes: usize,
    pub(crate) kept: Kept,
}

/// Why a push is not held.
enum Untaken {
    /// The node leaves.
    Closed,
    Refused(Refusal),
    /// The disk does not take it.
    Disk,
}

impl Pushes {
    /// Nothing held yet, by the node `me`.
    pub fn new(
        me: NodeId,
        limits: Limits,
        replication: Replication,
        opener: Opener,
        keys: Arc<KeyRing>,
        peers: Arc<Peers>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let held = HeldPushes {
            store: Store::new(me.clone(), limits, replication),
            waiting: BTreeMap::new(),
            scrapes: BTreeMap::new(),
            alone: true,
            others_stay: false,
            unscraped: false,
            closed: false,
        };
        Self {
            me,
            held: Mutex::new(held),
            peers,
            opener,
            keys,
            metrics,
            hasher: RandomState::new(),
            lookups: Lookups::new(),
            disk: None,
            changed: Notify::new(),
            answers: Notify::new(),
        }
    }

    /// Takes in what `directory` has of an earlier life, and keeps every push there from now on. Blocks while it reads.
    pub fn keep_in(mut self, directory: Directory) -> Result<Self, DirectoryError> {
        let (now, time) = (Instant::now(), SystemTime::now());
        let found = directory.read(time, |text| {
            let pusher = text.pusher()?;
            let content = calls::read(&text.snappy, pusher, MAX_DISK_TEXT, &self.hasher);
            content.ok_or(disk::Unreadable)
        })?;
        let own = |owner: &&NodeId| owner.name == self.me.name;
        let expired = found.expired.iter().filter(own).count();
        let restored = found.pushes.len();
        if restored + found.expired.len() + found.unreadable > 0 {
            info!(
                pushes = restored,
                expired,
                unreadable = found.unreadable,
                "restored pushes from --push.dir"
            );
        }
        self.metrics
            .disk
            .restored(restored, expired, found.unreadable);
        let store = &mut self.held.get_mut().store;
        store.keep_on_disk();
        let effects = store.restore(found.pushes, found.over, now);
        self.note(&effects.tally);
        self.disk = Some(directory.start(self.metrics.disk.clone())?);
        Ok(self)
    }

    /// How `--push.dir` does, where it is set.
    pub fn disk(&self) -> Option<DiskReport> {
        self.disk.as_ref().map(Disk::report)
    }

    /// Lets the store know what is on disk, until the process ends.
    pub async fn follow_disk(&self) {
        let reports = self.disk.as_ref().and_then(Disk::reports);
        let Some(mut reports) = reports else {
            return;
        };
        while let Some(results) = reports.recv().await {
            self.with(|held, now| ((), held.store.written(results, now)));
            self.changed.notify_waiters();
        }
    }

    /// Writes to disk what is not there yet. Blocks; nothing is written afterwards.
    pub fn close_disk(&self) {
        if let Some(disk) = &self.disk {
            disk.close();
        }
    }

    /// How many pushes are held, by state.
    pub fn counts(&self) -> Counts {
        self.held.lock().store.counts()
    }

    /// The `most` pushers with the most bytes, and as many of those that were refused something last; the greatest first.
    pub fn pushers(&self, most: usize) -> Vec<Holdings> {
        self.held.lock().store.pushers(most)
    }

    /// The consumers, by name.
    pub fn consumers(&self) -> Vec<ConsumerStatus> {
        self.held.lock().store.consumers(Instant::now())
    }

    /// Up to `most` pushes after the `before` newest, of these pushers; of everybody where there are none.
    pub fn list(&self, of: &[Tenant], before: usize, most: usize) -> Listing {
        let held = self.held.lock();
        held.store.list(of, before, most, Instant::now())
    }

    /// Whether no other node is known.
    pub fn are_alone(&self) -> bool {
        self.held.lock().alone
    }

    /// Lets the store know the time and who lives, until the process ends. Without `calling` there are no other nodes.
    pub async fn run(
        &self,
        mut state: watch::Receiver<NodeState>,
        mut peers: watch::Receiver<Arc<[Peer]>>,
        calling: Option<Calling>,
    ) {
        let _until_the_end = self.peers.unlink_after();
        let mut tick = tokio::time::interval(TICK);
        loop {
            let others = Arc::clone(&peers.borrow_and_update());
            if let Some(calling) = &calling {
                self.peers.link(&others, calling);
            }
            self.see(*state.borrow_and_update(), &others);
            tokio::select! {
                _ = tick.tick() => {
                    self.with(|held, now| ((), held.store.tick(now)));
                    self.publish();
                }
                Ok(()) = state.changed() => {}
                Ok(()) = peers.changed() => {}
            }
        }
    }

    fn see(&self, state: NodeState, peers: &[Peer]) {
        let others = peers.iter().map(|peer| (peer.id.clone(), peer.state));
        let mut view: View = others.collect();
        view.insert(self.me.clone(), state);
        let others = view.len() - 1;
        let mut states = peers.iter().map(|peer| peer.state);
        let others_stay = states.any(|state| state != NodeState::Draining);
        self.with(|held, now| {
            held.alone = others == 0;
            held.others_stay = others_stay;
            ((), held.store.members(view, now))
        });
        self.metrics.see_peers(others);
    }

    /// Waits until this node's end costs no push: all in the hands of others; or where it is alone, all served, and from
    /// then on none is taken.
    pub async fn all_settled(&self) {
        loop {
            let changed = self.changed.notified();
            if self.settled() {
                return;
            }
            changed.await;
        }
    }

    /// Takes no more pushes: nobody would serve them. Those who bring one take it elsewhere.
    pub fn close(&self) {
        self.held.lock().closed = true;
    }

    /// This node answers no scrape any more: pushes are taken as long as a node is there that does and is not about to
    /// leave, too.
    pub fn end_scrapes(&self) {
        self.held.lock().unscraped = true;
    }

    /// Whether no more pushes are taken.
    pub fn are_closed(&self) -> bool {
        self.held.lock().closed
    }

    /// Takes what came from an application.
    async fn take(&self, sealed: Sealed, peer: SocketAddr) -> Result<Taken, Rejection> {
        let sender = Sender::new(&sealed.terms, peer);
        let opened = self.open(sealed, self.read(&sender)).await;
        let read = opened.map_err(|unusable| self.refuse_unusable(&unusable, &sender))?;
        self.metrics
            .envelopes
            .with_label_values(&[read.opened.envelope])
            .inc();
        self.keep(read, &sender).await
    }

    /// Takes a text that came without an envelope. One without samples is refused: mostly whatever was to write them has
    /// failed.
    pub(crate) async fn take_plain(
        &self,
        plain: PlainText,
        sender: &Sender,
    ) -> Result<Taken, Rejection> {
        let opened = self.opener.read_plain(plain, self.read(sender)).await;
        let read = opened.map_err(|unusable| self.refuse_unusable(&unusable, sender))?;
        if read.opened.exposition.samples() == 0 {
            return Err(self.refuse(
                PushRefusal::Exposition,
                ErrorCode::INVALID,
                "no samples, nothing to push".into(),
                sender,
            ));
        }
        self.keep(read, sender).await
    }

    /// What is made of a text when it has been opened.
    fn read(&self, sender: &Sender) -> impl FnOnce(Opened) -> Read + Clone + Send + 'static {
        let (hasher, pusher) = (self.hasher.clone(), sender.tenant());
        move |opened| {
            let (content, repeated) = content_of(Arc::clone(&opened.exposition), pusher, &hasher);
            Read {
                opened,
                content,
                repeated,
            }
        }
    }

    /// Holds a text, unless it is not one to be held.
    async fn keep(&self, read: Read, sender: &Sender) -> Result<Taken, Rejection> {
        let Read {
            opened,
            content,
            repeated,
        } = read;
        if opened.exposition.has_timestamps() {
            return Err(self.refuse(
                PushRefusal::Timestamp,
                ErrorCode::INVALID,
                "a pushed sample has a timestamp, and would be out of date when it is scraped"
                    .into(),
                sender,
            ));
        }
        if opened.exposition.text().len() > self.opener.max_text() {
            return Err(self.refuse(
                PushRefusal::Limit,
                ErrorCode::INVALID,
                "with the labels of its identity the text is longer than --scrape.max-payload, and no other node would \
                 take it"
                    .into(),
                sender,
            ));
        }
        self.metrics.duplicate_series.inc_by(repeated as u64);
        let series = content.series.len();
        let kept = match self.hold(content).await {
            Ok(kept) => kept,
            Err(Untaken::Closed) => {
                return Err(Rejection {
                    code: ErrorCode::CONNECTION_CLOSE,
                    reason: "the proxy is shutting down".into(),
                });
            }
            Err(Untaken::Disk) => {
                return Err(self.refuse(
                    PushRefusal::Disk,
                    ErrorCode::APPLICATION_ERROR,
                    "the proxy cannot write this push to its disk (--push.dir); push again later"
                        .into(),
                    sender,
                ));
            }
            Err(Untaken::Refused(refusal)) => {
                let label = match refusal {
                    Refusal::Full => PushRefusal::Full,
                    Refusal::Share => PushRefusal::Share,
                    Refusal::Backlog => PushRefusal::Backlog,
                };
                return Err(self.refuse(
                    label,
                    ErrorCode::APPLICATION_ERROR,
                    refusal.to_string(),
                    sender,
                ));
            }
        };
        let (peer, identity) = (sender.peer, sender.identity.as_deref());
        let taken = Taken {
            samples: opened.exposition.samples(),
            series,
            bytes: opened.bytes,
            kept,
        };
        debug!(%peer, identity, samples = taken.samples, bytes = taken.bytes, ?kept, "push accepted");
        Ok(taken)
    }

    /// Holds a push, and waits until it may be acknowledged.
    async fn hold(&self, content: Content) -> Result<Kept, Untaken> {
        let started = Instant::now();
        let (done, kept) = oneshot::channel();
        if self.disk.as_ref().is_some_and(Disk::is_failing) {
            return Err(Untaken::Disk);
        }
        self.with(|held, now| {
            if !held.may_be_served() {
                return (Err(Untaken::Closed), Effects::default());
            }
            match held.store.accept(content, now) {
                Ok((push, effects)) => {
                    held.waiting.insert(push, done);
                    (Ok(()), effects)
                }
                Err(refusal) => (Err(Untaken::Refused(refusal)), Effects::default()),
            }
        })?;
        self.metrics.accepted.inc();
        // The store names every push that it accepted, at the latest when it has waited long enough.
        let kept = kept.await.unwrap_or(Ok(Kept::Short))?;
        match kept {
            Kept::Replicated => {
                let seconds = started.elapsed().as_secs_f64();
                self.metrics.copies.seconds.observe([], seconds);
                self.metrics.copies.replicated.inc();
            }
            Kept::Short => self.metrics.copies.short.inc(),
            Kept::Alone => self.metrics.copies.alone.inc(),
        }
        Ok(kept)
    }

    fn refuse_unusable(&self, unusable: &OpenFailure, sender: &Sender) -> Rejection {
        let (label, code) = match unusable {
            OpenFailure::Envelope(OpenError::TooLong) => (PushRefusal::Payload, ErrorCode::INVALID),
            OpenFailure::Envelope(_) => (PushRefusal::Envelope, ErrorCode::APPLICATION_ERROR),
            OpenFailure::Exposition(error) if error.kind().is_limit() => {
                (PushRefusal::Limit, ErrorCode::INVALID)
            }
            OpenFailure::Exposition(_) => (PushRefusal::Exposition, ErrorCode::INVALID),
            OpenFailure::Memory | OpenFailure::Families => {
                (PushRefusal::Memory, ErrorCode::APPLICATION_ERROR)
            }
            OpenFailure::Busy => (PushRefusal::Busy, ErrorCode::APPLICATION_ERROR),
            OpenFailure::Aborted => (PushRefusal::Aborted, ErrorCode::APPLICATION_ERROR),
        };
        self.refuse(label, code, unusable.to_string(), sender)
    }

    /// Counts and logs a refusal.
    pub(crate) fn refuse(
        &self,
        refusal: PushRefusal,
        code: ErrorCode,
        reason: String,
        sender: &Sender,
    ) -> Rejection {
        static LOG_LIMIT: LogLimit = LogLimit::new(10);
        self.metrics
            .refused
            .with_label_values(&[refusal.label()])
            .inc();
        let (peer, identity) = (sender.peer, sender.identity.as_deref());
        match LOG_LIMIT.due() {
            Some(suppressed) => warn!(%peer, identity, reason, suppressed, "push refused"),
            None => debug!(%peer, identity, reason, "push refused"),
        }
        Rejection { code, reason }
    }

    /// Takes a step of the store, and does what comes of it.
    fn with<R>(&self, step: impl FnOnce(&mut HeldPushes, Instant) -> (R, Effects)) -> R {
        let (result, effects) = {
            let mut held = self.held.lock();
            let (result, mut effects) = step(&mut held, Instant::now());
            for (push, kept) in &effects.acknowledged {
                if let Some(waiting) = held.waiting.remove(push) {
                    // An application that is gone is not told.
                    let _ = waiting.send(Ok(*kept));
                }
            }
            for push in &effects.refused {
                if let Some(waiting) = held.waiting.remove(push) {
                    let _ = waiting.send(Err(Untaken::Disk));
                }
            }
            if let Some(disk) = &self.disk {
                // Under the lock, so that the disk is told in the order of the steps.
                disk.write(std::mem::take(&mut effects.writes));
            }
            (result, effects)
        };
        for (node, request) in effects.calls {
            if let Some(request) = self.peers.call(&node, request) {
                self.unanswered(&node, &request);
            }
        }
        self.note(&effects.tally);
        self.note_forgotten(&effects.forgotten);
        result
    }

    fn note_forgotten(&self, forgotten: &[ConsumerName]) {
        static LOG_LIMIT: LogLimit = LogLimit::new(10);
        for consumer in forgotten {
            self.metrics.consumers_forgotten.inc();
            if let Some(suppressed) = LOG_LIMIT.due() {
                let consumer = consumer.as_str();
                warn!(
                    consumer,
                    suppressed, "too many consumers: forgot what this one has had"
                );
            }
        }
    }

    fn note(&self, tally: &Tally) {
        self.metrics.add(tally);
        let Tally {
            expired,
            missed,
            taken_over,
            handed_over,
            possible_duplicates,
            ..
        } = *tally;
        if expired > 0 {
            warn!(
                pushes = expired,
                "dropped pushes that no consumer got within --push.ttl"
            );
        }
        if missed > 0 {
            static LOG_LIMIT: LogLimit = LogLimit::new(1);
            if let Some(suppressed) = LOG_LIMIT.due() {
                warn!(
                    pushes = missed,
                    suppressed, "dropped pushes that not every consumer got"
                );
            }
        }
        if taken_over > 0 {
            info!(
                pushes = taken_over,
                possible_duplicates, "took over pushes of a node that is gone"
            );
        }
        if handed_over > 0 {
            info!(pushes = handed_over, "handed pushes over");
        }
    }

    fn publish(&self) {
        let (counts, consumers) = {
            let held = self.held.lock();
            let consumers = held.store.consumer_counts(Instant::now());
            (held.store.counts(), consumers)
        };
        self.metrics.hold(&counts);
        self.metrics.see_consumers(&consumers);
        self.changed.notify_waiters();
    }
}

/// A push with its series, each once; and how many stand in it again. That is as much work as reading the text was.
fn content_of(text: Arc<Exposition>, pusher: Tenant, hasher: &RandomState) -> (Content, usize) {
    let mut series: Vec<_> = text.series(hasher).collect();
    let all = series.len();
    series.sort_unstable();
    series.dedup();
    series.shrink_to_fit();
    let repeated = all - series.len();
    let content = Content {
        text,
        series,
        pusher,
    };
    (content, repeated)
}

/// [`Pushes`] as what connections hand their pushes to.
pub struct Sink(pub Arc<Pushes>);

impl PushSink for Sink {
    fn push(&self, sealed: Sealed, peer: SocketAddr) -> PushOutcome {
        let pushes = Arc::clone(&self.0);
        Box::pin(async move { pushes.take(sealed, peer).await.map(drop) })
    }
}
