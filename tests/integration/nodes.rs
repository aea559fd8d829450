//! Nodes of a cluster as processes of their own, as they run in production.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use hyper::Method;
use prometheus_rsocket_client::Client;
use tokio::process::Command;

use crate::peers::{Program, Scratch, reserved_port};
use crate::sandbox::{eventually, request, samples};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_prometheus-rsocket-proxy");

/// A running node.
pub(crate) struct Node {
    pub(crate) program: Program,
    pub(crate) tcp: SocketAddr,
    pub(crate) web: SocketAddr,
}

impl Node {
    /// Waits until the node is ready, whose host is reached there.
    pub(crate) async fn start(command: &mut Command, host: IpAddr) -> Self {
        let mut program = Program::start(command);
        let web = listening(&mut program, "web").await.port();
        let tcp = listening(&mut program, "rsocket-tcp").await.port();
        program.line_with("msg=\"ready\"").await;
        Self {
            program,
            tcp: (host, tcp).into(),
            web: (host, web).into(),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> String {
        let response = request(self.web, Method::GET, path, &[]).await;
        response.text().to_owned()
    }

    pub(crate) async fn scrape(&self) -> Vec<String> {
        samples(&self.get("/metrics/connected").await)
    }

    /// The value of one of the node's own series, zero where it is not there.
    pub(crate) async fn own(&self, series: &str) -> f64 {
        let text = self.get("/metrics/proxy").await;
        let mut lines = text.lines();
        let value = lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().expect("a number"))
    }

    /// Waits until this node sees so many members in this state, itself among them.
    pub(crate) async fn sees(&self, members: usize, state: &str) {
        let series = format!("prometheus_proxy_cluster_members{{state=\"{state}\"}}");
        eventually(&format!("{members} {state}"), async || {
            self.own(&series).await == members as f64
        })
        .await;
    }

    /// Pushes, and waits for the acknowledgement.
    pub(crate) async fn pushed(&self, text: impl Into<String>) {
        let text = text.into();
        let address = format!("tcp://{}", self.tcp).parse().expect("an address");
        let client = Client::builder(move || text.clone()).proxy(address);
        let client = client.timeout(Duration::from_secs(20)).connect();
        client.push_and_close().await.expect("acknowledged");
    }
}

/// The address in the line that says where a node listens.
async fn listening(program: &mut Program, listener: &str) -> SocketAddr {
    let words = format!("msg=\"listening\" listener={listener} address=");
    let line = program.line_with(&words).await;
    let address = line.rsplit('=').next().expect("an address");
    address.parse().expect("an address")
}

/// Where a node listens.
pub(crate) struct Ports {
    pub(crate) web: SocketAddr,
    pub(crate) tcp: SocketAddr,
    pub(crate) websocket: SocketAddr,
    pub(crate) grpc: SocketAddr,
}

impl Ports {
    /// Of a node of a cluster, once it is ready.
    pub(crate) async fn of(program: &mut Program) -> Self {
        let ports = Self {
            web: listening(program, "web").await,
            tcp: listening(program, "rsocket-tcp").await,
            websocket: listening(program, "rsocket-websocket").await,
            grpc: listening(program, "grpc").await,
        };
        program.line_with("msg=\"ready\"").await;
        ports
    }
}

/// Three nodes on this host that see each other.
pub(crate) async fn three() -> ([Node; 3], Scratch) {
    let scratch = Scratch::new();
    let secret = scratch.file("secret", "correct horse battery staple, twice\n");
    let secret = format!("--cluster.secret-file={secret}");
    let ports = [reserved_port(), reserved_port(), reserved_port()];
    let nodes = [
        local(ports[0], ports[1], &[&secret]).await,
        local(ports[1], ports[0], &[&secret]).await,
        local(ports[2], ports[0], &[&secret]).await,
    ];
    for node in &nodes {
        node.sees(3, "active").await;
    }
    (nodes, scratch)
}

/// A node on this host that gossips on one port and looks for others on another; on free ports unless the flags say
/// otherwise.
pub(crate) async fn local(gossip: u16, peer: u16, flags: &[&str]) -> Node {
    let ports = [
        "--web.listen-address",
        "--rsocket.tcp.listen-address",
        "--rsocket.websocket.listen-address",
        "--cluster.grpc.listen-address",
    ];
    let given = |port: &str| flags.iter().any(|flag| flag.starts_with(port));
    let free = ports.into_iter().filter(|port| !given(port));
    let mut command = Command::new(BINARY);
    command
        .args(free.map(|port| format!("{port}=127.0.0.1:0")))
        .arg(format!("--cluster.listen-address=127.0.0.1:{gossip}"))
        .arg(format!("--cluster.peer=127.0.0.1:{peer}"))
        .args(flags);
    Node::start(&mut command, Ipv4Addr::LOCALHOST.into()).await
}
