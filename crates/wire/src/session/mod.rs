//! The protocol, without sockets or clock: frames and the time go in, frames and events come out.
//!
//! A [`Session`] is one side of one connection, requester and responder at once. After feeding it
//! anything, take its [events](Session::poll_event) and its [frames](Session::poll_frame), and
//! call [`Session::handle_timeout`] when [`Session::next_timeout`] has come. `Connection` does
//! that over a transport.
//!
//! It promises that nothing a peer sends makes it panic or grow beyond its [`Limits`], and that
//! after [`Event::Closed`] it ignores everything. Rules come from the RSocket protocol 1.0; where
//! that leaves a choice, the Java client and proxy decide. Not supported: streams, channels
//! (answered REJECTED), resumption (refused) and METADATA_PUSH (ignored).

mod event;
mod fragment;
mod lease;
mod limits;
mod liveness;
mod outbox;
mod receive;

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    time::Instant,
};

use bytes::Bytes;
pub use event::{CloseReason, Event, Refusal, SendError, StreamError, Violation};
use fragment::Assembly;
use lease::{LeaseIn, LeaseOut};
pub use limits::Limits;
use liveness::{Liveness, Tick};
use outbox::{Outbox, Transfer, Withdrawn};

pub use crate::frame::setup::{InvalidSetup, Setup, SetupOptions};
use crate::{
    ErrorCode, Payload, StreamId,
    frame::{
        Malformed,
        encode::{self, Carrier},
    },
};

/// One side of an RSocket connection.
#[derive(Debug)]
pub struct Session {
    role: Role,
    phase: Phase,
    limits: Limits,
    events: VecDeque<Event>,
    outbox: Outbox,
    next_stream: u32,
    /// Our unanswered requests, each with the fragments of its answer.
    requests_out: BTreeMap<StreamId, Option<Assembly>>,
    /// The peer's unanswered requests.
    requests_in: BTreeMap<StreamId, Incoming>,
    lease_in: Option<Box<LeaseIn>>,
    lease_out: Option<LeaseOut>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Role {
    Accepting,
    /// Established: the peer has shown that it accepted our SETUP.
    Connecting {
        established: bool,
    },
}

#[derive(Debug)]
enum Phase {
    AwaitingSetup { deadline: Instant },
    Open(Liveness),
    Closed(CloseReason),
}

/// A request of the peer.
#[derive(Debug)]
enum Incoming {
    Partial {
        fire_and_forget: bool,
        assembly: Option<Assembly>,
    },
    /// With the user.
    Pending,
    /// The answer waits to be sent.
    Answered,
}

/// What a session holds at the moment, for tests and for metrics.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Usage {
    /// Events not taken yet.
    pub events: usize,
    /// Frames and payloads not sent yet.
    pub queued_frames: usize,
    /// Bytes of those.
    pub queued_bytes: usize,
    /// Requests of the peer not answered yet.
    pub requests_in: usize,
    /// Requests of ours not answered yet.
    pub requests_out: usize,
    /// Requests of ours waiting for a LEASE.
    pub pending_lease: usize,
    /// Payloads of which some fragments came.
    pub partial: usize,
    /// Bytes of those fragments.
    pub partial_bytes: usize,
}

impl Session {
    /// The accepting side, which waits for a SETUP.
    pub fn accepting(limits: Limits, now: Instant) -> Self {
        let deadline = now + limits.setup_timeout;
        Self::new(Role::Accepting, Phase::AwaitingSetup { deadline }, limits)
    }

    /// The connecting side, which sends a SETUP and may make requests at once.
    ///
    /// # Errors
    ///
    /// When `options` fit no SETUP frame.
    pub fn connecting(
        options: SetupOptions,
        limits: Limits,
        now: Instant,
    ) -> Result<Self, InvalidSetup> {
        options.validate()?;
        let liveness = Liveness::new(options.keepalive, options.max_lifetime, now);
        let role = Role::Connecting { established: false };
        let mut session = Self::new(role, Phase::Open(liveness), limits);
        session.outbox.set_setup(encode::setup(options));
        Ok(session)
    }

    fn new(role: Role, phase: Phase, limits: Limits) -> Self {
        Self {
            role,
            phase,
            limits,
            events: VecDeque::new(),
            outbox: Outbox::default(),
            next_stream: role.first_stream(),
            requests_out: BTreeMap::new(),
            requests_in: BTreeMap::new(),
            lease_in: None,
            lease_out: None,
        }
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front();
        if self.events.is_empty() {
            // Give the memory back: most connections are idle most of the time.
            self.events = VecDeque::new();
        }
        event
    }

    /// The next frame to send, without a length prefix.
    pub fn poll_frame(&mut self) -> Option<Bytes> {
        let sendable = self.outbox.next(self.limits.frame_len_out())?;
        if let Some(stream) = sendable.answered {
            self.requests_in.remove(&stream);
        }
        Some(sendable.frame)
    }

    /// Makes a request. Its outcome is an [`Event::Response`] with the same stream, unless it is
    /// [cancelled](Self::cancel) or the connection ends. There is no deadline: the caller cancels.
    ///
    /// # Errors
    ///
    /// When the request was not taken; see [`SendError`].
    pub fn request_response(&mut self, payload: Payload) -> Result<StreamId, SendError> {
        if self.requests_out.len() >= self.limits.max_requests_out {
            return Err(SendError::Full);
        }
        let stream = self.send_request(Carrier::RequestResponse, payload)?;
        self.requests_out.insert(stream, None);
        Ok(stream)
    }

    /// Tells the peer something that it does not answer.
    ///
    /// # Errors
    ///
    /// When it was not taken; see [`SendError`].
    pub fn fire_and_forget(&mut self, payload: Payload) -> Result<(), SendError> {
        self.send_request(Carrier::FireAndForget, payload)?;
        Ok(())
    }

    fn send_request(&mut self, carrier: Carrier, payload: Payload) -> Result<StreamId, SendError> {
        match self.phase {
            Phase::AwaitingSetup { .. } => return Err(SendError::NotSetUp),
            Phase::Closed(_) => return Err(SendError::Closed),
            Phase::Open(_) => {}
        }
        let leased = self.lease_in.as_ref();
        if self.outbox.len() >= self.limits.max_queued_frames
            || leased.is_some_and(|lease| lease.waiting() >= self.limits.max_pending_lease)
        {
            return Err(SendError::Full);
        }
        let stream = self.allocate_stream()?;
        let transfer = Transfer::new(stream, carrier, payload);
        match &mut self.lease_in {
            None => self.outbox.push(transfer),
            Some(lease) => {
                lease.wait(transfer);
                self.spend_lease();
            }
        }
        Ok(stream)
    }

    /// Ids are used again after 2³¹ − 1, without those in use (section "Stream Identifiers").
    fn allocate_stream(&mut self) -> Result<StreamId, SendError> {
        for _ in 0..=self.requests_out.len() {
            let candidate = StreamId::new(self.next_stream);
            self.next_stream += 2;
            if self.next_stream > StreamId::MAX {
                self.next_stream = self.role.first_stream();
            }
            if let Some(stream) = candidate
                && !self.requests_out.contains_key(&stream)
            {
                return Ok(stream);
            }
        }
        Err(SendError::Full)
    }

    fn spend_lease(&mut self) {
        if let Some(lease) = &mut self.lease_in {
            while let Some(transfer) = lease.next() {
                self.outbox.push(transfer);
            }
        }
    }

    /// Gives up one of our requests: the peer gets a CANCEL if it has heard of it, and an answer
    /// that comes late is dropped. Does nothing for a stream that is over.
    pub fn cancel(&mut self, stream: StreamId) {
        if self.requests_out.remove(&stream).is_some() && self.withdraw(stream) == Withdrawn::Sent {
            self.outbox.push_frame(encode::cancel(stream));
        }
    }

    fn withdraw(&mut self, stream: StreamId) -> Withdrawn {
        if let Some(lease) = &mut self.lease_in
            && lease.withdraw(stream)
        {
            return Withdrawn::Unsent;
        }
        self.outbox.withdraw(stream)
    }

    /// Answers a request of the peer. `None` goes as Java sends an empty payload: an answer
    /// without data, not the absence of one. Does nothing for a stream that is over.
    pub fn respond(&mut self, stream: StreamId, payload: Option<Payload>) {
        if self.take_pending(stream) {
            let payload = payload.unwrap_or_default();
            self.outbox
                .push(Transfer::new(stream, Carrier::Payload, payload));
        }
    }

    /// Answers a request of the peer with an ERROR. `reason` should be short and must not repeat
    /// what the peer sent. Does nothing for a stream that is over.
    pub fn respond_error(&mut self, stream: StreamId, code: ErrorCode, reason: &str) {
        if self.take_pending(stream) {
            let frame = encode::error(Some(stream), code, cut(reason));
            self.outbox.push_answer_frame(frame, stream);
        }
    }

    fn take_pending(&mut self, stream: StreamId) -> bool {
        match self.requests_in.get_mut(&stream) {
            Some(incoming @ Incoming::Pending) => {
                *incoming = Incoming::Answered;
                true
            }
            _ => false,
        }
    }

    /// Ends the connection with an ERROR on stream 0. What already waits to be sent goes first;
    /// nothing goes after it.
    pub fn close(&mut self, code: ErrorCode, reason: &str) {
        if !self.is_closed() {
            let frame = encode::error(None, code, cut(reason));
            self.become_closed(CloseReason::Closed(code));
            self.outbox.push_frame(frame);
        }
    }

    /// Ends the connection without an ERROR, as the Java client does. What already waits to be
    /// sent still goes.
    pub fn end(&mut self) {
        if !self.is_closed() {
            self.become_closed(CloseReason::Ended);
        }
    }

    /// The transport found the peer's end of the stream, between two frames.
    pub fn end_of_stream(&mut self) {
        self.lose(CloseReason::PeerEnded);
    }

    /// The transport failed, or ended in the middle of a frame.
    pub fn transport_failed(&mut self, kind: io::ErrorKind) {
        self.lose(CloseReason::Transport(kind));
    }

    /// The transport found something that is no frame.
    pub fn receive_malformed(&mut self, malformed: Malformed) {
        let violation = match self.phase {
            Phase::AwaitingSetup { .. } => Violation::MalformedSetup(malformed),
            Phase::Open(_) | Phase::Closed(_) => Violation::Malformed(malformed),
        };
        self.violated(violation);
    }

    /// The transport received a part of a frame: a peer that sends slowly is alive.
    pub fn received_bytes(&mut self, now: Instant) {
        if let Phase::Open(liveness) = &mut self.phase {
            liveness.received(now);
        }
    }

    /// The transport tells how sending goes: whether it waits for the peer to read, and whether
    /// the peer has read something since the last call. A peer that reads nothing for its max
    /// lifetime is as dead as one that says nothing.
    pub fn sending(&mut self, blocked: bool, progressed: bool, now: Instant) {
        if let Phase::Open(liveness) = &mut self.phase {
            liveness.sending(blocked, progressed, now);
        }
    }

    /// Asks the peer for a sign of life at once. Where nothing at all is received until then, the peer is as dead as one
    /// that is silent for its max lifetime.
    pub fn probe(&mut self, until: Instant) {
        if let Phase::Open(liveness) = &mut self.phase {
            liveness.probe(until);
            self.outbox.set_ping();
        }
    }

    /// When [`Session::handle_timeout`] wants to be called. It moves with everything else that is
    /// called, mostly later.
    pub fn next_timeout(&self) -> Option<Instant> {
        match &self.phase {
            Phase::AwaitingSetup { deadline } => Some(*deadline),
            Phase::Open(liveness) => {
                let alive = liveness.next_timeout();
                let lease = self.lease_in.as_ref().and_then(|lease| lease.expires());
                Some(lease.map_or(alive, |lease| alive.min(lease)))
            }
            Phase::Closed(_) => None,
        }
    }

    /// Does what is due. Calling it too early does nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        let tick = match &mut self.phase {
            Phase::AwaitingSetup { deadline } if now >= *deadline => {
                self.fail(CloseReason::SetupTimeout, ErrorCode::INVALID_SETUP);
                return;
            }
            Phase::Open(liveness) => liveness.tick(now),
            Phase::AwaitingSetup { .. } | Phase::Closed(_) => return,
        };
        if let Some(lease) = &mut self.lease_in {
            lease.expire(now);
        }
        match tick {
            Tick::PeerDead => self.fail(CloseReason::KeepaliveTimeout, ErrorCode::CONNECTION_ERROR),
            Tick::KeepaliveDue => self.keep_alive(now),
            Tick::Nothing => {}
        }
    }

    fn keep_alive(&mut self, now: Instant) {
        self.outbox.set_ping();
        if self
            .lease_out
            .as_mut()
            .is_some_and(|lease| lease.is_due(now))
        {
            self.outbox
                .push_frame(encode::lease(LeaseOut::TTL, LeaseOut::REQUESTS));
        }
        self.refuse_stalled(now);
    }

    /// Whether as much waits to be sent as [`Limits::max_queued_frames`] allows: then nothing
    /// should be received until some of it is gone.
    pub fn is_congested(&self) -> bool {
        self.outbox.len() >= self.limits.max_queued_frames.max(1)
    }

    /// Whether the connection is over.
    pub fn is_closed(&self) -> bool {
        self.close_reason().is_some()
    }

    /// Why the connection is over, if it is.
    pub fn close_reason(&self) -> Option<&CloseReason> {
        match &self.phase {
            Phase::Closed(reason) => Some(reason),
            Phase::AwaitingSetup { .. } | Phase::Open(_) => None,
        }
    }

    /// The limits it was made with.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Bytes that payloads take up of which some fragments came.
    pub(crate) fn unfinished(&self) -> usize {
        let incoming = self.requests_in.values().filter_map(Incoming::assembly);
        let all = incoming.chain(self.requests_out.values().flatten());
        all.map(Assembly::capacity).sum()
    }

    /// Ends, because what is unfinished may be held no longer.
    pub(crate) fn give_up(&mut self) {
        self.violated(Violation::Unfinished);
    }

    /// What the session holds at the moment.
    pub fn usage(&self) -> Usage {
        let assemblies = || {
            let incoming = self.requests_in.values().filter_map(Incoming::assembly);
            incoming.chain(self.requests_out.values().flatten())
        };
        Usage {
            events: self.events.len(),
            queued_frames: self.outbox.len(),
            queued_bytes: self.outbox.bytes(),
            requests_in: self.requests_in.len(),
            requests_out: self.requests_out.len(),
            pending_lease: self.lease_in.as_ref().map_or(0, |lease| lease.waiting()),
            partial: assemblies().count(),
            partial_bytes: assemblies().map(Assembly::len).sum(),
        }
    }

    fn violated(&mut self, violation: Violation) {
        self.fail(CloseReason::Violation(violation), violation.code());
    }

    /// Ends the connection by a fault of the peer: it is told, and nothing else is sent.
    fn fail(&mut self, reason: CloseReason, code: ErrorCode) {
        if !self.is_closed() {
            let text = match &reason {
                CloseReason::Violation(violation) => violation.to_string(),
                other => other.to_string(),
            };
            self.outbox.clear();
            self.outbox
                .push_frame(encode::error(None, code, cut(&text)));
            self.become_closed(reason);
        }
    }

    /// Ends the connection where nobody can be told.
    fn lose(&mut self, reason: CloseReason) {
        self.outbox.clear();
        if !self.is_closed() {
            self.become_closed(reason);
        }
    }

    fn become_closed(&mut self, reason: CloseReason) {
        self.phase = Phase::Closed(reason.clone());
        self.requests_in = BTreeMap::new();
        self.requests_out = BTreeMap::new();
        self.lease_in = None;
        self.lease_out = None;
        self.events.push_back(Event::Closed(reason));
    }
}

impl Role {
    fn first_stream(self) -> u32 {
        match self {
            Self::Accepting => 2,
            Self::Connecting { .. } => 1,
        }
    }

    /// Whether requests of the peer may have this id.
    fn is_peers(self, stream: StreamId) -> bool {
        stream.get() % 2 != self.first_stream() % 2
    }
}

impl Incoming {
    fn assembly(&self) -> Option<&Assembly> {
        match self {
            Self::Partial { assembly, .. } => assembly.as_ref(),
            Self::Pending | Self::Answered => None,
        }
    }
}

/// The longest text of an ERROR frame, sent or reported.
const MAX_REASON_LEN: usize = 256;

fn cut(text: &str) -> &str {
    let mut end = text.len().min(MAX_REASON_LEN);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn stream_ids_begin_again_without_those_in_use() {
        let now = Instant::now();
        let options = SetupOptions::default();
        let mut session = Session::connecting(options, Limits::default(), now).unwrap();
        let mut ask = || {
            session
                .request_response(Payload::default())
                .map(StreamId::get)
        };
        assert_eq!([ask(), ask()], [Ok(1), Ok(3)]);
        session.next_stream = StreamId::MAX;
        let mut ask = || {
            session
                .request_response(Payload::default())
                .map(StreamId::get)
        };
        assert_eq!([ask(), ask()], [Ok(StreamId::MAX), Ok(5)]);
        let three = StreamId::new(3).unwrap();
        session.cancel(three);
        session.next_stream = 1;
        let again = session.request_response(Payload::default());
        assert_eq!(again, Ok(three));

        let mut accepting = Session::accepting(Limits::default(), now);
        accepting.phase = Phase::Open(Liveness::new(
            Duration::from_secs(1),
            Duration::from_secs(1),
            now,
        ));
        accepting.next_stream = StreamId::MAX - 1;
        let mut ask = || {
            accepting
                .request_response(Payload::default())
                .map(StreamId::get)
        };
        assert_eq!([ask(), ask()], [Ok(StreamId::MAX - 1), Ok(2)]);
    }
}
