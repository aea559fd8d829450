//! What must hold whatever a peer sends, and however payloads are cut.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use prometheus_rsocket_wire::{
    ErrorCode, Event, Payload, Session, StreamId, frame,
    session::{Limits, SetupOptions},
};
use proptest::prelude::*;

use crate::{
    frames::*,
    rust_codec::assert_understood,
    session::{open_with, small},
};

pub(crate) fn any_payload(max: usize) -> impl Strategy<Value = Payload> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..max).prop_map(Bytes::from);
    (prop::option::of(bytes()), bytes()).prop_map(|(metadata, data)| Payload { metadata, data })
}

/// What a peer may do, well-formed or nearly.
pub(crate) fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let body = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        any_payload(20).prop_map(|p| both(p.metadata.as_deref().unwrap_or(b""), &p.data)),
        (1..9u32).prop_map(|n| n.to_be_bytes().repeat(4)),
    ];
    let made = (0..9u32, 0..16u8, any::<u16>(), body).prop_map(|(stream, kind, flags, body)| {
        // IGNORE is rare, or nothing would be malformed.
        let flags = flags & 0x1FF | if flags > 0xF000 { IGNORE } else { 0 };
        frame(stream, kind, flags, &body)
    });
    let good = prop_oneof![
        Just(setup(0)),
        Just(setup(LEASE)),
        Just(lease(1000, 3)),
        Just(keepalive(RESPOND, b"echo")),
        (1..9u32).prop_map(|stream| request_response(stream, b"ask")),
        (1..9u32).prop_map(|stream| fire_and_forget(stream, b"tell")),
        (1..9u32, any::<u16>()).prop_map(|(s, f)| payload(s, f & 0xE0, &[b'x'; 300])),
        (1..9u32, 4..8u8).prop_map(|(s, kind)| frame(s, kind, FOLLOWS, &[b'x'; 300])),
        (1..9u32).prop_map(cancel),
    ];
    let flipped =
        (good.clone(), any::<prop::sample::Index>(), 0..8u8).prop_map(|(mut f, at, bit)| {
            let at = at.index(f.len());
            f[at] ^= 1 << bit;
            f
        });
    let cut = (good.clone(), any::<prop::sample::Index>()).prop_map(|(mut f, at)| {
        f.truncate(at.index(f.len()));
        f
    });
    prop_oneof![8 => good, 1 => made, 1 => flipped, 1 => cut]
}

#[derive(Clone, Debug)]
enum Step {
    Receive(Vec<u8>),
    Ask,
    Tell,
    Answer(u32),
    Fail(u32),
    Cancel(u32),
    Send,
    Wait(u64),
    Close,
    End,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => any_frame().prop_map(Step::Receive),
        3 => Just(Step::Ask),
        2 => Just(Step::Tell),
        3 => (1..9u32).prop_map(Step::Answer),
        1 => (1..9u32).prop_map(Step::Fail),
        2 => (1..9u32).prop_map(Step::Cancel),
        4 => Just(Step::Send),
        2 => (0..40_000u64).prop_map(Step::Wait),
        1 => Just(Step::Close),
        1 => Just(Step::End),
    ]
}

fn take_step(session: &mut Session, step: Step, now: &mut Instant) {
    let stream = |id| StreamId::new(id).unwrap();
    match step {
        Step::Receive(frame) => session.receive(BytesMut::from(&frame[..]), *now),
        Step::Ask => drop(session.request_response(Payload::of_data("key"))),
        Step::Tell => drop(session.fire_and_forget(Payload::of_data(vec![1; 500]))),
        Step::Answer(id) => session.respond(stream(id), Some(Payload::of_data(vec![1; 500]))),
        Step::Fail(id) => session.respond_error(stream(id), ErrorCode::REJECTED, "no"),
        Step::Cancel(id) => session.cancel(stream(id)),
        Step::Send => {
            if let Some(frame) = session.poll_frame() {
                assert_understood(&frame);
            }
        }
        Step::Wait(milliseconds) => {
            *now += Duration::from_millis(milliseconds);
            session.handle_timeout(*now);
        }
        Step::Close => session.close(ErrorCode::CONNECTION_CLOSE, "bye"),
        Step::End => session.end_of_stream(),
    }
}

fn check_bounds(session: &Session, limits: &Limits) {
    let usage = session.usage();
    let queue = limits.max_queued_frames + limits.max_requests_in + limits.max_requests_out;
    // One more for the ERROR that closes, and one for a LEASE.
    assert!(
        usage.queued_frames <= queue + limits.max_pending_lease + 2,
        "{usage:?}"
    );
    assert!(
        usage.requests_in <= limits.max_requests_in + limits.max_partial,
        "{usage:?}"
    );
    assert!(usage.requests_out <= limits.max_requests_out, "{usage:?}");
    assert!(usage.pending_lease <= limits.max_pending_lease, "{usage:?}");
    assert!(
        usage.partial <= limits.max_partial + limits.max_requests_out,
        "{usage:?}"
    );
    assert!(
        usage.partial_bytes <= usage.partial * limits.max_payload,
        "{usage:?}"
    );
    assert!(
        usage.events <= 1 + usage.partial.max(limits.max_partial),
        "{usage:?}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_are_a_frame_or_malformed(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = frame::decode(BytesMut::from(&bytes[..]));
    }

    /// Whatever frames come, in whatever order, mixed with whatever the user does.
    #[test]
    fn sessions_stay_within_their_limits(
        accepting in any::<bool>(),
        set_up in prop::bool::weighted(0.9),
        steps in prop::collection::vec(any_step(), 0..120),
    ) {
        let limits = small();
        let mut now = Instant::now();
        let mut session = match accepting {
            true => Session::accepting(limits, now),
            false => Session::connecting(SetupOptions::default(), limits, now).unwrap(),
        };
        if accepting && set_up {
            feed(&mut session, now, &[setup(0)]);
        }
        let mut closed = 0;
        for step in steps {
            let was_closed = session.is_closed();
            let queued = session.usage().queued_frames;
            take_step(&mut session, step, &mut now);
            check_bounds(&session, &limits);
            for event in events(&mut session) {
                prop_assert!(closed == 0, "{:?} after the end", event);
                closed += usize::from(matches!(event, Event::Closed(_)));
            }
            prop_assert_eq!(closed == 1, session.is_closed());
            prop_assert!(!was_closed || session.is_closed());
            prop_assert!(!was_closed || session.usage().queued_frames <= queued);
        }
    }

    /// However a payload is cut, it arrives whole; and however a peer cuts it.
    #[test]
    fn fragments_add_up(
        fragment_size in 64..300usize,
        told in any_payload(2000),
        asked in any_payload(2000),
        answer in any_payload(2000),
    ) {
        let now = Instant::now();
        let limits = Limits { fragment_size: Some(fragment_size), ..Limits::default() };
        let mut proxy = open_with(limits, now);
        let mut app = Session::connecting(SetupOptions::default(), limits, now).unwrap();
        app.poll_frame().unwrap();
        app.fire_and_forget(told.clone()).unwrap();
        let stream = app.request_response(asked.clone()).unwrap();
        while let Some(frame) = app.poll_frame() {
            prop_assert!(frame.len() <= fragment_size);
            proxy.receive(BytesMut::from(frame), now);
        }
        let got = events(&mut proxy);
        prop_assert!(matches!(
            &got[..],
            [Event::FireAndForget { payload: a }, Event::Request { payload: b, .. }]
                if *a == told && *b == asked
        ), "{:?}", got);
        proxy.respond(stream, Some(answer.clone()));
        while let Some(frame) = proxy.poll_frame() {
            prop_assert!(frame.len() <= fragment_size);
            app.receive(BytesMut::from(frame), now);
        }
        let got = events(&mut app);
        prop_assert!(matches!(
            &got[..],
            [Event::Response { result: Ok(whole), .. }] if *whole == answer
        ), "{:?}", got);
        prop_assert_eq!(proxy.usage(), Default::default());
        prop_assert_eq!(app.usage(), Default::default());
    }
}
