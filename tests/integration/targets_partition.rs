//! A target per application while the network between nodes breaks, with a real Prometheus on either side.

#![allow(clippy::print_stdout, reason = "how long it took")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::app::App;
use crate::cluster_partition::{formed, start};
use crate::network::Network;
use crate::nodes::Node;
use crate::peers::{need, prometheus_3};
use crate::prometheus::Prometheus;
use crate::sandbox::eventually;
use crate::targets_cluster::{answering, listed};

/// Applications connected to each node.
const EACH: usize = 10;

/// Some at each node.
async fn connect(nodes: &[Node]) -> Vec<App> {
    let mut apps = Vec::new();
    for (at, node) in nodes.iter().enumerate() {
        for number in 0..EACH {
            let place = at.to_string();
            apps.push(answering(&format!("app-{at}-{number}"), &place, node.tcp).await);
        }
    }
    apps
}

/// Discovers and scrapes what one node lists.
fn config(web: SocketAddr) -> String {
    format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\n\
         scrape_configs:\n\
         - job_name: applications\n\
         \x20 honor_labels: true\n\
         \x20 http_sd_configs: [{{url: 'http://{web}/targets', refresh_interval: 1s}}]\n"
    )
}

/// How many of the applications whose instance matches are up.
async fn up(prometheus: &Prometheus, instances: &str) -> Option<f64> {
    let up = format!("count(up{{job=\"applications\",instance=~\"{instances}\"}} == 1)");
    prometheus.value(&up).await
}

async fn are_up(prometheus: &Prometheus, count: usize) {
    eventually(&format!("{count} up"), async || {
        up(prometheus, ".*").await == Some(count as f64)
    })
    .await;
}

/// The list is whole as often as there is one, for so long.
async fn assert_whole(nodes: &[Node], names: &BTreeSet<String>, time: Duration) {
    let over = Instant::now() + time;
    while Instant::now() < over {
        for node in nodes {
            if let Some(listed) = listed(node.web).await {
                assert_eq!(&BTreeSet::from_iter(listed), names);
            }
        }
        sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_costs_only_the_applications_behind_it_and_none_its_series() {
    need!(Networks, Prometheus, Prometheus3);
    let network = Network::of(3);
    let nodes = start(&network).await;
    formed(&nodes).await;
    let apps = connect(&nodes).await;
    let names: BTreeSet<_> = (0..nodes.len())
        .flat_map(|at| (0..EACH).map(move |number| format!("app-{at}-{number}")))
        .collect();
    let alone = Prometheus::running(&prometheus_3(), &config(nodes[0].web)).await;
    let others = Prometheus::with(&config(nodes[1].web)).await;
    for prometheus in [&alone, &others] {
        are_up(prometheus, apps.len()).await;
    }

    let began = Instant::now();
    network.cut(0, &[1, 2]);
    for (node, unreachable) in nodes.iter().zip([2, 1, 1]) {
        node.sees(unreachable, "dead").await;
    }
    assert_whole(&nodes, &names, Duration::from_secs(5)).await;
    eventually("each side has its own", async || {
        up(&alone, ".*").await == Some(EACH as f64)
            && up(&others, ".*").await == Some(2.0 * EACH as f64)
    })
    .await;

    network.heal(0);
    let healed = Instant::now();
    formed(&nodes).await;
    for prometheus in [&alone, &others] {
        are_up(prometheus, apps.len()).await;
    }
    println!("all up {:?} after the network healed", healed.elapsed());
    assert_whole(&nodes, &names, Duration::from_secs(1)).await;

    let seconds = began.elapsed().as_secs();
    for (prometheus, own) in [(&alone, "app-0-.*"), (&others, "app-[12]-.*")] {
        let down = format!(
            "count(min_over_time(up{{job=\"applications\",instance=~\"{own}\"}}[{seconds}s]) == 0)"
        );
        assert_eq!(prometheus.value(&down).await, None);
        for metric in ["up{job=\"applications\"}", "place"] {
            let series = format!("count(count_over_time({metric}[1h]))");
            assert_eq!(prometheus.value(&series).await, Some(apps.len() as f64));
        }
        for why in ["duplicate_timestamp", "out_of_bounds", "out_of_order"] {
            prometheus.assert_dropped_none(why).await;
        }
    }
}
