//! A cluster over networks that break, as processes on hosts of their own.

use std::time::{Duration, Instant};

use fastrand::Rng;
use futures_util::future::join_all;
use hyper::Method;
use tokio::time::sleep;

use crate::app::Peer;
use crate::network::{NAME, Network};
use crate::nodes::{BINARY, Node};
use crate::peers::need;
use crate::sandbox::{eventually, request, samples};

/// A node on each host, which looks for the others by name.
pub(crate) async fn start(network: &Network) -> Vec<Node> {
    network.file("secret", "correct horse battery staple, twice\n");
    let hosts = 0..network.addresses().len();
    join_all(hosts.map(|host| start_one(network, host))).await
}

async fn start_one(network: &Network, host: usize) -> Node {
    let secret = network.path("secret");
    let mut command = network.command(host, BINARY);
    command.args(["--cluster.peer", NAME, "--cluster.secret-file", &secret]);
    Node::start(&mut command, network.address(host)).await
}

pub(crate) async fn formed(nodes: &[Node]) {
    for node in nodes {
        node.sees(nodes.len(), "active").await;
    }
}

/// An acknowledged push.
struct Push {
    line: String,
    at: usize,
    when: &'static str,
    served: u32,
}

#[derive(Default)]
struct Pushes(Vec<Push>);

impl Pushes {
    /// Pushes one to each node.
    async fn spread(&mut self, nodes: &[Node], when: &'static str) {
        for (at, node) in nodes.iter().enumerate() {
            let line = format!("job{{at=\"{at}\",when=\"{when}\"}} 1");
            node.pushed(format!("{line}\n")).await;
            self.0.push(Push {
                line,
                at,
                when,
                served: 0,
            });
        }
    }

    async fn scrape(&mut self, node: &Node) {
        for line in node.scrape().await {
            let push = self.0.iter_mut().find(|push| push.line == line);
            push.expect("what was pushed").served += 1;
        }
    }

    /// Whether all that these nodes took have been served.
    fn are_served(&self, nodes: &[usize]) -> bool {
        let mut here = self.0.iter().filter(|push| nodes.contains(&push.at));
        here.all(|push| push.served > 0)
    }

    fn are_served_once(&self, when: &str) -> bool {
        let mut then = self.0.iter().filter(|push| push.when == when);
        then.all(|push| push.served == 1)
    }

    /// How many times more than once.
    fn repeated(&self) -> u32 {
        let served = self.0.iter().map(|push| push.served.saturating_sub(1));
        served.sum()
    }
}

async fn sum(nodes: &[Node], series: &str) -> f64 {
    let values = nodes.iter().map(|node| node.own(series));
    join_all(values).await.into_iter().sum()
}

#[tokio::test]
async fn a_partition_heals_and_loses_nothing_that_was_acknowledged() {
    need!(Networks);
    let network = Network::of(3);
    let nodes = start(&network).await;
    formed(&nodes).await;
    let mut pushes = Pushes::default();
    pushes.spread(&nodes, "before").await;

    network.cut(0, &[1, 2]);
    let cut = Instant::now();
    pushes.spread(&nodes, "unnoticed").await;
    for (node, unreachable) in nodes.iter().zip([2, 1, 1]) {
        node.sees(unreachable, "dead").await;
    }
    let noticed = cut.elapsed();
    println!("declared dead on both sides after {noticed:?}");
    // Three seconds, and some for a busy machine.
    assert!(noticed < Duration::from_secs(6), "{noticed:?}");

    pushes.spread(&nodes, "apart").await;
    pushes.scrape(&nodes[0]).await;
    assert!(pushes.are_served(&[0]));
    pushes.scrape(&nodes[1]).await;
    assert!(pushes.are_served(&[1, 2]));
    pushes.spread(&nodes, "unserved").await;

    network.heal(0);
    let healed = Instant::now();
    formed(&nodes).await;
    println!("one cluster again after {:?}", healed.elapsed());
    eventually("every push from one node", async || {
        pushes.scrape(&nodes[1]).await;
        pushes.are_served(&[0, 1, 2])
    })
    .await;
    let possible = sum(&nodes, "prometheus_proxy_pushes_possible_duplicates_total").await;
    assert!(possible >= pushes.repeated().into());

    let replicated = "prometheus_proxy_pushes_replicated_total";
    let before = sum(&nodes, replicated).await;
    pushes.spread(&nodes, "healed").await;
    assert_eq!(sum(&nodes, replicated).await, before + 3.0);
    pushes.scrape(&nodes[2]).await;
    assert!(pushes.are_served(&[0, 1, 2]));
    for node in &nodes {
        pushes.scrape(node).await;
    }
    assert!(pushes.are_served_once("healed"));
}

#[tokio::test]
async fn nodes_that_all_start_anew_with_new_addresses_find_each_other_by_name() {
    need!(Networks);
    let mut network = Network::of(3);
    let nodes = start(&network).await;
    formed(&nodes).await;
    for node in nodes {
        node.program.kill().await;
    }
    for host in 0..3 {
        network.move_host(host);
    }
    // Names lag behind: at first this one stands for addresses that nobody has any more.
    let nodes = start(&network).await;
    for node in &nodes {
        node.sees(1, "active").await;
    }
    network.name_resolves_to(network.addresses());
    let resolved = Instant::now();
    formed(&nodes).await;
    println!("formed {:?} after the name changed", resolved.elapsed());
    nodes[0].pushed("jobs_total 1\n").await;
    assert_eq!(nodes[1].scrape().await, ["jobs_total 1"]);
}

#[tokio::test]
async fn nodes_restarted_one_by_one_with_new_addresses_lose_no_push_and_serve_each_once() {
    need!(Networks);
    let mut network = Network::of(3);
    let mut nodes = start(&network).await;
    formed(&nodes).await;
    let mut pushes = Pushes::default();
    for (host, when) in ["first", "second", "third"].into_iter().enumerate() {
        pushes.spread(&nodes, when).await;
        let leaving = &mut nodes[host].program;
        leaving.terminate();
        assert!(leaving.ended().await.success());
        network.move_host(host);
        network.name_resolves_to(network.addresses());
        nodes[host] = start_one(&network, host).await;
    }
    pushes.scrape(&nodes[1]).await;
    assert!(pushes.are_served(&[0, 1, 2]));
    for node in &nodes {
        pushes.scrape(node).await;
    }
    assert_eq!(pushes.repeated(), 0);
}

/// Pushes to a node again and again; gives what was acknowledged.
async fn push_until(end: Instant, at: usize, node: &Node) -> Vec<String> {
    let mut random = Rng::with_seed(at as u64);
    let mut acknowledged = Vec::new();
    while Instant::now() < end {
        sleep(Duration::from_millis(random.u64(20..400))).await;
        let line = format!("job{{at=\"{at}\",number=\"{}\"}} 1", acknowledged.len());
        // Unlike a client, this answers no pull, which would look like a push served twice.
        let mut app = Peer::connect(node.tcp).await;
        app.key().await;
        app.push(&format!("{line}\n")).await.expect("taken");
        acknowledged.push(line);
    }
    acknowledged
}

/// Scrapes a node again and again; gives what it served.
async fn scrape_until(end: Instant, at: usize, node: &Node) -> Vec<String> {
    let mut random = Rng::with_seed(at as u64);
    let mut served = Vec::new();
    while Instant::now() < end {
        sleep(Duration::from_millis(random.u64(200..2000))).await;
        let headers = [("x-prometheus-scrape-timeout-seconds", "3")];
        let response = request(node.web, Method::GET, "/metrics/connected", &headers).await;
        served.extend(samples(response.text()));
    }
    served
}

/// Cuts and heals again and again; at last all is well.
async fn break_until(end: Instant, network: &Network) {
    let mut random = Rng::with_seed(1);
    while Instant::now() < end {
        let host = random.usize(0..3);
        let others = [(host + 1) % 3, (host + 2) % 3];
        match random.u8(0..4) {
            0 => network.cut(host, &others),
            1 => network.cut(host, &others[..1]),
            _ => network.heal(host),
        }
        sleep(Duration::from_millis(random.u64(100..4000))).await;
    }
    for host in 0..3 {
        network.heal(host);
    }
}

#[tokio::test]
async fn whatever_breaks_and_heals_every_push_is_served_and_what_is_repeated_was_counted() {
    need!(Networks);
    let network = Network::of(3);
    let nodes = start(&network).await;
    formed(&nodes).await;
    let end = Instant::now() + Duration::from_secs(20);
    let pushing = nodes.iter().enumerate();
    let pushing = pushing.map(|(at, node)| push_until(end, at, node));
    let scraping = nodes.iter().enumerate();
    let scraping = scraping.map(|(at, node)| scrape_until(end, at, node));
    let breaking = break_until(end, &network);
    let (pushed, served, ()) = tokio::join!(join_all(pushing), join_all(scraping), breaking);
    let (pushed, mut served) = (pushed.concat(), served.concat());

    formed(&nodes).await;
    let mut missing = pushed.clone();
    eventually("every push", async || {
        served.extend(nodes[0].scrape().await);
        missing.retain(|push| !served.contains(push));
        missing.is_empty()
    })
    .await;
    let repeated = served.len() - pushed.len();
    let possible = sum(&nodes, "prometheus_proxy_pushes_possible_duplicates_total").await;
    println!(
        "{} pushes, {repeated} repeated, {possible} counted",
        pushed.len()
    );
    assert!(repeated as f64 <= possible);
}
