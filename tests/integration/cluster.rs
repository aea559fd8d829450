//! Several nodes as processes of their own, as they run in production.

use std::net::SocketAddr;
use std::time::Duration;

use hyper::Method;
use prometheus_rsocket_client::Client;
use tokio::process::Command;

use crate::peers::{Program, Scratch, need, reserved_port};
use crate::sandbox::{eventually, request, samples};

/// A node of a cluster.
struct Node {
    program: Program,
    tcp: SocketAddr,
    web: SocketAddr,
}

/// The address in the line that says where a node listens.
async fn listening(program: &mut Program, listener: &str) -> SocketAddr {
    let words = format!("msg=\"listening\" listener={listener} address=");
    let line = program.line_with(&words).await;
    let address = line.rsplit('=').next().expect("an address");
    address.parse().expect("an address")
}

impl Node {
    async fn start(gossip: u16, peer: u16, secret: &str) -> Self {
        let mut program = Program::start(
            Command::new(env!("CARGO_BIN_EXE_prometheus-rsocket-proxy"))
                .args([
                    "--web.listen-address=127.0.0.1:0",
                    "--rsocket.tcp.listen-address=127.0.0.1:0",
                    "--rsocket.websocket.listen-address=127.0.0.1:0",
                    "--cluster.grpc.listen-address=127.0.0.1:0",
                ])
                .arg(format!("--cluster.listen-address=127.0.0.1:{gossip}"))
                .arg(format!("--cluster.peer=127.0.0.1:{peer}"))
                .arg(format!("--cluster.secret-file={secret}")),
        );
        let web = listening(&mut program, "web").await;
        let tcp = listening(&mut program, "rsocket-tcp").await;
        program.line_with("msg=\"ready\"").await;
        Self { program, tcp, web }
    }

    async fn get(&self, path: &str) -> String {
        let response = request(self.web, Method::GET, path, &[]).await;
        response.text().to_owned()
    }

    async fn scrape(&self) -> Vec<String> {
        samples(&self.get("/metrics/connected").await)
    }

    /// Waits until this node sees so many active members, itself among them.
    async fn sees(&self, members: usize) {
        let line = format!("prometheus_proxy_cluster_members{{state=\"active\"}} {members}");
        eventually(&line, async || self.get("/metrics").await.contains(&line)).await;
    }

    async fn pushed(&self, text: &'static str) {
        let address = format!("tcp://{}", self.tcp).parse().expect("an address");
        let client = Client::builder(move || text).proxy(address);
        let client = client.timeout(Duration::from_secs(20)).connect();
        client.push_and_close().await.expect("acknowledged");
    }
}

async fn three() -> ([Node; 3], Scratch) {
    let scratch = Scratch::new();
    let secret = scratch.file("secret", "correct horse battery staple, twice\n");
    let ports = [reserved_port(), reserved_port(), reserved_port()];
    let nodes = [
        Node::start(ports[0], ports[1], &secret).await,
        Node::start(ports[1], ports[0], &secret).await,
        Node::start(ports[2], ports[0], &secret).await,
    ];
    for node in &nodes {
        node.sees(3).await;
    }
    (nodes, scratch)
}

#[tokio::test]
async fn an_acknowledged_push_survives_a_killed_node() {
    let ([first, second, third], _scratch) = three().await;
    first.pushed("jobs_total 1\n").await;
    first.program.kill().await;
    eventually("the push at a node that lives", async || {
        second.scrape().await == ["jobs_total 1"]
    })
    .await;
    assert!(third.scrape().await.is_empty());
    assert!(second.scrape().await.is_empty());
}

#[tokio::test]
async fn any_node_serves_a_push_and_only_one_does() {
    let ([first, second, third], _scratch) = three().await;
    first.pushed("jobs_total 1\n").await;
    second.pushed("jobs_total{job=\"other\"} 1\n").await;
    assert_eq!(
        third.scrape().await,
        ["jobs_total 1", "jobs_total{job=\"other\"} 1"]
    );
    for node in [&first, &second, &third] {
        assert!(node.scrape().await.is_empty());
    }
}

#[tokio::test]
async fn a_blocking_push_of_a_java_client_survives_a_killed_node() {
    need!(Java);
    let ([first, second, _third], _scratch) = three().await;
    let port = first.tcp.port().to_string();
    let mut java = Program::interop(
        "client",
        &["--port", &port, "--name", "job", "--series", "1"],
    );
    java.line("READY job").await;
    java.say("pushblocking").await;
    java.line("PUSHED").await;
    first.program.kill().await;
    eventually("the push at a node that lives", async || {
        let samples = second.scrape().await;
        samples.iter().any(|sample| sample.contains("job"))
    })
    .await;
}
