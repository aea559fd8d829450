//! Frames as bytes, made by hand, so that the tests do not trust the code they test.

use bytes::BytesMut;
use prometheus_rsocket_wire::{Event, Session};

pub(crate) const FOLLOWS: u16 = 0x080;
pub(crate) const RESPOND: u16 = 0x080;
pub(crate) const RESUME: u16 = 0x080;
pub(crate) const COMPLETE: u16 = 0x040;
pub(crate) const LEASE: u16 = 0x040;
pub(crate) const NEXT: u16 = 0x020;
pub(crate) const METADATA: u16 = 0x100;
pub(crate) const IGNORE: u16 = 0x200;

/// One frame without a length prefix.
pub(crate) fn frame(stream: u32, kind: u8, flags: u16, body: &[u8]) -> Vec<u8> {
    let kind_and_flags = u16::from(kind) << 10 | flags;
    let mut frame = stream.to_be_bytes().to_vec();
    frame.extend_from_slice(&kind_and_flags.to_be_bytes());
    frame.extend_from_slice(body);
    frame
}

pub(crate) fn setup(flags: u16) -> Vec<u8> {
    setup_with(flags, 1, 20_000, 90_000)
}

pub(crate) fn setup_with(flags: u16, major: u16, keepalive: u32, lifetime: u32) -> Vec<u8> {
    let mut body = major.to_be_bytes().to_vec();
    body.extend_from_slice(&[0, 0]);
    body.extend_from_slice(&keepalive.to_be_bytes());
    body.extend_from_slice(&lifetime.to_be_bytes());
    if flags & RESUME != 0 {
        body.extend_from_slice(b"\0\x05token");
    }
    body.extend_from_slice(b"\x12application/binary\x12application/binary");
    frame(0, 0x01, flags, &body)
}

pub(crate) fn keepalive(flags: u16, data: &[u8]) -> Vec<u8> {
    frame(0, 0x03, flags, &[&[0; 8], data].concat())
}

pub(crate) fn lease(ttl_ms: u32, requests: u32) -> Vec<u8> {
    frame(
        0,
        0x02,
        0,
        &[ttl_ms.to_be_bytes(), requests.to_be_bytes()].concat(),
    )
}

pub(crate) fn request_response(stream: u32, data: &[u8]) -> Vec<u8> {
    frame(stream, 0x04, 0, data)
}

pub(crate) fn fire_and_forget(stream: u32, data: &[u8]) -> Vec<u8> {
    frame(stream, 0x05, 0, data)
}

pub(crate) fn cancel(stream: u32) -> Vec<u8> {
    frame(stream, 0x09, 0, &[])
}

pub(crate) fn payload(stream: u32, flags: u16, data: &[u8]) -> Vec<u8> {
    frame(stream, 0x0A, flags, data)
}

pub(crate) fn error(stream: u32, code: u32, message: &str) -> Vec<u8> {
    frame(
        stream,
        0x0B,
        0,
        &[&code.to_be_bytes(), message.as_bytes()].concat(),
    )
}

/// Metadata behind its length, and data.
pub(crate) fn both(metadata: &[u8], data: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = u32::try_from(metadata.len()).unwrap().to_be_bytes();
    [&length, metadata, data].concat()
}

/// What a received frame is: stream, type, flags and what follows the header.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Seen {
    pub(crate) stream: u32,
    pub(crate) kind: u8,
    pub(crate) flags: u16,
    pub(crate) body: Vec<u8>,
}

pub(crate) fn see(frame: &[u8]) -> Seen {
    let kind_and_flags = u16::from_be_bytes([frame[4], frame[5]]);
    Seen {
        stream: u32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]),
        kind: (kind_and_flags >> 10) as u8,
        flags: kind_and_flags & 0x3FF,
        body: frame[6..].to_vec(),
    }
}

impl Seen {
    /// The code of an ERROR.
    pub(crate) fn code(&self) -> u32 {
        assert_eq!(self.kind, 0x0B, "{self:?}");
        u32::from_be_bytes(self.body[..4].try_into().unwrap())
    }
}

/// Splits what a TCP stream carried into frames.
pub(crate) fn split(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while let [high, middle, low, rest @ ..] = bytes {
        let len = usize::from(*high) << 16 | usize::from(*middle) << 8 | usize::from(*low);
        frames.push(rest[..len].to_vec());
        bytes = &rest[len..];
    }
    assert!(bytes.is_empty());
    frames
}

/// Puts the length prefix before a frame.
pub(crate) fn prefixed(frame: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = u32::try_from(frame.len()).unwrap().to_be_bytes();
    [&length, frame].concat()
}

/// Feeds frames to a session, at one moment.
pub(crate) fn feed(session: &mut Session, now: std::time::Instant, frames: &[Vec<u8>]) {
    for frame in frames {
        session.receive(BytesMut::from(&frame[..]), now);
    }
}

pub(crate) fn sent(session: &mut Session) -> Vec<Seen> {
    std::iter::from_fn(|| session.poll_frame())
        .map(|frame| see(&frame))
        .collect()
}

pub(crate) fn events(session: &mut Session) -> Vec<Event> {
    std::iter::from_fn(|| session.poll_event()).collect()
}
