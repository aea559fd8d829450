//! Sessions of the published Java client and proxy, recorded byte by byte (`tests/vectors`):
//! the same bytes in give the same events and the same bytes out.

use std::time::{Duration, Instant};

use bytes::Bytes;
use prometheus_rsocket_wire::{
    CloseReason, Event, Payload, Session,
    session::{Limits, SetupOptions},
};

use crate::frames::{events, feed, see, split};

struct Recorded {
    from_client: Vec<Vec<u8>>,
    from_proxy: Vec<Vec<u8>>,
}

fn recorded(name: &str) -> Recorded {
    let folder = format!("{}/tests/vectors/{name}", env!("CARGO_MANIFEST_DIR"));
    let read = |file| split(&std::fs::read(format!("{folder}/{file}")).unwrap());
    Recorded {
        from_client: read("client_to_server.bin"),
        from_proxy: read("server_to_client.bin"),
    }
}

impl Recorded {
    fn key(&self) -> Payload {
        Payload::of_data(see(&self.from_proxy[0]).body)
    }

    /// The session after SETUP and the key, which must be the recorded bytes.
    fn open(&self, now: Instant) -> Session {
        let mut session = Session::accepting(Limits::default(), now);
        feed(&mut session, now, &self.from_client[..1]);
        let events = events(&mut session);
        let [Event::Setup(setup)] = &events[..] else {
            panic!("{events:?}");
        };
        assert_eq!(setup.keepalive, Duration::from_secs(20));
        assert_eq!(setup.max_lifetime, Duration::from_secs(90));
        assert_eq!((setup.lease, setup.payload.is_empty()), (false, true));
        assert_eq!(setup.data_mime, "application/binary");
        assert_eq!(setup.metadata_mime, "application/binary");
        session.fire_and_forget(self.key()).unwrap();
        assert_eq!(session.poll_frame().unwrap(), self.from_proxy[0]);
        session
    }

    fn end(session: &mut Session) {
        session.end_of_stream();
        let events = events(session);
        assert!(
            matches!(events[..], [Event::Closed(CloseReason::PeerEnded)]),
            "{events:?}"
        );
        assert_eq!(session.poll_frame(), None);
    }
}

#[test]
fn a_scrape_keepalives_and_the_end() {
    let recorded = recorded("session");
    let mut now = Instant::now();
    let mut session = recorded.open(now);
    let asked = session.request_response(recorded.key()).unwrap();
    assert_eq!(session.poll_frame().unwrap(), recorded.from_proxy[1]);

    feed(&mut session, now, &recorded.from_client[1..2]);
    let answers = events(&mut session);
    let [
        Event::Response {
            stream,
            result: Ok(answer),
        },
    ] = &answers[..]
    else {
        panic!("{answers:?}");
    };
    assert_eq!(*stream, asked);
    assert_eq!(answer.metadata.as_ref().map(Bytes::len), Some(256));
    assert_eq!(answer.len(), recorded.from_client[1].len() - 6 - 3);

    now += Duration::from_secs(20);
    feed(&mut session, now, &recorded.from_client[2..3]);
    session.handle_timeout(now);
    assert_eq!(session.poll_frame().unwrap(), recorded.from_proxy[2]);
    assert_eq!(session.poll_frame().unwrap(), recorded.from_proxy[3]);
    feed(&mut session, now, &recorded.from_client[3..4]);
    assert_eq!(session.poll_frame(), None);
    Recorded::end(&mut session);
}

#[test]
fn push_and_close() {
    let recorded = recorded("session-push");
    let now = Instant::now();
    let mut session = recorded.open(now);
    feed(&mut session, now, &recorded.from_client[1..]);
    let pushed = events(&mut session);
    let [Event::FireAndForget { payload }] = &pushed[..] else {
        panic!("{pushed:?}");
    };
    assert_eq!(payload.metadata.as_ref().map(Bytes::len), Some(256));
    Recorded::end(&mut session);
}

#[test]
fn push_and_close_blockingly() {
    let recorded = recorded("session-pushblocking");
    let now = Instant::now();
    let mut session = recorded.open(now);
    feed(&mut session, now, &recorded.from_client[1..]);
    let pushed = events(&mut session);
    let [Event::Request { stream, payload }] = &pushed[..] else {
        panic!("{pushed:?}");
    };
    assert_eq!(payload.metadata.as_ref().map(Bytes::len), Some(256));
    session.respond(*stream, None);
    assert_eq!(session.poll_frame().unwrap(), recorded.from_proxy[1]);
    Recorded::end(&mut session);
}

#[test]
fn our_client_speaks_as_the_java_client() {
    let recorded = recorded("session");
    let now = Instant::now();
    let mut client = Session::connecting(SetupOptions::default(), Limits::default(), now).unwrap();
    assert_eq!(client.poll_frame().unwrap(), recorded.from_client[0]);

    feed(&mut client, now, &recorded.from_proxy[..2]);
    let asked = events(&mut client);
    let [Event::FireAndForget { .. }, Event::Request { stream, .. }] = &asked[..] else {
        panic!("{asked:?}");
    };
    let answer = see(&recorded.from_client[1]);
    let (metadata, data) = answer.body[3..].split_at(256);
    let payload = Payload {
        metadata: Some(Bytes::copy_from_slice(metadata)),
        data: Bytes::copy_from_slice(data),
    };
    client.respond(*stream, Some(payload));
    assert_eq!(client.poll_frame().unwrap(), recorded.from_client[1]);

    client.handle_timeout(now + Duration::from_secs(20));
    assert_eq!(client.poll_frame().unwrap(), recorded.from_client[2]);
    feed(&mut client, now, &recorded.from_proxy[2..]);
    assert_eq!(client.poll_frame().unwrap(), recorded.from_client[3]);
}
