//! The client library and the programs around it, where the proxy wants to know whose they are.

use std::time::{Duration, Instant};

use prometheus_rsocket_client::{Builder, Client, ConnectError, Reason};
use tokio::process::Command;

use crate::identities::{asking, identities};
use crate::nodes::BINARY;
use crate::peers::Scratch;
use crate::sandbox::{Sandbox, eventually};
use crate::tls::Authority;

fn client(proxy: &Sandbox) -> Builder {
    let address = format!("tcp://{}", proxy.tcp()).parse();
    Client::builder(|| "up 1\n")
        .own_metrics(false)
        .proxy(address.expect("an address"))
        .backoff(Duration::from_millis(50), Duration::from_millis(50))
}

#[tokio::test]
async fn a_client_shows_a_token_or_a_password() {
    let (proxy, ..) = asking(&identities(), &[]).await;
    let scratch = Scratch::new();
    let token = scratch.file("token", "token of payments\n");
    let password = scratch.file("password", "pass word\n");
    for builder in [
        client(&proxy).bearer_token("token of payments"),
        client(&proxy).bearer_token_file(&token),
        client(&proxy).password("payments", "pass word"),
        client(&proxy).password_file("payments", &password),
    ] {
        let client = builder.connect_and_wait().await.expect("accepted");
        assert_eq!(proxy.scrape().await, ["up{team=\"payments\"} 1"]);
        client.push_and_close().await.expect("acknowledged");
        proxy.connected(0).await;
        assert_eq!(proxy.scrape().await, ["up{team=\"payments\"} 1"]);
    }
}

#[tokio::test]
async fn a_client_with_a_wrong_token_backs_off_until_its_file_has_a_good_one() {
    let (proxy, ..) = asking(&identities(), &[]).await;
    let scratch = Scratch::new();
    let path = scratch.file("token", "token of somebody");
    let started = Instant::now();
    let client = client(&proxy).bearer_token_file(&path).connect();
    let refusals = || client.metrics().connection_errors;
    eventually("two refusals", async || {
        refusals() == [(Reason::Credentials, 2)]
    })
    .await;
    assert!(
        started.elapsed() >= Duration::from_secs(2),
        "a second for each"
    );
    std::fs::remove_file(&path).expect("a file");
    eventually("an unreadable file", async || {
        refusals().iter().any(|(_, count)| *count > 3)
    })
    .await;
    scratch.file("token", "token of reports");
    proxy.connected(1).await;
    assert_eq!(proxy.scrape().await, ["up{team=\"reports\"} 1"]);
}

#[tokio::test]
async fn who_waits_for_a_connection_learns_that_the_credentials_are_wrong() {
    let (proxy, ..) = asking(&identities(), &[]).await;
    let builder = client(&proxy).bearer_token("wrong").max_retries(0);
    let failed = builder.connect_and_wait().await;
    let Err(ConnectError::GaveUp(reason)) = failed else {
        panic!("expected a failure, got {failed:?}");
    };
    assert!(
        reason.contains("does not know these credentials"),
        "{reason}"
    );
    assert!(!reason.contains("wrong"), "{reason}");
}

#[tokio::test]
async fn push_shows_the_token_in_a_file() {
    let (proxy, ..) = asking(&identities(), &[]).await;
    let scratch = Scratch::new();
    let text = scratch.file("text", "done 1\n");
    let good = scratch.file("good", "token of payments\n");
    let wrong = scratch.file("wrong", "token of somebody\n");
    let push = async |token: &str| {
        let mut command = Command::new(BINARY);
        command
            .arg("push")
            .arg(format!("--proxy=tcp://{}", proxy.tcp()))
            .arg(format!("--bearer-token-file={token}"))
            .arg("--timeout=3s")
            .arg(&text);
        command.output().await.expect("a program")
    };
    assert!(push(&good).await.status.success());
    assert_eq!(proxy.scrape().await, ["done{team=\"payments\"} 1"]);
    let refused = push(&wrong).await;
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("does not know these credentials"), "{said}");
    assert!(!said.contains("token of somebody"), "{said}");
}

#[tokio::test]
async fn a_certificate_says_whose_an_application_is() {
    let scratch = Scratch::new();
    let authority = Authority::new(&scratch, "ca.pem");
    let [certificate, key] = authority.issue(&scratch, "localhost", "node");
    let file = "identities:\n\
                - {name: shop, certificates: [shop.internal], labels: {team: shop}}\n";
    let (proxy, ..) = asking(
        file,
        &[
            &format!("--rsocket.tls.cert-file={certificate}"),
            &format!("--rsocket.tls.key-file={key}"),
            &format!("--rsocket.tls.client-ca-file={}", authority.ca_file),
            "--rsocket.setup-timeout=1s",
        ],
    )
    .await;
    let address = format!("tls://localhost:{}", proxy.tcp().port());
    let builder = || {
        let client = client(&proxy).proxy(address.parse().expect("an address"));
        client
            .tls_ca_file(&authority.ca_file)
            .expect("a certificate")
    };
    let [shop, shop_key] = authority.issue(&scratch, "shop.internal", "shop");
    let shop = builder()
        .tls_client_certificate(shop, shop_key)
        .expect("a certificate");
    let _shop = shop.connect_and_wait().await.expect("accepted");
    assert_eq!(proxy.scrape().await, ["up{team=\"shop\"} 1"]);

    // Of the authority, but nobody whom the file names; and nothing at all.
    let [other, other_key] = authority.issue(&scratch, "other.internal", "other");
    let other = builder()
        .tls_client_certificate(other, other_key)
        .expect("a certificate");
    for stranger in [other, builder()] {
        let refused = stranger.max_retries(0).connect_and_wait().await;
        let Err(ConnectError::GaveUp(reason)) = refused else {
            panic!("expected a failure, got {refused:?}");
        };
        assert!(reason.contains("requires a token"), "{reason}");
    }
}
