//! Nodes that leave while applications are connected, pushed and scraped.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::{Method, StatusCode};
use prometheus_rsocket_client::{Builder, Client, Request};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::app::{App, Peer};
use crate::nodes::{Node, local};
use crate::peers::{node, reserved_port};
use crate::sandbox::{PATIENCE, Sandbox, eventually, request, samples};

const APPS: usize = 50;

/// Two nodes that know each other and leave within a time that a test can wait for.
async fn two() -> (Node, Node) {
    let (first, second) = (reserved_port(), reserved_port());
    let flags = ["--shutdown.grace-period=20s", "--shutdown.delay=200ms"];
    let nodes = (
        local(first, second, &flags).await,
        local(second, first, &flags).await,
    );
    nodes.0.sees(2, "active").await;
    nodes.1.sees(2, "active").await;
    nodes
}

/// Connects to the first of the nodes that takes it.
fn connect(client: Builder, nodes: [&Node; 2]) -> Client {
    let proxy = |node: &Node| format!("tcp://{}", node.tcp).parse().expect("an address");
    client
        .proxies(nodes.map(proxy))
        .backoff(Duration::from_millis(10), Duration::from_millis(50))
        .timeout(PATIENCE)
        .connect()
}

/// Applications, each with a series of its own.
fn apps(nodes: [&Node; 2]) -> Vec<Client> {
    let app = |number| Client::builder(move || format!("app{{number=\"{number:02}\"}} 1\n"));
    (0..APPS)
        .map(|number| connect(app(number), nodes))
        .collect()
}

async fn status(web: SocketAddr) -> Value {
    let response = request(web, Method::GET, "/api/v1/status", &[]).await;
    serde_json::from_slice(&response.body).expect("JSON")
}

async fn has_connections(node: &Node, number: usize) {
    eventually(&format!("{number} connections"), async || {
        status(node.web).await["connections"]
            .as_array()
            .map(Vec::len)
            == Some(number)
    })
    .await;
}

/// Scrapes a node again and again until told to stop or the node is gone, and gives what it served.
fn scraping(web: SocketAddr, mut stop: watch::Receiver<bool>) -> JoinHandle<BTreeSet<String>> {
    tokio::spawn(async move {
        let mut served = BTreeSet::new();
        loop {
            let last = *stop.borrow_and_update();
            let scrape = async move { request(web, Method::GET, "/metrics/connected", &[]).await };
            let Ok(response) = tokio::spawn(scrape).await else {
                return served;
            };
            assert_eq!(response.status, StatusCode::OK);
            served.extend(samples(response.text()));
            if last {
                return served;
            }
            let _ = timeout(Duration::from_millis(200), stop.changed()).await;
        }
    })
}

#[tokio::test]
async fn applications_move_to_another_node_before_theirs_exits() {
    let (mut first, second) = two().await;
    let clients = apps([&first, &second]);
    has_connections(&first, APPS).await;
    assert_eq!(first.scrape().await.len(), APPS);
    let (stop, stopped) = watch::channel(false);
    let scrapes = [first.web, second.web].map(|web| scraping(web, stopped.clone()));
    let started = Instant::now();
    first.program.terminate();
    first
        .program
        .line_with("stage=\"moving connections\"")
        .await;
    has_connections(&second, APPS).await;
    assert!(first.program.ended().await.success());
    assert!(started.elapsed() < Duration::from_secs(20));
    assert_eq!(second.scrape().await.len(), APPS);
    stop.send_replace(true);
    for scrape in scrapes {
        scrape.await.expect("no failed scrape");
    }
    drop(clients);
}

/// Pushes one job after the other on a connection that stays, and gives what was acknowledged.
async fn push_jobs(
    client: Client,
    job: Arc<AtomicUsize>,
    pusher: usize,
    stop: watch::Receiver<bool>,
) -> BTreeSet<String> {
    let mut acknowledged = BTreeSet::new();
    while !*stop.borrow() {
        let number = job.load(Ordering::SeqCst);
        client.push().await.expect("acknowledged");
        acknowledged.insert(sample(pusher, number));
        job.fetch_add(1, Ordering::SeqCst);
    }
    client.close().await;
    acknowledged
}

fn sample(pusher: usize, number: usize) -> String {
    format!("job{{pusher=\"{pusher}\",number=\"{number}\"}} 1")
}

fn pushing(
    nodes: [&Node; 2],
    pusher: usize,
    stop: watch::Receiver<bool>,
) -> JoinHandle<BTreeSet<String>> {
    let job = Arc::new(AtomicUsize::new(0));
    let next = Arc::clone(&job);
    let render = move |request: Request| {
        let number = next.load(Ordering::SeqCst);
        async move {
            if request.push {
                format!("{}\n", sample(pusher, number))
            } else {
                String::new()
            }
        }
    };
    let client = connect(Client::builder_async(render), nodes);
    tokio::spawn(push_jobs(client, job, pusher, stop))
}

#[tokio::test]
async fn every_push_that_is_acknowledged_while_a_node_drains_is_served() {
    let (mut first, second) = two().await;
    let (stop, stopped) = watch::channel(false);
    let pushing: Vec<_> = (0..4)
        .map(|pusher| pushing([&first, &second], pusher, stopped.clone()))
        .collect();
    has_connections(&first, pushing.len()).await;
    let (finish, finished) = watch::channel(false);
    let scrapes = [first.web, second.web].map(|web| scraping(web, finished.clone()));
    first.program.terminate();
    assert!(first.program.ended().await.success());
    has_connections(&second, pushing.len()).await;
    stop.send_replace(true);
    let mut acknowledged = BTreeSet::new();
    for pushing in pushing {
        acknowledged.extend(pushing.await.expect("no panic"));
    }
    finish.send_replace(true);
    let mut served = BTreeSet::new();
    for scrape in scrapes {
        served.extend(scrape.await.expect("no failed scrape"));
    }
    served.extend(second.scrape().await);
    let lost: Vec<_> = acknowledged.difference(&served).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    assert!(acknowledged.len() > 4, "{acknowledged:?}");
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
