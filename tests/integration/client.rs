//! The client library against a node.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use prometheus_rsocket_client::{Builder, Client, PushError};
use prometheus_rsocket_wire::ErrorCode;

use crate::sandbox::{Sandbox, eventually};

fn client(proxy: &Sandbox, text: &'static str) -> Builder {
    Client::builder(move || text)
        .proxy(
            format!("tcp://{}", proxy.tcp())
                .parse()
                .expect("an address"),
        )
        .backoff(Duration::from_millis(10), Duration::from_millis(50))
}

#[tokio::test]
async fn a_client_comes_back_when_the_proxy_does() {
    let proxy = Sandbox::start(&[]).await;
    let client = client(&proxy, "up 1\n").connect();
    client.ready().await.unwrap();
    let (tcp, web) = (proxy.tcp(), proxy.web());
    proxy.node.drain(Duration::from_secs(5)).await;
    let flags = [
        format!("--rsocket.tcp.listen-address={tcp}"),
        format!("--web.listen-address={web}"),
    ];
    let proxy = Sandbox::start(&[&flags[0], &flags[1]]).await;
    proxy.connected(1).await;
    assert_eq!(proxy.scrape().await, ["up 1"]);
    client.push_and_close().await.unwrap();
    proxy.connected(0).await;
    assert_eq!(proxy.scrape().await, ["up 1"]);
}

#[tokio::test]
async fn a_push_waits_for_the_key_and_a_refusal_has_its_reason() {
    let proxy = Sandbox::start(&[]).await;
    client(&proxy, "up 1\n")
        .connect()
        .push_and_close()
        .await
        .unwrap();
    let refused = client(&proxy, "up{\n").connect().push_and_close().await;
    let Err(PushError::Refused { code, message }) = refused else {
        panic!("an invalid push was acknowledged: {refused:?}");
    };
    assert_eq!(code, ErrorCode::INVALID);
    assert!(message.starts_with("line 1, column "), "{message}");
    proxy.connected(0).await;
    assert_eq!(proxy.scrape().await, ["up 1"]);
}

#[tokio::test]
async fn without_a_proxy_a_push_fails_and_says_so() {
    let proxy = Sandbox::start(&[]).await;
    let builder = client(&proxy, "up 1\n").timeout(Duration::from_millis(200));
    proxy.node.drain(Duration::from_secs(5)).await;
    let failed = builder.connect().push_and_close().await;
    assert!(
        matches!(failed, Err(PushError::NotConnected(_))),
        "{failed:?}"
    );
}

#[tokio::test]
async fn a_panic_while_rendering_costs_one_scrape_and_not_the_connection() {
    let proxy = Sandbox::start(&[]).await;
    let calls = AtomicUsize::new(0);
    let render = move || match calls.fetch_add(1, Ordering::SeqCst) {
        0 => panic!("the application's own mistake"),
        _ => "up 1\n",
    };
    let address = format!("tcp://{}", proxy.tcp())
        .parse()
        .expect("an address");
    let client = Client::builder(render).proxy(address).connect();
    client.ready().await.unwrap();
    proxy.connected(1).await;
    assert!(proxy.scrape().await.is_empty());
    assert_eq!(
        proxy.status().await["connections"][0]["last_scrape"]["outcome"],
        "error"
    );
    assert_eq!(proxy.scrape().await, ["up 1"]);
    client.close().await;
    eventually("the end of the connection", async || {
        proxy.scrape().await.is_empty()
    })
    .await;
}
