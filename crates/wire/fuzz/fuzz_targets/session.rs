//! Frames in any order, mixed with what a user does: no panic, no growth beyond the limits, and
//! an end that stays one.
//!
//! The input has the form of a TCP capture, so that recorded sessions are seeds: three bytes and
//! what they count. A first byte of 0 means a frame of that length; any other one is something
//! the user or the clock does, with the other two bytes as its argument. A 1 before all that makes
//! it the connecting side.

#![no_main]

use std::time::{Duration, Instant};

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use prometheus_rsocket_wire::{
    ErrorCode, Event, Payload, Session, StreamId,
    session::{Limits, SetupOptions},
};

const LIMITS: Limits = Limits {
    max_frame: 4096,
    max_payload: 1000,
    max_requests_in: 3,
    max_requests_out: 3,
    max_partial: 2,
    max_queued_frames: 8,
    max_pending_lease: 2,
    fragment_size: Some(64),
    setup_timeout: Duration::from_secs(10),
    min_keepalive: Duration::from_millis(500),
    max_lifetime: Duration::from_secs(300),
};

fuzz_target!(|input: &[u8]| {
    let mut now = Instant::now();
    // A capture of what an application sends begins with 0.
    let (mut session, mut input) = match input {
        [1, rest @ ..] => {
            let setup = SetupOptions::default();
            (Session::connecting(setup, LIMITS, now).unwrap(), rest)
        }
        _ => (Session::accepting(LIMITS, now), input),
    };
    let mut closed = 0;
    while let [step, high, low, rest @ ..] = input {
        input = rest;
        let (step, argument) = (*step, u16::from_be_bytes([*high, *low]));
        if step == 0 {
            let (frame, rest) = input.split_at(usize::from(argument).min(input.len()));
            input = rest;
            session.receive(BytesMut::from(frame), now);
        } else {
            act(&mut session, step, argument, &mut now);
        }
        check_usage(&session);
        while let Some(event) = session.poll_event() {
            assert_eq!(closed, 0, "{event:?} after the end");
            closed += usize::from(matches!(event, Event::Closed(_)));
        }
        assert_eq!(closed == 1, session.is_closed());
    }
    let mut frames = 0;
    while session.poll_frame().is_some() {
        frames += 1;
        assert!(frames < 10_000);
    }
});

fn act(session: &mut Session, step: u8, argument: u16, now: &mut Instant) {
    let stream = StreamId::new(u32::from(argument % 16) + 1).unwrap();
    let payload = || Payload {
        metadata: (argument & 0x8000 != 0).then(|| vec![1; 100].into()),
        data: vec![2; usize::from(argument & 0x3FF)].into(),
    };
    match step % 12 {
        0 => drop(session.poll_frame()),
        1 => drop(session.request_response(payload())),
        2 => drop(session.fire_and_forget(payload())),
        3 => session.respond(stream, Some(payload())),
        4 => session.respond_error(stream, ErrorCode::REJECTED, "no"),
        5 => session.cancel(stream),
        6 | 7 => {
            *now += Duration::from_millis(u64::from(argument));
            session.handle_timeout(*now);
        }
        8 => session.sending(argument & 1 != 0, argument & 2 != 0, *now),
        9 => session.received_bytes(*now),
        10 if argument == 0 => session.close(ErrorCode::CONNECTION_CLOSE, "bye"),
        11 if argument == 0 => session.end_of_stream(),
        _ => {}
    }
}

fn check_usage(session: &Session) {
    let usage = session.usage();
    let queue = LIMITS.max_queued_frames
        + LIMITS.max_requests_in
        + LIMITS.max_requests_out
        + LIMITS.max_pending_lease;
    assert!(usage.queued_frames <= queue + 2, "{usage:?}");
    assert!(
        usage.requests_in <= LIMITS.max_requests_in + LIMITS.max_partial,
        "{usage:?}"
    );
    assert!(usage.requests_out <= LIMITS.max_requests_out, "{usage:?}");
    assert!(usage.pending_lease <= LIMITS.max_pending_lease, "{usage:?}");
    assert!(
        usage.partial_bytes <= usage.partial * LIMITS.max_payload,
        "{usage:?}"
    );
}
