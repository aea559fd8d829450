//! The driver over an in-memory pipe, with the clock paused: both ends are ours, or the peer is
//! raw bytes.

use std::time::Duration;

use bytes::Bytes;
use prometheus_rsocket_wire::{
    CloseReason, Connection, ErrorCode, Event, Payload, Session,
    frame::Malformed,
    session::{Limits, SetupOptions, StreamError, Violation},
    transport::tcp::Tcp,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    time::{Instant, sleep, timeout},
};

use crate::frames::*;

type Pipe = Connection<Tcp<DuplexStream>>;

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

fn accepting(pipe: DuplexStream, limits: Limits) -> Pipe {
    let session = Session::accepting(limits, now());
    Connection::new(session, Tcp::new(pipe, limits.max_frame))
}

fn connecting(pipe: DuplexStream, limits: Limits) -> Pipe {
    let session = Session::connecting(SetupOptions::default(), limits, now()).unwrap();
    Connection::new(session, Tcp::new(pipe, limits.max_frame))
}

/// The next event of `of`, while `with` runs and has none.
async fn next(of: &mut Pipe, with: &mut Pipe) -> Event {
    tokio::select! {
        event = of.next() => event,
        event = with.next() => panic!("{event:?}"),
    }
}

/// A proxy and an application, with the SETUP done.
async fn pair(limits: Limits) -> (Pipe, Pipe) {
    let (left, right) = duplex(1 << 16);
    let mut proxy = accepting(left, limits);
    let mut app = connecting(right, limits);
    let event = next(&mut proxy, &mut app).await;
    assert!(matches!(event, Event::Setup(_)), "{event:?}");
    (proxy, app)
}

/// A proxy whose peer is the test itself, with the SETUP done.
async fn raw(limits: Limits, capacity: usize) -> (Pipe, DuplexStream) {
    let (left, mut peer) = duplex(capacity);
    let mut proxy = accepting(left, limits);
    let setup = prefixed(&setup(0));
    let (sent, event) = tokio::join!(peer.write_all(&setup), proxy.next());
    sent.unwrap();
    assert!(matches!(event, Event::Setup(_)));
    (proxy, peer)
}

/// All frames until the end of the stream.
async fn read_to_end(peer: &mut DuplexStream) -> Vec<Seen> {
    let mut bytes = Vec::new();
    peer.read_to_end(&mut bytes).await.unwrap();
    split(&bytes).iter().map(|frame| see(frame)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_peer_whose_bytes_vanish_is_given_up_when_it_was_to_answer() {
    let (mut proxy, mut app) = pair(Limits::default()).await;
    // It answers as long as it is there.
    proxy.session().probe(now() + Duration::from_secs(5));
    let silent = async { tokio::join!(proxy.next(), app.next()) };
    assert!(timeout(Duration::from_secs(10), silent).await.is_err());
    proxy.session().probe(now() + Duration::from_secs(5));
    let asked = Instant::now();
    let event = proxy.next().await;
    assert!(
        matches!(event, Event::Closed(CloseReason::KeepaliveTimeout)),
        "{event:?}"
    );
    assert_eq!(asked.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_scrape_and_a_push() {
    let (mut proxy, mut app) = pair(Limits::default()).await;
    proxy
        .session()
        .fire_and_forget(Payload::of_data("key"))
        .unwrap();
    let asked = proxy
        .session()
        .request_response(Payload::of_data("key"))
        .unwrap();
    assert_eq!(asked.get(), 4, "the key has taken stream 2");

    let key = next(&mut app, &mut proxy).await;
    assert!(matches!(key, Event::FireAndForget { payload } if payload.data == "key"));
    let scrape = app.next().await;
    let Event::Request { stream, payload } = scrape else {
        panic!("{scrape:?}");
    };
    assert_eq!((stream, &payload.data[..]), (asked, &b"key"[..]));
    let text = Payload {
        metadata: Some(Bytes::from_static(b"plaintext")),
        data: Bytes::from(vec![b'x'; 300_000]),
    };
    app.session().respond(stream, Some(text.clone()));
    let answer = next(&mut proxy, &mut app).await;
    let whole = |event| match event {
        Event::Response {
            stream,
            result: Ok(payload),
        } => (stream, payload),
        other => panic!("{other:?}"),
    };
    assert_eq!(whole(answer), (asked, text.clone()));

    let pushed = app.session().request_response(text).unwrap();
    let push = next(&mut proxy, &mut app).await;
    let Event::Request { stream, .. } = push else {
        panic!("{push:?}");
    };
    proxy.session().respond(stream, None);
    let stored = next(&mut app, &mut proxy).await;
    assert_eq!(whole(stored), (pushed, Payload::default()));
}

#[tokio::test(start_paused = true)]
async fn keepalives_keep_an_idle_connection_for_hours() {
    let (mut proxy, mut app) = pair(Limits::default()).await;
    let idle = timeout(Duration::from_secs(36_000), next(&mut proxy, &mut app)).await;
    assert!(idle.is_err(), "{idle:?}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_told_and_closed() {
    let (mut proxy, mut peer) = raw(Limits::default(), 1 << 16).await;
    let start = Instant::now();
    let event = proxy.next().await;
    assert!(
        matches!(event, Event::Closed(CloseReason::KeepaliveTimeout)),
        "{event:?}"
    );
    assert_eq!(start.elapsed().as_secs(), 90);
    let (frames, ()) = tokio::join!(read_to_end(&mut peer), proxy.finish());
    let (last, keepalives) = frames.split_last().unwrap();
    assert_eq!(
        (last.stream, last.code()),
        (0, ErrorCode::CONNECTION_ERROR.0)
    );
    assert_eq!(keepalives.len(), 4);
    assert!(
        keepalives
            .iter()
            .all(|seen| *seen == see(&keepalive(RESPOND, b"")))
    );
}

#[tokio::test(start_paused = true)]
async fn no_setup_in_time() {
    let (left, mut peer) = duplex(1 << 16);
    let mut proxy = accepting(left, Limits::default());
    peer.write_all(&prefixed(&setup(0))[..20]).await.unwrap();
    let start = Instant::now();
    let event = proxy.next().await;
    assert!(
        matches!(event, Event::Closed(CloseReason::SetupTimeout)),
        "{event:?}"
    );
    assert_eq!(start.elapsed().as_secs(), 10);
    let (frames, ()) = tokio::join!(read_to_end(&mut peer), proxy.finish());
    assert_eq!(frames[0].code(), ErrorCode::INVALID_SETUP.0);
}

#[tokio::test(start_paused = true)]
async fn a_push_right_before_the_end_is_delivered() {
    let (mut proxy, mut peer) = raw(Limits::default(), 1 << 16).await;
    proxy
        .session()
        .fire_and_forget(Payload::of_data("key"))
        .unwrap();
    peer.write_all(&prefixed(&fire_and_forget(1, b"push")))
        .await
        .unwrap();
    peer.write_all(&prefixed(&request_response(3, b"push")))
        .await
        .unwrap();
    // Gone for reading and writing: the proxy's key, and its answers, hit a broken pipe.
    drop(peer);
    let event = proxy.next().await;
    assert!(matches!(event, Event::FireAndForget { .. }), "{event:?}");
    let event = proxy.next().await;
    let Event::Request { stream, .. } = event else {
        panic!("{event:?}");
    };
    proxy.session().respond(stream, None);
    let event = proxy.next().await;
    assert!(
        matches!(event, Event::Closed(CloseReason::PeerEnded)),
        "{event:?}"
    );
    let event = proxy.next().await;
    assert!(
        matches!(event, Event::Closed(CloseReason::PeerEnded)),
        "{event:?}"
    );
    proxy.finish().await;
}

#[tokio::test(start_paused = true)]
async fn an_end_within_a_frame_is_a_failure() {
    for cut in [1, 3, 8] {
        let (mut proxy, mut peer) = raw(Limits::default(), 1 << 16).await;
        peer.write_all(&prefixed(&fire_and_forget(1, b"push"))[..cut])
            .await
            .unwrap();
        drop(peer);
        let event = proxy.next().await;
        let failed = CloseReason::Transport(std::io::ErrorKind::UnexpectedEof);
        assert!(matches!(event, Event::Closed(reason) if reason == failed));
    }
}

#[tokio::test(start_paused = true)]
async fn byte_by_byte() {
    let (left, mut peer) = duplex(1);
    let mut proxy = accepting(left, Limits::default());
    let frames = [
        setup(0),
        request_response(1, &[b'x'; 500]),
        keepalive(RESPOND, b"echo"),
    ];
    let bytes: Vec<u8> = frames.iter().flat_map(|frame| prefixed(frame)).collect();
    let (writing, reading) = (bytes, async {
        let event = proxy.next().await;
        assert!(matches!(event, Event::Setup(_)), "{event:?}");
        let event = proxy.next().await;
        let Event::Request { stream, payload } = event else {
            panic!("{event:?}");
        };
        proxy.session().respond(stream, Some(payload));
        let event = proxy.next().await;
        assert!(
            matches!(event, Event::Closed(CloseReason::PeerEnded)),
            "{event:?}"
        );
        proxy.finish().await;
    });
    let peer = async {
        let (mut from_proxy, mut to_proxy) = tokio::io::split(&mut peer);
        let write = async {
            for byte in writing {
                to_proxy.write_all(&[byte]).await.unwrap();
            }
        };
        let mut answers = vec![0; 3 + 6 + 500 + 3 + 14 + 4];
        let (_, read) = tokio::join!(write, from_proxy.read_exact(&mut answers));
        read.unwrap();
        to_proxy.shutdown().await.unwrap();
        let kinds: Vec<_> = split(&answers)
            .iter()
            .map(|frame| see(frame).kind)
            .collect();
        assert_eq!(kinds, [0x0A, 0x03]);
    };
    tokio::join!(peer, reading);
}

#[tokio::test(start_paused = true)]
async fn a_slow_frame_is_a_sign_of_life() {
    let (mut proxy, mut peer) = raw(Limits::default(), 1 << 16).await;
    let slow = async {
        for byte in prefixed(&fire_and_forget(1, b"slowly")) {
            sleep(Duration::from_secs(60)).await;
            peer.write_all(&[byte]).await.unwrap();
        }
    };
    let (event, ()) = tokio::join!(proxy.next(), slow);
    assert!(matches!(event, Event::FireAndForget { .. }), "{event:?}");
}

/// A task that was kept from its connection must not take the peer for dead when it is back.
#[tokio::test(start_paused = true)]
async fn what_came_while_nobody_looked_is_a_sign_of_life() {
    let (mut proxy, mut peer) = raw(Limits::default(), 1 << 16).await;
    peer.write_all(&prefixed(&keepalive(RESPOND, b"")))
        .await
        .unwrap();
    tokio::time::advance(Duration::from_secs(1000)).await;
    let event = timeout(Duration::from_secs(80), proxy.next()).await;
    assert!(event.is_err(), "{event:?}");
    let event = proxy.next().await;
    assert!(matches!(
        event,
        Event::Closed(CloseReason::KeepaliveTimeout)
    ));
}

#[tokio::test(start_paused = true)]
async fn an_answer_too_large_costs_only_its_stream() {
    let limits = Limits {
        max_payload: 100_000,
        fragment_size: Some(4096),
        ..Limits::default()
    };
    let (mut proxy, mut app) = pair(limits).await;
    for size in [200_000, 50_000] {
        proxy
            .session()
            .request_response(Payload::of_data("key"))
            .unwrap();
        let Event::Request { stream, .. } = next(&mut app, &mut proxy).await else {
            panic!("no request");
        };
        let answer = Payload::of_data(vec![b'x'; size]);
        app.session().respond(stream, Some(answer.clone()));
        let event = next(&mut proxy, &mut app).await;
        let Event::Response { result, .. } = event else {
            panic!("{event:?}");
        };
        assert_eq!(
            result,
            if size > 100_000 {
                Err(StreamError::TooLarge)
            } else {
                Ok(answer)
            }
        );
    }
}

#[tokio::test(start_paused = true)]
async fn giving_up_sends_a_cancel() {
    let (mut proxy, mut app) = pair(Limits::default()).await;
    let stream = proxy
        .session()
        .request_response(Payload::of_data("key"))
        .unwrap();
    let event = next(&mut app, &mut proxy).await;
    assert!(matches!(event, Event::Request { .. }));
    proxy.session().cancel(stream);
    let event = next(&mut app, &mut proxy).await;
    assert!(matches!(event, Event::RequestCancelled { stream: cancelled } if cancelled == stream));
    app.session().respond(stream, None);
    let nothing = timeout(Duration::from_secs(60), next(&mut proxy, &mut app)).await;
    assert!(nothing.is_err(), "{nothing:?}");
}

#[tokio::test(start_paused = true)]
async fn requests_wait_for_a_lease() {
    let (left, mut peer) = duplex(1 << 16);
    let mut proxy = accepting(left, Limits::default());
    peer.write_all(&prefixed(&setup(LEASE))).await.unwrap();
    assert!(matches!(proxy.next().await, Event::Setup(setup) if setup.lease));
    let stream = proxy
        .session()
        .request_response(Payload::of_data("key"))
        .unwrap();
    let waiting = timeout(Duration::from_secs(5), proxy.next()).await;
    assert!(waiting.is_err());
    peer.write_all(&prefixed(&lease(1000, 1))).await.unwrap();
    let waiting = timeout(Duration::from_secs(5), proxy.next()).await;
    assert!(waiting.is_err());
    peer.write_all(&prefixed(&payload(2, NEXT | COMPLETE, b"text")))
        .await
        .unwrap();
    let event = proxy.next().await;
    assert!(matches!(event, Event::Response { stream: s, result: Ok(_) } if s == stream));
    proxy.session().end();
    let (frames, ()) = tokio::join!(read_to_end(&mut peer), proxy.finish());
    let kinds: Vec<_> = frames.iter().map(|seen| seen.kind).collect();
    assert_eq!(kinds, [0x02, 0x04]);
}

#[tokio::test(start_paused = true)]
async fn closing_says_why_and_then_ends() {
    let (mut proxy, mut peer) = raw(Limits::default(), 1 << 16).await;
    proxy.session().close(ErrorCode::CONNECTION_CLOSE, "moving");
    let event = proxy.next().await;
    assert!(
        matches!(event, Event::Closed(CloseReason::Closed(_))),
        "{event:?}"
    );
    let start = Instant::now();
    let reader = async {
        let frames = read_to_end(&mut peer).await;
        assert_eq!(frames[0].code(), ErrorCode::CONNECTION_CLOSE.0);
        assert_eq!(frames[0].body[4..], *b"moving");
        assert_eq!(frames.len(), 1);
        sleep(Duration::from_millis(300)).await;
        drop(peer);
    };
    let closer = async {
        proxy.finish().await;
        start.elapsed()
    };
    let ((), waited) = tokio::join!(reader, closer);
    assert_eq!(waited.as_millis(), 300, "the peer's end is waited for");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_was_silent_is_not_waited_for() {
    for capacity in [1 << 16, 8] {
        let (mut proxy, _peer) = raw(Limits::default(), capacity).await;
        let event = proxy.next().await;
        assert!(
            matches!(event, Event::Closed(CloseReason::KeepaliveTimeout)),
            "{event:?}"
        );
        let start = Instant::now();
        proxy.finish().await;
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn a_closing_connection_waits_no_longer_than_its_time_limit() {
    // A peer that keeps its end open, one that keeps sending, one that does not read.
    for (capacity, flood, most) in [(1 << 16, false, 1), (1 << 16, true, 1), (8, false, 5)] {
        let (mut proxy, peer) = raw(Limits::default(), capacity).await;
        let (mut from_proxy, mut to_proxy) = tokio::io::split(peer);
        proxy.session().close(ErrorCode::CONNECTION_CLOSE, "moving");
        let start = Instant::now();
        let flood = async {
            while flood && to_proxy.write_all(&[0; 1000]).await.is_ok() {}
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = proxy.finish() => {}
            () = flood => {}
        }
        assert!(
            start.elapsed() <= Duration::from_secs(most),
            "{:?}",
            start.elapsed()
        );
        let _ = from_proxy.read(&mut [0; 10]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_frame_beyond_the_limit_is_answered_before_its_bytes_come() {
    let limits = Limits {
        max_frame: 1000,
        ..Limits::default()
    };
    for (claimed, malformed) in [
        (1001, Malformed::TooLong),
        (0x0015_0303, Malformed::Tls),
        (0, Malformed::TooShort),
    ] {
        let (mut proxy, mut peer) = raw(limits, 1 << 16).await;
        let [_, prefix @ ..] = u32::to_be_bytes(claimed);
        peer.write_all(&prefix).await.unwrap();
        let event = proxy.next().await;
        let expected = CloseReason::Violation(Violation::Malformed(malformed));
        assert!(matches!(event, Event::Closed(reason) if reason == expected));
        let (frames, ()) = tokio::join!(read_to_end(&mut peer), proxy.finish());
        assert_eq!(frames[0].code(), ErrorCode::CONNECTION_ERROR.0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_sends_but_never_reads_is_closed() {
    let (mut proxy, peer) = raw(Limits::default(), 4096).await;
    let (_unread, mut to_proxy) = tokio::io::split(peer);
    let start = Instant::now();
    let chatter = async {
        loop {
            let echo = prefixed(&keepalive(RESPOND, &[0; 1000]));
            if to_proxy.write_all(&echo).await.is_err() {
                std::future::pending::<()>().await;
            }
            sleep(Duration::from_secs(1)).await;
        }
    };
    let event = tokio::select! {
        event = proxy.next() => event,
        () = chatter => unreachable!(),
    };
    assert!(
        matches!(event, Event::Closed(CloseReason::KeepaliveTimeout)),
        "{event:?}"
    );
    assert!(
        start.elapsed() < Duration::from_secs(100),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_reads_its_answers_is_not_read_either() {
    let limits = Limits {
        max_queued_frames: 4,
        max_requests_in: 1000,
        ..Limits::default()
    };
    let (mut proxy, peer) = raw(limits, 64).await;
    let (_unread, mut to_proxy) = tokio::io::split(peer);
    let flood = async {
        let mut stream = 1;
        while to_proxy
            .write_all(&prefixed(&request_response(stream, b"x")))
            .await
            .is_ok()
        {
            stream += 2;
        }
        std::future::pending::<()>().await;
    };
    let serve = async {
        let mut served = 0;
        loop {
            match proxy.next().await {
                Event::Request { stream, .. } => {
                    served += 1;
                    let answer = Payload::of_data(vec![0; 5000]);
                    proxy.session().respond(stream, Some(answer));
                }
                Event::Closed(reason) => return (served, reason),
                other => panic!("{other:?}"),
            }
        }
    };
    let (served, reason) = tokio::select! {
        end = serve => end,
        () = flood => unreachable!(),
    };
    assert_eq!(reason, CloseReason::KeepaliveTimeout);
    assert!(served < 50, "{served} answers of 5 kB are held");
}

/// `next` stands in a `select!` with a channel: whatever is dropped half-way must not be lost.
#[tokio::test(start_paused = true)]
async fn next_is_cancel_safe() {
    let limits = Limits {
        fragment_size: Some(64),
        ..Limits::default()
    };
    let (left, right) = duplex(7);
    let mut proxy = accepting(left, limits);
    let mut app = connecting(right, limits);
    let large = Payload::of_data(vec![b'x'; 3000]);
    app.session().fire_and_forget(large.clone()).unwrap();
    let mut received = Vec::new();
    for _ in 0..100_000 {
        for side in [&mut proxy, &mut app] {
            if let Ok(event) = timeout(Duration::ZERO, side.next()).await {
                received.push(event);
            }
        }
        if received.len() == 2 {
            break;
        }
    }
    assert!(
        matches!(&received[..], [Event::Setup(_), Event::FireAndForget { payload }] if *payload == large),
        "{received:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn futures_are_small() {
    let (left, _right) = duplex(1);
    let mut proxy = accepting(left, Limits::default());
    assert!(
        size_of_val(&proxy) <= 768,
        "connection: {}",
        size_of_val(&proxy)
    );
    let next = proxy.next();
    assert!(size_of_val(&next) <= 64, "next: {}", size_of_val(&next));
    drop(next);
    let finish = proxy.finish();
    assert!(
        size_of_val(&finish) <= 512,
        "finish: {}",
        size_of_val(&finish)
    );
}
