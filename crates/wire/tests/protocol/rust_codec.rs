//! The codec of `rsocket_rust` beside ours: what either accepts, both read the same, and each reads
//! what the other writes.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use prometheus_rsocket_wire::{
    ErrorCode, Payload, Session, StreamId,
    frame::{Frame, Malformed, PayloadFrame, Request, decode},
    session::{Limits, Setup, SetupOptions},
};
use proptest::prelude::*;
use rsocket_rust::{
    frame::{self as theirs, Body},
    utils::Writeable as _,
};

use crate::{
    frames::{COMPLETE, FOLLOWS, IGNORE, LEASE, NEXT, RESPOND, RESUME},
    properties::{any_frame, any_payload},
};

const KINDS: std::ops::RangeInclusive<u8> = 0x01..=0x0E;

/// What `rsocket_rust` reads. It panics at some malformed frames.
fn read_by_theirs(bytes: &[u8]) -> Option<theirs::Frame> {
    let mut bytes = BytesMut::from(bytes);
    let decoded = catch_unwind(AssertUnwindSafe(|| theirs::Frame::decode(&mut bytes)));
    decoded.ok()?.ok()
}

fn written_by_theirs(frame: &theirs::Frame) -> BytesMut {
    let mut bytes = BytesMut::new();
    frame.write_to(&mut bytes);
    bytes
}

/// `rsocket_rust` reads what we sent as we do, and would have written the same bytes.
pub(crate) fn assert_understood(sent: &[u8]) {
    let theirs = read_by_theirs(sent).unwrap();
    assert_eq!(written_by_theirs(&theirs), sent);
    let ours = decode(BytesMut::from(sent)).unwrap();
    assert!(ours.is_some());
    assert_eq!(as_ours(theirs), ours);
}

/// A frame of theirs as one of ours; `None` where ours is skipped.
fn as_ours(frame: theirs::Frame) -> Option<Frame> {
    let flags = frame.get_flag();
    let is_set = |flag| flags & flag != 0;
    let stream = StreamId::new(frame.get_stream_id());
    match frame.get_body() {
        Body::Setup(setup) => stream.is_none().then(|| setup_as_ours(setup, flags)),
        Body::Resume(_) => stream.is_none().then_some(Frame::Resume),
        Body::Lease(lease) => stream.is_none().then(|| Frame::Lease {
            requests: lease.get_number_of_requests() & 0x7FFF_FFFF,
            ttl: Duration::from_millis(u64::from(lease.get_ttl() & 0x7FFF_FFFF)),
        }),
        Body::Keepalive(keepalive) => stream.is_none().then(|| Frame::Keepalive {
            respond: is_set(RESPOND),
            data: keepalive.get_data().cloned().unwrap_or_default(),
        }),
        Body::RequestResponse(request) => request_as_ours(stream?, false, flags, request.split()),
        Body::RequestFNF(request) => request_as_ours(stream?, true, flags, request.split()),
        Body::RequestStream(_) | Body::RequestChannel(_) => stream.map(Frame::Unsupported),
        Body::Payload(payload) => Some(Frame::Payload(PayloadFrame {
            stream: stream?,
            follows: is_set(FOLLOWS),
            complete: is_set(COMPLETE),
            next: is_set(NEXT),
            payload: payload_as_ours(payload.split()),
        })),
        Body::Cancel() => stream.map(Frame::Cancel),
        Body::Error(error) => Some(Frame::Error {
            stream,
            code: ErrorCode(error.get_code()),
            message: error.get_data().cloned().unwrap_or_default(),
        }),
        Body::RequestN(_) | Body::MetadataPush(_) | Body::ResumeOK(_) => None,
    }
}

fn setup_as_ours(setup: theirs::Setup, flags: u16) -> Frame {
    Frame::Setup {
        resumable: flags & RESUME != 0,
        setup: Setup {
            keepalive: setup.get_keepalive(),
            max_lifetime: setup.get_lifetime(),
            lease: flags & LEASE != 0,
            data_mime: setup.get_mime_data().unwrap().to_owned(),
            metadata_mime: setup.get_mime_metadata().unwrap().to_owned(),
            payload: payload_as_ours(setup.split()),
        },
    }
}

fn request_as_ours(
    stream: StreamId,
    fire_and_forget: bool,
    flags: u16,
    payload: (Option<Bytes>, Option<Bytes>),
) -> Option<Frame> {
    Some(Frame::Request(Request {
        stream,
        fire_and_forget,
        follows: flags & FOLLOWS != 0,
        payload: payload_as_ours(payload),
    }))
}

fn payload_as_ours((data, metadata): (Option<Bytes>, Option<Bytes>)) -> Payload {
    Payload {
        metadata,
        data: data.unwrap_or_default(),
    }
}

/// Any frame that `rsocket_rust` can make.
fn any_of_theirs() -> impl Strategy<Value = theirs::Frame> {
    let flags = prop_oneof![Just(0), Just(NEXT), Just(FOLLOWS), Just(NEXT | COMPLETE)];
    let number = 0..0x8000_0000u32;
    (0..5u32, KINDS, flags, number, any_payload(40)).prop_map(made_by_theirs)
}

fn made_by_theirs(
    (stream, kind, flags, number, payload): (u32, u8, u16, u32, Payload),
) -> theirs::Frame {
    let Payload { metadata, data } = payload;
    let all = (Some(data.clone()), metadata.clone());
    match kind {
        0x01 => {
            let setup = theirs::Setup::builder(stream, flags & LEASE)
                .set_keepalive(Duration::from_millis(number.into()))
                .set_mime_data("text/plain")
                .set_data(data);
            match metadata {
                Some(metadata) => setup.set_metadata(metadata.clone()).set_token(metadata),
                None => setup,
            }
            .build()
        }
        0x02 => theirs::Lease::builder(stream, 0)
            .set_ttl(number)
            .set_number_of_requests(number)
            .build(),
        0x03 => theirs::Keepalive::builder(stream, flags & RESPOND)
            .set_data(data)
            .build(),
        0x04 => theirs::RequestResponse::builder(stream, flags)
            .set_all(all)
            .build(),
        0x05 => theirs::RequestFNF::builder(stream, flags)
            .set_all(all)
            .build(),
        0x06 => theirs::RequestStream::builder(stream, flags)
            .set_all(all)
            .build(),
        0x07 => theirs::RequestChannel::builder(stream, flags)
            .set_all(all)
            .build(),
        0x08 => theirs::RequestN::builder(stream, 0).set_n(number).build(),
        0x09 => theirs::Cancel::builder(stream, 0).build(),
        0x0A => theirs::Payload::builder(stream, flags).set_all(all).build(),
        0x0B => theirs::Error::builder(stream, 0)
            .set_code(number)
            .set_data(data)
            .build(),
        0x0C => theirs::MetadataPush::builder(stream, 0)
            .set_metadata(data)
            .build(),
        0x0D => theirs::Resume::builder(stream, 0).set_token(data).build(),
        _ => theirs::ResumeOK::builder(stream, 0).build(),
    }
}

/// Of the right type and of any content.
fn any_body() -> impl Strategy<Value = Vec<u8>> {
    let body = prop::collection::vec(prop_oneof![3 => 0..4u8, 1 => any::<u8>()], 0..60);
    (0..3u8, KINDS, any::<u16>(), body).prop_map(|(stream, kind, flags, body)| {
        crate::frames::frame(stream.into(), kind, flags & 0x3FF, &body)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    /// A frame is malformed for us alone only where we look at more than `rsocket_rust` does.
    #[test]
    fn what_either_accepts_both_read_the_same(bytes in prop_oneof![any_frame(), any_body()]) {
        let theirs = read_by_theirs(&bytes);
        match decode(BytesMut::from(&bytes[..])) {
            Ok(Some(ours)) => prop_assert_eq!(theirs.and_then(as_ours), Some(ours)),
            Ok(None) => {
                let ignorable = crate::frames::see(&bytes).flags & IGNORE != 0;
                prop_assert!(ignorable || as_ours(theirs.unwrap()).is_none());
            }
            Err(Malformed::ReservedBit | Malformed::Version | Malformed::MimeType) => {}
            Err(_) => prop_assert_eq!(theirs, None),
        }
    }

    #[test]
    fn what_theirs_writes_we_read(frame in any_of_theirs()) {
        let ours = decode(written_by_theirs(&frame)).unwrap();
        prop_assert_eq!(as_ours(frame), ours);
    }

    #[test]
    fn what_we_write_theirs_reads(
        keepalive in 1..0x8000_0000u64,
        data_mime in ".{0,60}",
        payload in any_payload(100),
        answer in any_payload(100),
        reason in ".{0,20}",
    ) {
        let now = Instant::now();
        let keepalive = Duration::from_millis(keepalive);
        let options = SetupOptions { keepalive, data_mime, payload, ..SetupOptions::default() };
        let mut app = Session::connecting(options, Limits::default(), now).unwrap();
        app.request_response(answer.clone()).unwrap();
        app.fire_and_forget(answer).unwrap();
        app.close(ErrorCode::CONNECTION_CLOSE, &reason);
        let sent: Vec<Bytes> = std::iter::from_fn(|| app.poll_frame()).collect();
        prop_assert_eq!(sent.len(), 4);
        sent.iter().for_each(|frame| assert_understood(frame));
    }
}
