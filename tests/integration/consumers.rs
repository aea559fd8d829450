//! A pair of real Prometheis scrapes three nodes: each of the two gets each push once, whatever happens to the nodes.

#![allow(clippy::print_stdout, reason = "how long it took, and what came of it")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::app::Peer;
use crate::balancer::start;
use crate::nodes::Node;
use crate::peers::{Program, need, prometheus_3, reserved_port};
use crate::prometheus::Prometheus;
use crate::sandbox::{PATIENCE, eventually_within};

const POSSIBLE: &str = "prometheus_proxy_pushes_possible_duplicates_total";

/// Where the nodes are: the port of the gossip, and those for applications and for HTTP.
struct Places {
    gossip: [u16; 3],
    ports: [[u16; 2]; 3],
}

impl Places {
    fn reserve() -> Self {
        Self {
            gossip: [(); 3].map(|()| reserved_port()),
            ports: [(); 3].map(|()| [reserved_port(), reserved_port()]),
        }
    }

    async fn start(&self, place: usize) -> Node {
        let seed = self.gossip[(place + 1) % 3];
        let other = format!("--cluster.peer=127.0.0.1:{}", self.gossip[(place + 2) % 3]);
        let flags = [
            other.as_str(),
            "--shutdown.grace-period=30s",
            "--shutdown.delay=1s",
            "--rebalance.enabled=false",
        ];
        start(self.gossip[place], seed, self.ports[place], &flags).await
    }

    /// Three nodes that see each other, and a Prometheus of each version that scrapes them.
    async fn with_a_pair(&self) -> (Vec<Node>, [Prometheus; 2]) {
        let mut nodes = Vec::new();
        for place in 0..3 {
            nodes.push(self.start(place).await);
        }
        see(&nodes).await;
        let pair = [
            Prometheus::with(&self.config("a")).await,
            Prometheus::running(&prometheus_3(), &self.config("b")).await,
        ];
        (nodes, pair)
    }

    fn config(&self, consumer: &str) -> String {
        let targets = self.ports.map(|[_, web]| format!("'127.0.0.1:{web}'"));
        format!(
            "global: {{scrape_interval: 2s, scrape_timeout: 2s}}\n\
             scrape_configs:\n\
             - {{job_name: pushes, metrics_path: /metrics/pushes, honor_labels: true, \
                params: {{consumer: [{consumer}]}}, static_configs: [{{targets: [{}]}}]}}\n",
            targets.join(", ")
        )
    }
}

/// Pushes until told to stop, and so many at least, each with a series of its own; gives the numbers of those that were
/// acknowledged. What is not may be held all the same, and is not pushed again.
async fn push_until(stop: Arc<AtomicBool>, ports: [[u16; 2]; 3], least: usize) -> BTreeSet<String> {
    let mut acknowledged = BTreeSet::new();
    let mut number = 0;
    while number < least || !stop.load(Ordering::Relaxed) {
        number += 1;
        let [tcp, _] = ports[number % ports.len()];
        let pushing = tokio::spawn(async move {
            let mut job = Peer::connect(SocketAddr::from(([127, 0, 0, 1], tcp))).await;
            job.key().await;
            let text = format!("pair_push{{number=\"{number}\"}} 1\n");
            job.push(&text).await.is_ok()
        });
        if let Ok(Ok(true)) = timeout(Duration::from_secs(10), pushing).await {
            acknowledged.insert(number.to_string());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    acknowledged
}

/// How many samples a Prometheus has of each push.
async fn samples_of(prometheus: &Prometheus) -> BTreeMap<String, f64> {
    let query = "sum by (number) (count_over_time(pair_push[1h]))";
    let series = prometheus.query(query).await.into_iter();
    series
        .map(|(labels, samples)| {
            (
                labels["number"].as_str().unwrap_or_default().into(),
                samples,
            )
        })
        .collect()
}

async fn see(nodes: &[Node]) {
    for node in nodes {
        node.sees(nodes.len(), "active").await;
    }
}

enum Trouble {
    /// Each node is restarted, one after the other.
    Restarts,
    /// Two are killed, one after the other, and come back.
    Kills,
}

async fn each_gets_each_push_once(least: usize, trouble: Trouble) {
    let places = Places::reserve();
    let (mut nodes, pair) = places.with_a_pair().await;
    let started = Instant::now();
    let stop = Arc::new(AtomicBool::new(false));
    let pushing = tokio::spawn(push_until(Arc::clone(&stop), places.ports, least));
    let mut possible = 0.0;
    let (times, is_kill) = match trouble {
        Trouble::Restarts => (3, false),
        Trouble::Kills => (2, true),
    };
    for place in 0..times {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let mut node = nodes.remove(place);
        possible += node.own(POSSIBLE).await;
        if is_kill {
            node.program.kill().await;
            // Its pushes are taken over before it is back.
            for other in &nodes {
                other.sees(2, "active").await;
            }
            tokio::time::sleep(Duration::from_secs(3)).await;
        } else {
            node.program.terminate();
            assert!(node.program.ended().await.success());
        }
        nodes.insert(place, places.start(place).await);
        see(&nodes).await;
    }
    stop.store(true, Ordering::Relaxed);
    let acknowledged = pushing.await.expect("no panic");
    for node in &nodes {
        possible += node.own(POSSIBLE).await;
    }
    let mut again = 0.0;
    for prometheus in &pair {
        eventually_within(2 * PATIENCE, "every push", async || {
            let samples = samples_of(prometheus).await;
            acknowledged.iter().all(|push| samples.contains_key(push))
        })
        .await;
        // Another scrape of each node brings nothing again.
        tokio::time::sleep(Duration::from_secs(5)).await;
        let samples = samples_of(prometheus).await;
        again += samples.values().map(|samples| samples - 1.0).sum::<f64>();
    }
    println!(
        "{} acknowledged pushes to each of two, {again} samples again, {possible} possible duplicates counted, in {:?}",
        acknowledged.len(),
        started.elapsed()
    );
    if is_kill {
        assert!(again <= possible);
    } else {
        assert_eq!((again, possible), (0.0, 0.0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_two_prometheis_gets_each_push_once_while_nodes_are_restarted() {
    need!(Prometheus, Prometheus3);
    each_gets_each_push_once(200, Trouble::Restarts).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_of_two_prometheis_gets_twice_while_nodes_are_killed_is_counted() {
    need!(Prometheus, Prometheus3);
    each_gets_each_push_once(200, Trouble::Kills).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_two_prometheis_gets_each_push_of_published_java_clients_once() {
    need!(Java, Prometheus, Prometheus3);
    const APPS: usize = 34;
    let places = Places::reserve();
    let (nodes, pair) = places.with_a_pair().await;
    for (place, [tcp, _]) in places.ports.iter().enumerate() {
        let (port, name, count) = (tcp.to_string(), format!("job{place}"), APPS.to_string());
        let app = ["--port", &port, "--name", &name, "--count", &count];
        let options = [&app[..], &["--timeout", "30000"]].concat();
        let mut apps = Program::interop("client", &options);
        for _ in 0..APPS {
            // Before it has a key, this client pushes nothing and says nothing of it.
            apps.line("READY").await;
        }
        // With its other kind of push, this client closes before it has sent it.
        apps.say("pushblocking").await;
        apps.line("DONE").await;
        assert!(!apps.has_said("PUSH-FAILED"));
        apps.say("leave").await;
        assert!(apps.ended().await.success());
    }
    for prometheus in &pair {
        let samples = async || {
            let query = "sum by (app) (count_over_time(interop_events_total[1h]))";
            let series = prometheus.query(query).await.into_iter();
            series.map(|(_, samples)| samples).collect::<Vec<_>>()
        };
        eventually_within(2 * PATIENCE, "every push", async || {
            samples().await.len() == 3 * APPS
        })
        .await;
        // Another scrape of each node brings nothing again.
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(samples().await, [1.0; 3 * APPS]);
    }
    for node in &nodes {
        assert_eq!(node.own(POSSIBLE).await, 0.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "prints figures, and takes minutes"]
async fn figures_of_a_thousand_pushes_to_two_prometheis() {
    need!(Prometheus, Prometheus3);
    each_gets_each_push_once(1_000, Trouble::Restarts).await;
    each_gets_each_push_once(1_000, Trouble::Kills).await;
}
