//! A node on free ports in this process, and the HTTP requests that Prometheus and operators make.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderMap;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use prometheus_rsocket_proxy::cli;
use prometheus_rsocket_proxy::node::{Checked, Node};
use prometheus_rsocket_wire::connection::Connection;
use serde_json::Value;
use tokio::net::{TcpSocket, TcpStream};

/// Longer than anything here takes; a test that waits for this has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A running node.
pub(crate) struct Sandbox {
    pub(crate) node: Node,
}

/// An HTTP response, whole.
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("UTF-8")
    }
}

impl Sandbox {
    /// A node with these flags, on free ports unless they say otherwise.
    pub(crate) async fn start(flags: &[&str]) -> Self {
        Self {
            node: Node::bind(Self::settings(flags)).await.expect("free ports"),
        }
    }

    /// A node that makes a new key this often.
    pub(crate) async fn rotating(every: Duration) -> Self {
        let mut checked = Self::settings(&[]);
        checked.settings.rsocket.key_rotation = every;
        Self {
            node: Node::bind(checked).await.expect("free ports"),
        }
    }

    /// What [`Sandbox::start`] starts a node with.
    pub(crate) fn settings(flags: &[&str]) -> Checked {
        let ports = [
            "--web.listen-address=127.0.0.1:0",
            "--rsocket.tcp.listen-address=127.0.0.1:0",
            "--rsocket.websocket.listen-address=127.0.0.1:0",
            "--cluster.grpc.listen-address=127.0.0.1:0",
        ];
        let name = |flag: &str| flag.split('=').next().map(str::to_owned);
        let free = ports
            .iter()
            .filter(|port| !flags.iter().any(|flag| name(flag) == name(port)));
        let mut checked = cli::settings(free.chain(flags).copied()).expect("valid flags");
        // What all have had is over at once.
        checked.settings.push.watch = Duration::ZERO;
        checked
    }

    pub(crate) fn web(&self) -> SocketAddr {
        self.node.web_address
    }

    pub(crate) fn tcp(&self) -> SocketAddr {
        self.node.tcp_address
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        request(self.web(), Method::GET, path, &[]).await
    }

    pub(crate) async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Response {
        request(self.web(), Method::GET, path, headers).await
    }

    /// The samples of a scrape, a line each, without comments.
    pub(crate) async fn scrape(&self) -> Vec<String> {
        samples(self.get("/metrics/connected").await.text())
    }

    /// The samples of a scrape of this consumer.
    pub(crate) async fn scrape_as(&self, consumer: &str) -> Vec<String> {
        let path = format!("/metrics/connected?consumer={consumer}");
        samples(self.get(&path).await.text())
    }

    pub(crate) async fn status(&self) -> Value {
        serde_json::from_slice(&self.get("/api/v1/status").await.body).expect("JSON")
    }

    /// The value of one of the node's own series, zero where it is not there.
    pub(crate) async fn own(&self, series: &str) -> f64 {
        let response = self.get("/metrics/proxy").await;
        let line = response
            .text()
            .lines()
            .find(|line| line.split(' ').next() == Some(series));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
            .unwrap_or(0.0)
    }

    /// Waits until the node counts so many connections.
    pub(crate) async fn connected(&self, connections: usize) {
        eventually(&format!("{connections} connections"), async || {
            self.status().await["connections"].as_array().map(Vec::len) == Some(connections)
        })
        .await;
    }

    /// Waits until so many pushes are pending.
    pub(crate) async fn pending(&self, pushes: usize) {
        eventually(&format!("{pushes} pending pushes"), async || {
            self.status().await["pushes"]["pending"] == pushes
        })
        .await;
    }
}

/// Asks again and again until `condition` holds: for what a node does without telling anybody.
pub(crate) async fn eventually(what: &str, condition: impl AsyncFnMut() -> bool) {
    eventually_within(PATIENCE, what, condition).await;
}

pub(crate) async fn eventually_within(
    patience: Duration,
    what: &str,
    mut condition: impl AsyncFnMut() -> bool,
) {
    let wait = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(patience, wait)
        .await
        .unwrap_or_else(|_| panic!("never came: {what}"));
}

/// More than the buffers between the two ends take in, compressed too.
pub(crate) fn long_text() -> String {
    let row = |i: u64| {
        format!(
            "s{{n=\"{:016x}\"}} 1\n",
            i.wrapping_mul(0x9e37_79b9_7f4a_7c15)
        )
    };
    (0..600_000).map(row).collect()
}

/// The samples of an exposition, a line each.
pub(crate) fn samples(text: &str) -> Vec<String> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

pub(crate) async fn request(
    web: SocketAddr,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
) -> Response {
    let response = begin(web, method, path, headers).await;
    let (parts, body) = response.into_parts();
    Response {
        status: parts.status,
        headers: parts.headers,
        body: body
            .collect()
            .await
            .expect("a whole body")
            .to_bytes()
            .to_vec(),
    }
}

/// A response of which nothing but the head has been read.
pub(crate) async fn begin(
    web: SocketAddr,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
) -> hyper::Response<Incoming> {
    let socket = TcpSocket::new_v4().expect("a socket");
    // So that what nobody reads stays with the node.
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    let stream = socket.connect(web).await.expect("a listening node");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .expect("HTTP");
    tokio::spawn(connection);
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", web.to_string());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request
        .body(Empty::<Bytes>::new())
        .expect("a valid request");
    sender.send_request(request).await.expect("a response")
}

/// The transport that scripted applications use.
pub(crate) type TcpConnection = Connection<prometheus_rsocket_wire::transport::tcp::Tcp<TcpStream>>;
