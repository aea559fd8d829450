//! How a client finds its proxy, and finds it again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use prometheus_rsocket_client::{Client, ConnectError, PushError, Reason};
use prometheus_rsocket_wire::{ErrorCode, Payload};
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, timeout};

use crate::proxy::{Proxy, client, nobody};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_proxy_that_nobody_answers_for_is_passed_over_at_once() {
    let proxy = Proxy::bind().await;
    let client = client([nobody().await, proxy.address()]).connect();
    let _peer = proxy.accept_with_key().await;
    client.ready().await.unwrap();
    let metrics = client.metrics();
    assert!(metrics.connected);
    assert_eq!((metrics.connects, metrics.retries), (1, 0));
    assert_eq!(metrics.connection_errors, [(Reason::Refused, 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_sends_no_key_is_passed_over_where_there_is_another() {
    let (silent, proxy) = (Proxy::bind().await, Proxy::bind().await);
    let client = client([silent.address(), proxy.address()]).connect();
    let mut ignored = silent.accept().await;
    let _peer = proxy.accept_with_key().await;
    client.ready().await.unwrap();
    ignored.closed().await;
    assert_eq!(client.metrics().connection_errors, [(Reason::NoKey, 1)]);
}

#[tokio::test(start_paused = true)]
async fn the_only_proxy_may_take_its_time_with_the_key() {
    let proxy = Proxy::bind().await;
    let client = client([proxy.address()]).connect();
    let peer = proxy.accept().await;
    tokio::time::sleep(60 * SECOND).await;
    peer.key();
    client.ready().await.unwrap();
    assert!(client.metrics().connection_errors.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_client_gives_up_after_its_last_retry() {
    let address = nobody().await;
    let builder = client([address]).max_retries(2);
    let client = builder.clone().connect();
    assert_eq!(client.ready().await, Err(PushError::Closed));
    assert_eq!(client.push().await, Err(PushError::Closed));
    let metrics = client.metrics();
    assert_eq!(metrics.connection_errors, [(Reason::Refused, 3)]);
    assert_eq!(metrics.retries, 2);
    client.close().await;
    let failed = builder.timeout(3600 * SECOND).connect_and_wait().await;
    assert!(matches!(failed, Err(ConnectError::GaveUp(reason)) if reason.contains("refused")));
}

#[tokio::test(start_paused = true)]
async fn connect_and_wait_takes_no_longer_than_the_timeout() {
    let begin = Instant::now();
    let failed = client([nobody().await]).connect_and_wait().await;
    assert!(matches!(failed, Err(ConnectError::Timeout(reason)) if reason.contains("refused")));
    assert!(begin.elapsed() >= 5 * SECOND);
    let proxy = Proxy::bind().await;
    let (client, _peer) = tokio::join!(
        client([proxy.address()]).connect_and_wait(),
        proxy.accept_with_key()
    );
    assert!(client.unwrap().metrics().connected);
}

#[tokio::test]
async fn who_waits_for_a_connection_learns_at_once_what_no_waiting_helps() {
    let proxy = Proxy::bind().await;
    let waiting = client([proxy.address()])
        .timeout(3600 * SECOND)
        .connect_and_wait();
    let script = async {
        let mut peer = proxy.accept().await;
        peer.act(|session| session.close(ErrorCode::REJECTED_SETUP, "wrong token"));
        peer.closed().await;
    };
    let (failed, ()) = tokio::join!(waiting, script);
    let said = format!("{}: wrong token", proxy.address());
    assert_eq!(failed.err(), Some(ConnectError::GaveUp(said)));
}

#[tokio::test(start_paused = true)]
async fn who_waits_in_vain_learns_what_the_attempt_waits_for() {
    let proxy = Proxy::bind().await;
    let (failed, _peer) =
        tokio::join!(client([proxy.address()]).connect_and_wait(), proxy.accept());
    assert!(
        matches!(&failed, Err(ConnectError::NoKey(why)) if why.contains("sends no key")),
        "{failed:?}"
    );
    let client = client([proxy.address()]).connect();
    let failed = client.ready_within(SECOND).await;
    assert!(matches!(failed, Err(ConnectError::NoKey(_))), "{failed:?}");
}

#[cfg(feature = "websocket")]
#[tokio::test(start_paused = true)]
async fn a_port_for_another_scheme_is_recognised() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    // As a proxy's port for WebSocket: what is not HTTP is left unanswered.
    tokio::spawn(async move {
        let mut unanswered = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut begin = [0; 4];
            stream.read_exact(&mut begin).await.unwrap();
            if &begin == b"GET " {
                let answer = b"HTTP/1.1 101 Switching Protocols\r\n\r\n";
                stream.write_all(answer).await.unwrap();
            }
            unanswered.push(stream);
        }
    });
    let begin = Instant::now();
    let address = format!("tcp://127.0.0.1:{port}").parse().unwrap();
    let failed = client([address]).connect_and_wait().await;
    assert!(
        matches!(&failed, Err(ConnectError::GaveUp(why)) if why.contains("for ws://, not for tcp://")),
        "{failed:?}"
    );
    assert!(begin.elapsed() < 3 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_sends_a_key_and_closes_is_not_hammered() {
    let proxy = Proxy::bind().await;
    let _client = client([proxy.address()]).connect();
    let mut connections = 0;
    let accepting = async {
        loop {
            let mut peer = proxy.accept_with_key().await;
            connections += 1;
            peer.act(prometheus_rsocket_wire::Session::end);
            peer.closed().await;
        }
    };
    assert!(timeout(60 * SECOND, accepting).await.is_err());
    assert!((5..=10).contains(&connections), "{connections}");
}

#[tokio::test(start_paused = true)]
async fn a_client_is_back_at_once_when_a_good_connection_ends() {
    let proxy = Proxy::bind().await;
    let _client = client([proxy.address()]).connect();
    let peer = proxy.accept_with_key().await;
    tokio::time::sleep(31 * SECOND).await;
    drop(peer);
    let ended = Instant::now();
    proxy.accept().await;
    assert!(ended.elapsed() <= SECOND / 2 + SECOND / 100);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_was_well_connected_does_not_give_up_soon() {
    let proxy = Proxy::bind().await;
    let address = proxy.address();
    let client = client([address.clone()]).connect();
    let peer = proxy.accept_with_key().await;
    tokio::time::sleep(31 * SECOND).await;
    drop((peer, proxy));
    let ended = Instant::now();
    while client.metrics().retries < 3 {
        tokio::time::sleep(SECOND / 10).await;
    }
    let proxy = Proxy::bind_at(&address).await;
    proxy.accept().await;
    assert!(ended.elapsed() <= 8 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_proxy_whose_packets_vanish_is_given_up_within_15_seconds() {
    let proxy = Proxy::bind().await;
    let client = client([proxy.address()]).connect();
    let peer = proxy.accept_with_key().await;
    client.ready().await.unwrap();
    tokio::time::sleep(60 * SECOND).await;
    peer.stop_reading();
    let vanished = Instant::now();
    let _next = proxy.accept().await;
    assert!(vanished.elapsed() <= 16 * SECOND);
    assert_eq!(client.metrics().connection_errors, [(Reason::Silent, 1)]);
}

#[tokio::test(start_paused = true)]
async fn of_several_proxies_one_that_was_silent_is_not_the_first_to_be_asked_again() {
    let (silent, other) = (Proxy::bind().await, Proxy::bind().await);
    let _client = client([silent.address(), other.address()]).connect();
    let peer = silent.accept_with_key().await;
    tokio::time::sleep(60 * SECOND).await;
    peer.stop_reading();
    let vanished = Instant::now();
    let _next = other.accept().await;
    assert!(vanished.elapsed() <= 16 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_balancer_that_keeps_a_dead_node_is_asked_again_soon() {
    let balancer = Proxy::bind().await;
    let client = client([balancer.address()]).connect();
    let peer = balancer.accept_with_key().await;
    client.ready().await.unwrap();
    tokio::time::sleep(31 * SECOND).await;
    drop(peer);
    let ended = Instant::now();
    let dead = balancer.accept().await;
    dead.stop_reading();
    let _alive = balancer.accept_with_key().await;
    assert!(ended.elapsed() <= 7 * SECOND);
    client.ready().await.unwrap();
    assert_eq!(client.metrics().connection_errors.len(), 2);
}

#[tokio::test]
async fn the_preferred_proxy_serves_before_the_other_connection_is_closed() {
    let (rendering, go_on) = (Arc::new(Notify::new()), Arc::new(Semaphore::new(0)));
    let gate = (Arc::clone(&rendering), Arc::clone(&go_on));
    let (preferred, other) = (nobody().await, Proxy::bind().await);
    let client = Client::builder_async(move |_| {
        let (rendering, go_on) = gate.clone();
        async move {
            rendering.notify_one();
            go_on.acquire().await.expect("an open gate").forget();
            "up 1\n"
        }
    })
    .proxies([preferred.clone(), other.address()])
    .prefer_first(SECOND)
    .connect();
    let mut old = other.accept_with_key().await;
    client.ready().await.unwrap();
    old.pull();
    rendering.notified().await;
    let preferred = Proxy::bind_at(&preferred).await;
    let mut new = preferred.accept_with_key().await;
    new.pull();
    rendering.notified().await;
    go_on.add_permits(2);
    // What was under way on the old connection is answered before it ends.
    assert_eq!(new.answer().await, "up 1\n");
    assert_eq!(old.answer().await, "up 1\n");
    old.closed().await;
    assert_eq!(client.metrics().connects, 2);
    assert!(client.metrics().connected);
}

#[tokio::test]
async fn the_application_is_told_of_each_new_key() {
    let proxy = Proxy::bind().await;
    let keys = Arc::new(AtomicUsize::new(0));
    let told = Arc::new(Notify::new());
    let callback = (Arc::clone(&keys), Arc::clone(&told));
    let client = client([proxy.address()])
        .backoff(SECOND / 100, SECOND)
        .on_key(move || {
            callback.0.fetch_add(1, Ordering::SeqCst);
            callback.1.notify_one();
        })
        .connect();
    let mut peer = proxy.accept_with_key().await;
    told.notified().await;
    peer.pull();
    peer.answer().await;
    drop(peer);
    let mut peer = proxy.accept_with_key().await;
    peer.pull();
    peer.answer().await;
    assert_eq!(keys.load(Ordering::SeqCst), 1);
    let rsa = include_bytes!("key.der");
    peer.act(|session| {
        let key = Payload::of_data(&rsa[..]);
        session.fire_and_forget(key).expect("a connection");
    });
    told.notified().await;
    assert_eq!(keys.load(Ordering::SeqCst), 2);
    client.close().await;
}
