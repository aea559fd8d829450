//! The set of connected applications, oldest first, and the handles by which flows reach them.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use prometheus::IntGauge;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::ConnectionId;
use super::known::Known;
use super::metrics::ConnectionFault;
use super::naming::Facts;
use super::opener::Opened;
use super::parts::Targets;
use super::pull::{Answer, PullError, PullReply, PullRequest};
use super::pull_timing::PullTiming;
use super::pulls::MAX_PULLS;
use super::refused::{Refused, RefusedLog};
use super::retire::Retirement;
use super::transport::Transport;
use crate::directory::{ApplicationId, End, Outcome, SharedDirectory};

/// Connections that left, remembered for the status page.
const LEFT_KEPT: usize = 100;
/// Pulls waiting for one connection's task; past it a pull is refused as busy.
const WAITING_PULLS: usize = MAX_PULLS;

/// How the last pull of a connection went.
#[derive(Debug, Clone)]
pub struct LastScrape {
    /// When it was over.
    pub at: SystemTime,
    /// From the closed set of outcomes.
    pub outcome: &'static str,
    /// For people; empty on success.
    pub reason: String,
    /// How long it took.
    pub duration: Duration,
    /// Decompressed text, zero where there was none.
    pub bytes: usize,
    /// What it came in, empty where there was none.
    pub envelope: &'static str,
}

/// What the outside knows of one connection.
#[derive(Debug)]
pub struct Handle {
    /// Its name.
    pub id: ConnectionId,
    /// The other end.
    pub peer: SocketAddr,
    /// What it runs over.
    pub transport: Transport,
    /// The name of its identity, where it has one.
    pub identity: Option<Arc<str>>,
    /// When SETUP had been accepted.
    pub connected_at: SystemTime,
    pulls: mpsc::Sender<PullRequest>,
    nudge: Arc<Notify>,
    retirement: OnceLock<Retirement>,
    since: Instant,
    last_scrape: Mutex<Option<LastScrape>>,
    targets: Mutex<Targets>,
    timing: Mutex<Option<PullTiming>>,
    pub(super) known: Known,
}

impl Handle {
    /// Asks for the application's text and waits for the answer until `deadline`; of one target, where the application
    /// answers for several.
    ///
    /// Where the same request is under way already, its answer serves this caller too. When nobody waits any more, the
    /// request is cancelled.
    pub async fn pull(
        &self,
        target: Option<&ApplicationId>,
        deadline: Instant,
    ) -> Result<Arc<Answer>, PullError> {
        let (reply, answer) = oneshot::channel::<PullReply>();
        let target = target.filter(|_| self.known.names_targets()).cloned();
        let request = PullRequest {
            target,
            deadline,
            reply,
        };
        self.pulls.try_send(request).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => PullError::Busy,
            mpsc::error::TrySendError::Closed(_) => PullError::Closed,
        })?;
        let waiting = WaitingPull { nudge: &self.nudge };
        let answer = timeout_at(deadline, answer).await;
        match answer {
            Ok(answer) => {
                std::mem::forget(waiting);
                answer.unwrap_or(Err(PullError::Closed))
            }
            Err(_) => Err(PullError::Timeout),
        }
    }

    /// How the last pull went; `None` before the first.
    pub fn last_scrape(&self) -> Option<LastScrape> {
        self.last_scrape.lock().clone()
    }

    /// When pulls end; `None` before the first.
    pub fn timing(&self) -> Option<PullTiming> {
        *self.timing.lock()
    }

    /// How long ago SETUP was accepted.
    pub fn age(&self, now: Instant) -> Duration {
        now - self.since
    }

    /// Notes how a pull of all targets went and gives what was noted before.
    pub fn note_scrape(&self, scrape: LastScrape) -> Option<LastScrape> {
        self.last_scrape.lock().replace(scrape)
    }

    /// Notes how a pull went, of one target or of all. Whether that target fares otherwise than before.
    pub fn note_pull(&self, target: Option<&ApplicationId>, outcome: Outcome) -> bool {
        let now = Instant::now();
        self.timing
            .lock()
            .get_or_insert(PullTiming::new(now))
            .pull_ended(now);
        self.known.pulled(target, outcome)
    }

    /// Takes the application's name from the text that a pull brought, if it brought one and the name is not known; not
    /// where one target was meant.
    pub fn note_name(&self, target: Option<&ApplicationId>, opened: Option<&Opened>) {
        if target.is_none() || !self.known.names_targets() {
            self.known.note_text(opened);
        }
    }

    /// Whether a text has to be pulled to know who the application is.
    pub fn needs_name(&self) -> bool {
        self.known.needs_text()
    }

    /// Whether the application answers for more than one target.
    pub fn is_several(&self) -> bool {
        self.known.is_several()
    }

    /// How the targets fared in the last answer that was taken.
    pub fn targets(&self) -> Targets {
        self.targets.lock().clone()
    }

    /// Notes how the targets fared in an answer and gives what was noted before.
    pub fn note_targets(&self, targets: Targets) -> Targets {
        let mut noted = self.targets.lock();
        std::mem::replace(&mut noted, targets)
    }

    /// Asks the connection to end in the way that [`Retirement`] says. Whether this is the first time: later ones change
    /// nothing.
    pub fn retire(&self, retirement: Retirement) -> bool {
        let first = self.retirement.set(retirement).is_ok();
        if first {
            self.nudge.notify_one();
        }
        first
    }

    /// Whether it was asked to end.
    pub fn is_retiring(&self) -> bool {
        self.retirement().is_some()
    }

    pub(super) fn retirement(&self) -> Option<&Retirement> {
        self.retirement.get()
    }

    /// Whether the connection is no more.
    pub fn has_left(&self) -> bool {
        self.pulls.is_closed()
    }
}

/// Tells the connection that somebody stopped waiting for an answer, unless forgotten.
struct WaitingPull<'a> {
    nudge: &'a Notify,
}

impl Drop for WaitingPull<'_> {
    fn drop(&mut self) {
        self.nudge.notify_one();
    }
}

/// A connection that is no more.
#[derive(Debug, Clone)]
pub struct Left {
    /// Its name.
    pub id: ConnectionId,
    /// The other end.
    pub peer: SocketAddr,
    /// What it ran over.
    pub transport: Transport,
    /// The name of its identity, where it had one.
    pub identity: Option<Arc<str>>,
    /// When it had been set up.
    pub connected_at: SystemTime,
    /// When it ended.
    pub left_at: SystemTime,
    /// Why, for people.
    pub reason: String,
}

/// The connected applications.
#[derive(Debug)]
pub struct Registry {
    inner: Mutex<Inner>,
    size: Arc<AtomicUsize>,
    active: IntGauge,
    max: usize,
    arrived: Notify,
    emptied: Notify,
    refused: RefusedLog,
}

#[derive(Debug, Default)]
struct Inner {
    next: ConnectionId,
    handles: BTreeMap<ConnectionId, Arc<Handle>>,
    left: VecDeque<Left>,
}

impl Registry {
    /// An empty registry, for at most `max` connections, which the listeners see to; `active` follows its size.
    pub fn new(active: IntGauge, max: usize) -> Self {
        Self {
            inner: Mutex::default(),
            size: Arc::default(),
            active,
            max,
            arrived: Notify::new(),
            emptied: Notify::new(),
            refused: RefusedLog::default(),
        }
    }

    /// Adds a connection of an application of which this is known. Who asks for its text arrives at
    /// [`Registration::pulls`]; it leaves when the registration is dropped.
    pub(super) fn register(
        self: &Arc<Self>,
        facts: Facts,
        directory: &Arc<SharedDirectory>,
    ) -> Registration {
        let (sender, pulls) = mpsc::channel(WAITING_PULLS);
        let nudge = Arc::new(Notify::new());
        let mut inner = self.inner.lock();
        let id = inner.next;
        inner.next += 1;
        let handle = Arc::new(Handle {
            id,
            peer: facts.peer,
            transport: facts.transport,
            identity: facts.identity.terms.identity.clone(),
            connected_at: facts.connected_at,
            pulls: sender,
            nudge: Arc::clone(&nudge),
            retirement: OnceLock::new(),
            since: Instant::now(),
            last_scrape: Mutex::default(),
            targets: Mutex::default(),
            timing: Mutex::default(),
            known: Known::new(id, Arc::clone(directory), facts),
        });
        inner.handles.insert(id, Arc::clone(&handle));
        self.resized(inner.handles.len());
        self.arrived.notify_one();
        Registration {
            pulls,
            nudge,
            reason: "the connection's task ended".into(),
            end: End::Lost,
            handle,
            registry: Arc::clone(self),
        }
    }

    /// The connections from this one on, oldest first.
    pub fn since(&self, id: ConnectionId) -> Vec<Arc<Handle>> {
        let inner = self.inner.lock();
        inner
            .handles
            .range(id..)
            .map(|(_, handle)| Arc::clone(handle))
            .collect()
    }

    /// Waits until a connection has been added since this was waited for before. For one at a time.
    pub async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// A connection was refused before it was an application's.
    pub(super) fn refuse(
        &self,
        peer: SocketAddr,
        transport: Transport,
        fault: ConnectionFault,
        reason: &str,
    ) {
        self.refused.note(peer, transport, fault, reason);
    }

    /// Those that were refused lately, the latest first.
    pub fn refused(&self) -> Vec<Refused> {
        self.refused.latest()
    }

    /// The connections of this moment, oldest first.
    pub fn snapshot(&self) -> Vec<Arc<Handle>> {
        self.inner.lock().handles.values().cloned().collect()
    }

    /// The connection of this name, if it is there.
    pub fn get(&self, id: ConnectionId) -> Option<Arc<Handle>> {
        self.inner.lock().handles.get(&id).cloned()
    }

    /// How many connections there are.
    pub fn len(&self) -> usize {
        self.size.load(Ordering::Acquire)
    }

    /// [`Self::len`], for who needs to know no more.
    pub fn size(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.size)
    }

    /// Whether the limit of connections is reached.
    pub fn is_full(&self) -> bool {
        self.len() >= self.max
    }

    /// How many connections there have been, those that left among them.
    pub fn opened(&self) -> u64 {
        self.inner.lock().next
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits until there is none.
    pub async fn emptied(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.is_empty() {
                return;
            }
            emptied.await;
        }
    }

    /// The connections that left lately, the latest first.
    pub fn left(&self) -> Vec<Left> {
        self.inner.lock().left.iter().cloned().collect()
    }

    fn resized(&self, len: usize) {
        self.size.store(len, Ordering::Release);
        self.active.set(i64::try_from(len).unwrap_or(i64::MAX));
    }

    fn leave(&self, handle: &Handle, reason: String) {
        let mut inner = self.inner.lock();
        inner.handles.remove(&handle.id);
        self.resized(inner.handles.len());
        inner.left.truncate(LEFT_KEPT - 1);
        inner.left.push_front(Left {
            id: handle.id,
            peer: handle.peer,
            transport: handle.transport,
            identity: handle.identity.clone(),
            connected_at: handle.connected_at,
            left_at: SystemTime::now(),
            reason,
        });
        if inner.handles.is_empty() {
            self.emptied.notify_waiters();
        }
    }
}

/// A connection's place in the registry; dropped, it leaves.
#[derive(Debug)]
pub(super) struct Registration {
    /// The scrapes that ask for the application's text.
    pub(super) pulls: mpsc::Receiver<PullRequest>,
    /// Rung when somebody stopped waiting for an answer, or asked the connection to end.
    pub(super) nudge: Arc<Notify>,
    /// Why it leaves, for people, and how; set before it is dropped.
    pub(super) reason: String,
    pub(super) end: End,
    /// What the others hold.
    pub(super) handle: Arc<Handle>,
    registry: Arc<Registry>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        // Who waits for a pull learns of the end after that, and then finds the application elsewhere.
        self.handle
            .known
            .end(self.end, &self.reason.as_str().into());
        self.registry
            .leave(&self.handle, std::mem::take(&mut self.reason));
    }
}
