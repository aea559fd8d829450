//! What waits to be sent, in order.
//!
//! Payloads wait as they were given and become frames one by one, when the transport has room:
//! fragments of a large payload never exist all at once. KEEPALIVE goes first, since a peer that
//! waits for a sign of life should not wait for megabytes. It has two slots and no queue, so that
//! a flood of KEEPALIVE frames is answered by the latest only.

use std::collections::VecDeque;

use bytes::Bytes;

use super::fragment::take_front;
use crate::{
    Payload, StreamId,
    frame::{
        encode::{self, Carrier},
        header::{FLAG_COMPLETE, FLAG_FOLLOWS, FLAG_NEXT, HEADER_LEN, METADATA_LENGTH_LEN},
    },
};

#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// A SETUP: nothing may go before it.
    setup: Option<Bytes>,
    /// Data of the latest KEEPALIVE to be answered.
    echo: Option<Bytes>,
    /// A KEEPALIVE of our own is due.
    ping: bool,
    queue: VecDeque<Outgoing>,
}

#[derive(Debug)]
enum Outgoing {
    /// A frame as it is. With a stream: it ends that request of the peer.
    Frame(Bytes, Option<StreamId>),
    Transfer(Transfer),
}

/// A payload on its way out.
#[derive(Debug)]
pub(super) struct Transfer {
    stream: StreamId,
    carrier: Carrier,
    metadata: Option<Bytes>,
    data: Bytes,
    started: bool,
}

/// What [`Outbox::withdraw`] found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Withdrawn {
    /// The peer has seen nothing of it.
    Unsent,
    /// A part is with the peer already, or all of it.
    Sent,
}

/// One frame to send, and the request of the peer that has its answer with it.
pub(super) struct Sendable {
    pub(super) frame: Bytes,
    pub(super) answered: Option<StreamId>,
}

impl Outbox {
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Bytes of payloads and frames waiting.
    pub(super) fn bytes(&self) -> usize {
        let queued = self.queue.iter().map(|outgoing| match outgoing {
            Outgoing::Frame(frame, _) => frame.len(),
            Outgoing::Transfer(transfer) => transfer.len(),
        });
        queued.sum::<usize>() + self.echo.as_ref().map_or(0, Bytes::len)
    }

    pub(super) fn set_setup(&mut self, frame: Bytes) {
        self.setup = Some(frame);
    }

    pub(super) fn set_echo(&mut self, data: Bytes) {
        self.echo = Some(data);
    }

    pub(super) fn set_ping(&mut self) {
        self.ping = true;
    }

    pub(super) fn push_frame(&mut self, frame: Bytes) {
        self.queue.push_back(Outgoing::Frame(frame, None));
    }

    pub(super) fn push_answer_frame(&mut self, frame: Bytes, stream: StreamId) {
        self.queue.push_back(Outgoing::Frame(frame, Some(stream)));
    }

    pub(super) fn push(&mut self, transfer: Transfer) {
        self.queue.push_back(Outgoing::Transfer(transfer));
    }

    /// Forgets all that waits: nothing follows a fault.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Takes out what waits to be sent on `stream`.
    pub(super) fn withdraw(&mut self, stream: StreamId) -> Withdrawn {
        let found = self.queue.iter().position(|outgoing| match outgoing {
            Outgoing::Frame(_, answered) => *answered == Some(stream),
            Outgoing::Transfer(transfer) => transfer.stream == stream,
        });
        match found.and_then(|at| self.queue.remove(at)) {
            Some(Outgoing::Transfer(transfer)) if transfer.started => Withdrawn::Sent,
            Some(_) => Withdrawn::Unsent,
            None => Withdrawn::Sent,
        }
    }

    /// The next frame, at most `max_len` bytes long where it carries a payload.
    pub(super) fn next(&mut self, max_len: usize) -> Option<Sendable> {
        if let Some(frame) = self.setup.take() {
            return Some(Sendable::unanswering(frame));
        }
        if let Some(data) = self.echo.take() {
            return Some(Sendable::unanswering(encode::keepalive(false, &data)));
        }
        if std::mem::take(&mut self.ping) {
            return Some(Sendable::unanswering(encode::keepalive(true, &[])));
        }
        let sendable = match self.queue.pop_front()? {
            Outgoing::Frame(frame, answered) => Sendable { frame, answered },
            Outgoing::Transfer(mut transfer) => {
                let (frame, last) = transfer.next_frame(max_len);
                let answers = transfer.carrier == Carrier::Payload;
                let answered = (last && answers).then_some(transfer.stream);
                if !last {
                    self.queue.push_front(Outgoing::Transfer(transfer));
                }
                Sendable { frame, answered }
            }
        };
        if self.queue.is_empty() {
            self.queue = VecDeque::new();
        }
        Some(sendable)
    }
}

impl Sendable {
    fn unanswering(frame: Bytes) -> Self {
        Self {
            frame,
            answered: None,
        }
    }
}

impl Transfer {
    pub(super) fn new(stream: StreamId, carrier: Carrier, payload: Payload) -> Self {
        Self {
            stream,
            carrier,
            metadata: payload.metadata,
            data: payload.data,
            started: false,
        }
    }

    pub(super) fn stream(&self) -> StreamId {
        self.stream
    }

    pub(super) fn len(&self) -> usize {
        self.metadata.as_ref().map_or(0, Bytes::len) + self.data.len()
    }

    /// The next frame, and whether it is the last one.
    fn next_frame(&mut self, max_len: usize) -> (Bytes, bool) {
        let first = !self.started;
        self.started = true;
        let mut room = max_len - HEADER_LEN;
        let metadata = self.metadata.as_mut().map(|rest| {
            room -= METADATA_LENGTH_LEN;
            take_front(rest, room)
        });
        room -= metadata.as_ref().map_or(0, Bytes::len);
        self.metadata = self.metadata.take().filter(|rest| !rest.is_empty());
        let data = take_front(&mut self.data, room);

        let last = self.metadata.is_none() && self.data.is_empty();
        let carrier = if first {
            self.carrier
        } else {
            Carrier::Payload
        };
        let mut flags = if last { 0 } else { FLAG_FOLLOWS };
        if carrier == Carrier::Payload {
            flags |= FLAG_NEXT;
        }
        if last && self.carrier == Carrier::Payload {
            flags |= FLAG_COMPLETE;
        }
        let frame = encode::payload(carrier, self.stream, flags, metadata.as_ref(), &data);
        (frame, last)
    }
}
