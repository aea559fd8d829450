//! Nodes behind a balancer, of which some have more applications than others.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prometheus_rsocket_client::Client;
use prometheus_rsocket_proxy::node::Node;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::sandbox::{Sandbox, eventually};

/// Where nobody answers.
const NOBODY: &str = "127.0.0.1:9";
/// Between two scrapes.
pub(crate) const SCRAPE_EVERY: Duration = Duration::from_secs(3);

/// A node that is quick to even connections out.
pub(crate) async fn node(peer: Option<SocketAddr>) -> Sandbox {
    let peer = peer.map_or(NOBODY.to_owned(), |peer| peer.to_string());
    let mut checked = Sandbox::settings(&[
        "--cluster.listen-address=127.0.0.1:0",
        &format!("--cluster.peer={peer}"),
        "--rebalance.min-surplus=2",
        "--rebalance.settle-time=1s",
        "--rebalance.min-connection-age=6s",
        "--rebalance.max-rate=50%",
    ]);
    checked.settings.rebalance.spread = Duration::from_secs(1);
    checked.settings.rebalance.freeze = Duration::from_secs(2);
    Sandbox {
        node: Node::bind(checked).await.expect("free ports"),
    }
}

pub(crate) async fn joined(node: &Sandbox, members: f64) {
    let series = "prometheus_proxy_cluster_members{state=\"active\"}";
    eventually("the members", async || node.own(series).await == members).await;
}

/// A TCP balancer that sends each connection to the target that has fewest.
#[derive(Clone)]
pub(crate) struct Balancer {
    pub(crate) address: SocketAddr,
    targets: Arc<Mutex<Vec<(SocketAddr, usize)>>>,
    cut: Arc<Notify>,
}

impl Balancer {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let balancer = Self {
            address: listener.local_addr().expect("an address"),
            targets: Arc::default(),
            cut: Arc::default(),
        };
        tokio::spawn(balancer.clone().run(listener));
        balancer
    }

    pub(crate) fn add(&self, node: &Sandbox) {
        self.targets.lock().unwrap().push((node.tcp(), 0));
    }

    /// Ends every connection.
    pub(crate) fn cut(&self) {
        self.cut.notify_waiters();
    }

    async fn run(self, listener: TcpListener) {
        while let Ok((mut client, _)) = listener.accept().await {
            let balancer = self.clone();
            tokio::spawn(async move {
                let target = balancer.choose();
                if let Ok(mut node) = TcpStream::connect(target).await {
                    tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut node) => {}
                        () = balancer.cut.notified() => {}
                    }
                }
                balancer.count(target, |connections| connections - 1);
            });
        }
    }

    fn choose(&self) -> SocketAddr {
        let fewest = {
            let targets = self.targets.lock().unwrap();
            let fewest = targets.iter().min_by_key(|(_, connections)| *connections);
            fewest.expect("a target").0
        };
        self.count(fewest, |connections| connections + 1);
        fewest
    }

    fn count(&self, target: SocketAddr, change: impl Fn(usize) -> usize) {
        let mut targets = self.targets.lock().unwrap();
        let found = targets.iter_mut().find(|(address, _)| *address == target);
        let (_, connections) = found.expect("a target");
        *connections = change(*connections);
    }
}

/// Applications that come back through the balancer whenever their connection ends.
fn applications(count: usize, balancer: &Balancer) -> Vec<Client> {
    (0..count)
        .map(|app| {
            let address = format!("tcp://{}", balancer.address);
            Client::builder(move || format!("app_up{{app=\"{app}\"}} 1\n"))
                .proxy(address.parse().expect("an address"))
                .connect()
        })
        .collect()
}

pub(crate) async fn connections(nodes: &[Sandbox]) -> Vec<usize> {
    let mut counts = Vec::new();
    for node in nodes {
        let status = node.status().await;
        counts.push(status["connections"].as_array().expect("a list").len());
    }
    counts
}

/// How many applications are in the answers of all nodes.
async fn scrape_all(nodes: &[Sandbox]) -> usize {
    let mut seen = BTreeSet::new();
    for node in nodes {
        seen.extend(node.scrape().await);
    }
    seen.len()
}

async fn total(nodes: &[Sandbox], series: &str) -> f64 {
    let mut total = 0.0;
    for node in nodes {
        total += node.own(series).await;
    }
    total
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_joins_gets_its_share_and_no_scrape_misses_an_application() {
    let balancer = Balancer::start().await;
    let first = node(None).await;
    let gossip = first.node.gossip_address;
    let mut nodes = vec![first, node(gossip).await];
    joined(&nodes[0], 2.0).await;
    nodes.iter().for_each(|node| balancer.add(node));
    let _apps = applications(60, &balancer);
    eventually("the applications", async || {
        connections(&nodes).await == [30, 30]
    })
    .await;
    // From the second one on it is known how often scrapes come.
    scrape_all(&nodes).await;
    sleep(SCRAPE_EVERY).await;
    scrape_all(&nodes).await;
    nodes.push(node(gossip).await);
    balancer.add(&nodes[2]);
    joined(&nodes[2], 3.0).await;
    eventually("connections to be even", async || {
        sleep(SCRAPE_EVERY).await;
        assert_eq!(scrape_all(&nodes).await, 60);
        let counts = connections(&nodes).await;
        println!("{counts:?}");
        counts.iter().all(|count| (16..=24).contains(count))
    })
    .await;
    let shed = "prometheus_proxy_rebalance_connections_shed_total";
    let shed = total(&nodes, shed).await;
    assert!((16.0..=30.0).contains(&shed), "{shed} closed");
    let status = nodes[0].status().await;
    assert_eq!(status["rebalance"]["target"], 20.0);
    assert!(status["rebalance"]["shed"].as_u64() > Some(0));
    let reasons = status["left"].as_array().expect("a list").iter();
    let mut reasons = reasons.filter_map(|left| left["reason"].as_str());
    assert!(reasons.any(|reason| reason.contains("other proxies have fewer connections")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_gives_up_where_what_it_closes_comes_back_and_says_so() {
    let balancer = Balancer::start().await;
    let first = node(None).await;
    // Never heard of the other one.
    balancer.add(&first);
    let nodes = [node(first.node.gossip_address).await, first];
    joined(&nodes[1], 2.0).await;
    let _apps = applications(40, &balancer);
    let yields = "prometheus_proxy_rebalance_yields_total";
    eventually("the node to yield", async || {
        nodes[1].own(yields).await == 1.0
    })
    .await;
    let status = nodes[1].status().await["rebalance"].clone();
    assert_eq!(status["phase"], "yielding");
    assert_eq!(
        (&status["target"], &status["surplus"]),
        (&20.0.into(), &20.0.into())
    );
    assert_eq!(status["ineffective"], 2);
    assert_eq!(status["shed"], status["came_back"]);
    let phase = "prometheus_proxy_rebalance_phase{phase=\"yielding\"}";
    assert_eq!(nodes[1].own(phase).await, 1.0);
    eventually("the last to come back", async || {
        connections(&nodes).await == [0, 40]
    })
    .await;
}
