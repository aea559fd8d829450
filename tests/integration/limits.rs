//! What an application cannot take from a node.

use std::time::{Duration, Instant};

use prometheus_rsocket_wire::ErrorCode;
use prometheus_rsocket_wire::session::CloseReason;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::app::{App, Peer};
use crate::hostile::setup;
use crate::peers::Scratch;
use crate::sandbox::{PATIENCE, Sandbox, eventually};
use crate::tls::Authority;

#[tokio::test]
async fn a_connection_without_setup_is_closed_with_invalid_setup() {
    let proxy = Sandbox::start(&["--rsocket.setup-timeout=100ms"]).await;
    let mut silent = TcpStream::connect(proxy.tcp()).await.unwrap();
    let mut heard = Vec::new();
    timeout(PATIENCE, silent.read_to_end(&mut heard))
        .await
        .expect("an end")
        .unwrap();
    // Length, stream 0, ERROR, INVALID_SETUP.
    assert_eq!(heard[3..9], [0, 0, 0, 0, 0x2c, 0]);
    assert_eq!(heard[9..13], [0, 0, 0, 1]);
    let series =
        "prometheus_proxy_connection_error_total{exception=\"setup_timeout\",transport=\"TCP\"}";
    eventually("the error to be counted", async || {
        proxy.own(series).await == 1.0
    })
    .await;
}

#[tokio::test]
async fn a_websocket_handshake_that_never_ends_is_given_up() {
    let proxy = Sandbox::start(&["--rsocket.setup-timeout=100ms"]).await;
    let mut silent = TcpStream::connect(proxy.node.websocket_address)
        .await
        .unwrap();
    let mut heard = Vec::new();
    timeout(PATIENCE, silent.read_to_end(&mut heard))
        .await
        .expect("an end")
        .unwrap();
    assert!(heard.is_empty());
}

/// Java clients connect to the wrong port, and to one where TLS has just been turned on. Closed at once, they would be back
/// within milliseconds, again and again.
#[tokio::test]
async fn who_speaks_another_protocol_is_left_unanswered() {
    let scratch = Scratch::new();
    let authority = Authority::new(&scratch, "ca.pem");
    let timeout = "--rsocket.setup-timeout=1s";
    let secured = authority.node(&scratch, &[timeout]).await;
    let plain = Sandbox::start(&[timeout]).await;
    for address in [
        secured.tcp(),
        secured.node.websocket_address,
        plain.node.websocket_address,
    ] {
        let started = Instant::now();
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&setup()).await.unwrap();
        let mut heard = Vec::new();
        let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut heard))
            .await
            .expect("an end");
        assert!(started.elapsed() >= Duration::from_secs(1), "{address}");
    }
}

#[tokio::test]
async fn past_the_limit_connections_wait_and_are_served_as_soon_as_there_is_room() {
    // Accepting and closing would bring a Java client back within milliseconds, again and again.
    for limit in [
        "--rsocket.max-connections=1",
        "--rsocket.max-connections-per-address=1",
    ] {
        let proxy = Sandbox::start(&[limit]).await;
        let first = App::text(proxy.tcp(), "up{app=\"1\"} 1\n").await;
        let mut second = Peer::connect(proxy.tcp()).await;
        let early = timeout(Duration::from_millis(200), second.connection.next()).await;
        assert!(early.is_err(), "{limit}: neither served nor closed");
        assert_eq!(proxy.scrape().await, ["up{app=\"1\"} 1"]);
        drop(first);
        timeout(PATIENCE, second.key())
            .await
            .unwrap_or_else(|_| panic!("{limit}: no place"));
    }
}

#[tokio::test]
async fn an_answer_past_the_payload_limit_costs_the_scrape_and_not_the_connection() {
    let proxy = Sandbox::start(&["--scrape.max-payload=64KiB"]).await;
    let noise: String = (0..40_000_u64)
        .map(|i| format!("s{{n=\"{:x}\"}} 1\n", i.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
        .collect();
    let _app = App::text(proxy.tcp(), &noise).await;
    for _ in 0..2 {
        assert!(proxy.scrape().await.is_empty());
        let status = proxy.status().await;
        assert_eq!(
            status["connections"][0]["last_scrape"]["outcome"],
            "invalid"
        );
    }
}

#[tokio::test]
async fn a_connection_that_never_set_up_does_not_hold_up_a_drain() {
    // A load balancer's health check, a scanner: it used to hold a drain for the whole setup timeout.
    let proxy = Sandbox::start(&["--rsocket.setup-timeout=1h"]).await;
    let mut silent = TcpStream::connect(proxy.tcp()).await.unwrap();
    let mut upgrading = TcpStream::connect(proxy.node.websocket_address)
        .await
        .unwrap();
    let app = App::text(proxy.tcp(), "up 1\n").await;
    let Sandbox { node } = proxy;
    timeout(PATIENCE, node.drain(Duration::from_secs(3600)))
        .await
        .expect("a drain's end");
    let mut heard = Vec::new();
    silent.read_to_end(&mut heard).await.unwrap();
    // Length, stream 0, ERROR, CONNECTION_CLOSE.
    assert_eq!(heard[3..13], [0, 0, 0, 0, 0x2c, 0, 0, 0, 1, 2]);
    upgrading.read_to_end(&mut heard).await.unwrap();
    drop(app);
}

#[tokio::test]
async fn a_dropped_node_ends_at_once() {
    let proxy = Sandbox::start(&[]).await;
    let app = App::text(proxy.tcp(), "up 1\n").await;
    let web = proxy.web();
    drop(proxy);
    app.closed().await;
    eventually("a closed port", async || {
        TcpStream::connect(web).await.is_err()
    })
    .await;
}

#[tokio::test]
async fn a_drain_closes_connections_with_connection_close() {
    let proxy = Sandbox::start(&[]).await;
    let app = App::text(proxy.tcp(), "up 1\n").await;
    let Sandbox { node } = proxy;
    node.drain(Duration::from_secs(10)).await;
    let CloseReason::PeerError { code, .. } = app.closed().await else {
        panic!("no ERROR came");
    };
    assert_eq!(code, ErrorCode::CONNECTION_CLOSE);
}

/// What a node's HTTP port answers, up to the end of the connection.
async fn answered(proxy: &Sandbox, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(proxy.web()).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut heard = Vec::new();
    // What was not read makes the end a reset.
    let read = timeout(PATIENCE, stream.read_to_end(&mut heard)).await;
    let _ = read.expect("an end");
    String::from_utf8_lossy(&heard).into_owned()
}

#[tokio::test]
async fn a_request_head_without_end_is_refused() {
    let proxy = Sandbox::start(&[]).await;
    let head = [&b"GET / HTTP/1.1\r\nX: "[..], &[b'a'; 32 << 10]].concat();
    let answer = answered(&proxy, &head).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test]
async fn a_request_body_without_end_is_not_waited_for() {
    let proxy = Sandbox::start(&["--web.io-timeout=200ms"]).await;
    for body in [
        &b"Content-Length: 99999999999\r\n\r\nbeginning"[..],
        b"Transfer-Encoding: chunked\r\n\r\nFFFFFFF\r\nbeginning",
    ] {
        let request = [b"GET /-/healthy HTTP/1.1\r\nHost: a\r\n", body].concat();
        let answer = answered(&proxy, &request).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    let requests = "prometheus_proxy_http_requests_total{code=\"200\"}";
    assert!(proxy.own(requests).await >= 2.0);
}

/// The wait for a place once used up the time for the handshakes behind it.
#[tokio::test]
async fn who_has_waited_for_a_place_has_all_the_time_to_set_up() {
    let setup_timeout = Duration::from_secs(1);
    let proxy = Sandbox::start(&[
        "--rsocket.max-connections-per-address=1",
        "--rsocket.setup-timeout=1s",
    ])
    .await;
    let first = App::text(proxy.tcp(), "up 1\n").await;
    let mut second = TcpStream::connect(proxy.tcp()).await.unwrap();
    let waits = "prometheus_proxy_connection_error_total{exception=\"address_connections\",transport=\"TCP\"}";
    eventually("one that waits", async || proxy.own(waits).await == 1.0).await;
    tokio::time::sleep(setup_timeout).await;
    drop(first);
    proxy.connected(0).await;
    second.write_all(&setup()).await.unwrap();
    proxy.connected(1).await;
}
