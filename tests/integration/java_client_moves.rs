//! The Java client where connections end: nodes that are killed, drain, or have too many of them.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use tokio::time::sleep;

use crate::compat::values;
use crate::drain::{has_connections, try_to_scrape, two};
use crate::nodes::Node;
use crate::peers::{self, Program, need, reserved_port};
use crate::rebalance::{self, Balancer, SCRAPE_EVERY, connections, joined};
use crate::sandbox::{Sandbox, eventually};

/// Applications that connect to the first of these proxies that takes them.
fn apps(proxies: &[SocketAddr], options: &[&str]) -> Program {
    let proxies: Vec<_> = proxies.iter().map(|tcp| format!("tcp://{tcp}")).collect();
    let proxies = ["--proxies", &proxies.join(","), "--name", "shop"].map(str::to_owned);
    let options = options.iter().map(|option| (*option).to_owned());
    let options: Vec<_> = proxies.into_iter().chain(options).collect();
    let options: Vec<_> = options.iter().map(String::as_str).collect();
    Program::interop("own-client", &options)
}

/// Which applications are in a scrape.
fn scraped(samples: &[String]) -> BTreeSet<String> {
    let events = |line: &&String| line.starts_with("interop_events_total{");
    samples.iter().filter(events).cloned().collect()
}

#[tokio::test]
async fn the_client_comes_back_after_its_node_was_killed() {
    need!(Java);
    let tcp = reserved_port();
    let flags = [
        format!("--rsocket.tcp.listen-address=127.0.0.1:{tcp}"),
        "--rsocket.websocket.listen-address=127.0.0.1:0".into(),
    ];
    let (first, _) = peers::node(&flags).await;
    let mut app = apps(&[([127, 0, 0, 1], tcp).into()], &[]);
    app.line("READY shop").await;
    first.kill().await;
    app.line("CLOSED shop").await;
    app.line("RETRY shop").await;

    let (_second, web) = peers::node(&flags).await;
    app.line("READY shop").await;
    let scrape = try_to_scrape(web).await.expect("a response");
    assert_eq!(values(&scrape, "interop_events_total", "shop"), [0.0]);
    // The first, and the one after the node had come back.
    let connects = "prometheus_rsocket_client_connects_total";
    assert_eq!(values(&scrape, connects, "shop"), [2.0]);
}

#[tokio::test]
async fn a_push_outlives_the_node_that_it_was_sent_to() {
    need!(Java);
    let (first, second) = two().await;
    let mut app = apps(&[first.tcp, second.tcp], &["--timeout", "60000"]);
    app.line("READY shop").await;
    has_connections(&first, 1).await;
    app.say("inc").await;
    app.line("INCREMENTED shop").await;
    // It takes what is sent to it, and never answers.
    first.program.freeze();
    app.say("push").await;
    app.line("DONE").await;
    first.program.kill().await;
    app.line("PUSHED shop").await;
    let served = second.scrape().await;
    assert_eq!(values(&served, "interop_events_total", "shop"), [1.0]);
    app.say("leave").await;
    assert!(app.ended().await.success());
}

#[tokio::test]
async fn a_node_that_falls_silent_is_left_for_another() {
    need!(Java);
    let (first, second) = two().await;
    let proxies = format!("tcp://{},tcp://{}", first.tcp, second.tcp);
    let options = ["--keepalive", "1000", "--max-lifetime", "5000"];
    let options = [&["--proxies", &proxies, "--name", "shop"], &options[..]].concat();
    // The oldest rsocket-java does not close such a connection by itself.
    let mut apps = ["own-client", "own-client-113"].map(|it| Program::interop(it, &options));
    for app in &mut apps {
        app.line("READY shop").await;
    }
    // Unless the machine is so slow that one has left it already.
    first.program.freeze();
    has_connections(&second, 2).await;
}

const APPS: usize = 50;

#[tokio::test]
async fn applications_move_away_from_a_draining_node_and_no_scrape_misses_one() {
    need!(Java);
    let (mut first, second) = two().await;
    let count = APPS.to_string();
    let apps = apps(&[first.tcp, second.tcp], &["--count", &count]);
    has_connections(&first, APPS).await;
    assert_eq!(scrape_both(&first, &second).await.len(), APPS);
    first.program.terminate();
    first.program.line_with("moving connections").await;
    while first.program.runs() {
        assert_eq!(scrape_both(&first, &second).await.len(), APPS);
        sleep(SCRAPE_EVERY).await;
    }
    assert_eq!(scraped(&second.scrape().await).len(), APPS);
    drop(apps);
}

async fn scrape_both(first: &Node, second: &Node) -> BTreeSet<String> {
    let mut seen = scraped(&second.scrape().await);
    let leaving = try_to_scrape(first.web).await;
    seen.extend(scraped(&leaving.unwrap_or_default()));
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_joins_gets_its_share_and_no_scrape_misses_one() {
    need!(Java);
    let balancer = Balancer::start().await;
    let first = rebalance::node(None).await;
    let gossip = first.node.gossip_address;
    balancer.add(&first);
    let count = APPS.to_string();
    let _apps = apps(&[balancer.address], &["--count", &count]);
    first.connected(APPS).await;
    let second = rebalance::node(gossip).await;
    balancer.add(&second);
    let nodes = [first, second];
    joined(&nodes[0], 2.0).await;
    eventually("connections to be even", async || {
        let mut seen = BTreeSet::new();
        for node in &nodes {
            seen.extend(scraped(&node.scrape().await));
        }
        assert_eq!(seen.len(), APPS);
        sleep(SCRAPE_EVERY).await;
        let counts = connections(&nodes).await;
        counts.iter().all(|count| (20..=30).contains(count))
    })
    .await;
}

// Figures.

/// What the JVM holds on to.
async fn stats(app: &mut Program) -> String {
    app.say("stats").await;
    app.line("STATS").await
}

/// By name: heap, buffers and threads of a JVM whose applications connect 10,000 times and are scraped 10,000 times.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "prints figures instead of checking any"]
async fn figures_of_a_jvm_after_ten_thousand_reconnects_and_scrapes() {
    need!(Java);
    const APPS: usize = 50;
    const ROUNDS: usize = 200;
    let proxy = Sandbox::start(&[]).await;
    let relay = Balancer::start().await;
    relay.add(&proxy);
    let count = APPS.to_string();
    let options = [
        "--count",
        &count,
        "--series",
        "20",
        "--first-backoff",
        "100",
        "--max-backoff",
        "100",
    ];
    let mut apps = apps(&[relay.address], &options);
    for round in 0..=ROUNDS {
        for _ in 0..APPS {
            apps.line_with("READY shop-").await;
        }
        proxy.connected(APPS).await;
        for _ in 0..10_000 / ROUNDS {
            assert_eq!(scraped(&proxy.scrape().await).len(), APPS);
        }
        if [1, ROUNDS / 4, ROUNDS / 2, ROUNDS].contains(&round) {
            println!("{} reconnects: {}", round * APPS, stats(&mut apps).await);
        }
        relay.cut();
    }
}
