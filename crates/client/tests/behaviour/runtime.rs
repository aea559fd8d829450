//! Whatever runtime there is, or none.

use std::time::Duration;

use prometheus_rsocket_client::{Builder, Client};

use crate::proxy::{acknowledging, client};

/// Drops a client that has not even waited for its connection.
fn drop_at_once(builder: Builder) {
    drop(
        builder
            .timeout(Duration::from_secs(60))
            .push_on_drop()
            .connect(),
    );
}

#[test]
fn dropping_pushes_without_a_runtime() {
    let (proxy, texts) = acknowledging();
    drop_at_once(client([proxy]));
    assert_eq!(texts.try_recv().unwrap(), "up 1\n");
}

#[tokio::test]
async fn dropping_pushes_on_the_only_thread_of_a_runtime() {
    let (proxy, texts) = acknowledging();
    drop_at_once(client([proxy]));
    assert_eq!(texts.try_recv().unwrap(), "up 1\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_pushes_on_one_thread_of_many() {
    let (proxy, texts) = acknowledging();
    drop_at_once(client([proxy]));
    assert_eq!(texts.try_recv().unwrap(), "up 1\n");
}

#[test]
fn closing_does_not_push() {
    let (proxy, texts) = acknowledging();
    let client = client([proxy]).push_on_drop().connect_and_wait_blocking();
    client.unwrap().close_blocking();
    assert!(texts.try_recv().is_err());
}

#[test]
fn a_plain_program_waits_pushes_and_closes_without_a_runtime() {
    let (proxy, texts) = acknowledging();
    let client = client([proxy]).connect_and_wait_blocking().unwrap();
    client.push_blocking().unwrap();
    assert_eq!(texts.try_recv().unwrap(), "up 1\n");
    client.push_and_close_blocking().unwrap();
    assert_eq!(texts.try_recv().unwrap(), "up 1\n");
}

#[test]
fn a_closure_that_never_returns_does_not_keep_the_client_from_closing() {
    let (proxy, _texts) = acknowledging();
    let client = Client::builder(|| -> String {
        loop {
            std::thread::park();
        }
    })
    .proxy(proxy)
    .timeout(Duration::from_millis(50))
    .connect();
    client.push_and_close_blocking().unwrap_err();
}

#[test]
fn a_client_that_is_not_enabled_connects_to_nobody_and_succeeds() {
    let client = client([])
        .enabled(false)
        .connect_and_wait_blocking()
        .unwrap();
    client.push_blocking().unwrap();
    assert!(!client.metrics().connected);
    client.push_and_close_blocking().unwrap();
}
