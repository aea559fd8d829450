//! What made `rsocket_rust` panic or stall, and other frames no peer should send: each ends in an
//! ERROR and a closed session, or is ignored, as the protocol has it.

use std::time::Instant;

use prometheus_rsocket_wire::{
    CloseReason, Event, Session,
    frame::Malformed,
    session::{Limits, Violation},
};

use crate::frames::{self, *};

const INVALID_SETUP: u32 = 0x001;
const UNSUPPORTED_SETUP: u32 = 0x002;
const REJECTED_SETUP: u32 = 0x003;
const REJECTED_RESUME: u32 = 0x004;
const CONNECTION_ERROR: u32 = 0x101;

/// A session that has its SETUP and an unanswered request of ours on stream 2.
fn open(now: Instant) -> Session {
    let mut session = Session::accepting(Limits::default(), now);
    feed(&mut session, now, &[setup(0)]);
    let asked = session.request_response(prometheus_rsocket_wire::Payload::of_data("key"));
    assert_eq!(asked.unwrap().get(), 2);
    sent(&mut session);
    events(&mut session);
    session
}

/// The frame ends an open session with CONNECTION_ERROR, and nothing is sent after it.
fn breaks(bytes: &[u8], malformed: Malformed) {
    let now = Instant::now();
    let mut session = open(now);
    feed(
        &mut session,
        now,
        &[bytes.to_vec(), keepalive(RESPOND, b"")],
    );
    let reason = CloseReason::Violation(Violation::Malformed(malformed));
    assert_eq!(session.close_reason(), Some(&reason));
    let sent = sent(&mut session);
    assert_eq!(sent.len(), 1, "{sent:?}");
    assert_eq!((sent[0].stream, sent[0].code()), (0, CONNECTION_ERROR));
}

/// The frame changes nothing.
fn ignored(bytes: &[u8]) {
    let now = Instant::now();
    let mut session = open(now);
    let before = session.usage();
    feed(&mut session, now, &[bytes.to_vec()]);
    assert_eq!(session.close_reason(), None);
    assert_eq!((session.usage(), events(&mut session).len()), (before, 0));
}

/// As the first frame it is answered with `code`.
fn no_setup(first: &[u8], code: u32) {
    let now = Instant::now();
    let mut session = Session::accepting(Limits::default(), now);
    feed(&mut session, now, &[first.to_vec(), setup(0)]);
    let sent = sent(&mut session);
    assert_eq!(sent.len(), 1, "{sent:?}");
    assert_eq!((sent[0].stream, sent[0].code()), (0, code));
    let events = events(&mut session);
    assert!(
        matches!(events[..], [Event::Closed(CloseReason::Violation(_))]),
        "{events:?}"
    );
}

#[test]
fn frame_types_the_decoder_does_not_know() {
    for kind in (0x0F..=0x3F).chain([0x00]) {
        breaks(&frame(1, kind, 0, b"body"), Malformed::UnknownType);
        ignored(&frame(1, kind, IGNORE, b"body"));
        ignored(&frame(0, kind, IGNORE, b""));
    }
}

#[test]
fn metadata_longer_than_its_frame() {
    let beyond = b"\0\0\x09metadata";
    breaks(&frame(1, 0x04, METADATA, beyond), Malformed::Metadata);
    breaks(&frame(1, 0x05, METADATA, beyond), Malformed::Metadata);
    breaks(
        &frame(2, 0x0A, METADATA | NEXT, beyond),
        Malformed::Metadata,
    );
    breaks(
        &frame(2, 0x0A, METADATA | NEXT, b"\xFF\xFF\xFF"),
        Malformed::Metadata,
    );
    breaks(
        &frame(2, 0x0A, METADATA | NEXT, b"\0\0"),
        Malformed::TooShort,
    );
    breaks(
        &frame(1, 0x06, METADATA, b"\0\0\0\x01\0\0\x09metadata"),
        Malformed::Metadata,
    );
    let mut first = setup(METADATA);
    first.extend_from_slice(beyond);
    no_setup(&first, INVALID_SETUP);
    // "… unless the frame's IGNORE flag is set."
    ignored(&frame(2, 0x0A, METADATA | NEXT | IGNORE, beyond));
}

#[test]
fn error_and_payload_on_a_stream_that_is_being_served() {
    let now = Instant::now();
    let mut session = open(now);
    feed(
        &mut session,
        now,
        &[
            request_response(1, b"push"),
            error(1, 0x201, "no"),
            payload(1, NEXT, b"x"),
        ],
    );
    let events = events(&mut session);
    assert!(matches!(&events[..], [Event::Request { .. }]), "{events:?}");
    let Event::Request { stream, .. } = events[0] else {
        return;
    };
    session.respond(stream, None);
    let sent = sent(&mut session);
    assert_eq!(
        sent[0],
        Seen {
            stream: 1,
            kind: 0x0A,
            flags: NEXT | COMPLETE,
            body: Vec::new()
        }
    );
}

#[test]
fn frames_too_short_for_their_type() {
    breaks(b"", Malformed::TooShort);
    breaks(&[0, 0, 0, 1, 0x10], Malformed::TooShort);
    for (stream, kind, len) in [
        (0, 0x02, 8),
        (0, 0x03, 8),
        (2, 0x08, 4),
        (2, 0x0B, 4),
        (1, 0x06, 4),
        (1, 0x07, 4),
    ] {
        breaks(
            &frame(stream, kind, 0, &vec![0; len - 1]),
            Malformed::TooShort,
        );
    }
    for len in 6..setup(0).len() {
        no_setup(&setup(0)[..len], INVALID_SETUP);
    }
}

#[test]
fn reserved_bit_of_the_stream_id() {
    breaks(&frame(0x8000_0001, 0x04, 0, b"x"), Malformed::ReservedBit);
}

#[test]
fn first_frames_that_are_no_setup() {
    no_setup(&request_response(1, b"early"), INVALID_SETUP);
    no_setup(&keepalive(RESPOND, b""), INVALID_SETUP);
    no_setup(&frame(0, 0x3F, IGNORE, b"\0\0\0\x01"), INVALID_SETUP);
    no_setup(&error(0, CONNECTION_ERROR, "no"), INVALID_SETUP);
    let mut on_a_stream = setup(0);
    on_a_stream[3] = 1;
    no_setup(&on_a_stream, INVALID_SETUP);
    no_setup(b"\xFFGET / HTTP/1.1", INVALID_SETUP);
    // Held until it is known who it is of, thousands of them would take up all memory.
    no_setup(&[&setup(0)[..], &[0; 84 << 10]].concat(), INVALID_SETUP);
}

#[test]
fn setups_that_are_refused() {
    no_setup(&setup_with(0, 1, 0, 90_000), INVALID_SETUP);
    no_setup(&setup_with(0, 1, 20_000, 0), INVALID_SETUP);
    no_setup(&setup_with(0, 2, 20_000, 90_000), UNSUPPORTED_SETUP);
    no_setup(&setup_with(0, 0, 20_000, 90_000), UNSUPPORTED_SETUP);
    no_setup(&setup(RESUME), REJECTED_SETUP);
    let resume = [&b"\0\x01\0\0\0\x05token"[..], &[0; 16]].concat();
    no_setup(&frame(0, 0x0D, 0, &resume), REJECTED_RESUME);
    let mut no_text = setup(0);
    no_text[20] = 0xFF;
    no_setup(&no_text, INVALID_SETUP);
}

/// Section "Handling the Unexpected".
#[test]
fn frames_that_make_no_sense_are_ignored() {
    ignored(&setup(0));
    ignored(&frame(
        0,
        0x0D,
        0,
        &[&b"\0\x01\0\0\0\0"[..], &[0; 16]].concat(),
    ));
    ignored(&frame(0, 0x0E, 0, &[0; 8]));
    ignored(&cancel(99));
    ignored(&cancel(0));
    ignored(&cancel(2));
    ignored(&error(98, 0x201, "unknown"));
    ignored(&error(99, 0x201, "unknown"));
    ignored(&payload(98, NEXT, b"unknown"));
    ignored(&payload(99, NEXT, b"unknown"));
    ignored(&payload(0, NEXT, b"connection"));
    ignored(&frame(99, 0x08, 0, &[0, 0, 0, 1]));
    ignored(&frame(2, 0x08, 0, &[0, 0, 0, 1]));
    ignored(&frame(0, 0x0C, METADATA, b"pushed metadata"));
    ignored(&frame(5, 0x0C, METADATA, b"pushed metadata"));
    ignored(&lease(1000, 1));
    ignored(&keepalive(0, b"an answer"));
    ignored(&request_response(0, b"on the connection"));
    // A request with an id of ours.
    ignored(&request_response(4, b"wrong parity"));
    ignored(&fire_and_forget(2, b"wrong parity"));
    ignored(&frame(4, 0x06, 0, &[0, 0, 0, 1]));
    // Codes that answer a SETUP, to the side that accepted one.
    ignored(&error(0, INVALID_SETUP, "no"));
    ignored(&error(0, REJECTED_RESUME, "no"));
}

#[test]
fn a_live_stream_id_used_again_is_ignored() {
    let now = Instant::now();
    let mut session = open(now);
    feed(&mut session, now, &[request_response(1, b"push")]);
    events(&mut session);
    let before = session.usage();
    feed(
        &mut session,
        now,
        &[
            request_response(1, b"again"),
            fire_and_forget(1, b"again"),
            frame(1, 0x06, 0, &[0, 0, 0, 1]),
        ],
    );
    assert_eq!(session.usage(), before);
}

#[test]
fn streams_and_channels_are_rejected_on_their_stream() {
    let now = Instant::now();
    let mut session = open(now);
    feed(
        &mut session,
        now,
        &[
            frame(1, 0x06, 0, b"\0\0\0\x01stream"),
            frame(3, 0x07, FOLLOWS, b"\0\0\0\x01channel"),
            payload(3, NEXT, b"rest"),
        ],
    );
    let sent = sent(&mut session);
    let codes: Vec<_> = sent.iter().map(|seen| (seen.stream, seen.code())).collect();
    assert_eq!(codes, [(1, 0x202), (3, 0x202)]);
    assert!(!session.is_closed());
}

#[test]
fn keepalive_with_megabytes_to_echo() {
    let now = Instant::now();
    let mut session = open(now);
    feed(&mut session, now, &[keepalive(RESPOND, &[0; 5000])]);
    assert_eq!(frames::sent(&mut session)[0].code(), CONNECTION_ERROR);
}

#[test]
fn error_texts_never_repeat_the_input() {
    for first in [
        b"\0\0\0\0\x04\0<script>".to_vec(),
        frame(0, 0x2A, 0, b"<script>"),
    ] {
        let mut session = Session::accepting(Limits::default(), Instant::now());
        feed(&mut session, Instant::now(), &[first]);
        let text = String::from_utf8(sent(&mut session)[0].body[4..].to_vec()).unwrap();
        assert!(!text.contains("script") && text.len() < 80, "{text}");
    }
}
