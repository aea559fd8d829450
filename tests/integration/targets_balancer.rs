//! A target per application, through a balancer: a real Prometheus discovers and scrapes applications at whichever node
//! the balancer picks, while nodes are restarted, added, removed and killed.

#![allow(
    clippy::print_stdout,
    reason = "how long it took, and what Prometheus said of targets that failed"
)]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::{Method, StatusCode};
use serde_json::Value;
use tokio::process::Command;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::agent::{HttpTarget, Page};
use crate::balancer::{Balancer, start};
use crate::nodes::{BINARY, Node};
use crate::peers::{Program, need, prometheus_3, reserved_port};
use crate::prometheus::Prometheus;
use crate::sandbox::{PATIENCE, eventually_within, request};

/// Targets of the agent.
const TARGETS: usize = 20;

/// Places for nodes: the port of the gossip, and those for applications and for HTTP.
struct Places {
    gossip: [u16; 4],
    ports: [[u16; 2]; 4],
}

impl Places {
    fn reserve() -> Self {
        let gossip = [(); 4].map(|()| reserved_port());
        Self {
            ports: gossip.map(|_| [reserved_port(), reserved_port()]),
            gossip,
        }
    }

    async fn start(&self, place: usize) -> Node {
        let flags = [
            "--targets.by=app",
            "--shutdown.grace-period=30s",
            "--shutdown.delay=2s",
            "--rebalance.settle-time=2s",
            "--rebalance.min-connection-age=4s",
            "--rebalance.max-rate=10%",
            "--rebalance.min-surplus=5",
        ];
        let seed = self.gossip[(place + 1) % self.gossip.len()];
        let others = [
            format!("--cluster.peer=127.0.0.1:{}", self.gossip[(place + 2) % 4]),
            format!("--cluster.peer=127.0.0.1:{}", self.gossip[(place + 3) % 4]),
        ];
        let flags: Vec<&str> = flags
            .into_iter()
            .chain(others.iter().map(String::as_str))
            .collect();
        start(self.gossip[place], seed, self.ports[place], &flags).await
    }
}

/// Applications of three kinds, behind a balancer: as many with the published Java client as with ours, and an agent.
struct Fleet {
    names: BTreeSet<String>,
    _programs: Vec<Program>,
    _targets: Vec<HttpTarget>,
}

impl Fleet {
    async fn start(proxy: u16, each: usize) -> Self {
        let (port, count) = (proxy.to_string(), each.to_string());
        let published = ["--port", &port, "--name", "published", "--count", &count];
        let own = ["--port", &port, "--name", "own", "--count", &count];
        let mut agent = Command::new(BINARY);
        agent
            .arg("agent")
            .arg(format!("--proxy=tcp://127.0.0.1:{port}"));
        let mut targets = Vec::new();
        for number in 1..=TARGETS {
            let target = HttpTarget::start(Page::text("interop_events_total 1\n")).await;
            agent.arg(target.flag(&format!(",instance=target-{number}")));
            targets.push(target);
        }
        let numbered = |name: &'static str, count: usize| {
            (1..=count).map(move |number| format!("{name}-{number}"))
        };
        Self {
            names: numbered("published", each)
                .chain(numbered("own", each))
                .chain(numbered("target", TARGETS))
                .collect(),
            _programs: vec![
                Program::interop("client", &published),
                Program::interop("own-client", &own),
                Program::start(&mut agent),
            ],
            _targets: targets,
        }
    }
}

/// The instances that a node lists; `None` where it says that it does not know them all.
async fn listed(web: SocketAddr) -> Option<BTreeSet<String>> {
    let response = request(web, Method::GET, "/targets", &[]).await;
    if response.status == StatusCode::SERVICE_UNAVAILABLE {
        return None;
    }
    assert_eq!(response.status, StatusCode::OK, "{}", response.text());
    let groups: Value = serde_json::from_slice(&response.body).expect("JSON");
    let groups = groups.as_array().expect("groups");
    let instance = |group: &Value| group["labels"]["instance"].as_str().expect("a name").into();
    Some(groups.iter().map(instance).collect())
}

/// Discovers and scrapes what is behind the balancer.
fn config(web: u16) -> String {
    format!(
        "global: {{scrape_interval: 5s, scrape_timeout: 5s}}\n\
         scrape_configs:\n\
         - job_name: applications\n\
         \x20 honor_labels: true\n\
         \x20 http_sd_configs: [{{url: 'http://127.0.0.1:{web}/targets', refresh_interval: 2s}}]\n"
    )
}

/// What Prometheus thinks of the applications since `since`: none was down once, none changed its labels, and no sample was
/// out of order.
async fn assert_unbroken(prometheus: &Prometheus, names: &BTreeSet<String>, since: Instant) {
    let seconds = since.elapsed().as_secs();
    let down = format!("count(min_over_time(up{{job=\"applications\"}}[{seconds}s]) == 0)");
    assert_eq!(prometheus.value(&down).await, None);
    let all = format!("count(count_over_time(up{{job=\"applications\"}}[{seconds}s]))");
    assert_eq!(prometheus.value(&all).await, Some(names.len() as f64));
    let series = format!("count(count_over_time(interop_events_total[{seconds}s]))");
    assert_eq!(prometheus.value(&series).await, Some(names.len() as f64));
    for why in ["duplicate_timestamp", "out_of_bounds", "out_of_order"] {
        prometheus.assert_dropped_none(why).await;
    }
}

/// Prints what Prometheus says of targets that it could not scrape, as soon as it does.
fn print_errors(prometheus: &Arc<Prometheus>, since: Instant) -> AbortOnDropHandle<()> {
    let prometheus = Arc::clone(prometheus);
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut seen = BTreeSet::new();
        loop {
            for (url, error) in prometheus.last_errors().await {
                if seen.insert((url.clone(), error.clone())) {
                    println!("after {:?}: {url}: {error}", since.elapsed());
                }
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }))
}

async fn all_up(prometheus: &Prometheus, count: usize) {
    let up = "count(up{job=\"applications\"} == 1)";
    eventually_within(2 * PATIENCE, &format!("{count} up"), async || {
        prometheus.value(up).await == Some(count as f64)
    })
    .await;
}

async fn see(nodes: &[&Node]) {
    for node in nodes {
        node.sees(nodes.len(), "active").await;
    }
}

/// Three nodes, restarted one after the other; then two, four and two; then one is killed.
async fn applications_outlive_changes_of_the_cluster(each: usize) {
    let places = Places::reserve();
    let (mut a, mut b, mut c) = (
        places.start(0).await,
        places.start(1).await,
        places.start(2).await,
    );
    see(&[&a, &b, &c]).await;
    let balancer = Balancer::start(&places.ports).await;
    let fleet = Fleet::start(balancer.port, each).await;
    let web = SocketAddr::from(([127, 0, 0, 1], balancer.web));
    let prometheis = [
        Prometheus::with(&config(balancer.web)).await,
        Prometheus::running(&prometheus_3(), &config(balancer.web)).await,
    ]
    .map(Arc::new);
    for prometheus in &prometheis {
        all_up(prometheus, fleet.names.len()).await;
    }
    let since = Instant::now();
    let _errors = prometheis
        .each_ref()
        .map(|prometheus| print_errors(prometheus, since));

    for node in [&mut a, &mut b, &mut c] {
        let place = places
            .ports
            .iter()
            .position(|[_, web]| *web == node.web.port());
        node.program.terminate();
        assert!(node.program.ended().await.success());
        *node = places.start(place.expect("its place")).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        if let Some(listed) = listed(web).await {
            assert_eq!(listed, fleet.names);
        }
    }
    see(&[&a, &b, &c]).await;
    println!("restarted after {:?}", since.elapsed());

    c.program.terminate();
    assert!(c.program.ended().await.success());
    see(&[&a, &b]).await;
    let (mut c, mut d) = (places.start(2).await, places.start(3).await);
    see(&[&a, &b, &c, &d]).await;
    let share = fleet.names.len() / 16;
    eventually_within(2 * PATIENCE, "shares of the new nodes", async || {
        let mut shares = Vec::new();
        for node in [&c, &d] {
            shares.push(node.own("prometheus_proxy_scrape_active_connections").await);
        }
        shares
            .iter()
            .all(|connections| *connections >= share as f64)
    })
    .await;
    for node in [&mut c, &mut d] {
        node.program.terminate();
        assert!(node.program.ended().await.success());
    }
    see(&[&a, &b]).await;
    println!("two, four and two after {:?}", since.elapsed());
    // A scrape of the last state, too.
    tokio::time::sleep(Duration::from_secs(6)).await;
    for prometheus in &prometheis {
        assert_unbroken(prometheus, &fleet.names, since).await;
    }

    let killed = Instant::now();
    b.program.kill().await;
    while killed.elapsed() < Duration::from_secs(10) {
        if let Some(listed) = listed(a.web).await {
            assert_eq!(listed, fleet.names);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    for prometheus in &prometheis {
        all_up(prometheus, fleet.names.len()).await;
    }
    println!("all up {:?} after a node was killed", killed.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_misses_no_application_while_nodes_come_and_go() {
    need!(Java, Haproxy, Prometheus, Prometheus3);
    applications_outlive_changes_of_the_cluster(20).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "prints figures, and takes minutes"]
async fn figures_of_three_hundred_java_applications_while_nodes_come_and_go() {
    need!(Java, Haproxy, Prometheus, Prometheus3);
    applications_outlive_changes_of_the_cluster(150).await;
}
