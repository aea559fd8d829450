//! Applications behind a balancer that says where they are.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::timeout;

use crate::app::App;
use crate::hostile::setup;
use crate::peers::{Program, Scratch, need, reserved_port};
use crate::sandbox::{PATIENCE, Sandbox, eventually};

const TRUSTED: &str = "--rsocket.proxy-protocol.trusted=127.0.0.0/8,::1";
/// Where the application is, in a header of version 1.
const V1: &[u8] = b"PROXY TCP4 192.0.2.7 10.0.0.1 4000 7001\r\n";

async fn refused(proxy: &Sandbox) -> f64 {
    let labels = "{exception=\"proxy_protocol\",transport=\"TCP\"}";
    proxy
        .own(&format!("prometheus_proxy_connection_error_total{labels}"))
        .await
}

/// Where the node says that its connections come from.
pub(crate) async fn peers(proxy: &Sandbox) -> Vec<SocketAddr> {
    let status = proxy.status().await;
    let connections = status["connections"].as_array().expect("a list");
    let peers = connections
        .iter()
        .map(|one| one["peer"].as_str().expect("an address"));
    peers
        .map(|peer| peer.parse().expect("an address"))
        .collect()
}

/// An application that is set up, whatever goes before.
async fn connected(address: SocketAddr, before: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("a node");
    stream
        .write_all(&[before, &setup()].concat())
        .await
        .expect("written");
    let mut key = [0; 16];
    let read = timeout(PATIENCE, stream.read_exact(&mut key)).await;
    read.expect("in time").expect("the key");
    stream
}

#[tokio::test]
async fn an_application_is_where_the_trusted_balancer_says() {
    let proxy = Sandbox::start(&[TRUSTED]).await;
    let v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x08\x0a\0\0\x01\x0f\xa0\x1b\x59";
    let _one = connected(proxy.tcp(), V1).await;
    let _two = connected(proxy.tcp(), v2).await;
    // The balancer asks for itself whether the port is served.
    let local = connected(proxy.tcp(), b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0").await;
    proxy.connected(3).await;
    assert_eq!(
        peers(&proxy).await,
        [
            "192.0.2.7:4000".parse().unwrap(),
            "192.0.2.8:4000".parse().unwrap(),
            local.local_addr().unwrap(),
        ]
    );
    assert_eq!(refused(&proxy).await, 0.0);
}

/// A Java client within that network, too: closed at once, it would be back at once.
#[tokio::test]
async fn a_trusted_balancer_without_a_header_is_left_unanswered() {
    let proxy = Sandbox::start(&[TRUSTED, "--rsocket.setup-timeout=1s"]).await;
    for bytes in [setup(), b"PROXY TCP4 192.0.2.7 10.0.0.1\r\n".to_vec()] {
        let started = Instant::now();
        let mut stream = TcpStream::connect(proxy.tcp()).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        // Bytes that were not read make the end a reset.
        let mut heard = Vec::new();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut heard))
            .await
            .expect("an end");
        assert!(heard.is_empty());
        assert!(started.elapsed() >= Duration::from_secs(1));
    }
    eventually("both counted", async || refused(&proxy).await == 2.0).await;
}

#[tokio::test]
async fn others_are_not_believed() {
    let proxy = Sandbox::start(&["--rsocket.proxy-protocol.trusted=192.0.2.0/24"]).await;
    let _app = App::text(proxy.tcp(), "up 1\n").await;
    let mut liar = TcpStream::connect(proxy.tcp()).await.unwrap();
    liar.write_all(&[V1, &setup()].concat()).await.unwrap();
    let mut heard = Vec::new();
    let _ = timeout(PATIENCE, liar.read_to_end(&mut heard))
        .await
        .expect("an end");
    assert_eq!(proxy.scrape().await, ["up 1"]);
    assert!(peers(&proxy).await[0].ip().is_loopback());
}

#[tokio::test]
async fn the_limit_by_address_is_that_of_the_application() {
    let proxy = Sandbox::start(&[TRUSTED, "--rsocket.max-connections-per-address=1"]).await;
    let _first = connected(proxy.tcp(), V1).await;
    let mut second = TcpStream::connect(proxy.tcp()).await.unwrap();
    second.write_all(&[V1, &setup()].concat()).await.unwrap();
    let other = b"PROXY TCP4 192.0.2.8 10.0.0.1 4000 7001\r\n";
    let _third = connected(proxy.tcp(), other).await;
    let labels = "{exception=\"address_connections\",transport=\"TCP\"}";
    let waits = format!("prometheus_proxy_connection_error_total{labels}");
    eventually("one that waits", async || proxy.own(&waits).await == 1.0).await;
    assert_eq!(peers(&proxy).await.len(), 2);
}

#[tokio::test]
async fn haproxy_says_where_an_application_is() {
    need!(Haproxy);
    let proxy = Sandbox::start(&[TRUSTED]).await;
    let node = proxy.tcp().port();
    let scratch = Scratch::new();
    for version in ["send-proxy", "send-proxy-v2"] {
        let port = reserved_port();
        let text = format!(
            "defaults\n mode tcp\n timeout connect 1s\n timeout client 1h\n timeout server 1h\n\
             listen rsocket\n bind 127.0.0.1:{port}\n server node 127.0.0.1:{node} {version}\n"
        );
        let config = scratch.file("haproxy.cfg", &text);
        let _program = Program::start(Command::new("haproxy").arg("-db").arg("-f").arg(config));
        eventually("the balancer", async || {
            TcpStream::connect(("127.0.0.1", port)).await.is_ok()
        })
        .await;
        let app = connected(([127, 0, 0, 1], port).into(), b"").await;
        assert_eq!(
            peers(&proxy).await,
            [app.local_addr().unwrap()],
            "{version}"
        );
        drop(app);
        proxy.connected(0).await;
    }
}
