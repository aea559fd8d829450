//! Nodes that leave while applications are connected, pushed and scraped.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::{Method, StatusCode};
use prometheus_rsocket_client::{Builder, Client, Request};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::app::{App, Peer};
use crate::nodes::{Node, local};
use crate::peers::{node, reserved_port};
use crate::sandbox::{PATIENCE, Sandbox, eventually, request, samples};

const APPS: usize = 50;

/// Two nodes that know each other and leave within a time that a test can wait for.
pub(crate) async fn two() -> (Node, Node) {
    two_with("--shutdown.grace-period=20s").await
}

async fn two_with(grace_period: &str) -> (Node, Node) {
    let (first, second) = (reserved_port(), reserved_port());
    let flags = [grace_period, "--shutdown.delay=200ms"];
    let nodes = (
        local(first, second, &flags).await,
        local(second, first, &flags).await,
    );
    nodes.0.sees(2, "active").await;
    nodes.1.sees(2, "active").await;
    nodes
}

/// Connects to the first of the proxies that takes it.
fn connect(client: Builder, proxies: &[SocketAddr]) -> Client {
    let proxy = |tcp: &SocketAddr| format!("tcp://{tcp}").parse().expect("an address");
    client
        .proxies(proxies.iter().map(proxy))
        .backoff(Duration::from_millis(10), Duration::from_millis(50))
        .timeout(PATIENCE)
        .connect()
}

/// Applications, each with a series of its own.
fn apps(proxies: &[SocketAddr]) -> Vec<Client> {
    let app = |number| Client::builder(move || format!("app{{number=\"{number:02}\"}} 1\n"));
    (0..APPS)
        .map(|number| connect(app(number), proxies))
        .collect()
}

pub(crate) async fn status(web: SocketAddr) -> Value {
    let response = request(web, Method::GET, "/api/v1/status", &[]).await;
    serde_json::from_slice(&response.body).expect("JSON")
}

pub(crate) async fn has_connections(node: &Node, number: usize) {
    eventually(&format!("{number} connections"), async || {
        status(node.web).await["connections"]
            .as_array()
            .map(Vec::len)
            == Some(number)
    })
    .await;
}

/// What came of scraping a node again and again.
#[derive(Default)]
pub(crate) struct Scraped {
    pub(crate) samples: BTreeSet<String>,
    pub(crate) failures: usize,
}

/// `None` where the node is not there, or goes while it answers.
pub(crate) async fn try_to_scrape(web: SocketAddr) -> Option<Vec<String>> {
    TcpStream::connect(web).await.ok()?;
    let scrape = async move { request(web, Method::GET, "/metrics/connected", &[]).await };
    let response = tokio::spawn(scrape).await.ok()?;
    (response.status == StatusCode::OK).then(|| samples(response.text()))
}

/// Scrapes a node, which may come and go, until told to stop, and once more then.
pub(crate) fn scraping(web: SocketAddr, mut stop: watch::Receiver<bool>) -> JoinHandle<Scraped> {
    tokio::spawn(async move {
        let mut scraped = Scraped::default();
        loop {
            let last = *stop.borrow_and_update();
            match try_to_scrape(web).await {
                Some(served) => scraped.samples.extend(served),
                None => scraped.failures += 1,
            }
            if last {
                return scraped;
            }
            let _ = timeout(Duration::from_millis(200), stop.changed()).await;
        }
    })
}

#[tokio::test]
async fn applications_move_to_another_node_before_theirs_exits() {
    let (mut first, second) = two().await;
    let clients = apps(&[first.tcp, second.tcp]);
    has_connections(&first, APPS).await;
    assert_eq!(first.scrape().await.len(), APPS);
    let (stop, stopped) = watch::channel(false);
    let scrapes = [first.web, second.web].map(|web| scraping(web, stopped.clone()));
    let started = Instant::now();
    first.program.terminate();
    let moving = "stage=\"moving connections\"";
    first.program.line_with(moving).await;
    has_connections(&second, APPS).await;
    assert!(first.program.ended().await.success());
    assert!(started.elapsed() < Duration::from_secs(20));
    assert_eq!(second.scrape().await.len(), APPS);
    stop.send_replace(true);
    let [_, of_second] = scrapes;
    assert_eq!(of_second.await.expect("no panic").failures, 0);
    drop(clients);
}

#[tokio::test]
async fn where_nobody_scrapes_applications_move_one_after_the_other() {
    let (mut first, second) = two_with("--shutdown.grace-period=6s").await;
    let clients = apps(&[first.tcp, second.tcp]);
    has_connections(&first, APPS).await;
    first.program.terminate();
    let mut seen = BTreeSet::new();
    eventually("everybody at the other node", async || {
        let connections = status(second.web).await["connections"].clone();
        seen.insert(connections.as_array().map_or(0, Vec::len));
        seen.contains(&APPS)
    })
    .await;
    assert!(seen.len() > 5, "{seen:?}");
    assert!(first.program.ended().await.success());
    drop(clients);
}

/// Jobs that push all the time, and the scrapes of all nodes.
struct Pushing {
    jobs: Vec<JoinHandle<BTreeSet<String>>>,
    scrapes: Vec<JoinHandle<Scraped>>,
    stop_pushing: watch::Sender<bool>,
    stop_scraping: watch::Sender<bool>,
}

impl Pushing {
    /// Each job prefers another node.
    fn start(proxies: &[SocketAddr], webs: &[SocketAddr]) -> Self {
        let (stop_pushing, pushing) = watch::channel(false);
        let (stop_scraping, scraped) = watch::channel(false);
        let job = |number: usize| {
            let mut proxies = proxies.to_vec();
            let count = proxies.len();
            proxies.rotate_left(number % count);
            keep_pushing(&proxies, number, pushing.clone())
        };
        Self {
            jobs: (0..4).map(job).collect(),
            scrapes: webs
                .iter()
                .map(|web| scraping(*web, scraped.clone()))
                .collect(),
            stop_pushing,
            stop_scraping,
        }
    }

    /// Every push that was acknowledged has been served by some node.
    async fn assert_nothing_lost(self) {
        self.stop_pushing.send_replace(true);
        let mut acknowledged = BTreeSet::new();
        for job in self.jobs {
            acknowledged.extend(job.await.expect("no panic"));
        }
        self.stop_scraping.send_replace(true);
        let mut served = BTreeSet::new();
        for scrape in self.scrapes {
            served.extend(scrape.await.expect("no panic").samples);
        }
        let lost: Vec<_> = acknowledged.difference(&served).collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
        assert!(acknowledged.len() > 40, "{acknowledged:?}");
    }
}

fn sample(job: usize, number: usize) -> String {
    format!("job{{job=\"{job}\",number=\"{number}\"}} 1")
}

/// Pushes again and again on a connection that stays, and gives what was acknowledged.
fn keep_pushing(
    proxies: &[SocketAddr],
    job: usize,
    stop: watch::Receiver<bool>,
) -> JoinHandle<BTreeSet<String>> {
    let number = Arc::new(AtomicUsize::new(0));
    let current = Arc::clone(&number);
    let render = move |request: Request| {
        let text = format!("{}\n", sample(job, current.load(Ordering::SeqCst)));
        async move { if request.push { text } else { String::new() } }
    };
    let client = connect(Client::builder_async(render), proxies);
    tokio::spawn(async move {
        let mut acknowledged = BTreeSet::new();
        while !*stop.borrow() {
            client.push().await.expect("acknowledged");
            acknowledged.insert(sample(job, number.fetch_add(1, Ordering::SeqCst)));
        }
        client.close().await;
        acknowledged
    })
}

#[tokio::test]
async fn every_push_that_is_acknowledged_while_a_node_drains_is_served() {
    let (mut first, second) = two().await;
    let pushing = Pushing::start(&[first.tcp, second.tcp], &[first.web, second.web]);
    has_connections(&first, 2).await;
    first.program.terminate();
    assert!(first.program.ended().await.success());
    has_connections(&second, 4).await;
    pushing.assert_nothing_lost().await;
}

#[tokio::test]
async fn every_push_that_is_acknowledged_while_all_nodes_restart_in_turn_is_served() {
    const NODES: usize = 3;
    let gossip: [u16; NODES] = std::array::from_fn(|_| reserved_port());
    let [tcp, web]: [[SocketAddr; NODES]; 2] =
        std::array::from_fn(|_| std::array::from_fn(|_| ([127, 0, 0, 1], reserved_port()).into()));
    let start = async |node: usize| {
        let flags = [
            format!("--web.listen-address={}", web[node]),
            format!("--rsocket.tcp.listen-address={}", tcp[node]),
            format!("--cluster.peer=127.0.0.1:{}", gossip[(node + 2) % NODES]),
            "--shutdown.grace-period=20s".into(),
            "--shutdown.delay=200ms".into(),
        ];
        let peer = gossip[(node + 1) % NODES];
        local(gossip[node], peer, &flags.each_ref().map(String::as_str)).await
    };
    let mut nodes = [start(0).await, start(1).await, start(2).await];
    nodes[0].sees(NODES, "active").await;
    let pushing = Pushing::start(&tcp, &web);
    for (number, node) in nodes.iter_mut().enumerate() {
        node.program.terminate();
        assert!(node.program.ended().await.success());
        *node = start(number).await;
        node.sees(NODES, "active").await;
    }
    pushing.assert_nothing_lost().await;
}

#[tokio::test]
async fn a_drain_tells_how_far_it_has_come() {
    let proxy = Sandbox::start(&[]).await;
    let _app = App::text(proxy.tcp(), "up 1\n").await;
    let mut job = Peer::connect(proxy.tcp()).await;
    job.key().await;
    job.push("jobs_total 1\n").await.unwrap();
    assert_eq!(proxy.status().await["drain"], Value::Null);
    let web = proxy.web();
    let draining = tokio::spawn(proxy.node.drain(Duration::from_secs(3600)));
    eventually("the stage", async || {
        let drain = status(web).await["drain"].clone();
        drain["stage"] == "waiting for a scrape of pushes" && drain["connections"] == 2
    })
    .await;
    let own = request(web, Method::GET, "/metrics/proxy", &[]).await;
    let stage = "prometheus_proxy_drain_stage{stage=\"waiting_for_scrape\"} 1";
    assert!(own.text().lines().any(|line| line == stage));
    draining.abort();
}

async fn drain_over_http(web: SocketAddr, method: Method) -> (StatusCode, String) {
    let response = request(web, method, "/-/drain", &[]).await;
    (response.status, response.text().to_owned())
}

#[tokio::test]
async fn nobody_drains_a_node_over_http_unless_that_is_enabled() {
    let (mut node, web) = node(&free_ports(&[])).await;
    for method in [Method::PUT, Method::POST] {
        let (status, said) = drain_over_http(web, method).await;
        assert_eq!(status, StatusCode::FORBIDDEN);
        assert!(said.contains("--web.enable-lifecycle"), "{said}");
    }
    let (status, _) = drain_over_http(web, Method::GET).await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    let ready = request(web, Method::GET, "/-/ready", &[]).await;
    assert_eq!(ready.status, StatusCode::OK);
    assert!(node.runs());
}

#[tokio::test]
async fn a_node_drained_over_http_exits_as_after_sigterm() {
    for method in [Method::PUT, Method::POST] {
        let (mut node, web) = node(&free_ports(&["--web.enable-lifecycle"])).await;
        let (status, _) = drain_over_http(web, method).await;
        assert_eq!(status, StatusCode::OK);
        node.line_with("msg=\"drained\"").await;
        assert!(node.ended().await.success());
    }
}

#[tokio::test]
async fn sigterm_after_a_drain_over_http_lets_it_go_on_and_another_ends_it() {
    let flags = [
        "--web.enable-lifecycle",
        "--shutdown.grace-period=1h",
        "--shutdown.delay=10m",
    ];
    let (mut node, web) = node(&free_ports(&flags)).await;
    drain_over_http(web, Method::PUT).await;
    node.line_with("stage=\"waiting for balancers\"").await;
    node.terminate();
    node.line_with("signal received").await;
    let healthy = request(web, Method::GET, "/-/healthy", &[]).await;
    assert_eq!(healthy.status, StatusCode::OK);
    assert!(node.runs());
    node.terminate();
    node.line_with("second signal").await;
    assert!(node.ended().await.success());
}

fn free_ports(flags: &[&str]) -> Vec<String> {
    let ports = ["tcp", "websocket"]
        .map(|transport| format!("--rsocket.{transport}.listen-address=127.0.0.1:0"));
    let flags = flags.iter().map(|flag| (*flag).to_owned());
    ports.into_iter().chain(flags).collect()
}
