//! The client library against the published Java proxy.

use std::net::SocketAddr;
use std::time::Duration;

use hyper::Method;
use prometheus_rsocket_client::{Builder, Client};

use crate::peers::{Program, need, reserved_port};
use crate::sandbox::{eventually, request, samples};

const TEXT: &str = "# TYPE up gauge\nup{app=\"rust\"} 1\n";

/// The Java proxy on this port for RSocket, and where its HTTP is.
pub(crate) async fn java_proxy(tcp: u16) -> (Program, SocketAddr) {
    let mut program = Program::interop("proxy", &[&tcp.to_string()]);
    let ports = program.line("READY").await;
    let http = ports.split("http=").nth(1).expect("a port").trim();
    let http = http.parse::<u16>().expect("a port");
    (program, SocketAddr::from(([127, 0, 0, 1], http)))
}

fn client(tcp: u16) -> Builder {
    Client::builder(|| TEXT)
        .proxy(
            format!("tcp://127.0.0.1:{tcp}")
                .parse()
                .expect("an address"),
        )
        .backoff(Duration::from_millis(50), Duration::from_millis(500))
        .timeout(Duration::from_secs(30))
}

pub(crate) async fn scrape(http: SocketAddr) -> Vec<String> {
    let response = request(http, Method::GET, "/metrics/connected", &[]).await;
    samples(response.text())
        .into_iter()
        .filter(|line| !line.trim().is_empty())
        .collect()
}

#[tokio::test]
async fn the_java_proxy_pulls_and_takes_both_kinds_of_pushes() {
    need!(Java);
    let tcp = reserved_port();
    let (_proxy, http) = java_proxy(tcp).await;
    for acknowledged in [true, false] {
        let client = client(tcp).connect_and_wait().await.unwrap();
        assert_eq!(scrape(http).await, ["up{app=\"rust\"} 1"]);
        if acknowledged {
            client.push_and_close().await.unwrap();
        } else {
            client.push_and_close_unacknowledged().await.unwrap();
        }
        // It serves the push when the pull of the closed connection fails, once.
        eventually("the push", async || {
            scrape(http).await == ["up{app=\"rust\"} 1"]
        })
        .await;
        assert!(scrape(http).await.is_empty());
    }
}

#[tokio::test]
async fn a_client_comes_back_to_the_java_proxy() {
    need!(Java);
    let tcp = reserved_port();
    let (proxy, _) = java_proxy(tcp).await;
    let client = client(tcp).connect_and_wait().await.unwrap();
    proxy.kill().await;
    let (_proxy, http) = java_proxy(tcp).await;
    eventually("the application", async || {
        scrape(http).await == ["up{app=\"rust\"} 1"]
    })
    .await;
    assert_eq!(client.metrics().connects, 2);
    client.close().await;
}
