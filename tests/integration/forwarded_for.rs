//! Applications and Prometheus servers behind a reverse proxy that says where they are, with `X-Forwarded-For`.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::process::Command;
use tokio::time::timeout;

use crate::app::Peer;
use crate::hostile::setup;
use crate::peers::{Program, Scratch, need, reserved_port};
use crate::proxy_protocol::peers;
use crate::sandbox::{PATIENCE, Sandbox, eventually, samples};
use crate::tls::Authority;

const RSOCKET: &str = "--rsocket.forwarded-for.trusted=127.0.0.1";
const WEB: &str = "--web.forwarded-for.trusted=127.0.0.1";
/// The agent of a scraper that goes by its address alone.
const PROMETHEUS: (&str, &str) = ("user-agent", "Prometheus/3.0.0");

/// Sends a request for a WebSocket, with these header lines, and a SETUP behind it, from this address of this host.
async fn asking(from: &str, node: SocketAddr, headers: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    let from = format!("{from}:0").parse().expect("an address");
    socket.bind(from).expect("an address of this host");
    let mut stream = socket.connect(node).await.expect("a listener");
    let request = format!(
        "GET / HTTP/1.1\r\nHost: proxy\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{headers}\r\n"
    );
    // A message has no length in front of its frame.
    let setup = &setup()[3..];
    let head = [0x82, 0x80 | setup.len() as u8, 0, 0, 0, 0];
    let bytes = [request.as_bytes(), &head, setup].concat();
    stream.write_all(&bytes).await.expect("written");
    stream
}

/// An application that is set up over a WebSocket.
async fn connected(from: &str, node: SocketAddr, headers: &str) -> TcpStream {
    let mut stream = asking(from, node, headers).await;
    let read = async {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("an answer"));
        }
        let head = String::from_utf8_lossy(&head);
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        stream.read_exact(&mut [0; 16]).await.expect("the key");
    };
    timeout(PATIENCE, read).await.expect("in time");
    stream
}

#[tokio::test]
async fn an_application_is_where_the_trusted_proxy_says() {
    let node = Sandbox::start(&[RSOCKET]).await;
    let websocket = node.node.websocket_address;
    let spoofed = "X-Forwarded-For: 198.51.100.1\r\nX-Forwarded-For: 192.0.2.7, 127.0.0.1\r\n";
    let _one = connected("127.0.0.1", websocket, spoofed).await;
    let ipv6 = "X-Forwarded-For: [2001:db8::7]:4000\r\n";
    let _two = connected("127.0.0.1", websocket, ipv6).await;
    // The proxy asks for itself.
    let own = connected("127.0.0.1", websocket, "").await;
    // Anybody may write such a header.
    let liar = connected("127.0.0.2", websocket, "X-Forwarded-For: 192.0.2.8\r\n").await;
    node.connected(4).await;
    assert_eq!(
        peers(&node).await,
        [
            "192.0.2.7:0".parse().unwrap(),
            "[2001:db8::7]:4000".parse().unwrap(),
            own.local_addr().unwrap(),
            liar.local_addr().unwrap(),
        ]
    );
}

#[tokio::test]
async fn the_limit_by_address_is_that_of_the_application() {
    let node = Sandbox::start(&[RSOCKET, "--rsocket.max-connections-per-address=1"]).await;
    let websocket = node.node.websocket_address;
    let waits = "prometheus_proxy_connection_error_total\
                 {exception=\"address_connections\",transport=\"Websocket\"}";
    let first = connected("127.0.0.1", websocket, "X-Forwarded-For: 192.0.2.7\r\n").await;
    let _second = asking("127.0.0.1", websocket, "X-Forwarded-For: 192.0.2.7\r\n").await;
    eventually("one that waits", async || node.own(waits).await == 1.0).await;
    let _third = connected("127.0.0.1", websocket, "X-Forwarded-For: 192.0.2.8\r\n").await;
    assert_eq!(peers(&node).await.len(), 2);
    drop(first);
    let ip =
        |peers: Vec<SocketAddr>| Vec::from_iter(peers.iter().map(|peer| peer.ip().to_string()));
    eventually("its turn", async || {
        ip(peers(&node).await) == ["192.0.2.8", "192.0.2.7"]
    })
    .await;
    assert_eq!(node.own(waits).await, 1.0);
}

/// A proxy that opens connections and asks for nothing on them keeps no application out.
#[tokio::test]
async fn a_trusted_proxy_without_a_request_makes_room() {
    let node = Sandbox::start(&[RSOCKET, "--rsocket.max-handshakes=2"]).await;
    let websocket = node.node.websocket_address;
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(TcpStream::connect(websocket).await.unwrap());
    }
    let _app = connected("127.0.0.1", websocket, "X-Forwarded-For: 192.0.2.7\r\n").await;
    let read = timeout(PATIENCE, silent[0].read(&mut [0; 1])).await;
    assert!(matches!(read.expect("an end"), Ok(0) | Err(_)));
}

/// The samples of the pushes that the scraper at this address gets, behind the proxy.
async fn pushes(node: &Sandbox, from: &str) -> Vec<String> {
    let headers = [PROMETHEUS, ("x-forwarded-for", from)];
    samples(node.get_with("/metrics/pushes", &headers).await.text())
}

#[tokio::test]
async fn two_scrapers_behind_one_trusted_proxy_are_two_consumers() {
    for (flags, first, second) in [
        (&[WEB][..], vec!["jobs_total 1"], vec!["jobs_total 1"]),
        // Without the flag both are one, at the address of the proxy.
        (&[], vec!["jobs_total 1"], vec![]),
    ] {
        let node = Sandbox::start(flags).await;
        for from in ["192.0.2.1", "192.0.2.2"].repeat(2) {
            assert!(pushes(&node, from).await.is_empty());
        }
        let mut job = Peer::connect(node.tcp()).await;
        job.key().await;
        job.push("jobs_total 1\n").await.unwrap();
        assert_eq!(pushes(&node, "192.0.2.1").await, first);
        assert_eq!(pushes(&node, "192.0.2.2").await, second);
        assert!(pushes(&node, "192.0.2.2").await.is_empty());
    }
}

/// The names of the consumers that the node knows.
async fn consumers(node: &Sandbox) -> Vec<String> {
    let status = node.status().await;
    let consumers = status["pushes"]["consumers"].as_array().expect("a list");
    let names = consumers.iter().map(|one| one["name"].as_str());
    names.map(|name| name.expect("a name").into()).collect()
}

#[tokio::test]
async fn haproxy_says_where_applications_and_scrapers_are() {
    need!(Haproxy);
    let scratch = Scratch::new();
    let authority = Authority::new(&scratch, "ca.pem");
    for (node, encryption) in [
        (Sandbox::start(&[RSOCKET, WEB]).await, String::new()),
        (
            authority.node(&scratch, &[RSOCKET, WEB]).await,
            "ssl verify none".to_owned(),
        ),
    ] {
        let [rsocket, web] = [reserved_port(), reserved_port()];
        let [to_rsocket, to_web] = [node.node.websocket_address, node.web()];
        let text = format!(
            "defaults\n mode http\n option forwardfor\n timeout connect 1s\n timeout client 1h\n timeout server 1h\n\
             listen rsocket\n bind 127.0.0.1:{rsocket}\n server node {to_rsocket} {encryption}\n\
             listen web\n bind 127.0.0.1:{web}\n server node {to_web}\n"
        );
        let config = scratch.file("haproxy.cfg", &text);
        let _program = Program::start(Command::new("haproxy").arg("-db").arg("-f").arg(config));
        eventually("the reverse proxy", async || {
            TcpStream::connect(("127.0.0.1", web)).await.is_ok()
        })
        .await;
        let spoofed = "X-Forwarded-For: 192.0.2.7\r\n";
        let _app = connected("127.0.0.2", ([127, 0, 0, 1], rsocket).into(), spoofed).await;
        let ports = peers(&node).await;
        assert_eq!(ports, ["127.0.0.2:0".parse().unwrap()], "{encryption}");
        for from in ["127.0.0.3", "127.0.0.4"] {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
            let mut stream = socket.connect(([127, 0, 0, 1], web).into()).await.unwrap();
            let request = "GET /metrics/pushes HTTP/1.1\r\nHost: proxy\r\nUser-Agent: Prometheus/3.0.0\r\n\
                           Connection: close\r\n\r\n";
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        }
        assert_eq!(consumers(&node).await, ["127.0.0.3", "127.0.0.4"]);
    }
}
