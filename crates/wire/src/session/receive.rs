//! What each received frame does.

use std::{
    collections::btree_map::Entry,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};

use super::{
    Event, Incoming, MAX_REASON_LEN, Phase, Refusal, Role, Session, StreamError, Violation,
    Withdrawn, encode, fragment,
    fragment::Unassembled,
    lease::{LeaseIn, LeaseOut},
    liveness::Liveness,
};
use crate::{
    CloseReason, ErrorCode, Payload, StreamId,
    frame::{self, Frame, Malformed, PayloadFrame, Request, setup::Setup},
};

/// Most bytes in a KEEPALIVE that we echo. The Java client sends none.
const MAX_KEEPALIVE_DATA: usize = 4096;

/// Most bytes of a SETUP: 64 KiB of what an application says of itself, 16 KiB of credentials, and their headers.
const MAX_SETUP_LEN: usize = 84 << 10;

impl Session {
    /// Takes one whole frame, without a length prefix.
    pub fn receive(&mut self, frame: BytesMut, now: Instant) {
        self.received_bytes(now);
        if frame.len() > self.limits.max_frame {
            return self.receive_malformed(Malformed::TooLong);
        }
        match self.phase {
            Phase::AwaitingSetup { .. } => self.receive_first(frame, now),
            Phase::Open(_) => match frame::decode(frame) {
                Ok(Some(frame)) => self.receive_open(frame, now),
                Ok(None) => {}
                Err(malformed) => self.violated(Violation::Malformed(malformed)),
            },
            Phase::Closed(_) => {}
        }
    }

    fn receive_first(&mut self, frame: BytesMut, now: Instant) {
        if frame.len() > MAX_SETUP_LEN {
            return self.violated(Violation::MalformedSetup(Malformed::TooLong));
        }
        let accepted = match frame::decode(frame) {
            Ok(Some(Frame::Setup { setup, resumable })) => acceptable(setup, resumable),
            Ok(Some(Frame::Resume)) => Err(Violation::Resume),
            Ok(_) => Err(Violation::SetupExpected),
            Err(Malformed::Version) => Err(Violation::Version),
            Err(malformed) => Err(Violation::MalformedSetup(malformed)),
        };
        let setup = match accepted {
            Ok(setup) => setup,
            Err(violation) => return self.violated(violation),
        };
        self.phase = Phase::Open(Liveness::announced(
            setup.keepalive,
            setup.max_lifetime,
            &self.limits,
            now,
        ));
        if setup.lease {
            self.lease_in = Some(Box::new(LeaseIn::new(now)));
            self.lease_out = Some(LeaseOut::new(now));
            let lease = encode::lease(LeaseOut::TTL, LeaseOut::REQUESTS);
            self.outbox.push_frame(lease);
        }
        self.events.push_back(Event::Setup(setup));
    }

    fn receive_open(&mut self, frame: Frame, now: Instant) {
        match frame {
            Frame::Keepalive { respond, data } if respond => self.echo(&data),
            Frame::Lease { requests, ttl } => self.receive_lease(requests, ttl, now),
            Frame::Error {
                stream,
                code,
                message,
            } => match stream {
                None => self.receive_close(code, &message),
                Some(stream) => self.receive_error(stream, code, &message),
            },
            Frame::Payload(payload) => self.receive_payload(payload, now),
            Frame::Request(request) => self.receive_request(request, now),
            Frame::Unsupported(stream)
                if self.role.is_peers(stream) && !self.requests_in.contains_key(&stream) =>
            {
                self.refuse(stream, false, Refusal::Unsupported);
            }
            Frame::Cancel(stream) => self.receive_cancel(stream),
            // "All other received frames … MUST be ignored": a second SETUP, for one.
            Frame::Keepalive { .. }
            | Frame::Unsupported(_)
            | Frame::Setup { .. }
            | Frame::Resume => {}
        }
    }

    fn echo(&mut self, data: &[u8]) {
        if data.len() > MAX_KEEPALIVE_DATA {
            return self.violated(Violation::KeepaliveData);
        }
        // A copy, so that the slot holds no more than it counts.
        self.outbox.set_echo(Bytes::copy_from_slice(data));
    }

    fn receive_lease(&mut self, requests: u32, ttl: Duration, now: Instant) {
        self.establish();
        if let Some(lease) = &mut self.lease_in {
            lease.grant(requests, ttl, now);
            lease.expire(now);
            self.spend_lease();
        }
    }

    fn receive_close(&mut self, code: ErrorCode, message: &[u8]) {
        let awaits_answer = self.role == Role::Connecting { established: false };
        if code.concerns_setup() && !awaits_answer {
            return;
        }
        let message = text(message);
        self.lose(CloseReason::PeerError { code, message });
    }

    fn receive_error(&mut self, stream: StreamId, code: ErrorCode, message: &[u8]) {
        self.establish();
        if self.requests_out.remove(&stream).is_some() {
            // A peer may refuse before it has all of a request.
            self.withdraw(stream);
            let message = text(message);
            self.answered(stream, Err(StreamError::Application { code, message }));
        }
    }

    fn receive_payload(&mut self, received: PayloadFrame, now: Instant) {
        self.establish();
        if self.role.is_peers(received.stream) {
            self.receive_fragment(received, now);
        } else {
            self.receive_answer(received, now);
        }
    }

    fn receive_answer(&mut self, received: PayloadFrame, now: Instant) {
        let PayloadFrame {
            stream, payload, ..
        } = received;
        let Entry::Occupied(mut request) = self.requests_out.entry(stream) else {
            return;
        };
        // "A PAYLOAD with both F and C flags set, implicitly ignores the F flag."
        let follows = received.follows && !received.complete;
        // Without COMPLETE it is assumed, so the absence of NEXT alone decides.
        let next = received.next || !payload.is_empty() || follows;
        if !next && request.get().is_none() {
            request.remove();
            self.withdraw(stream);
            return self.answered(stream, Err(StreamError::Empty));
        }
        let max_payload = self.limits.max_payload;
        let result = match fragment::collect(request.get_mut(), payload, follows, max_payload, now)
        {
            Ok(None) => return,
            Ok(Some(whole)) => Ok(whole),
            Err(unassembled) => Err(unassembled.into()),
        };
        request.remove();
        let withdrawn = self.withdraw(stream);
        if result.is_err() && follows && withdrawn == Withdrawn::Sent {
            self.outbox.push_frame(encode::cancel(stream));
        }
        self.answered(stream, result);
    }

    fn answered(&mut self, stream: StreamId, result: Result<Payload, StreamError>) {
        self.events.push_back(Event::Response { stream, result });
    }

    fn receive_request(&mut self, request: Request, now: Instant) {
        self.establish();
        let Request {
            stream,
            fire_and_forget,
            follows,
            payload,
        } = request;
        // "Receiving a Request frame on a Stream ID that is already in use MUST be ignored."
        if !self.role.is_peers(stream) || self.requests_in.contains_key(&stream) {
            return;
        }
        if let Some(refusal) = self.refusal(fire_and_forget, follows) {
            return self.refuse(stream, fire_and_forget, refusal);
        }
        let mut assembly = None;
        let max_payload = self.limits.max_payload;
        match fragment::collect(&mut assembly, payload, follows, max_payload, now) {
            Ok(Some(whole)) => self.requested(stream, fire_and_forget, whole),
            Ok(None) => {
                let partial = Incoming::Partial {
                    fire_and_forget,
                    assembly,
                };
                self.requests_in.insert(stream, partial);
            }
            Err(unassembled) => self.refuse(stream, fire_and_forget, unassembled.into()),
        }
    }

    /// Whether there is room for one more request.
    fn refusal(&self, fire_and_forget: bool, follows: bool) -> Option<Refusal> {
        let waiting = self.requests_in.values();
        let partial = waiting.filter(|incoming| matches!(incoming, Incoming::Partial { .. }));
        if !fire_and_forget && self.requests_in.len() >= self.limits.max_requests_in {
            return Some(Refusal::TooManyRequests);
        }
        (follows && partial.count() >= self.limits.max_partial).then_some(Refusal::TooManyPartial)
    }

    fn receive_fragment(&mut self, received: PayloadFrame, now: Instant) {
        let PayloadFrame {
            stream,
            follows,
            payload,
            ..
        } = received;
        let Some(Incoming::Partial {
            fire_and_forget,
            assembly,
        }) = self.requests_in.get_mut(&stream)
        else {
            return;
        };
        let fire_and_forget = *fire_and_forget;
        let max_payload = self.limits.max_payload;
        match fragment::collect(assembly, payload, follows, max_payload, now) {
            Ok(None) => {}
            Ok(Some(whole)) => {
                self.requests_in.remove(&stream);
                self.requested(stream, fire_and_forget, whole);
            }
            Err(unassembled) => {
                self.requests_in.remove(&stream);
                self.refuse(stream, fire_and_forget, unassembled.into());
            }
        }
    }

    fn requested(&mut self, stream: StreamId, fire_and_forget: bool, payload: Payload) {
        self.events.push_back(if fire_and_forget {
            Event::FireAndForget { payload }
        } else {
            self.requests_in.insert(stream, Incoming::Pending);
            Event::Request { stream, payload }
        });
    }

    /// Turns a request away. Further fragments of it find no stream and are ignored.
    fn refuse(&mut self, stream: StreamId, fire_and_forget: bool, reason: Refusal) {
        if !fire_and_forget {
            if self.outbox.len() >= self.limits.max_queued_frames + self.limits.max_requests_in {
                return self.violated(Violation::Backlog);
            }
            let error = encode::error(Some(stream), reason.code(), &reason.to_string());
            self.outbox.push_frame(error);
        }
        self.events.push_back(Event::Refused {
            fire_and_forget,
            reason,
        });
    }

    /// Refuses requests whose next fragment is not coming.
    pub(super) fn refuse_stalled(&mut self, now: Instant) {
        let Phase::Open(liveness) = &self.phase else {
            return;
        };
        let lifetime = liveness.lifetime();
        let stalled = |incoming: &Incoming| {
            incoming
                .assembly()
                .is_some_and(|assembly| now >= assembly.touched + lifetime)
        };
        let streams: Vec<StreamId> = self
            .requests_in
            .iter()
            .filter(|(_, incoming)| stalled(incoming))
            .map(|(stream, _)| *stream)
            .collect();
        for stream in streams {
            if let Some(Incoming::Partial {
                fire_and_forget, ..
            }) = self.requests_in.remove(&stream)
            {
                self.refuse(stream, fire_and_forget, Refusal::Stalled);
            }
        }
    }

    fn receive_cancel(&mut self, stream: StreamId) {
        match self.requests_in.remove(&stream) {
            Some(Incoming::Pending) => {
                self.events.push_back(Event::RequestCancelled { stream });
            }
            Some(Incoming::Answered) => {
                self.outbox.withdraw(stream);
            }
            Some(Incoming::Partial { .. }) | None => {}
        }
    }

    /// Any frame on a stream, and a LEASE, shows that the peer accepted our SETUP.
    fn establish(&mut self) {
        if let Role::Connecting { established } = &mut self.role {
            *established = true;
        }
    }
}

impl From<Unassembled> for StreamError {
    fn from(unassembled: Unassembled) -> Self {
        match unassembled {
            Unassembled::TooLarge => Self::TooLarge,
            Unassembled::OutOfOrder => Self::Fragments,
        }
    }
}

impl From<Unassembled> for Refusal {
    fn from(unassembled: Unassembled) -> Self {
        match unassembled {
            Unassembled::TooLarge => Self::TooLarge,
            Unassembled::OutOfOrder => Self::Fragments,
        }
    }
}

/// Judges the peer's SETUP. Resumption is not supported; a server "MUST reject the SETUP" then.
fn acceptable(setup: Setup, resumable: bool) -> Result<Setup, Violation> {
    if resumable {
        return Err(Violation::ResumableSetup);
    }
    if setup.keepalive.is_zero() || setup.max_lifetime.is_zero() {
        return Err(Violation::KeepaliveZero);
    }
    Ok(setup)
}

fn text(message: &[u8]) -> String {
    String::from_utf8_lossy(&message[..message.len().min(MAX_REASON_LEN)]).into_owned()
}
