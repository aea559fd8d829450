//! Several nodes as processes of their own, on one host.

use futures_util::future::join_all;

use crate::nodes::{Node, three};
use crate::peers::{Program, need};
use crate::sandbox::eventually;

/// Pushes through the Rust client, each to any of the nodes, that have no series in common.
async fn scatter(nodes: &[Node], run: &str, number: usize) -> Vec<String> {
    let mut random = fastrand::Rng::with_seed(1);
    let mut expected = Vec::new();
    for push in 0..number {
        let line = format!("job{{number=\"{push:02}\",run=\"{run}\"}} 1");
        let node = random.choice(nodes).expect("a node");
        node.pushed(format!("{line}\n")).await;
        expected.push(line);
    }
    expected
}

#[tokio::test]
async fn pushes_to_any_node_are_served_once_by_all_scraped_at_once_or_by_one_alone() {
    let (nodes, _scratch) = three().await;
    let expected = scatter(&nodes, "all", 30).await;
    let scrapes = join_all(nodes.iter().map(Node::scrape)).await;
    let mut served = scrapes.concat();
    served.sort_unstable();
    assert_eq!(served, expected);

    let expected = scatter(&nodes, "one", 30).await;
    let mut served = nodes[2].scrape().await;
    served.sort_unstable();
    assert_eq!(served, expected);
    for node in &nodes {
        assert!(node.scrape().await.is_empty());
        let possible = "prometheus_proxy_pushes_possible_duplicates_total";
        assert_eq!(node.own(possible).await, 0.0);
    }
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
    let mut served = third.scrape().await;
    served.sort_unstable();
    assert_eq!(served, ["jobs_total 1", "jobs_total{job=\"other\"} 1"]);
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
