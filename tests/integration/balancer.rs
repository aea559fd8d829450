//! Nodes behind a balancer that knows nothing of RSocket: the published Java client reaches them through HAProxy.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::drain::{has_connections, scraping, status};
use crate::nodes::{Node, local};
use crate::peers::{Program, Scratch, need, reserved_port};
use crate::sandbox::eventually;

const APPS: usize = 100;
const GRACE_PERIOD: Duration = Duration::from_secs(30);

/// A balancer that asks the nodes whether they are ready.
struct Balancer {
    port: u16,
    _program: Program,
    _scratch: Scratch,
}

impl Balancer {
    async fn start(nodes: [&Node; 2]) -> Self {
        let port = reserved_port();
        let scratch = Scratch::new();
        let [first, second] = nodes.map(|node| format!("{} port {}", node.tcp, node.web.port()));
        let text = format!(
            "defaults\n mode tcp\n option redispatch\n retries 3\n timeout connect 1s\n\
             \x20timeout client 1h\n timeout server 1h\n\
             listen rsocket\n bind 127.0.0.1:{port}\n balance leastconn\n option httpchk GET /-/ready\n\
             \x20default-server check inter 200ms fall 2 rise 1\n server first {first}\n server second {second}\n"
        );
        let config = scratch.file("haproxy.cfg", &text);
        let program = Program::start(Command::new("haproxy").arg("-db").arg("-f").arg(config));
        eventually("the balancer", async || {
            TcpStream::connect(("127.0.0.1", port)).await.is_ok()
        })
        .await;
        Self {
            port,
            _program: program,
            _scratch: scratch,
        }
    }
}

async fn connections(node: &Node) -> usize {
    let connections = status(node.web).await["connections"].clone();
    connections.as_array().map_or(0, Vec::len)
}

async fn events(node: &Node) -> usize {
    let samples = node.scrape().await;
    let events = samples
        .iter()
        .filter(|sample| sample.starts_with("interop_events_total"));
    events.count()
}

async fn start(gossip: u16, peer: u16, tcp: u16, web: u16) -> Node {
    let tcp = format!("--rsocket.tcp.listen-address=127.0.0.1:{tcp}");
    let web = format!("--web.listen-address=127.0.0.1:{web}");
    let flags = [
        tcp.as_str(),
        web.as_str(),
        "--shutdown.grace-period=30s",
        "--shutdown.delay=2s",
    ];
    local(gossip, peer, &flags).await
}

#[tokio::test]
async fn java_clients_move_when_a_node_drains_and_come_back_when_one_is_killed() {
    need!(Java, Haproxy);
    let (gossip, peer) = (reserved_port(), reserved_port());
    let mut first = start(gossip, peer, reserved_port(), reserved_port()).await;
    let second = start(peer, gossip, reserved_port(), reserved_port()).await;
    first.sees(2, "active").await;
    second.sees(2, "active").await;
    let balancer = Balancer::start([&first, &second]).await;
    let (port, count) = (balancer.port.to_string(), APPS.to_string());
    let _java = Program::interop(
        "client",
        &["--port", &port, "--name", "shop", "--count", &count],
    );
    eventually("applications at both nodes", async || {
        let at_first = connections(&first).await;
        at_first > 0 && at_first + connections(&second).await == APPS
    })
    .await;

    let (stop, stopped) = watch::channel(false);
    let scrapes = [first.web, second.web].map(|web| scraping(web, stopped.clone()));
    let started = Instant::now();
    first.program.terminate();
    assert!(first.program.ended().await.success());
    assert!(started.elapsed() < GRACE_PERIOD);
    has_connections(&second, APPS).await;
    stop.send_replace(true);
    let [_, of_second] = scrapes;
    assert_eq!(of_second.await.expect("no panic").failures, 0);
    assert_eq!(events(&second).await, APPS);

    let again = start(gossip, peer, first.tcp.port(), first.web.port()).await;
    again.sees(2, "active").await;
    second.program.kill().await;
    has_connections(&again, APPS).await;
    assert_eq!(events(&again).await, APPS);
}
