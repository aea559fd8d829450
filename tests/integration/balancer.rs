//! Nodes behind a balancer that knows nothing of RSocket: the published Java client reaches them through HAProxy.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::drain::{has_connections, scraping, status};
use crate::nodes::{Node, local};
use crate::peers::{Program, Scratch, need, reserved_port};
use crate::prometheus::{Prometheus, recommended};
use crate::sandbox::{PATIENCE, eventually, eventually_within};

const APPS: usize = 100;
const GRACE_PERIOD: Duration = Duration::from_secs(30);

/// A balancer that asks the nodes whether they are ready.
pub(crate) struct Balancer {
    /// For applications.
    pub(crate) port: u16,
    /// For HTTP.
    pub(crate) web: u16,
    _program: Program,
    _scratch: Scratch,
}

impl Balancer {
    /// Before nodes that take applications and answer HTTP at these ports, once they are there.
    pub(crate) async fn start(nodes: &[[u16; 2]]) -> Self {
        let (port, web) = (reserved_port(), reserved_port());
        let scratch = Scratch::new();
        let mut text = format!(
            "defaults\n mode tcp\n option redispatch\n retries 3\n timeout connect 1s\n\
             \x20timeout client 1h\n timeout server 1h\n\
             \x20option httpchk GET /-/ready\n default-server check inter 200ms fall 2 rise 1\n\
             listen rsocket\n bind 127.0.0.1:{port}\n balance leastconn\n"
        );
        for [tcp, web] in nodes {
            text.push_str(&format!(" server node{tcp} 127.0.0.1:{tcp} port {web}\n"));
        }
        text.push_str(&format!(
            "listen web\n bind 127.0.0.1:{web}\n balance roundrobin\n"
        ));
        for [_, web] in nodes {
            text.push_str(&format!(" server node{web} 127.0.0.1:{web}\n"));
        }
        let config = scratch.file("haproxy.cfg", &text);
        let program = Program::start(Command::new("haproxy").arg("-db").arg("-f").arg(config));
        eventually("the balancer", async || {
            TcpStream::connect(("127.0.0.1", port)).await.is_ok()
        })
        .await;
        Self {
            port,
            web,
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

pub(crate) async fn start(gossip: u16, peer: u16, [tcp, web]: [u16; 2], flags: &[&str]) -> Node {
    let tcp = format!("--rsocket.tcp.listen-address=127.0.0.1:{tcp}");
    let web = format!("--web.listen-address=127.0.0.1:{web}");
    local(gossip, peer, &[&[tcp.as_str(), &web], flags].concat()).await
}

const LEAVING: [&str; 2] = ["--shutdown.grace-period=30s", "--shutdown.delay=2s"];

#[tokio::test]
async fn java_clients_move_when_a_node_drains_and_come_back_when_one_is_killed() {
    need!(Java, Haproxy);
    let (gossip, peer) = (reserved_port(), reserved_port());
    let ports = [
        [reserved_port(), reserved_port()],
        [reserved_port(), reserved_port()],
    ];
    let mut first = start(gossip, peer, ports[0], &LEAVING).await;
    let second = start(peer, gossip, ports[1], &LEAVING).await;
    first.sees(2, "active").await;
    second.sees(2, "active").await;
    let balancer = Balancer::start(&ports).await;
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

    let again = start(gossip, peer, ports[0], &LEAVING).await;
    again.sees(2, "active").await;
    second.program.kill().await;
    has_connections(&again, APPS).await;
    assert_eq!(events(&again).await, APPS);
}

/// Those of production, ten times as fast.
const EVENING_OUT: [&str; 4] = [
    "--rebalance.settle-time=3s",
    "--rebalance.min-connection-age=6s",
    "--rebalance.max-rate=10%",
    "--rebalance.min-surplus=10",
];

#[tokio::test]
async fn a_node_that_joins_gets_its_share_of_java_clients_and_prometheus_misses_none() {
    need!(Java, Haproxy, Prometheus);
    const MANY: usize = 150;
    let gossip = [reserved_port(), reserved_port(), reserved_port()];
    let ports = gossip.map(|_| [reserved_port(), reserved_port()]);
    let mut nodes = vec![
        start(gossip[0], gossip[1], ports[0], &EVENING_OUT).await,
        start(gossip[1], gossip[0], ports[1], &EVENING_OUT).await,
    ];
    let balancer = Balancer::start(&ports).await;
    let (port, count) = (balancer.port.to_string(), MANY.to_string());
    let _java = Program::interop(
        "client",
        &["--port", &port, "--name", "shop", "--count", &count],
    );
    let webs = ports.map(|[_, web]| ([127, 0, 0, 1], web).into());
    let prometheus = Prometheus::with(&recommended(&webs)).await;
    prometheus
        .shows("count(interop_events_total)", MANY as f64)
        .await;

    let joined = Instant::now();
    nodes.push(start(gossip[2], gossip[0], ports[2], &EVENING_OUT).await);
    let tolerated = MANY as f64 / 3.0 * 1.2;
    let mut all = Vec::new();
    // A machine that stands still for a moment looks like a node that is gone: they wait until all has settled again.
    eventually_within(2 * PATIENCE, "the third node's share", async || {
        all.clear();
        for node in &nodes {
            all.push(connections(node).await);
        }
        all.iter().sum::<usize>() == MANY && all.iter().all(|here| *here as f64 <= tolerated)
    })
    .await;
    println!(
        "within the tolerance {:?} after the start",
        joined.elapsed()
    );

    // A connection moves within the time between two scrapes of production, which are 15 s apart. They are 1 s apart
    // here: 5 s leave room for a machine that other tests keep busy.
    // Whole seconds, rounded down: before the third node came, applications were still connecting.
    let seconds = joined.elapsed().as_secs();
    let seen = "count(count_over_time(interop_events_total[5s]))";
    let complete = format!("min_over_time({seen}[{seconds}s:1s])");
    let least = prometheus.value(&complete).await;
    if least != Some(MANY as f64) {
        for (extreme, query) in [
            ("min", "count(interop_events_total)"),
            ("min", "sum(up)"),
            ("max", "max(scrape_duration_seconds)"),
        ] {
            let query = format!("{extreme}_over_time(({query})[{seconds}s:1s])");
            println!("{query}: {:?}", prometheus.value(&query).await);
        }
        panic!("{least:?} of {MANY} at least, {all:?} at the end");
    }
    let missed = format!("{seconds} - min(count_over_time(interop_events_total[{seconds}s]))");
    println!(
        "samples missed by an application at most: {:?}",
        prometheus.value(&missed).await
    );
    let retired = "prometheus_proxy_connections_retired_total{cause=\"rebalance\"}";
    let mut moved = 0.0;
    for node in &nodes {
        moved += node.own(retired).await;
    }
    println!("connections closed: {moved}");
}
