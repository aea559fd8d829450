//! One application's connection: the task that owns it, from SETUP to the end.
//!
//! The proxy is the requester here. The key goes out first; a pull announces the newest key again and waits for one
//! answer. There is at most one pull of a target at a time, and one of all: scrapes that ask meanwhile get the same answer,
//! and when none waits any more it is cancelled. Pushes go to the [`PushSink`]; while [`MAX_PUSHES`] of them are being opened, nothing more is
//! read, and those under way are finished even after the connection has ended.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use prometheus_rsocket_wire::connection::Connection;
use prometheus_rsocket_wire::description::{self, DescriptionError, TargetName};
use prometheus_rsocket_wire::envelope::version2::{Purpose, Unsealer};
use prometheus_rsocket_wire::session::{CloseReason, Event, SendError, StreamError, Violation};
use prometheus_rsocket_wire::transport::Transport as FrameTransport;
use prometheus_rsocket_wire::{Announcement, ConnectionToken, ErrorCode, Payload, StreamId};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep};
use tracing::{debug, info};

use super::applications::Applications;
use super::described::{Described, Refused, Updates, is_update};
use super::ending::{self, Circumstances};
use super::entry::{Arrival, Member, enter};
use super::keys::{Key, Keys};
use super::known::Known;
use super::metrics::{ConnectionFault, DescriptionRefusal, PushRefusal};
use super::naming::{Facts, Text};
use super::opener::{Asked, Sealed};
use super::pull::{Answer, PullError, PullRequest};
use super::pulls::{Pull, Pulls};
use super::registry::{Handle, Registration};
use super::retire::{Cause, Retiring};
use super::transport::Transport;
use super::turns::Flow;
use super::{PushSink, Rejection};
use crate::directory::ApplicationId;
use crate::limits::log_limit::LogLimit;
use crate::limits::rate::Bucket;
use crate::tenant::Tenant;

/// Pushes of one connection that are opened and checked at a time.
const MAX_PUSHES: usize = 16;
/// An application that did not answer in time may take so long for a sign of life.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);

/// Runs a connection from before its SETUP to its end.
pub(super) async fn run<T: FrameTransport>(
    mut connection: Box<Connection<T>>,
    mut arrival: Arrival,
    apps: &Applications,
) {
    let (peer, transport) = (arrival.peer, arrival.transport);
    let setup = match apps.leaving.run_until_cancelled(connection.next()).await {
        Some(Event::Setup(setup)) => setup,
        None => return leave(connection).await,
        Some(Event::Closed(reason)) => {
            if let Some(fault) = note_failure(&reason, peer, transport, apps) {
                let reason = reason.to_string();
                apps.registry.refuse(peer, transport, fault, &reason);
            }
            return Box::pin(connection.finish()).await;
        }
        // The session lets nothing else come first.
        Some(other) => return debug!(?other, %peer, "event before SETUP"),
    };
    let entering = Box::pin(enter(setup, &mut arrival, apps));
    let mut member = match apps.leaving.run_until_cancelled(entering).await {
        Some(Ok(member)) => member,
        None => return leave(connection).await,
        Some(Err(denied)) => {
            connection.session().close(denied.code, denied.message);
            return Box::pin(connection.finish()).await;
        }
    };
    drop(arrival.evictable);
    let description = member.description.take();
    let facts = Facts {
        peer,
        transport,
        connected_at: SystemTime::now(),
        identity: Arc::clone(&member.identity),
        table: Arc::clone(&member.table),
        description: None,
        text: Text::Unread,
    };
    let mut task = ConnectionTask {
        connection,
        registration: apps.registry.register(facts, &apps.directory),
        member,
        bucket: None,
        keys: apps.keys.subscribe(),
        sink: Arc::clone(&apps.pushes),
        unsealer: Arc::new(Unsealer::new(ConnectionToken::random())),
        pulls: Pulls::default(),
        updates: Updates::default(),
        pushed: None,
        leaving: false,
        retiring: None,
        patience: None,
        deaf: false,
        pushes: FuturesUnordered::new(),
        apps,
    };
    apps.metrics
        .connections_opened
        .with_label_values(&[transport.label()])
        .inc();
    if !description.is_some_and(|description| task.describe(description)) {
        task.known().begin();
    }
    task.announce_key();
    let reason = task.run().await;
    note_failure(&reason, peer, transport, apps);
    Box::pin(task.finish(&reason)).await;
}

/// The node leaves before the connection is anybody's.
async fn leave<T: FrameTransport>(mut connection: Box<Connection<T>>) {
    let session = connection.session();
    session.close(ErrorCode::CONNECTION_CLOSE, Cause::Drain.message());
    Box::pin(connection.finish()).await;
}

/// Counts an end that is a fault, and gives what it counts as; ordinary ends are not counted.
fn note_failure(
    reason: &CloseReason,
    peer: SocketAddr,
    transport: Transport,
    apps: &Applications,
) -> Option<ConnectionFault> {
    let exception = match reason {
        CloseReason::PeerError { code, .. } if *code != ErrorCode::CONNECTION_CLOSE => {
            ConnectionFault::PeerError
        }
        // CONNECTION_CLOSE is an application's goodbye.
        CloseReason::PeerEnded
        | CloseReason::PeerError { .. }
        | CloseReason::Closed(_)
        | CloseReason::Ended => {
            debug!(%peer, transport = transport.name(), %reason, "connection closed");
            return None;
        }
        CloseReason::Violation(Violation::Unfinished) => ConnectionFault::Unfinished,
        CloseReason::Violation(_) => ConnectionFault::ProtocolViolation,
        CloseReason::SetupTimeout => ConnectionFault::SetupTimeout,
        CloseReason::KeepaliveTimeout => ConnectionFault::KeepaliveTimeout,
        CloseReason::Transport(_) => ConnectionFault::Transport,
    };
    apps.metrics.failed(exception, transport, 1);
    debug!(%peer, transport = transport.name(), %reason, "connection failed");
    Some(exception)
}

/// Waits for it, if there is one.
async fn over(time: &mut Option<Pin<Box<Sleep>>>) {
    match time {
        Some(time) => time.as_mut().await,
        None => std::future::pending().await,
    }
}

struct ConnectionTask<'a, T> {
    connection: Box<Connection<T>>,
    registration: Registration,
    member: Box<Member>,
    /// What it may push where its identity says nothing, made when it first does.
    bucket: Option<Box<Bucket>>,
    keys: watch::Receiver<Keys>,
    sink: Arc<dyn PushSink>,
    unsealer: Arc<Unsealer>,
    pulls: Pulls,
    /// Of what its application says it is.
    updates: Updates,
    /// When a push came last, or was acknowledged.
    pushed: Option<Instant>,
    /// The node leaves, and does not wait for another pull.
    leaving: bool,
    /// The connection is to end.
    retiring: Option<Retiring>,
    /// Where it is to end at once: how much longer what it has begun is waited for.
    patience: Option<Pin<Box<Sleep>>>,
    /// Nothing more is read of it.
    deaf: bool,
    pushes: FuturesUnordered<BoxFuture<'static, PushDone>>,
    apps: &'a Applications,
}

/// A push whose outcome is known; the stream is there where the application waits for it.
struct PushDone {
    stream: Option<StreamId>,
    outcome: Result<(), Rejection>,
}

impl<T: FrameTransport> ConnectionTask<'_, T> {
    async fn run(&mut self) -> CloseReason {
        loop {
            let may_end = self.retiring.is_some() && self.is_idle();
            tokio::select! {
                biased;
                () = over(&mut self.patience) => self.give_up(),
                Ok(()) = self.keys.changed() => self.announce_key(),
                () = self.member.changed() => self.renew(),
                Some(reply) = self.registration.pulls.recv() => self.start_pull(reply),
                () = self.registration.nudge.notified() => {
                    self.ask_for_a_sign_of_life();
                    self.cancel_if_abandoned();
                    self.retire_if_asked();
                }
                () = self.apps.leaving.cancelled(), if !self.leaving => {
                    self.leaving = true;
                    self.retire_at_once(Cause::Drain);
                }
                Some(push) = self.pushes.next() => self.answer_push(push),
                update = self.updates.due() => self.take_update(&update),
                event = self.connection.next(), if !self.deaf && self.pushes.len() < MAX_PUSHES => match event {
                    Event::Response { stream, result } => self.answer_pull(stream, result),
                    Event::Request { stream, payload } => self.take_push(Some(stream), payload),
                    Event::FireAndForget { payload } if is_update(&payload) => self.update(payload),
                    Event::FireAndForget { payload } => self.take_push(None, payload),
                    Event::Refused { reason, .. } => {
                        debug!(peer = %self.registration.handle.peer, %reason, "push refused");
                        self.count_refusal(PushRefusal::Payload);
                    }
                    // A push is held or not whether or not its sender still waits.
                    Event::RequestCancelled { .. } | Event::Setup(_) => {}
                    Event::Closed(reason) => return reason,
                },
                // Last of all: whatever came before is taken.
                cause = Retiring::due(&mut self.retiring), if may_end => self.end(cause),
            }
        }
    }

    fn retire_at_once(&mut self, cause: Cause) {
        self.retiring = Some(Retiring::at_once(cause));
        self.patience = Some(Box::pin(sleep(cause.patience())));
    }

    /// It has had the time to finish what it had begun. What a leaving node has taken is still held and acknowledged.
    fn give_up(&mut self) {
        self.patience = None;
        match self.retiring.as_ref().map(|retiring| retiring.cause) {
            Some(Cause::Revoked) => self.end(Cause::Revoked),
            _ => self.deaf = true,
        }
    }

    /// The file of identities was read again.
    fn renew(&mut self) {
        if !self.member.renew() {
            return self.retire_at_once(Cause::Revoked);
        }
        let (identity, table) = (&self.member.identity, &self.member.table);
        self.known().renew(Arc::clone(identity), Arc::clone(table));
    }

    fn known(&self) -> &Known {
        &self.registration.handle.known
    }

    /// The application says that it is something else now.
    fn update(&mut self, update: Payload) {
        // What waits for its turn is not counted.
        if update.data.len() > description::MAX_BYTES {
            self.describe(Err(DescriptionError::TooLong.into()));
        } else {
            self.updates.came(update);
        }
    }

    fn take_update(&mut self, update: &Payload) {
        let description = self.apps.descriptions.take(&update.data);
        self.describe(description);
    }

    /// Takes what the application says it is, if it can be read; what does not hold of that is as if it had not been said.
    fn describe(&self, description: Result<Described, Refused>) -> bool {
        let (refusal, reason) = match description {
            Ok(description) => match self.known().describe(description) {
                0 => return true,
                denied => (
                    DescriptionRefusal::Instance,
                    format!("{denied} of its targets are not its identity's"),
                ),
            },
            Err(refused) => (refused.into(), refused.to_string()),
        };
        let refused = &self.apps.metrics.descriptions_refused;
        refused.with_label_values(&[refusal.label()]).inc();
        log_description(&self.registration.handle, &reason);
        matches!(refusal, DescriptionRefusal::Instance)
    }

    /// Where an application did not answer in time, that may be because it is no more.
    fn ask_for_a_sign_of_life(&mut self) {
        // While its pushes are being taken nothing may be read of it, and it is there.
        if self.pulls.are_late(Instant::now()) && self.pushes.is_empty() && !self.deaf {
            let until = Instant::now() + SIGN_OF_LIFE;
            self.connection.session().probe(until.into_std());
        }
    }

    /// Sends the newest key, for pushes that come before the first pull.
    fn announce_key(&mut self) {
        let Some(key) = self.keys.borrow_and_update().first().cloned() else {
            return;
        };
        let payload = self.key_payload(&key, None, None);
        if let Err(error) = self.connection.session().fire_and_forget(payload) {
            // The next pull brings the key as well.
            debug!(peer = %self.registration.handle.peer, %error, "the key was not sent");
        }
        for request in self.pulls.release() {
            self.start_pull(request);
        }
    }

    /// The key, and what newer clients are told beside it; with the number, the deadline and the target of a pull.
    fn key_payload(
        &self,
        key: &Key,
        pull: Option<(u64, Instant)>,
        target: Option<&ApplicationId>,
    ) -> Payload {
        let left = |deadline: Instant| deadline - Instant::now();
        let announcement = Announcement {
            envelopes: self.apps.keys.envelopes(),
            connection: Some(self.unsealer.connection()),
            pull: pull.map(|(number, _)| number),
            timeout: pull.map(|(_, deadline)| left(deadline)),
            target: target.map(|target| TargetName {
                instance: target.instance.to_string(),
                job: target.job.as_deref().map(str::to_owned),
            }),
        };
        Payload {
            metadata: Some(announcement.encode()),
            data: key.announcement(),
        }
    }

    /// Joins the pull of the same target that is under way, or begins one.
    fn start_pull(&mut self, request: PullRequest) {
        let Some(request) = self.pulls.join(request) else {
            return;
        };
        let key = self.keys.borrow().first().cloned();
        let Some(key) = key.filter(|_| !self.is_overdue()) else {
            return self.pulls.hold(request);
        };
        let (new, stale) = self.pulls.begin(request);
        if let Some(stale) = stale {
            self.cancel(&stale);
        }
        let Some(new) = new else { return };
        let pull = Some((new.number, new.request.deadline));
        let payload = self.key_payload(&key, pull, new.request.target.as_ref());
        match self.connection.session().request_response(payload) {
            Ok(stream) => self.pulls.begun(new, stream, key),
            Err(SendError::Full) => new.fail(&PullError::Busy),
            Err(SendError::NotSetUp | SendError::Closed) => new.fail(&PullError::Closed),
        }
    }

    fn answer_pull(&mut self, stream: StreamId, result: Result<Payload, StreamError>) {
        let Some(pull) = self.pulls.answered(stream) else {
            return;
        };
        let signal = if result.is_ok() {
            "ON_COMPLETE"
        } else {
            "ON_ERROR"
        };
        self.count_request(signal, pull.started);
        let reply = match result {
            Ok(payload) => {
                let purpose = Purpose::Answer { pull: pull.number };
                let asked = self.asked(&pull);
                match self.sealed(payload, purpose, Some(asked)) {
                    Some(sealed) => Ok(Arc::new(Answer::new(
                        sealed,
                        pull.key.clone(),
                        pull.is_of_all(),
                    ))),
                    None => Err(PullError::Memory),
                }
            }
            Err(error) => Err(PullError::Stream(error)),
        };
        pull.reply(&reply);
        if let Some(retiring) = &mut self.retiring {
            retiring.answered();
        }
    }

    fn asked(&self, pull: &Pull) -> Asked {
        let looked_for = pull.is_of_all() && self.known().looks_for_name();
        let name_by = looked_for.then(|| Arc::clone(&self.apps.name_by));
        Asked::new(name_by, self.pulls.unopened_mark())
    }

    fn cancel_if_abandoned(&mut self) {
        for pull in self.pulls.abandoned() {
            self.cancel(&pull);
        }
    }

    fn cancel(&mut self, pull: &Pull) {
        self.connection.session().cancel(pull.stream);
        self.count_request("CANCEL", pull.started);
    }

    fn is_overdue(&self) -> bool {
        self.retiring.as_ref().is_some_and(Retiring::is_overdue)
    }

    fn retire_if_asked(&mut self) {
        if self.retiring.is_none() {
            let asked = self.registration.handle.retirement();
            self.retiring = asked.map(Retiring::new);
        }
    }

    /// Whether an end would cut off neither a pull nor a push.
    fn is_idle(&mut self) -> bool {
        let asked = !self.pulls.are_none() || self.pulls.holds() && !self.is_overdue();
        let receiving = !self.deaf && self.connection.session().usage().partial > 0;
        !asked && !receiving && self.pushes.is_empty()
    }

    fn end(&mut self, cause: Cause) {
        self.deaf = false;
        let handle = &self.registration.handle;
        debug!(peer = %handle.peer, connection = handle.id, cause = cause.label(), "closing connection");
        let retired = &self.apps.metrics.connections_retired;
        retired.with_label_values(&[cause.label()]).inc();
        self.close(cause.message());
    }

    fn close(&mut self, reason: &str) {
        self.registration.reason = reason.into();
        let session = self.connection.session();
        session.close(ErrorCode::CONNECTION_CLOSE, reason);
    }

    fn count_request(&self, signal: &'static str, started: std::time::Instant) {
        let seconds = started.elapsed().as_secs_f64();
        self.apps
            .metrics
            .request_response_seconds
            .observe([signal], seconds);
    }

    /// A payload to be opened; `None`: there is no memory to hold it until it is.
    fn sealed(&self, payload: Payload, purpose: Purpose, asked: Option<Asked>) -> Option<Sealed> {
        let held = self.apps.memory.reserve(payload.len())?;
        Some(Sealed {
            payload,
            unsealer: Arc::clone(&self.unsealer),
            purpose,
            terms: Arc::clone(&self.member.identity.terms),
            flow: self.flow(),
            held: Arc::new(held),
            asked,
        })
    }

    /// By the identity that it has now: a file that is read again may give it another.
    fn flow(&self) -> Flow {
        let handle = &self.registration.handle;
        Flow {
            tenant: Tenant::of(self.member.identity.terms.identity.as_ref(), handle.peer),
            connection: handle.id,
        }
    }

    /// Whether one more push is not too often.
    fn may_push(&mut self) -> bool {
        let rate = self.apps.push_rate;
        match (&self.member.identity.pushes, rate) {
            (Some(shared), _) => shared.take(),
            (None, Some(rate)) => {
                let own = self
                    .bucket
                    .get_or_insert_with(|| Box::new(Bucket::new(rate)));
                own.take()
            }
            (None, None) => true,
        }
    }

    fn take_push(&mut self, stream: Option<StreamId>, payload: Payload) {
        let cause = self.retiring.as_ref().map(|retiring| retiring.cause);
        if cause == Some(Cause::Revoked) {
            return self.refuse_push(stream, PushRefusal::Revoked, Cause::Revoked.message());
        }
        if !self.may_push() {
            return self.refuse_push(stream, PushRefusal::Rate, "too many pushes in a second");
        }
        self.pushed = Some(Instant::now());
        let Some(sealed) = self.sealed(payload, Purpose::Push, None) else {
            return self.refuse_push(
                stream,
                PushRefusal::Memory,
                "no memory for another push (--rsocket.max-unfinished)",
            );
        };
        let outcome = self.sink.push(sealed, self.registration.handle.peer);
        self.pushes.push(Box::pin(async move {
            PushDone {
                stream,
                outcome: outcome.await,
            }
        }));
    }

    fn count_refusal(&self, refusal: PushRefusal) {
        let refused = &self.apps.metrics.pushes_refused;
        refused.with_label_values(&[refusal.label()]).inc();
    }

    fn refuse_push(&mut self, stream: Option<StreamId>, refusal: PushRefusal, reason: &str) {
        self.count_refusal(refusal);
        debug!(peer = %self.registration.handle.peer, reason, "push refused");
        if let Some(stream) = stream {
            let session = self.connection.session();
            session.respond_error(stream, ErrorCode::REJECTED, reason);
        }
    }

    fn answer_push(&mut self, push: PushDone) {
        self.pushed = Some(Instant::now());
        let Some(stream) = push.stream else {
            return;
        };
        let session = self.connection.session();
        match push.outcome {
            Ok(()) => session.respond(stream, None),
            Err(Rejection { code, reason }) if code == ErrorCode::CONNECTION_CLOSE => {
                self.close(&reason);
            }
            Err(Rejection { code, reason }) => session.respond_error(stream, code, &reason),
        }
    }

    /// After the end: the directory learns it, then those who wait for a pull, and pushes that have come are still opened
    /// and held.
    async fn finish(mut self, reason: &CloseReason) {
        let now = Instant::now();
        let circumstances = Circumstances {
            cause: self.retiring.as_ref().map(|retiring| retiring.cause),
            pushed: self.pushed.max((!self.pushes.is_empty()).then_some(now)),
        };
        let mut registration = self.registration;
        registration.end = ending::end(reason, circumstances, now);
        // What this node decided says more.
        if !matches!(reason, CloseReason::Closed(_)) {
            registration.reason = reason.to_string();
        }
        drop(registration);
        self.pulls.end();
        let pushes = self.pushes.for_each(|_| std::future::ready(()));
        tokio::join!(self.connection.finish(), pushes);
    }
}

/// A description that does not hold, or not as a whole: who comes back again and again with it fills no disk.
fn log_description(handle: &Handle, reason: &str) {
    static LOG_LIMIT: LogLimit = LogLimit::new(10);
    let (connection, peer, identity) = (handle.id, handle.peer, handle.identity.as_deref());
    match LOG_LIMIT.due() {
        Some(suppressed) => {
            info!(connection, %peer, identity, reason, suppressed, "description of an application not believed");
        }
        None => {
            debug!(connection, %peer, identity, reason, "description of an application not believed");
        }
    }
}
