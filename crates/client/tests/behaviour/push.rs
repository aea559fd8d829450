//! Pushes: sent until they are acknowledged, refused, or out of time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use prometheus_rsocket_client::{Client, PushError};
use prometheus_rsocket_wire::session::CloseReason;
use prometheus_rsocket_wire::{ErrorCode, Event};
use tokio::time::Instant;

use crate::proxy::{Proxy, client, nobody};

const SECOND: Duration = Duration::from_secs(1);

/// The client connects to this proxy, pushes, and is told that the push is held.
async fn is_pushed(client: &Client, proxy: &Proxy) {
    let script = async {
        let mut peer = proxy.accept_with_key().await;
        let (stream, _) = peer.push().await;
        peer.acknowledge(stream);
        peer
    };
    let (pushed, _peer) = tokio::join!(client.push(), script);
    pushed.unwrap();
}

#[tokio::test]
async fn a_push_that_was_not_acknowledged_goes_over_the_next_connection_as_it_was_rendered() {
    let proxy = Proxy::bind().await;
    let renders = AtomicUsize::new(0);
    let client =
        Client::builder(move || format!("renders {}\n", renders.fetch_add(1, Ordering::SeqCst)))
            .proxy(proxy.address())
            .connect();
    let script = async {
        let mut peer = proxy.accept_with_key().await;
        assert_eq!(peer.push().await.1, "renders 0\n");
        drop(peer);
        let mut peer = proxy.accept_with_key().await;
        let (stream, text) = peer.push().await;
        assert_eq!(text, "renders 0\n");
        peer.acknowledge(stream);
        peer
    };
    let (pushed, mut peer) = tokio::join!(client.push(), script);
    pushed.unwrap();
    assert_eq!(client.metrics().pushes_acknowledged, 1);
    tokio::join!(client.close(), peer.closed());
}

#[tokio::test(start_paused = true)]
async fn a_push_that_waits_hurries_the_next_attempt() {
    let address = nobody().await;
    let client = client([address.clone()])
        .backoff(600 * SECOND, 600 * SECOND)
        .connect();
    tokio::time::sleep(60 * SECOND).await;
    let proxy = Proxy::bind_at(&address).await;
    let begin = Instant::now();
    is_pushed(&client, &proxy).await;
    assert!(begin.elapsed() < SECOND);
}

#[tokio::test(start_paused = true)]
async fn attempts_that_a_push_has_hurried_use_up_no_retries() {
    let address = nobody().await;
    let client = client([address.clone()])
        .backoff(600 * SECOND, 600 * SECOND)
        .max_retries(1)
        .connect();
    let failed = client.push().await;
    assert!(matches!(failed, Err(PushError::NotConnected(why)) if why.contains("refused")));
    assert!(client.metrics().retries > 2);
    let proxy = Proxy::bind_at(&address).await;
    let _peer = proxy.accept_with_key().await;
    client.ready().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_push_does_not_wait_for_a_silent_proxy_where_there_is_another() {
    let (silent, proxy) = (Proxy::bind().await, Proxy::bind().await);
    let client = client([silent.address(), proxy.address()]).connect();
    is_pushed(&client, &proxy).await;
}

#[tokio::test(start_paused = true)]
async fn a_push_over_a_connection_that_leads_nowhere_is_tried_over_another() {
    let (vanished, proxy) = (Proxy::bind().await, Proxy::bind().await);
    let client = client([vanished.address(), proxy.address()]).connect();
    let peer = vanished.accept_with_key().await;
    client.ready().await.unwrap();
    peer.stop_reading();
    let begin = Instant::now();
    let (pushed, _peer) = tokio::join!(client.push_within(9 * SECOND), async {
        let mut peer = proxy.accept_with_key().await;
        let (stream, _) = peer.push().await;
        peer.acknowledge(stream);
        peer
    });
    pushed.unwrap();
    assert!(begin.elapsed() < 5 * SECOND, "{:?}", begin.elapsed());
}

#[tokio::test]
async fn a_push_that_no_waiting_helps_fails_at_once() {
    let client = client([Proxy::bind().await.address()])
        .bearer_token_file("/no/such/file")
        .timeout(3600 * SECOND)
        .connect();
    let failed = client.push().await;
    assert!(
        matches!(&failed, Err(PushError::NotConnected(why)) if why.contains("/no/such/file")),
        "{failed:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_push_fails_at_its_deadline() {
    let client = client([nobody().await]).connect();
    let begin = Instant::now();
    let failed = client.push_within(SECOND).await;
    assert!(matches!(failed, Err(PushError::NotConnected(why)) if why.contains("refused")));
    assert!(begin.elapsed() < 2 * SECOND);
    assert_eq!(client.metrics().pushes_failed, 1);
}

#[tokio::test]
async fn a_push_may_take_any_time() {
    let proxy = Proxy::bind().await;
    let client = client([proxy.address()]).timeout(Duration::MAX).connect();
    is_pushed(&client, &proxy).await;
}

#[tokio::test]
async fn a_refused_push_is_not_tried_again() {
    let proxy = Proxy::bind().await;
    let client = client([proxy.address()]).connect();
    let script = async {
        let mut peer = proxy.accept_with_key().await;
        let (stream, _) = peer.push().await;
        peer.refuse(stream, ErrorCode::APPLICATION_ERROR);
        peer
    };
    let (pushed, mut peer) = tokio::join!(client.push(), script);
    let code = ErrorCode::APPLICATION_ERROR;
    let message = "no".to_owned();
    assert_eq!(pushed, Err(PushError::Refused { code, message }));
    peer.pull();
    assert_eq!(peer.answer().await, "up 1\n");
}

#[tokio::test]
async fn an_unacknowledged_push_arrives_whole_before_the_connection_ends() {
    let proxy = Proxy::bind().await;
    // More than the sockets' buffers hold, and more than one frame.
    let text = "a".repeat(20 << 20);
    let client = Client::builder(move || text.clone())
        .proxy(proxy.address())
        .timeout(60 * SECOND)
        .connect();
    let script = async {
        let mut peer = proxy.accept_with_key().await;
        match peer.next().await {
            Event::FireAndForget { payload } => assert_eq!(payload.data.len(), 20 << 20),
            other => panic!("expected a push, got {other:?}"),
        }
        let goodbye = peer.closed().await;
        assert!(
            matches!(goodbye, CloseReason::PeerError { code, .. } if code == ErrorCode::CONNECTION_CLOSE)
        );
    };
    let (pushed, ()) = tokio::join!(client.push_and_close_unacknowledged(), script);
    pushed.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_unacknowledged_push_that_nobody_reads_is_no_success() {
    let proxy = Proxy::bind().await;
    // More than the sockets' buffers hold.
    let text = "a".repeat(64 << 20);
    let client = Client::builder(move || text.clone())
        .proxy(proxy.address())
        .connect();
    let peer = proxy.accept_with_key().await;
    client.ready().await.unwrap();
    peer.stop_reading();
    assert_eq!(
        client.push_and_close_unacknowledged().await,
        Err(PushError::Timeout)
    );
}

#[tokio::test(start_paused = true)]
async fn of_too_many_pushes_that_wait_the_last_is_refused() {
    let client = Arc::new(client([nobody().await]).connect());
    let pushes: Vec<_> = (0..17)
        .map(|_| {
            let client = Arc::clone(&client);
            tokio::spawn(async move { client.push().await })
        })
        .collect();
    let mut busy = 0;
    for push in pushes {
        match push.await.unwrap() {
            Err(PushError::Busy) => busy += 1,
            outcome => assert!(matches!(outcome, Err(PushError::NotConnected(_)))),
        }
    }
    assert_eq!(busy, 1);
}

#[tokio::test]
async fn a_closure_that_fails_is_the_end_of_its_push_and_of_nothing_else() {
    let proxy = Proxy::bind().await;
    let calls = AtomicUsize::new(0);
    let client = Client::builder(move || match calls.fetch_add(1, Ordering::SeqCst) {
        0 => Err("no metrics today"),
        1 => panic!("the application's own mistake"),
        _ => Ok("up 1\n"),
    })
    .proxy(proxy.address())
    .connect();
    let failed = client.push().await.unwrap_err();
    assert_eq!(
        failed.to_string(),
        "the metrics could not be rendered: no metrics today"
    );
    assert!(matches!(client.push().await, Err(PushError::Render(_))));
    let mut peer = proxy.accept_with_key().await;
    peer.pull();
    assert_eq!(peer.answer().await, "up 1\n");
}
