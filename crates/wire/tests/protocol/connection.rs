//! The driver over an in-memory pipe, with the clock paused: both ends are ours, or the peer is
//! raw bytes.

use bytes::Bytes;
use prometheus_rsocket_wire::{
    Connection, Event, Payload, Session,
    session::{Limits, SetupOptions},
    transport::tcp::Tcp,
};
use tokio::{
    io::{DuplexStream, duplex},
    time::Instant,
};

type Pipe = Connection<Tcp<DuplexStream>>;

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

fn accepting(pipe: DuplexStream, limits: Limits) -> Pipe {
    Connection::new(
        Session::accepting(limits, now()),
        Tcp::new(pipe, limits.max_frame),
    )
}

fn connecting(pipe: DuplexStream, limits: Limits) -> Pipe {
    let session = Session::connecting(SetupOptions::default(), limits, now()).unwrap();
    Connection::new(session, Tcp::new(pipe, limits.max_frame))
}

/// A proxy and an application, with the SETUP done.
async fn pair(limits: Limits) -> (Pipe, Pipe) {
    let (left, right) = duplex(1 << 16);
    let mut proxy = accepting(left, limits);
    let mut app = connecting(right, limits);
    let event = tokio::select! {
        event = proxy.next() => event,
        event = app.next() => panic!("app got {event:?}"),
    };
    assert!(matches!(event, Event::Setup(_)), "{event:?}");
    (proxy, app)
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

    let key =
        tokio::select! { event = proxy.next() => panic!("{event:?}"), event = app.next() => event };
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
    let answer =
        tokio::select! { event = proxy.next() => event, event = app.next() => panic!("{event:?}") };
    assert!(
        matches!(answer, Event::Response { stream, result: Ok(got) } if stream == asked && got == text)
    );

    let pushed = app.session().request_response(text).unwrap();
    let push =
        tokio::select! { event = proxy.next() => event, event = app.next() => panic!("{event:?}") };
    let Event::Request { stream, .. } = push else {
        panic!("{push:?}");
    };
    proxy.session().respond(stream, None);
    let stored =
        tokio::select! { event = proxy.next() => panic!("{event:?}"), event = app.next() => event };
    assert!(
        matches!(stored, Event::Response { stream, result: Ok(empty) } if stream == pushed && empty.is_empty())
    );
}
