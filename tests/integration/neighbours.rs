//! What one application may never do to another: its answers, however dear to open, cost nobody else's samples and delay
//! no response.

use std::net::SocketAddr;
use std::time::Duration;

use hyper::Method;
use prometheus_rsocket_wire::{Announcement, Event, Payload};
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::app::{App, Peer};
use crate::nodes::{BINARY, Node};
use crate::sandbox::{Sandbox, request};

/// How long Prometheus waits.
const PATIENCE: Duration = Duration::from_secs(4);
/// Kept back by the node for its response.
const OFFSET: Duration = Duration::from_millis(1500);
/// A hostile application answers so long before the pull's deadline.
const HOSTILE_LATE: Duration = Duration::from_millis(1200);
/// And a healthy one that is slow, behind all of those.
const HEALTHY_LATE: Duration = Duration::from_millis(900);
const HEALTHY: usize = 20;
/// Of the healthy ones.
const SLOW: usize = 5;
const SCRAPES: usize = 4;

/// Some 3 MB of families that have one short sample each, the dearest text to read that is known.
fn dear() -> String {
    let families = (0..300_000).map(|number| format!("a{number:x} 1\n"));
    families.collect::<String>() + "# EOF\n"
}

/// Answers each pull with this payload, so long before it is too late.
async fn answer_late(mut peer: Peer, payload: Payload, late: Duration) {
    loop {
        let Event::Request {
            stream,
            payload: asked,
        } = peer.connection.next().await
        else {
            continue;
        };
        let announced = asked.metadata.as_deref().and_then(Announcement::decode);
        let timeout = announced
            .and_then(|announced| announced.timeout)
            .expect("a time");
        sleep_until(Instant::now() + timeout.saturating_sub(late)).await;
        peer.connection
            .session()
            .respond(stream, Some(payload.clone()));
    }
}

/// A node, and the applications on it that mean well.
struct Neighbourhood {
    node: Node,
    _healthy: Vec<App>,
    _slow: JoinSet<()>,
}

impl Neighbourhood {
    async fn new() -> Self {
        let ports = ["web", "rsocket.tcp", "rsocket.websocket"];
        let mut command = Command::new(BINARY);
        command
            .args(ports.map(|port| format!("--{port}.listen-address=127.0.0.1:0")))
            .arg(format!("--scrape.timeout-offset={}ms", OFFSET.as_millis()));
        let node = Node::start(&mut command, [127, 0, 0, 1].into()).await;
        let mut healthy = Vec::new();
        let mut slow = JoinSet::new();
        for number in 0..HEALTHY {
            let text = format!("healthy_up{{app=\"{number}\"}} 1\n");
            if number < SLOW {
                let mut peer = Peer::connect(node.tcp).await;
                peer.key().await;
                let payload = peer.seal(&text);
                slow.spawn(answer_late(peer, payload, HEALTHY_LATE));
            } else {
                healthy.push(App::text(node.tcp, &text).await);
            }
        }
        Self {
            node,
            _healthy: healthy,
            _slow: slow,
        }
    }

    /// How long each scrape takes beside so many hostile applications. Every healthy one is in each.
    async fn scraped_beside(&self, hostile: usize, text: &str) -> Vec<Duration> {
        let mut peers = JoinSet::new();
        // Sealed once: the node has one key for all.
        let mut sealed = None;
        for _ in 0..hostile {
            let mut peer = Peer::connect(self.node.tcp).await;
            peer.key().await;
            let payload = sealed.get_or_insert_with(|| peer.seal(text)).clone();
            peers.spawn(answer_late(peer, payload, HOSTILE_LATE));
        }
        let mut took = Vec::new();
        for _ in 0..SCRAPES {
            took.push(scrape(self.node.web).await);
        }
        took
    }
}

/// As Prometheus scrapes: what is not whole in time is thrown away.
async fn scrape(web: SocketAddr) -> Duration {
    let patience = [("x-prometheus-scrape-timeout-seconds", "4")];
    let started = Instant::now();
    let response = request(web, Method::GET, "/metrics/connected", &patience).await;
    let took = started.elapsed();
    let healthy = response.text().matches("healthy_up{").count();
    assert_eq!(healthy, HEALTHY, "after {took:?}");
    assert!(took < PATIENCE, "{took:?}");
    took
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_that_are_dear_to_read_and_come_late_cost_nobody_else_a_sample() {
    let neighbourhood = Neighbourhood::new().await;
    let text = dear();
    neighbourhood.scraped_beside(20, &text).await;
}

#[tokio::test]
async fn applications_that_serve_the_same_series_are_named() {
    let sandbox = Sandbox::start(&[]).await;
    let text = "jobs_done_total{job=\"batch\"} 1\n";
    let _one = App::text(sandbox.tcp(), text).await;
    let _other = App::text(sandbox.tcp(), text).await;
    let _third = App::text(sandbox.tcp(), "jobs_done_total{job=\"stream\"} 1\n").await;
    sandbox.scrape().await;
    let status = sandbox.status().await;
    let connections = status["connections"].as_array().expect("a list");
    let pairs = status["duplicates"].as_array().expect("a list");
    assert_eq!(pairs.len(), 1, "{pairs:?}");
    for (one, number) in [(0, 0), (1, 1)] {
        assert_eq!(
            pairs[0]["connections"][one]["id"],
            connections[number]["id"]
        );
    }
    let page = sandbox.get("/").await;
    assert!(page.text().contains("id=\"duplicates\""), "{}", page.text());
    let found = sandbox.own("prometheus_proxy_scrape_duplicate_series");
    assert_eq!(found.await, 1.0);
}

/// By name, in a release build: how long responses take beside hostile applications.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "figures"]
async fn figures_of_responses_beside_hostile_applications() {
    let text = dear();
    println!(
        "a text of {} bytes, Prometheus waits for {PATIENCE:?}",
        text.len()
    );
    for hostile in [0, 4, 20, 100] {
        let neighbourhood = Neighbourhood::new().await;
        let took = neighbourhood.scraped_beside(hostile, &text).await;
        println!("{hostile} hostile: {took:.2?}");
    }
}
