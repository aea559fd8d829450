//! One application's connection: the task that owns it, from SETUP to the end.
//!
//! The proxy is the requester here. The key goes out first; a pull announces the newest key again and waits for one
//! answer. There is at most one pull at a time: scrapes that ask meanwhile get the same answer, and when none waits any
//! more it is cancelled. Pushes go to the [`PushSink`]; while [`MAX_PUSHES`] of them are being opened, nothing more is
//! read, and those under way are finished even after the connection has ended.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use prometheus_rsocket_wire::connection::Connection;
use prometheus_rsocket_wire::envelope::version2::{Purpose, Unsealer};
use prometheus_rsocket_wire::session::{CloseReason, Event, SendError, StreamError, Violation};
use prometheus_rsocket_wire::transport::Transport as FrameTransport;
use prometheus_rsocket_wire::{Announcement, ConnectionToken, ErrorCode, Payload, StreamId};
use tokio::sync::{oneshot, watch};
use tokio::time::{Sleep, sleep};
use tracing::debug;

use super::applications::Applications;
use super::entry::{Arrival, Member, enter};
use super::keys::{Key, Keys};
use super::metrics::{ConnectionFault, PushRefusal};
use super::opener::Sealed;
use super::pull::{Answer, PullError, PullReply, PullRequest};
use super::registry::{Registration, Transport};
use super::retire::{Cause, Retiring};
use super::turns::Flow;
use super::{PushSink, Rejection};
use crate::limits::rate::Bucket;
use crate::tenant::Tenant;

/// Pushes of one connection that are opened and checked at a time.
const MAX_PUSHES: usize = 16;

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
            note_failure(&reason, peer, transport, apps);
            return Box::pin(connection.finish()).await;
        }
        // The session lets nothing else come first.
        Some(other) => return debug!(?other, %peer, "event before SETUP"),
    };
    let entering = Box::pin(enter(setup, &mut arrival, apps));
    let member = match apps.leaving.run_until_cancelled(entering).await {
        Some(Ok(member)) => member,
        None => return leave(connection).await,
        Some(Err(denied)) => {
            let code = ErrorCode::REJECTED_SETUP;
            connection.session().close(code, denied.message);
            return Box::pin(connection.finish()).await;
        }
    };
    drop(arrival.evictable);
    let identity = member.identity.terms.identity.clone();
    let mut task = ConnectionTask {
        connection,
        registration: apps.registry.register(peer, transport, identity),
        member,
        bucket: None,
        keys: apps.keys.subscribe(),
        sink: Arc::clone(&apps.pushes),
        unsealer: Arc::new(Unsealer::new(ConnectionToken::random())),
        pull: None,
        pulls: 0,
        early: Vec::new(),
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

/// Counts an end that is a fault; ordinary ends are not counted.
fn note_failure(reason: &CloseReason, peer: SocketAddr, transport: Transport, apps: &Applications) {
    let exception = match reason {
        CloseReason::PeerError { code, .. } if *code != ErrorCode::CONNECTION_CLOSE => {
            ConnectionFault::PeerError
        }
        // CONNECTION_CLOSE is an application's goodbye.
        CloseReason::PeerEnded
        | CloseReason::PeerError { .. }
        | CloseReason::Closed(_)
        | CloseReason::Ended => {
            return debug!(%peer, transport = transport.name(), %reason, "connection closed");
        }
        CloseReason::Violation(Violation::Unfinished) => ConnectionFault::Unfinished,
        CloseReason::Violation(_) => ConnectionFault::ProtocolViolation,
        CloseReason::SetupTimeout => ConnectionFault::SetupTimeout,
        CloseReason::KeepaliveTimeout => ConnectionFault::KeepaliveTimeout,
        CloseReason::Transport(_) => ConnectionFault::Transport,
    };
    apps.metrics.failed(exception, transport, 1);
    debug!(%peer, transport = transport.name(), %reason, "connection failed");
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
    pull: Option<Pull>,
    /// Pulls so far.
    pulls: u64,
    /// Who asked before the node had made its first key.
    early: Vec<PullRequest>,
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

/// The pull under way.
struct Pull {
    stream: StreamId,
    number: u64,
    key: Key,
    started: Instant,
    /// Who began it. As long as this one waits, others may join.
    starter: oneshot::Sender<PullReply>,
    joined: Vec<oneshot::Sender<PullReply>>,
}

impl Pull {
    /// Those who still wait, the starter among them.
    fn waiting(self) -> impl Iterator<Item = oneshot::Sender<PullReply>> {
        let all = std::iter::once(self.starter).chain(self.joined);
        all.filter(|reply| !reply.is_closed())
    }

    fn is_abandoned(&self) -> bool {
        self.starter.is_closed() && self.joined.iter().all(oneshot::Sender::is_closed)
    }
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
                    self.cancel_if_abandoned();
                    self.retire_if_asked();
                }
                () = self.apps.leaving.cancelled(), if !self.leaving => {
                    self.leaving = true;
                    self.retire_at_once(Cause::Drain);
                }
                Some(push) = self.pushes.next() => self.answer_push(push),
                event = self.connection.next(), if !self.deaf && self.pushes.len() < MAX_PUSHES => match event {
                    Event::Response { stream, result } => self.answer_pull(stream, result),
                    Event::Request { stream, payload } => self.take_push(Some(stream), payload),
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
            self.retire_at_once(Cause::Revoked);
        }
    }

    /// Sends the newest key, for pushes that come before the first pull.
    fn announce_key(&mut self) {
        let Some(key) = self.keys.borrow_and_update().first().cloned() else {
            return;
        };
        let payload = self.key_payload(&key, None);
        if let Err(error) = self.connection.session().fire_and_forget(payload) {
            // The next pull brings the key as well.
            debug!(peer = %self.registration.handle.peer, %error, "the key was not sent");
        }
        for request in std::mem::take(&mut self.early) {
            self.start_pull(request);
        }
    }

    /// The key, and what newer clients are told beside it; with the number and the deadline of a pull.
    fn key_payload(&self, key: &Key, pull: Option<(u64, tokio::time::Instant)>) -> Payload {
        let left = |deadline: tokio::time::Instant| deadline - tokio::time::Instant::now();
        let announcement = Announcement {
            envelopes: self.apps.keys.envelopes(),
            connection: Some(self.unsealer.connection()),
            pull: pull.map(|(number, _)| number),
            target: None,
            timeout: pull.map(|(_, deadline)| left(deadline)),
        };
        Payload {
            metadata: Some(announcement.encode()),
            data: key.announcement(),
        }
    }

    /// Joins the pull under way, or begins one. A pull whose starter gave up is begun anew for those who still wait: an
    /// application that lost a request must not be waited for as long as scrapes overlap.
    fn start_pull(&mut self, request: PullRequest) {
        let PullRequest { deadline, reply } = request;
        let mut joined = Vec::new();
        match self.pull.take() {
            Some(mut pull) if !pull.starter.is_closed() => {
                pull.joined.retain(|reply| !reply.is_closed());
                pull.joined.push(reply);
                self.pull = Some(pull);
                return;
            }
            Some(stale) => {
                self.cancel(&stale);
                joined.extend(stale.waiting());
            }
            None => {}
        }
        let Some(key) = self.keys.borrow().first().cloned() else {
            self.early.push(PullRequest { deadline, reply });
            return;
        };
        let number = self.pulls;
        self.pulls += 1;
        let payload = self.key_payload(&key, Some((number, deadline)));
        let error = match self.connection.session().request_response(payload) {
            Ok(stream) => {
                self.pull = Some(Pull {
                    stream,
                    number,
                    key,
                    started: Instant::now(),
                    starter: reply,
                    joined,
                });
                return;
            }
            Err(SendError::Full) => PullError::Busy,
            Err(SendError::NotSetUp | SendError::Closed) => PullError::Closed,
        };
        for reply in std::iter::once(reply).chain(joined) {
            // Nobody waits for a scrape that gave up meanwhile; likewise below.
            let _ = reply.send(Err(error.clone()));
        }
    }

    fn answer_pull(&mut self, stream: StreamId, result: Result<Payload, StreamError>) {
        let Some(pull) = self.pull.take_if(|pull| pull.stream == stream) else {
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
                match self.sealed(payload, purpose) {
                    Some(sealed) => Ok(Arc::new(Answer::new(sealed, pull.key.clone()))),
                    None => Err(PullError::Memory),
                }
            }
            Err(error) => Err(PullError::Stream(error)),
        };
        for waiting in pull.waiting() {
            let _ = waiting.send(reply.clone());
        }
        if let Some(retiring) = &mut self.retiring {
            retiring.answered();
        }
    }

    fn cancel_if_abandoned(&mut self) {
        self.early.retain(|request| !request.reply.is_closed());
        if let Some(pull) = self.pull.take_if(|pull| pull.is_abandoned()) {
            self.cancel(&pull);
        }
    }

    fn cancel(&mut self, pull: &Pull) {
        self.connection.session().cancel(pull.stream);
        self.count_request("CANCEL", pull.started);
    }

    fn retire_if_asked(&mut self) {
        if self.retiring.is_none() {
            let asked = self.registration.handle.retirement();
            self.retiring = asked.map(Retiring::new);
        }
    }

    /// Whether an end would cut off neither a pull nor a push.
    fn is_idle(&mut self) -> bool {
        let asked = self.pull.is_some() || !self.early.is_empty();
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

    fn count_request(&self, signal: &'static str, started: Instant) {
        let seconds = started.elapsed().as_secs_f64();
        self.apps
            .metrics
            .request_response_seconds
            .observe([signal], seconds);
    }

    /// A payload to be opened; `None`: there is no memory to hold it until it is.
    fn sealed(&self, payload: Payload, purpose: Purpose) -> Option<Sealed> {
        let held = self.apps.memory.reserve(payload.len())?;
        Some(Sealed {
            payload,
            unsealer: Arc::clone(&self.unsealer),
            purpose,
            terms: Arc::clone(&self.member.identity.terms),
            flow: self.flow(),
            held: Arc::new(held),
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
        let Some(sealed) = self.sealed(payload, Purpose::Push) else {
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

    /// After the end: those who wait for a pull learn it, and pushes that have come are still opened and held.
    async fn finish(mut self, reason: &CloseReason) {
        let mut registration = self.registration;
        // What this node decided says more.
        if !matches!(reason, CloseReason::Closed(_)) {
            registration.reason = reason.to_string();
        }
        drop(registration);
        if let Some(pull) = self.pull {
            for waiting in pull.waiting() {
                let _ = waiting.send(Err(PullError::Closed));
            }
        }
        let pushes = self.pushes.for_each(|_| std::future::ready(()));
        tokio::join!(self.connection.finish(), pushes);
    }
}
