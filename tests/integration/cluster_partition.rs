//! A cluster over networks that break, as processes on hosts of their own.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::network::{NAME, Network};
use crate::nodes::{BINARY, Node};
use crate::peers::need;
use crate::sandbox::eventually;

/// A node on each host, which looks for the others by name.
async fn start(network: &Network) -> Vec<Node> {
    let hosts = 0..network.addresses().len();
    join_all(hosts.map(|host| start_one(network, host))).await
}

async fn start_one(network: &Network, host: usize) -> Node {
    let secret = network.file("secret", "correct horse battery staple, twice\n");
    let mut command = network.command(host, BINARY);
    command.args(["--cluster.peer", NAME, "--cluster.secret-file", &secret]);
    Node::start(&mut command, network.address(host)).await
}

async fn formed(nodes: &[Node]) {
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
