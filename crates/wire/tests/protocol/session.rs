//! Rules of the session, one by one.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use prometheus_rsocket_wire::{
    CloseReason, ErrorCode, Event, Payload, Session, StreamId, frame,
    session::{Limits, Refusal, SendError, SetupOptions, StreamError},
};

use crate::frames::*;

pub(crate) fn open_with(limits: Limits, now: Instant) -> Session {
    let mut session = Session::accepting(limits, now);
    feed(&mut session, now, &[setup(0)]);
    events(&mut session);
    session
}

fn ask(session: &mut Session) -> StreamId {
    session.request_response(Payload::of_data("key")).unwrap()
}

pub(crate) fn small() -> Limits {
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
fn a_peer_that_gives_no_sign_of_life_when_asked_is_dead_within_seconds() {
    let start = Instant::now();
    let later = |seconds| start + Duration::from_secs(seconds);
    let mut session = open_with(small(), start);
    session.probe(later(15));
    assert_eq!(sent(&mut session), [see(&keepalive(RESPOND, b""))]);
    assert_eq!(session.next_timeout(), Some(later(15)));
    // Asking again gives no more time.
    session.probe(later(19));
    session.handle_timeout(later(15));
    assert_eq!(session.close_reason(), Some(&CloseReason::KeepaliveTimeout));
}

#[test]
fn any_byte_is_a_sign_of_life_that_was_asked_for() {
    let start = Instant::now();
    let later = |seconds| start + Duration::from_secs(seconds);
    let mut session = open_with(small(), start);
    session.probe(later(15));
    session.received_bytes(later(14));
    session.handle_timeout(later(15));
    assert!(!session.is_closed());
    // What came before it was asked is none.
    session.probe(later(25));
    session.handle_timeout(later(25));
    assert!(session.is_closed());
    // A closed one is asked for nothing.
    session.probe(later(31));
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
