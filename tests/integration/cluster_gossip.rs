//! Nodes that find each other, lose each other, and are lied to.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::RngExt;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::net::UdpSocket;

use crate::peers::Scratch;
use crate::sandbox::{Sandbox, eventually};

/// Where nobody answers.
const NOBODY: &str = "127.0.0.1:9";
/// The value of `--cluster.name` where a test gives none.
const NAME: &str = "prometheus-rsocket-proxy";

/// A node that looks for its peers at these addresses.
async fn node(peers: &[SocketAddr], flags: &[&str]) -> Sandbox {
    let nobody = [NOBODY.parse().unwrap()];
    let peers = if peers.is_empty() { &nobody } else { peers };
    let peers: Vec<_> = peers
        .iter()
        .map(|peer| format!("--cluster.peer={peer}"))
        .collect();
    let mut all = vec!["--cluster.listen-address=127.0.0.1:0"];
    all.extend(peers.iter().map(String::as_str));
    all.extend(flags);
    Sandbox::start(&all).await
}

pub(crate) async fn nodes(count: usize, flags: &[&str]) -> Vec<Sandbox> {
    let mut nodes = vec![node(&[], flags).await];
    for _ in 1..count {
        nodes.push(node(&[gossip(&nodes[0])], flags).await);
    }
    nodes
}

fn gossip(node: &Sandbox) -> SocketAddr {
    node.node.gossip_address.expect("a cluster")
}

/// The state of each member, sorted.
async fn states(node: &Sandbox) -> Vec<String> {
    let status = node.status().await;
    let members = status["members"].as_array().expect("members");
    let mut states: Vec<_> = members
        .iter()
        .map(|member| member["state"].as_str().expect("a state").to_owned())
        .collect();
    states.sort_unstable();
    states
}

async fn sees(node: &Sandbox, expected: &[&str]) {
    eventually(&format!("members {expected:?}"), async || {
        states(node).await == expected
    })
    .await;
}

pub(crate) async fn formed(nodes: &[Sandbox]) {
    let everybody = vec!["active"; nodes.len()];
    for node in nodes {
        sees(node, &everybody).await;
    }
}

async fn dropped(node: &Sandbox, reason: &str) -> f64 {
    let series = format!("prometheus_proxy_gossip_packets_dropped_total{{reason=\"{reason}\"}}");
    node.own(&series).await
}

fn id(status: &Value) -> &str {
    status["node"]["id"].as_str().expect("an id")
}

/// What `node` knows of the member with this id.
async fn member(node: &Sandbox, id: &str) -> Value {
    let status = node.status().await;
    let members = status["members"].as_array().expect("members");
    let found = members.iter().find(|member| member["id"] == id);
    found.cloned().unwrap_or_default()
}

#[tokio::test]
async fn without_peers_a_node_is_a_cluster_of_one_and_opens_no_port_for_peers() {
    let proxy = Sandbox::start(&["--cluster.listen-address=127.0.0.1:0"]).await;
    assert_eq!(proxy.node.gossip_address, None);
    sees(&proxy, &["active"]).await;
    let status = proxy.status().await;
    assert_eq!(status["members"][0]["gossip_address"], Value::Null);
    let series = "prometheus_proxy_cluster_members{state=\"active\"}";
    eventually("the member to be counted", async || {
        proxy.own(series).await == 1.0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_see_each_other_and_what_each_has_to_do() {
    let started = Instant::now();
    let nodes = nodes(3, &[]).await;
    formed(&nodes).await;
    println!("3 nodes formed in {:?}", started.elapsed());
    let _app = crate::app::App::text(nodes[1].tcp(), "up 1\n").await;
    let status = nodes[1].status().await;
    eventually("the connection to be told", async || {
        member(&nodes[2], id(&status)).await["connections"] == 1
    })
    .await;
    let told = member(&nodes[2], id(&status)).await;
    assert_eq!(told["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(told["http_address"], nodes[1].web().to_string());
    assert_eq!(told["gossip_address"], gossip(&nodes[1]).to_string());
    let grpc = nodes[1].node.grpc_address.expect("a port for calls");
    assert_eq!(told["grpc_address"], grpc.to_string());
    let series = "prometheus_proxy_cluster_members{state=\"active\"}";
    assert_eq!(nodes[0].own(series).await, 3.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_vanishes_is_declared_dead_and_comes_back_in_a_new_generation() {
    let mut nodes = nodes(3, &[]).await;
    formed(&nodes).await;
    let gone = nodes.pop().expect("a third");
    let (web, status) = (gone.web(), gone.status().await);
    let before = member(&nodes[0], id(&status)).await;
    let vanished = Instant::now();
    drop(gone);
    sees(&nodes[0], &["active", "active", "dead"]).await;
    println!("declared dead after {:?}", vanished.elapsed());
    let flag = format!("--web.listen-address={web}");
    nodes.push(node(&[gossip(&nodes[1])], &[&flag]).await);
    formed(&nodes).await;
    let after = member(&nodes[0], id(&status)).await;
    assert_eq!(after["id"], before["id"]);
    assert!(after["generation"].as_u64() > before["generation"].as_u64());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_drains_says_so_and_leaves() {
    let mut nodes = nodes(2, &[]).await;
    formed(&nodes).await;
    let leaving = nodes.pop().expect("a second");
    // Holds the drain until it is answered.
    let answered = tokio::sync::watch::Sender::new(false);
    let answer = crate::app::Answer::Gated("up 1\n".into(), answered.subscribe());
    let app = crate::app::App::connect(leaving.tcp(), answer).await;
    let web = leaving.web();
    let scrape = tokio::spawn(crate::sandbox::request(
        web,
        hyper::Method::GET,
        "/metrics/connected",
        &[],
    ));
    eventually("a pull", async || app.seen.pulls() == 1).await;
    let drain = tokio::spawn(leaving.node.drain(Duration::from_secs(60)));
    sees(&nodes[0], &["active", "draining"]).await;
    answered.send_replace(true);
    scrape.await.unwrap();
    drop(app);
    drain.await.unwrap();
    sees(&nodes[0], &["active"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_work_leaves_too_and_is_not_declared_dead() {
    let mut nodes = nodes(2, &[]).await;
    formed(&nodes).await;
    let leaving = nodes.pop().expect("a second");
    leaving.node.drain(Duration::from_secs(60)).await;
    let mut seen = states(&nodes[0]).await;
    assert_eq!(seen, ["active", "draining"]);
    while seen != ["active"] {
        assert!(!seen.contains(&"dead".to_owned()));
        seen = states(&nodes[0]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_finds_the_peers_behind_it() {
    let first = node(&[], &[]).await;
    let name = format!("--cluster.peer=localhost:{}", gossip(&first).port());
    let second = node(&[], &[&name]).await;
    formed(&[first, second]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_another_cluster_are_ignored() {
    let first = node(&[], &[]).await;
    let other = node(&[gossip(&first)], &["--cluster.name=other"]).await;
    eventually("packets of the other cluster", async || {
        dropped(&first, "other_cluster").await > 3.0
    })
    .await;
    alone(&first).await;
    alone(&other).await;
}

/// Waits until the node gave up looking for others.
async fn alone(node: &Sandbox) {
    eventually("a node by itself", async || {
        states(node).await == ["active"]
    })
    .await;
}

/// A file with these secrets, and the flag that names it.
fn secrets(lines: &[&str]) -> (Scratch, String) {
    let scratch = Scratch::new();
    let file = scratch.file("secrets", &lines.join("\n"));
    let flag = format!("--cluster.secret-file={file}");
    (scratch, flag)
}

const OLD: &str = "the-secret-of-last-year";
const NEW: &str = "the-secret-of-this-year";

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_another_secret_or_none_is_ignored_and_its_packets_are_counted() {
    let (_kept, new) = secrets(&[NEW]);
    let (_kept_too, old) = secrets(&[OLD]);
    let first = node(&[], &[&new]).await;
    let second = node(&[gossip(&first)], &[&new]).await;
    let stranger = node(&[gossip(&first)], &[&old]).await;
    let open_to_all = node(&[gossip(&first)], &[]).await;
    eventually("strangers' packets", async || {
        dropped(&first, "unopened").await > 3.0 && dropped(&first, "unsealed").await > 3.0
    })
    .await;
    formed(&[first, second]).await;
    alone(&stranger).await;
    alone(&open_to_all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_in_the_middle_of_a_rotation_understand_each_other() {
    let (_kept, before) = secrets(&[OLD, NEW]);
    let (_kept_too, after) = secrets(&[NEW, OLD]);
    let first = node(&[], &[&before]).await;
    let second = node(&[gossip(&first)], &[&after]).await;
    formed(&[first, second]).await;
}

/// A plain packet, as anyone can make it.
pub(crate) fn plain(message: &[u8]) -> Vec<u8> {
    let cluster = Sha256::digest(NAME);
    [b"PRG\x01\x01", &cluster[..8], message].concat()
}

/// How many of these messages tell of more nodes than fit into the answer to the last, on which chitchat panics.
pub(crate) const ENOUGH: usize = 4;

/// A message that tells of as many nodes as fit into a datagram.
pub(crate) fn crowd() -> Vec<u8> {
    let mut nodes = Vec::new();
    let mut random = rand::rng();
    for _ in 0..1350 {
        // Its name, generation, address, and what is known of it.
        nodes.extend([1, 0, b'x']);
        nodes.extend(random.random::<[u8; 8]>());
        nodes.push(4);
        nodes.extend(random.random::<[u8; 4 + 2 + 24]>());
    }
    // A SYN of version 1, whose digest is one block as it is.
    let mut message = vec![0x53, 0xb0, 1, 0, 2];
    message.extend(u16::try_from(nodes.len()).unwrap().to_le_bytes());
    message.extend(nodes);
    message.push(0);
    message.extend(u16::try_from(NAME.len()).unwrap().to_le_bytes());
    message.extend(NAME.as_bytes());
    message
}

async fn attack(node: &Sandbox) {
    let attacker = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for _ in 0..ENOUGH {
        let packet = plain(&crowd());
        attacker.send_to(&packet, gossip(node)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_make_the_gossip_panic_do_not_reach_it_without_the_secret() {
    let (_kept, secret) = secrets(&[NEW]);
    let nodes = nodes(2, &[&secret]).await;
    formed(&nodes).await;
    eventually("enough to be dropped", async || {
        // Again, because a busy machine loses some on the way.
        attack(&nodes[0]).await;
        dropped(&nodes[0], "unsealed").await >= ENOUGH as f64
    })
    .await;
    formed(&nodes).await;
    let restarts = nodes[0].own("prometheus_proxy_gossip_restarts_total").await;
    assert_eq!(restarts, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gossip_that_panics_is_started_again() {
    let victim = node(&[], &[]).await;
    attack(&victim).await;
    eventually("the gossip to be started again", async || {
        victim.own("prometheus_proxy_gossip_restarts_total").await >= 1.0
    })
    .await;
    let peer = node(&[gossip(&victim)], &[]).await;
    formed(&[victim, peer]).await;
}

/// Datagrams that a node sent to an address that it was given as a peer's.
async fn record(flags: &[&str], count: usize) -> (Sandbox, UdpSocket, Vec<Vec<u8>>) {
    let recorder = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let node = node(&[recorder.local_addr().unwrap()], flags).await;
    let mut packets = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    while packets.len() < count {
        let length = recorder.recv(&mut buffer).await.unwrap();
        packets.push(buffer[..length].to_vec());
    }
    (node, recorder, packets)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_packet_is_taken_once() {
    let (_kept, secret) = secrets(&[NEW]);
    let victim = node(&[], &[&secret]).await;
    let (_node, recorder, packets) = record(&[&secret], 1).await;
    for _ in 0..10 {
        recorder
            .send_to(&packets[0], gossip(&victim))
            .await
            .unwrap();
    }
    eventually("the repetitions to be dropped", async || {
        dropped(&victim, "replayed").await == 9.0
    })
    .await;
}

/// Random datagrams, mutated ones and repetitions, as fast as they go.
async fn flood(packets: Vec<Vec<u8>>, to: SocketAddr, count: usize) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for number in 0..count {
        let mut packet = packets[number % packets.len()].clone();
        {
            let mut random = rand::rng();
            let at = random.random_range(0..packet.len());
            match number % 4 {
                0 => packet[at] = random.random(),
                1 => packet.truncate(at),
                2 => random.fill(&mut packet[..]),
                _ => {}
            }
        }
        // A full buffer loses it, as the network may.
        let _ = socket.send_to(&packet, to).await;
    }
}

#[expect(
    clippy::print_stdout,
    reason = "a figure for readers of the test's output"
)]
async fn survives_a_flood(flags: &[&str]) {
    let nodes = nodes(2, flags).await;
    formed(&nodes).await;
    let (recorded, _, packets) = record(flags, 3).await;
    // Else it would join.
    drop(recorded);
    let started = Instant::now();
    let flood = tokio::spawn(flood(packets, gossip(&nodes[0]), 100_000));
    while !flood.is_finished() {
        let scrape = nodes[0].get("/metrics/connected").await;
        assert_eq!(scrape.status, hyper::StatusCode::OK);
    }
    flood.await.unwrap();
    println!("100000 packets in {:?}", started.elapsed());
    eventually("packets to be dropped", async || {
        dropped(&nodes[0], "foreign").await > 0.0
    })
    .await;
    formed(&nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_rubbish_does_not_harm_a_node_with_a_secret() {
    let (_kept, secret) = secrets(&[NEW]);
    survives_a_flood(&[&secret]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_rubbish_does_not_harm_a_node_without_a_secret() {
    survives_a_flood(&[]).await;
}

#[test]
fn a_mistake_in_the_flags_of_the_cluster_is_one_line_that_names_the_flag() {
    use prometheus_rsocket_proxy::cli::settings;
    let (_kept, short) = secrets(&["short"]);
    for (flags, part) in [
        (&["--cluster.peer=a b"][..], "--cluster.peer"),
        (
            &["--cluster.advertise-address=0.0.0.0"],
            "--cluster.advertise-address",
        ),
        (
            &["--cluster.listen-address=here"],
            "--cluster.listen-address",
        ),
        (&["--cluster.name="], "--cluster.name"),
        (
            &["--cluster.secret-file=/nonexistent"],
            "--cluster.secret-file: /nonexistent: ",
        ),
        (&[&short], "secrets:1: "),
        (
            &[
                "--cluster.peer=a",
                "--cluster.advertise-address=fd00::1",
                "--cluster.listen-address=0.0.0.0:7946",
            ],
            "--cluster.listen-address: 0.0.0.0:7946 is not reached at fd00::1",
        ),
        (
            &[
                "--cluster.peer=a",
                "--cluster.advertise-address=fd00::1",
                "--cluster.grpc.listen-address=0.0.0.0:1234",
            ],
            "--cluster.grpc.listen-address: ",
        ),
    ] {
        let said = settings(flags.iter().copied()).expect_err("a mistake");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains(part), "{said}");
    }
}

/// CPU time of this process.
fn cpu() -> Duration {
    use nix::sys::resource::{UsageWho, getrusage};
    use nix::sys::time::TimeValLike;
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    let time = usage.user_time() + usage.system_time();
    Duration::from_micros(time.num_microseconds().unsigned_abs())
}

async fn sum(nodes: &[Sandbox], series: &str) -> f64 {
    let mut sum = 0.0;
    for node in nodes {
        sum += node.own(series).await;
    }
    sum
}

/// What `nodes` use in ten seconds without any work.
#[expect(clippy::print_stdout, reason = "the figures are what this is for")]
async fn idle(nodes: &[Sandbox]) {
    let bytes = "prometheus_proxy_gossip_bytes_total{direction=\"sent\"}";
    let packets = "prometheus_proxy_gossip_packets_total{direction=\"sent\"}";
    let before = (sum(nodes, bytes).await, sum(nodes, packets).await, cpu());
    tokio::time::sleep(Duration::from_secs(10)).await;
    let used = cpu() - before.2;
    let (bytes, packets) = (
        sum(nodes, bytes).await - before.0,
        sum(nodes, packets).await - before.1,
    );
    let each = 10.0 * nodes.len() as f64;
    println!(
        "{} idle nodes, each per second: {:.2} ms of CPU, {:.0} bytes and {:.1} packets sent; {:.0} bytes per packet",
        nodes.len(),
        used.as_secs_f64() * 1000.0 / each,
        bytes / each,
        packets / each,
        bytes / packets,
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures, and asserts nothing"]
async fn figures_of_clusters_of_several_sizes() {
    let (_kept, secret) = secrets(&[NEW]);
    let alone: Vec<_> = futures_util::future::join_all((0..20).map(|_| Sandbox::start(&[]))).await;
    for node in &alone {
        sees(node, &["active"]).await;
    }
    idle(&alone).await;
    drop(alone);
    for count in [3, 20] {
        let started = Instant::now();
        let mut nodes = nodes(count, &[&secret]).await;
        let last_started = Instant::now();
        formed(&nodes).await;
        println!(
            "{count} nodes: started in {:?}, formed {:?} after the last one's start",
            last_started - started,
            last_started.elapsed()
        );
        idle(&nodes).await;
        let vanished = Instant::now();
        drop(nodes.pop());
        let mut expected = vec!["active"; count - 1];
        expected.push("dead");
        let mut times = Vec::new();
        for node in &nodes {
            sees(node, &expected).await;
            times.push(vanished.elapsed());
        }
        println!(
            "declared dead by the first after {:?}, by all after {:?}",
            times[0],
            times[count - 2]
        );
    }
}
