//! Each application a target of its own: over HTTP, and found and scraped by a real Prometheus.

use std::net::SocketAddr;
use std::time::Duration;

use hyper::{Method, StatusCode};
use prometheus_rsocket_client::Client;
use prometheus_rsocket_wire::ErrorCode;
use prometheus_rsocket_wire::Payload;
use prometheus_rsocket_wire::description;
use prometheus_rsocket_wire::session::SetupOptions;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::app::{Answer, App, Peer};
use crate::peers::{need, prometheus_3};
use crate::prometheus::{self, Prometheus};
use crate::sandbox::{Sandbox, eventually, request};

const SECONDS: &str = "x-prometheus-scrape-timeout-seconds";

/// An instance that every part of an address has to be careful with.
const UGLY: &str = "web/1 ä?#%41&+";

/// One that says this of itself.
pub(crate) async fn described(proxy: SocketAddr, description: &Value) -> Peer {
    let mut peer = Peer::connect_with(
        proxy,
        SetupOptions {
            data_mime: description::MIME.to_owned(),
            payload: Payload::of_data(description.to_string()),
            ..SetupOptions::default()
        },
    )
    .await;
    peer.key().await;
    peer
}

/// One that is called so, and answers so.
async fn named(proxy: SocketAddr, target: Value, answer: Answer) -> App {
    let description = json!({"client": "test 1", "targets": [target]});
    described(proxy, &description).await.answering(answer)
}

fn text(text: &str) -> Answer {
    Answer::Text(text.to_owned())
}

/// The status line of an answer, and what follows its head.
async fn status_line(proxy: SocketAddr, path: &str, seconds: &str) -> (String, String) {
    let mut stream = TcpStream::connect(proxy).await.expect("a listening node");
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: proxy:8080\r\nConnection: close\r\n{SECONDS}: {seconds}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.expect("asked");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let line = head.lines().next().expect("a status line");
    (line.to_owned(), body.to_owned())
}

async fn list(proxy: &Sandbox) -> Value {
    let response = proxy.get("/targets").await;
    assert_eq!(response.status, StatusCode::OK, "{}", response.text());
    assert_eq!(response.headers["content-type"], "application/json");
    serde_json::from_slice(&response.body).expect("JSON")
}

/// The instances that are listed.
async fn instances(proxy: &Sandbox) -> Vec<String> {
    let groups = list(proxy).await;
    let groups = groups.as_array().expect("groups").iter();
    let instance = |group: &Value| group["labels"]["instance"].as_str().map(str::to_owned);
    groups
        .map(|group| instance(group).expect("an instance"))
        .collect()
}

async fn lists(proxy: &Sandbox, expected: &[&str]) {
    eventually(&format!("a list of {expected:?}"), async || {
        proxy.get("/targets").await.status == StatusCode::OK && instances(proxy).await == expected
    })
    .await;
}

#[tokio::test]
async fn each_application_is_listed_and_answers_alone() {
    let proxy = Sandbox::start(&[]).await;
    let shop = json!({"instance": UGLY, "job": "shop", "labels": {"zone": "b"}});
    let _shop = named(proxy.tcp(), shop, text("orders 1\n")).await;
    let _labelled = App::text(proxy.tcp(), "queue{instance=\"lab\"} 2\n").await;
    lists(&proxy, &["lab", UGLY]).await;

    let groups = list(&proxy).await;
    let labels = &groups[1]["labels"];
    assert_eq!(groups[1]["targets"], json!([proxy.web().to_string()]));
    assert_eq!(labels["__metrics_path__"], format!("/metrics/app/{UGLY}"));
    for (name, value) in [
        ("job", "shop"),
        ("__param_job", "shop"),
        ("zone", "b"),
        ("__meta_rsocket_client", "test 1"),
        ("__meta_rsocket_named", "description"),
    ] {
        assert_eq!(labels[name], value, "{name}");
    }
    assert_eq!(groups[0]["labels"]["__meta_rsocket_named"], "labels");

    let ugly = "/metrics/app/web%2F1%20%C3%A4%3F%23%2541%26%2B";
    for path in [
        ugly.to_owned(),
        format!("{ugly}?job=shop"),
        ugly.replace("%2F", "/"),
    ] {
        let response = proxy.get(&path).await;
        assert_eq!(response.status, StatusCode::OK, "{path}");
        assert_eq!(
            response.headers["content-type"],
            "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"
        );
        assert_eq!(response.text(), "orders 1\n");
    }
}

#[tokio::test]
async fn a_failure_says_why_in_the_status_line() {
    let proxy = Sandbox::start(&[]).await;
    let web = proxy.web();
    let app = async |instance: &str, answer| {
        named(proxy.tcp(), json!({ "instance": instance }), answer).await
    };
    let _apps = [
        app("hangs", Answer::Never).await,
        app("invalid", text("up{ 1\n")).await,
        app("fails", Answer::Error(ErrorCode::APPLICATION_ERROR)).await,
    ];
    let twin = |job: &str| json!({"instance": "twin", "job": job});
    let _twins = [
        named(proxy.tcp(), twin("a"), text("up 1\n")).await,
        named(proxy.tcp(), twin("b"), text("up 1\n")).await,
    ];
    let gone = app("gone", text("up 1\n")).await;
    drop(gone);
    eventually("a lost one", async || {
        let found = proxy.get("/api/v1/applications?state=lost").await;
        found.text().contains("\"gone\"")
    })
    .await;
    for (path, status, reason) in [
        ("/metrics/app/nobody", 404, "no such application"),
        (
            "/metrics/app/twin",
            400,
            "several applications have this instance, add ?job=: a, b",
        ),
        (
            "/metrics/app/twin?jbo=a",
            400,
            "unknown query parameter: jbo",
        ),
        ("/metrics/app/twin?job=c", 404, "no such application"),
        ("/metrics/app/hangs", 504, "application did not answer in "),
        ("/metrics/app/invalid", 502, "application answered"),
        (
            "/metrics/app/fails",
            502,
            "application answered with an error: ",
        ),
        ("/metrics/app/gone", 503, "application disconnected "),
        ("/targets?page=1", 400, "unknown query parameter: page"),
        ("/metrics/pushes?job=a", 400, "unknown query parameter: job"),
        ("/api/v1/applications?state=dead", 400, "page is from 1, "),
    ] {
        // These two are waited for; the others have time on a busy machine.
        let waits = path.ends_with("/hangs") || path.ends_with("/gone");
        let seconds = if waits { "0.5" } else { "60" };
        let (line, body) = status_line(web, path, seconds).await;
        let expected = format!("HTTP/1.1 {status} {reason}");
        assert!(line.starts_with(&expected), "{path}: {line}");
        let said = line.splitn(3, ' ').last().expect("a reason");
        assert!(body.contains(said), "{path}: {body}");
    }
}

#[tokio::test]
async fn pushes_are_served_alone_and_once_and_nobody_is_pulled_for_them() {
    let proxy = Sandbox::start(&[]).await;
    let app = App::text(proxy.tcp(), "orders 1\n").await;
    let mut job = Peer::connect(proxy.tcp()).await;
    job.key().await;
    job.push("done 1\n").await.expect("held");
    let head = request(proxy.web(), Method::HEAD, "/metrics/pushes", &[]).await;
    assert_eq!(head.status, StatusCode::OK);
    let pushes = async || proxy.get("/metrics/pushes").await.text().to_owned();
    assert_eq!(pushes().await, "done 1\n");
    proxy.pending(0).await;
    assert_eq!(pushes().await, "");
    assert_eq!(app.seen.pulls(), 0);
    // What one of the two has served, the other does not serve again.
    job.push("again 1\n").await.expect("held");
    assert_eq!(proxy.scrape().await, ["again 1", "orders 1"]);
    assert_eq!(pushes().await, "");
}

#[tokio::test]
async fn a_scrape_of_one_application_takes_no_push_and_a_head_pulls_nobody() {
    let proxy = Sandbox::start(&[]).await;
    let app = named(proxy.tcp(), json!({"instance": "a"}), text("orders 1\n")).await;
    let mut job = Peer::connect(proxy.tcp()).await;
    job.key().await;
    job.push("done 1\n").await.expect("held");
    let path = "/metrics/app/a";
    let head = request(proxy.web(), Method::HEAD, path, &[]).await;
    assert_eq!((head.status, app.seen.pulls()), (StatusCode::OK, 0));
    assert_eq!(proxy.get(path).await.text(), "orders 1\n");
    proxy.pending(1).await;
}

#[tokio::test]
async fn the_list_names_the_address_that_prometheus_is_to_scrape() {
    let proxy = Sandbox::start(&["--targets.address=proxies.internal:80"]).await;
    let _app = named(proxy.tcp(), json!({"instance": "a"}), text("up 1\n")).await;
    lists(&proxy, &["a"]).await;
    let groups = list(&proxy).await;
    assert_eq!(groups[0]["targets"], json!(["proxies.internal:80"]));
    let plain = Sandbox::start(&[]).await;
    let _app = named(plain.tcp(), json!({"instance": "a"}), text("up 1\n")).await;
    lists(&plain, &["a"]).await;
    let (_, body) = status_line(plain.web(), "/targets", "60").await;
    assert!(body.contains("\"targets\":[\"proxy:8080\"]"), "{body}");
}

#[tokio::test]
async fn a_long_list_is_short_with_gzip() {
    let proxy = Sandbox::start(&[]).await;
    let targets: Vec<_> = (0..1000)
        .map(|number| json!({"instance": format!("application-{number:04}"), "job": "many"}))
        .collect();
    let description = json!({"client": "test 1", "targets": targets});
    let _agent = described(proxy.tcp(), &description)
        .await
        .answering(text("up 1\n"));
    eventually("a list", async || {
        proxy.get("/targets").await.status == StatusCode::OK
            && instances(&proxy).await.len() == 1000
    })
    .await;
    let packed = proxy
        .get_with("/targets", &[("accept-encoding", "gzip")])
        .await;
    assert_eq!(packed.headers["content-encoding"], "gzip");
    assert!(packed.body.len() < 50_000, "{}", packed.body.len());
    let page = proxy.get("/applications").await;
    assert!(page.text().contains("1 to 200 of 1,000"));
    let found: Value = serde_json::from_slice(
        &proxy
            .get("/api/v1/applications?q=0999+many&per_page=10")
            .await
            .body,
    )
    .expect("JSON");
    assert_eq!(
        (&found["matching"], &found["applications"][0]["instance"]),
        (&json!(1), &json!("application-0999"))
    );
    assert_eq!(proxy.status().await["applications"]["connected"], 1000);
}

/// Discovers what is behind this node, as `docs/prometheus-targets.yml` says, in a hurry.
fn recommended(proxy: SocketAddr) -> String {
    include_str!("../../docs/prometheus-targets.yml")
        .replace(
            "\"proxy-1:8080\", \"proxy-2:8080\"",
            &format!("\"{proxy}\""),
        )
        .replace("http://proxy:8080", &format!("http://{proxy}"))
        .replace("refresh_interval: 15s", "refresh_interval: 1s")
        .replace(
            "scrape_interval: 10s",
            "scrape_interval: 1s\n  scrape_timeout: 1s",
        )
}

/// The last error of the target of this instance.
async fn last_error(prometheus: &Prometheus, instance: &str) -> String {
    let targets = prometheus.api("/api/v1/targets").await;
    let targets = targets["activeTargets"].as_array().expect("targets").iter();
    let mut ours = targets.filter(|target| target["labels"]["instance"] == instance);
    let target = ours.next().expect("a target of this instance");
    target["lastError"].as_str().expect("an error").to_owned()
}

async fn discovers_and_scrapes(prometheus: &Prometheus, proxy: &Sandbox) {
    let _ugly = named(
        proxy.tcp(),
        json!({"instance": UGLY, "job": "shop", "labels": {"zone": "b"}}),
        text("orders 1\nown{instance=\"mine\"} 2\n"),
    )
    .await;
    let _labelled = App::text(proxy.tcp(), "queue{instance=\"lab\"} 2\n").await;
    let hangs = named(proxy.tcp(), json!({"instance": "hangs"}), Answer::Never).await;
    let lost = named(proxy.tcp(), json!({"instance": "lost"}), text("here 1\n")).await;
    let ends = Client::builder(|| "ends 1\n")
        .proxy(
            format!("tcp://{}", proxy.tcp())
                .parse()
                .expect("an address"),
        )
        .instance("ends")
        .expect("a name")
        .connect();

    for (query, value) in [
        (
            format!("up{{instance=\"{UGLY}\",job=\"shop\",zone=\"b\",proxied_by=\"rsocket\"}}"),
            1.0,
        ),
        (
            format!("orders{{instance=\"{UGLY}\",job=\"shop\",zone=\"b\",proxied_by=\"\"}}"),
            1.0,
        ),
        ("own{instance=\"mine\",job=\"shop\"}".into(), 2.0),
        (
            "up{instance=\"lab\",job=\"proxied-applications\"}".into(),
            1.0,
        ),
        (
            "queue{instance=\"lab\",job=\"proxied-applications\"}".into(),
            2.0,
        ),
        ("up{instance=\"ends\"}".into(), 1.0),
        ("up{instance=\"lost\"}".into(), 1.0),
        ("up{instance=\"hangs\"}".into(), 0.0),
        ("count(up{proxied_by=\"rsocket\"})".into(), 5.0),
        ("up{job=\"proxied-pushes\"}".into(), 1.0),
        ("scrape_sample_limit{instance=\"lab\"}".into(), 50_000.0),
    ] {
        prometheus.shows(&query, value).await;
    }
    let why = last_error(prometheus, "hangs").await;
    let said = "server returned HTTP status 504 application did not answer in ";
    assert!(why.starts_with(said), "{why}");

    ends.close().await;
    drop(lost);
    drop(hangs);
    prometheus
        .shows("count(up{instance=\"ends\"}) or vector(0)", 0.0)
        .await;
    prometheus.shows("up{instance=\"lost\"}", 0.0).await;
    eventually("a reason", async || {
        let why = last_error(prometheus, "lost").await;
        why.starts_with("server returned HTTP status 503 application disconnected ")
    })
    .await;

    let mut job = Peer::connect(proxy.tcp()).await;
    job.key().await;
    job.push("done{job=\"backup\"} 7\n").await.expect("held");
    let query = "count_over_time(done{job=\"backup\",instance=\"rsocket\"}[1h])";
    prometheus.shows(query, 1.0).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(prometheus.value(query).await, Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_2_finds_and_scrapes_each_application() {
    need!(Prometheus);
    let proxy = Sandbox::start(&[]).await;
    let prometheus = Prometheus::with(&recommended(proxy.web())).await;
    discovers_and_scrapes(&prometheus, &proxy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_3_finds_and_scrapes_each_application() {
    need!(Prometheus3);
    let proxy = Sandbox::start(&[]).await;
    let prometheus = Prometheus::running(&prometheus_3(), &recommended(proxy.web())).await;
    discovers_and_scrapes(&prometheus, &proxy).await;
}

/// From one answer for all to a target per application, as `docs/targets.md` says, and back.
async fn changes_over(prometheus: &Prometheus, proxy: &Sandbox) {
    let own = "orders{instance=\"shop-1\",job=\"shop\"}";
    let _labelled = App::text(proxy.tcp(), &format!("{own} 1\n")).await;
    let _unlabelled = named(proxy.tcp(), json!({"instance": "named"}), text("here 1\n")).await;
    prometheus.shows(own, 1.0).await;
    let began = Instant::now();
    lists(proxy, &["named", "shop-1"]).await;
    let node = proxy.web();
    for (config, up) in [
        (
            recommended(node),
            "up{proxied_by=\"rsocket\",instance=\"shop-1\",job=\"shop\"}",
        ),
        (
            prometheus::recommended(&[node]),
            "up{proxied_by=\"\",job=\"proxied-applications\"}",
        ),
    ] {
        let scrapes = async || {
            let scrapes = format!("count_over_time({up}[1h])");
            prometheus.value(&scrapes).await.unwrap_or_default()
        };
        let before = scrapes().await;
        prometheus.reconfigured(&config).await;
        // Markers that the series ended come three intervals later, if they come.
        eventually("six scrapes in the new way", async || {
            scrapes().await >= before + 6.0
        })
        .await;
    }
    let seconds = began.elapsed().as_secs();
    for (query, value) in [
        (
            format!("count_over_time((absent({own}))[{seconds}s:500ms]) or vector(0)"),
            0.0,
        ),
        ("count(last_over_time(orders[1h]))".to_owned(), 1.0),
        // One that does not label its samples has the name of its target instead of everybody's.
        ("count(last_over_time(here[1h]))".to_owned(), 2.0),
    ] {
        assert_eq!(prometheus.value(&query).await, Some(value), "{query}");
    }
    for why in ["duplicate_timestamp", "out_of_order"] {
        prometheus.assert_dropped_none(why).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_2_changes_over_without_a_gap_or_a_series_twice() {
    need!(Prometheus);
    let proxy = Sandbox::start(&[]).await;
    let prometheus = Prometheus::with(&prometheus::recommended(&[proxy.web()])).await;
    changes_over(&prometheus, &proxy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_3_changes_over_without_a_gap_or_a_series_twice() {
    need!(Prometheus3);
    let proxy = Sandbox::start(&[]).await;
    let config = prometheus::recommended(&[proxy.web()]);
    let prometheus = Prometheus::running(&prometheus_3(), &config).await;
    changes_over(&prometheus, &proxy).await;
}
