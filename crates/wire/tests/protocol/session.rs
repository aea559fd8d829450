//! Rules of the session, and what must hold whatever a peer sends.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use prometheus_rsocket_wire::{
    CloseReason, ErrorCode, Event, Payload, Session, StreamId, frame,
    session::{Limits, Refusal, SendError, SetupOptions, StreamError},
};
use proptest::prelude::*;

use crate::frames::*;

fn open_with(limits: Limits, now: Instant) -> Session {
    let mut session = Session::accepting(limits, now);
    feed(&mut session, now, &[setup(0)]);
    events(&mut session);
    session
}

fn ask(session: &mut Session) -> StreamId {
    session.request_response(Payload::of_data("key")).unwrap()
}

fn small() -> Limits {
    Limits {
        max_payload: 1000,
        max_requests_in: 3,
        max_requests_out: 3,
        max_partial: 2,
        max_queued_frames: 8,
        max_pending_lease: 2,
        ..Limits::default()
    }
}

#[test]
fn an_answer_too_large_costs_only_its_stream() {
    let now = Instant::now();
    let mut session = open_with(small(), now);
    let stream = ask(&mut session);
    sent(&mut session);
    let piece = payload(2, NEXT | FOLLOWS, &[b'x'; 600]);
    feed(&mut session, now, &[piece.clone(), piece.clone(), piece]);
    let events = events(&mut session);
    assert!(
        matches!(events[..], [Event::Response { stream: s, result: Err(StreamError::TooLarge) }] if s == stream),
        "{events:?}"
    );
    assert_eq!(sent(&mut session), [see(&cancel(2))]);
    assert_eq!(session.usage().partial_bytes, 0);

    // In one frame there is nothing left to cancel.
    ask(&mut session);
    sent(&mut session);
    feed(
        &mut session,
        now,
        &[payload(4, NEXT | COMPLETE, &[b'x'; 1001])],
    );
    assert_eq!(sent(&mut session), []);
    assert!(!session.is_closed());
}

#[test]
fn a_request_too_large_is_refused_and_a_push_too_large_is_counted() {
    let now = Instant::now();
    let mut session = open_with(small(), now);
    let more = |stream| payload(stream, NEXT | FOLLOWS, &[b'x'; 600]);
    feed(
        &mut session,
        now,
        &[
            frame(1, 0x04, FOLLOWS, &[b'x'; 600]),
            more(1),
            more(1),
            frame(3, 0x05, FOLLOWS, &[b'x'; 600]),
            more(3),
            payload(3, NEXT, b"end"),
            frame(5, 0x05, 0, &[b'x'; 1001]),
            request_response(7, b"fits"),
        ],
    );
    let events = events(&mut session);
    let refused = |fire_and_forget| Event::Refused {
        fire_and_forget,
        reason: Refusal::TooLarge,
    };
    let expected = [refused(false), refused(true), refused(true)];
    assert_eq!(format!("{:?}", &events[..3]), format!("{expected:?}"));
    assert!(matches!(events[3], Event::Request { stream, .. } if stream.get() == 7));
    let sent = sent(&mut session);
    assert_eq!(sent.len(), 1);
    assert_eq!((sent[0].stream, sent[0].code()), (1, ErrorCode::INVALID.0));
}

#[test]
fn requests_beyond_the_limits_are_rejected() {
    let now = Instant::now();
    let mut session = open_with(small(), now);
    let requests: Vec<_> = (0..5).map(|n| request_response(2 * n + 1, b"x")).collect();
    feed(&mut session, now, &requests);
    let codes: Vec<_> = sent(&mut session)
        .iter()
        .map(|s| (s.stream, s.code()))
        .collect();
    assert_eq!(
        codes,
        [(7, ErrorCode::REJECTED.0), (9, ErrorCode::REJECTED.0)]
    );
    assert_eq!(session.usage().requests_in, 3);

    let mut session = open_with(small(), now);
    let partial: Vec<_> = (0..3)
        .map(|n| frame(2 * n + 1, 0x05, FOLLOWS, b"x"))
        .collect();
    feed(&mut session, now, &partial);
    assert_eq!(session.usage().partial, 2);
    let events = events(&mut session);
    assert!(
        matches!(
            events[..],
            [Event::Refused {
                fire_and_forget: true,
                reason: Refusal::TooManyPartial
            }]
        ),
        "{events:?}"
    );
}

#[test]
fn a_peer_that_never_reads_its_rejections_is_closed() {
    let now = Instant::now();
    let mut session = open_with(small(), now);
    for n in 0..1000 {
        feed(
            &mut session,
            now,
            &[frame(2 * n + 1, 0x06, 0, &[0, 0, 0, 1])],
        );
        events(&mut session);
    }
    assert!(session.is_closed());
    assert_eq!(session.usage().queued_frames, 1);
}

#[test]
fn our_requests_are_bounded() {
    let now = Instant::now();
    let mut session = open_with(small(), now);
    for _ in 0..3 {
        ask(&mut session);
    }
    let full = session.request_response(Payload::of_data("key"));
    assert_eq!(full, Err(SendError::Full));
    for _ in 0..5 {
        session.fire_and_forget(Payload::of_data("key")).unwrap();
    }
    assert_eq!(
        session.fire_and_forget(Payload::of_data("key")),
        Err(SendError::Full)
    );
    let mut unset = Session::accepting(small(), now);
    assert_eq!(
        unset.fire_and_forget(Payload::default()),
        Err(SendError::NotSetUp)
    );
    unset.end_of_stream();
    assert_eq!(
        unset.fire_and_forget(Payload::default()),
        Err(SendError::Closed)
    );
}

#[test]
fn a_flood_of_keepalives_is_answered_once() {
    let now = Instant::now();
    let mut session = open_with(small(), now);
    let flood: Vec<_> = (0..1000u32)
        .map(|n| keepalive(RESPOND, &n.to_be_bytes()))
        .collect();
    feed(&mut session, now, &flood);
    assert_eq!(
        sent(&mut session),
        [see(&keepalive(0, &999u32.to_be_bytes()))]
    );
}

#[test]
fn cancelling_before_and_after_the_request_has_left() {
    let now = Instant::now();
    let mut session = open_with(small(), now);
    let stream = ask(&mut session);
    session.cancel(stream);
    assert_eq!(sent(&mut session), [], "the peer never heard of it");
    let stream = ask(&mut session);
    sent(&mut session);
    session.cancel(stream);
    session.cancel(stream);
    assert_eq!(sent(&mut session), [see(&cancel(4))]);
    feed(&mut session, now, &[payload(4, NEXT | COMPLETE, b"late")]);
    assert_eq!(events(&mut session).len(), 0);
    assert_eq!(session.usage().requests_out, 0);
}

#[test]
fn a_cancelled_request_is_not_answered() {
    let now = Instant::now();
    let mut session = open_with(small(), now);
    feed(&mut session, now, &[request_response(1, b"x"), cancel(1)]);
    let events = events(&mut session);
    let [
        Event::Request { stream, .. },
        Event::RequestCancelled { .. },
    ] = events[..]
    else {
        panic!("{events:?}");
    };
    session.respond(stream, None);
    assert_eq!(sent(&mut session), []);

    feed(&mut session, now, &[request_response(3, b"x")]);
    session.respond(StreamId::new(3).unwrap(), None);
    feed(&mut session, now, &[cancel(3)]);
    assert_eq!(
        sent(&mut session),
        [],
        "an answer not sent yet is withdrawn"
    );
    assert_eq!(session.usage().requests_in, 0);
}

#[test]
fn answers_of_all_kinds() {
    let now = Instant::now();
    let mut session = open_with(Limits::default(), now);
    for _ in 0..5 {
        ask(&mut session);
    }
    let long = "ü".repeat(400);
    feed(
        &mut session,
        now,
        &[
            payload(2, COMPLETE, b""),
            payload(4, NEXT, b"COMPLETE is assumed"),
            payload(6, NEXT | COMPLETE | FOLLOWS, b"FOLLOWS is ignored"),
            payload(8, NEXT | COMPLETE, b""),
            error(10, 0x301, &long),
        ],
    );
    let results: Vec<_> = events(&mut session)
        .into_iter()
        .map(|event| match event {
            Event::Response { result, .. } => result,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(results[0], Err(StreamError::Empty));
    assert_eq!(results[1], Ok(Payload::of_data("COMPLETE is assumed")));
    assert_eq!(results[2], Ok(Payload::of_data("FOLLOWS is ignored")));
    assert_eq!(results[3], Ok(Payload::default()));
    let Err(StreamError::Application { code, message }) = &results[4] else {
        panic!("{results:?}");
    };
    assert_eq!((*code, message.len()), (ErrorCode(0x301), 256));
}

#[test]
fn requests_wait_for_the_lease_and_the_peer_gets_one() {
    let mut now = Instant::now();
    let mut session = Session::accepting(small(), now);
    feed(&mut session, now, &[setup(LEASE)]);
    let granted = sent(&mut session);
    assert_eq!((granted.len(), granted[0].kind), (1, 0x02));

    let first = ask(&mut session);
    session.fire_and_forget(Payload::of_data("key")).unwrap();
    assert_eq!(
        session.request_response(Payload::default()),
        Err(SendError::Full)
    );
    assert_eq!(
        (sent(&mut session), session.usage().pending_lease),
        (vec![], 2)
    );
    feed(&mut session, now, &[lease(1000, 1)]);
    assert_eq!(sent(&mut session)[0].stream, first.get());
    assert_eq!(sent(&mut session), []);
    feed(&mut session, now, &[lease(1000, 5)]);
    assert_eq!(sent(&mut session).len(), 1);

    assert_eq!(session.next_timeout(), Some(now + Duration::from_secs(1)));
    now += Duration::from_secs(1);
    session.handle_timeout(now);
    let waiting = ask(&mut session);
    assert_eq!(sent(&mut session), [], "the lease has run out");
    session.cancel(waiting);
    feed(
        &mut session,
        now,
        &[lease(0, 5), lease(1000, 0), lease(1000, 1)],
    );
    assert_eq!(sent(&mut session), [], "nobody waits any more");

    now += Duration::from_secs(1799);
    feed(&mut session, now, &[keepalive(0, b"")]);
    session.handle_timeout(now);
    assert!(
        sent(&mut session).iter().any(|seen| seen.kind == 0x02),
        "the lease is renewed"
    );
}

#[test]
fn signs_of_life() {
    let start = Instant::now();
    let mut session = open_with(small(), start);
    assert_eq!(
        session.next_timeout(),
        Some(start + Duration::from_secs(20))
    );
    for seconds in [20, 40, 60, 80] {
        session.handle_timeout(start + Duration::from_secs(seconds));
        assert_eq!(sent(&mut session), [see(&keepalive(RESPOND, b""))]);
    }
    session.received_bytes(start + Duration::from_secs(85));
    session.handle_timeout(start + Duration::from_secs(174));
    assert!(!session.is_closed(), "a slow frame is a sign of life");
    session.handle_timeout(start + Duration::from_secs(175));
    assert_eq!(session.close_reason(), Some(&CloseReason::KeepaliveTimeout));
    assert_eq!(sent(&mut session)[0].code(), ErrorCode::CONNECTION_ERROR.0);
    assert_eq!(session.next_timeout(), None);
}

#[test]
fn a_peer_cannot_choose_absurd_times() {
    let now = Instant::now();
    for (keepalive, lifetime) in [
        (1, 1),
        (1, 0x7FFF_FFFF),
        (0x7FFF_FFFF, 1),
        (0x7FFF_FFFF, 0x7FFF_FFFF),
    ] {
        let mut session = Session::accepting(Limits::default(), now);
        feed(&mut session, now, &[setup_with(0, 1, keepalive, lifetime)]);
        let next = session.next_timeout().unwrap() - now;
        assert!(next >= Duration::from_millis(500) && next <= Duration::from_secs(150));
        session.handle_timeout(now + Duration::from_secs(300));
        assert!(session.is_closed());
    }
}

#[test]
fn a_peer_that_reads_nothing_is_dead() {
    let now = Instant::now();
    let later = |seconds| now + Duration::from_secs(seconds);
    let mut session = open_with(small(), now);
    session.sending(true, false, now);
    session.sending(true, true, later(50));
    session.received_bytes(later(130));
    session.handle_timeout(later(139));
    assert!(!session.is_closed());
    session.sending(true, false, later(139));
    session.received_bytes(later(140));
    session.handle_timeout(later(140));
    assert_eq!(session.close_reason(), Some(&CloseReason::KeepaliveTimeout));
}

#[test]
fn an_unfinished_request_is_dropped_in_the_end() {
    let now = Instant::now();
    let mut session = open_with(small(), now);
    feed(&mut session, now, &[frame(1, 0x04, FOLLOWS, b"beginning")]);
    for seconds in [20, 40, 60, 80, 100] {
        let now = now + Duration::from_secs(seconds);
        session.received_bytes(now);
        session.handle_timeout(now);
    }
    let events = events(&mut session);
    assert!(
        matches!(
            events[..],
            [Event::Refused {
                reason: Refusal::Stalled,
                ..
            }]
        ),
        "{events:?}"
    );
    assert_eq!(session.usage().partial_bytes, 0);
}

#[test]
fn no_setup_in_time() {
    let now = Instant::now();
    let mut session = Session::accepting(Limits::default(), now);
    session.handle_timeout(now + Duration::from_millis(9999));
    assert!(!session.is_closed());
    session.handle_timeout(session.next_timeout().unwrap());
    assert_eq!(session.close_reason(), Some(&CloseReason::SetupTimeout));
    assert_eq!(sent(&mut session)[0].code(), ErrorCode::INVALID_SETUP.0);
}

#[test]
fn closing_sends_what_waits_and_the_error_last() {
    let now = Instant::now();
    let mut session = open_with(Limits::default(), now);
    feed(&mut session, now, &[request_response(1, b"push")]);
    session.respond(StreamId::new(1).unwrap(), None);
    session.close(ErrorCode::CONNECTION_CLOSE, "moving");
    session.close(ErrorCode::CONNECTION_ERROR, "again");
    feed(
        &mut session,
        now,
        &[keepalive(RESPOND, b""), request_response(3, b"late")],
    );
    session.handle_timeout(now + Duration::from_secs(1000));
    let sent = sent(&mut session);
    assert_eq!((sent[0].stream, sent[0].kind), (1, 0x0A));
    assert_eq!(
        (sent[1].stream, sent[1].code()),
        (0, ErrorCode::CONNECTION_CLOSE.0)
    );
    assert_eq!(sent.len(), 2);
    let last = events(&mut session).pop();
    assert!(matches!(
        last,
        Some(Event::Closed(CloseReason::Closed(
            ErrorCode::CONNECTION_CLOSE
        )))
    ));
}

#[test]
fn the_connecting_side_hears_that_its_setup_was_refused() {
    let now = Instant::now();
    let connecting =
        || Session::connecting(SetupOptions::default(), Limits::default(), now).unwrap();
    let mut refused = connecting();
    feed(&mut refused, now, &[error(0, 0x003, "no")]);
    assert!(matches!(
        refused.close_reason(),
        Some(CloseReason::PeerError { code: ErrorCode::REJECTED_SETUP, message }) if message == "no"
    ));

    let mut established = connecting();
    feed(
        &mut established,
        now,
        &[fire_and_forget(2, b"key"), error(0, 0x003, "late")],
    );
    assert!(!established.is_closed());
    feed(&mut established, now, &[error(0, 0x102, "moving")]);
    assert!(established.is_closed());
    let too_long = SetupOptions {
        data_mime: "x".repeat(256),
        ..SetupOptions::default()
    };
    assert!(Session::connecting(too_long, Limits::default(), now).is_err());
}

#[test]
fn a_refused_request_is_not_sent_any_further() {
    let now = Instant::now();
    let limits = Limits {
        fragment_size: Some(64),
        ..Limits::default()
    };
    let mut session = open_with(limits, now);
    let large = Payload::of_data(vec![b'x'; 1000]);
    session.request_response(large).unwrap();
    assert!(session.poll_frame().is_some());
    feed(&mut session, now, &[error(2, 0x202, "no")]);
    assert_eq!(session.poll_frame(), None);
}

/// A payload that needs more than one frame by the protocol itself.
#[test]
fn beyond_sixteen_megabytes() {
    let now = Instant::now();
    let limits = Limits {
        max_payload: 64 << 20,
        ..Limits::default()
    };
    let mut proxy = open_with(limits, now);
    let mut app = Session::connecting(SetupOptions::default(), limits, now).unwrap();
    app.poll_frame().unwrap();
    let large = Payload {
        metadata: Some(Bytes::from_static(b"plaintext")),
        data: Bytes::from(vec![7; 40 << 20]),
    };
    app.fire_and_forget(large.clone()).unwrap();
    let mut frames = 0;
    while let Some(frame) = app.poll_frame() {
        assert!(frame.len() <= frame::MAX_FRAME_LEN);
        proxy.receive(BytesMut::from(frame), now);
        frames += 1;
    }
    assert_eq!(frames, 3);
    let events = events(&mut proxy);
    assert!(matches!(&events[..], [Event::FireAndForget { payload }] if *payload == large));
}

fn any_payload(max: usize) -> impl Strategy<Value = Payload> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..max).prop_map(Bytes::from);
    (prop::option::of(bytes()), bytes()).prop_map(|(metadata, data)| Payload { metadata, data })
}

/// What a peer may do, well-formed or nearly.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
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
        Step::Send => drop(session.poll_frame()),
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

    /// The guard lets through only what the decoder survives.
    #[test]
    fn what_the_guard_accepts_the_decoder_survives(bytes in any_frame()) {
        let vetted = frame::guard::check(&bytes);
        let decoded = frame::decode(BytesMut::from(&bytes[..]));
        prop_assert_eq!(vetted.is_ok(), decoded.is_ok());
        prop_assert_ne!(decoded, Err(frame::Malformed::Undecodable));
    }

    #[test]
    fn any_bytes_are_vetted(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        prop_assert_ne!(frame::decode(BytesMut::from(&bytes[..])), Err(frame::Malformed::Undecodable));
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

#[test]
fn metadata_after_data_is_no_payload() {
    let now = Instant::now();
    let mut session = open_with(Limits::default(), now);
    ask(&mut session);
    sent(&mut session);
    feed(
        &mut session,
        now,
        &[
            payload(2, NEXT | FOLLOWS, b"data"),
            payload(2, NEXT | METADATA | FOLLOWS, &both(b"metadata", b"")),
        ],
    );
    let events = events(&mut session);
    assert!(
        matches!(
            events[..],
            [Event::Response {
                result: Err(StreamError::Fragments),
                ..
            }]
        ),
        "{events:?}"
    );
    assert_eq!(sent(&mut session), [see(&cancel(2))]);
}
