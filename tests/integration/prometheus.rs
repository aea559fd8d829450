//! A real Prometheus in front of a node: what it stores, and what it thinks of what it reads.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use hyper::{Method, StatusCode};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use crate::app::{Answer, App, Peer};
use crate::peers::{Lint, Program, Scratch, need, prometheus_3, reserved_port};
use crate::sandbox::{Sandbox, eventually, request, samples};

const SECONDS: &str = "x-prometheus-scrape-timeout-seconds";

/// Prometheus, scraping a node every second.
pub(crate) struct Prometheus {
    web: SocketAddr,
    process: Child,
    scratch: Scratch,
}

/// One series of an answer: its labels and its value.
pub(crate) type Series = (Value, f64);

impl Prometheus {
    /// Scrapes the applications behind `proxy`, and the node itself.
    pub(crate) async fn watching(proxy: SocketAddr) -> Self {
        Self::with(&format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\n\
             scrape_configs:\n\
             - {{job_name: connected, metrics_path: /metrics/connected, honor_labels: true, \
                static_configs: [{{targets: ['{proxy}']}}]}}\n\
             - {{job_name: proxy, metrics_path: /metrics/proxy, static_configs: [{{targets: ['{proxy}']}}]}}\n"
        ))
        .await
    }

    /// As this configuration says.
    pub(crate) async fn with(config: &str) -> Self {
        Self::running("prometheus".as_ref(), config).await
    }

    /// This program, as this configuration says.
    pub(crate) async fn running(program: &Path, config: &str) -> Self {
        let scratch = Scratch::new();
        let config = scratch.file("prometheus.yml", config);
        let web = SocketAddr::from(([127, 0, 0, 1], reserved_port()));
        let log = std::fs::File::create(scratch.path("log")).expect("a log");
        let process = Command::new(program)
            .arg(format!("--config.file={config}"))
            .arg(format!("--storage.tsdb.path={}", scratch.path("data")))
            .arg(format!("--web.listen-address={web}"))
            // As the shipped configurations with targets have it.
            .arg("--enable-feature=extra-scrape-metrics,exemplar-storage")
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("prometheus");
        let prometheus = Self {
            web,
            process,
            scratch,
        };
        eventually("a ready Prometheus", async || {
            TcpStream::connect(web).await.is_ok()
                && request(web, Method::GET, "/-/ready", &[]).await.status == StatusCode::OK
        })
        .await;
        prometheus
    }

    /// Goes on as this configuration says.
    pub(crate) async fn reconfigured(&self, config: &str) {
        self.scratch.file("prometheus.yml", config);
        let process = self.process.id().expect("a running Prometheus").to_string();
        let mut signal = Command::new("kill");
        let sent = signal.args(["-HUP", &process]).status().await;
        assert!(sent.expect("kill").success());
    }

    pub(crate) async fn api(&self, path: &str) -> Value {
        let response = request(self.web, Method::GET, path, &[]).await;
        let answer: Value = serde_json::from_slice(&response.body).expect("JSON");
        assert_eq!(answer["status"], "success", "{path}: {answer}");
        answer["data"].clone()
    }

    /// What Prometheus says of its targets that are not up.
    pub(crate) async fn last_errors(&self) -> Vec<(String, String)> {
        let targets = self.api("/api/v1/targets").await;
        let targets = targets["activeTargets"].as_array().expect("targets");
        let failing = targets.iter().filter(|target| target["lastError"] != "");
        let said = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        failing
            .map(|target| (said(&target["scrapeUrl"]), said(&target["lastError"])))
            .collect()
    }

    /// The instant query's vector.
    pub(crate) async fn query(&self, query: &str) -> Vec<Series> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let data = self.api(&format!("/api/v1/query?query={encoded}")).await;
        let value = |series: &Value| {
            series["value"][1]
                .as_str()
                .and_then(|value| value.parse().ok())
        };
        let vector = data["result"].as_array().expect("a vector");
        vector
            .iter()
            .map(|series| (series["metric"].clone(), value(series).expect("a number")))
            .collect()
    }

    /// The value of a query that has one.
    pub(crate) async fn value(&self, query: &str) -> Option<f64> {
        self.query(query).await.first().map(|(_, value)| *value)
    }

    /// Waits until the query's value is this.
    pub(crate) async fn shows(&self, query: &str, value: f64) {
        eventually(&format!("{query} = {value}"), async || {
            self.value(query).await == Some(value)
        })
        .await;
    }

    /// Waits for so many further scrapes of the applications, whatever became of them.
    pub(crate) async fn scrapes(&self, number: u32) {
        const SO_FAR: &str = "count_over_time(up{job=\"connected\"}[1h])";
        let before = self.value(SO_FAR).await.unwrap_or(0.0);
        eventually(&format!("{number} scrapes"), async || {
            self.value(SO_FAR).await >= Some(before + f64::from(number))
        })
        .await;
    }

    /// No scrape failed, and Prometheus dropped no sample of any.
    async fn assert_content(&self) {
        self.shows("count(up)", 2.0).await;
        for query in [
            "up == 0",
            "min_over_time(up[1h]) == 0",
            "scrape_samples_scraped != scrape_samples_post_metric_relabeling",
        ] {
            assert_eq!(self.query(query).await, [], "{query}");
        }
        let targets = self.api("/api/v1/targets").await;
        for target in targets["activeTargets"].as_array().expect("targets") {
            assert_eq!(
                (&target["health"], &target["lastError"]),
                (&"up".into(), &"".into())
            );
        }
        for why in ["duplicate_timestamp", "out_of_bounds", "out_of_order"] {
            self.assert_dropped_none(why).await;
        }
    }

    /// It dropped no sample for this reason.
    pub(crate) async fn assert_dropped_none(&self, why: &str) {
        let own = request(self.web, Method::GET, "/metrics", &[]).await;
        let none = format!("prometheus_target_scrapes_sample_{why}_total 0");
        assert!(own.text().lines().any(|line| line == none), "{why}");
    }
}

const MIXED: [&str; 4] = [
    "# HELP requests Requests\n# TYPE requests counter\nrequests{app=\"a\"} 1\n\
     # TYPE took histogram\ntook_bucket{app=\"a\",le=\"1\"} 1\ntook_bucket{app=\"a\",le=\"+Inf\"} 2\n\
     took_sum{app=\"a\"} 3\ntook_count{app=\"a\"} 2\n",
    "# HELP requests Anders\n# TYPE requests gauge\nrequests{app=\"b\"} 2\n\
     # TYPE took summary\ntook{app=\"b\",quantile=\"0.5\"} 1\ntook_sum{app=\"b\"} 4\ntook_count{app=\"b\"} 3\n",
    "# TYPE took gauge\ntook{app=\"c\"} 5\n# TYPE took_count counter\ntook_count{app=\"c\"} 6\nrequests{app=\"c\"} 3\n",
    "# TYPE requests counter\nrequests{app=\"d\"} 4\n# TYPE took histogram\n\
     took_bucket{app=\"d\",le=\"+Inf\"} 1\ntook_sum{app=\"d\"} 1\ntook_count{app=\"d\"} 1\n",
];

#[tokio::test]
async fn series_of_applications_arrive_with_their_own_labels() {
    need!(Prometheus);
    let proxy = Sandbox::start(&[]).await;
    let text = |app: &str, value: u32| {
        format!(
            "# TYPE requests_total counter\nrequests_total{{instance=\"{app}\",job=\"shop\"}} {value}\n\
             # TYPE took_seconds histogram\ntook_seconds_bucket{{instance=\"{app}\",le=\"0.5\"}} 1\n\
             took_seconds_bucket{{instance=\"{app}\",le=\"+Inf\"}} 2\ntook_seconds_sum{{instance=\"{app}\"}} 3\n\
             took_seconds_count{{instance=\"{app}\"}} 2\n"
        )
    };
    let _first = App::text(proxy.tcp(), &text("a", 1)).await;
    let _second = App::text(proxy.tcp(), &text("b", 2)).await;
    let prometheus = Prometheus::watching(proxy.web()).await;
    prometheus
        .shows("requests_total{instance=\"a\",job=\"shop\"}", 1.0)
        .await;
    prometheus
        .shows("requests_total{instance=\"b\",job=\"shop\"}", 2.0)
        .await;
    prometheus
        .shows("count(took_seconds_bucket{job=\"connected\"})", 4.0)
        .await;
    prometheus
        .shows("scrape_samples_scraped{job=\"connected\"}", 10.0)
        .await;
    prometheus
        .shows(
            "prometheus_proxy_scrape_active_connections{job=\"proxy\"}",
            2.0,
        )
        .await;
    prometheus.shows("sum(up)", 2.0).await;
    let metadata = prometheus
        .api("/api/v1/targets/metadata?metric=requests")
        .await;
    assert_eq!(metadata[0]["type"], "counter");
    prometheus.scrapes(2).await;
    prometheus.assert_content().await;
}

#[tokio::test]
async fn a_java_application_arrives_and_what_it_counts_is_followed() {
    need!(Prometheus, Java);
    let proxy = Sandbox::start(&[]).await;
    let port = proxy.tcp().port().to_string();
    let mut app = Program::interop(
        "client",
        &["--port", &port, "--name", "shop", "--series", "100"],
    );
    app.line("READY shop").await;
    let prometheus = Prometheus::watching(proxy.web()).await;
    prometheus
        .shows("interop_events_total{app=\"shop\"}", 0.0)
        .await;
    prometheus
        .shows("count(interop_series{app=\"shop\"})", 100.0)
        .await;
    app.say("inc").await;
    prometheus
        .shows("interop_events_total{app=\"shop\"}", 1.0)
        .await;
    prometheus.shows("up{job=\"connected\"}", 1.0).await;
    prometheus.assert_content().await;
}

#[tokio::test]
async fn series_of_an_application_that_left_go_stale_and_the_others_stay() {
    need!(Prometheus);
    let proxy = Sandbox::start(&[]).await;
    let _stays = App::text(proxy.tcp(), "stays 1\n").await;
    let leaves = App::text(proxy.tcp(), "leaves 1\n").await;
    let prometheus = Prometheus::watching(proxy.web()).await;
    prometheus.shows("leaves", 1.0).await;
    drop(leaves);
    proxy.connected(1).await;
    // Without a staleness marker the series would be there for five minutes more.
    prometheus.scrapes(3).await;
    assert_eq!(prometheus.query("leaves").await, []);
    prometheus.shows("stays", 1.0).await;
    prometheus.assert_content().await;
}

#[tokio::test]
async fn a_push_arrives_in_one_scrape() {
    need!(Prometheus);
    let proxy = Sandbox::start(&[]).await;
    let prometheus = Prometheus::watching(proxy.web()).await;
    let mut job = Peer::connect(proxy.tcp()).await;
    job.key().await;
    job.push("# TYPE job_result gauge\njob_result{job=\"nightly\"} 42\n")
        .await
        .unwrap();
    drop(job);
    prometheus
        .shows("last_over_time(job_result{job=\"nightly\"}[1h])", 42.0)
        .await;
    prometheus.scrapes(3).await;
    prometheus
        .shows("count_over_time(job_result[1h])", 1.0)
        .await;
    assert_eq!(prometheus.query("job_result").await, [], "stale");
    assert_eq!(proxy.status().await["pushes"]["pending"], 0);
    assert!((proxy.own("prometheus_proxy_pushes_served_total").await - 1.0).abs() < f64::EPSILON);
    prometheus.assert_content().await;
}

#[tokio::test]
async fn applications_that_contradict_each_other_and_one_that_sends_garbage_leave_the_target_up() {
    need!(Prometheus);
    let proxy = Sandbox::start(&[]).await;
    let mut apps = Vec::new();
    for text in MIXED {
        apps.push(App::text(proxy.tcp(), text).await);
    }
    for answer in [
        Answer::Text("requests{app=\"broken\"} 1\n}{\n".into()),
        Answer::Text("requests{app=\"twice\",app=\"twice\"} 1\n".into()),
        Answer::Rubbish,
        Answer::Never,
    ] {
        apps.push(App::connect(proxy.tcp(), answer).await);
    }
    let prometheus = Prometheus::watching(proxy.web()).await;
    for (app, value) in [("a", 1.0), ("b", 2.0), ("c", 3.0), ("d", 4.0)] {
        prometheus
            .shows(&format!("requests{{app=\"{app}\"}}"), value)
            .await;
    }
    prometheus.shows("count(requests)", 4.0).await;
    prometheus.shows("took_sum{app=\"b\"}", 4.0).await;
    prometheus.shows("took_bucket{app=\"d\"}", 1.0).await;
    prometheus.scrapes(3).await;
    let lines = proxy
        .get_with("/metrics/connected", &[(SECONDS, "1")])
        .await;
    let lines = samples(lines.text()).len() as f64;
    for bound in ["max", "min"] {
        let query = format!("{bound}_over_time(scrape_samples_scraped{{job=\"connected\"}}[1h])");
        assert_eq!(prometheus.value(&query).await, Some(lines), "{bound}");
    }
    prometheus.assert_content().await;
}

/// A text with one sample that has so many labels.
fn labelled(name: &str, labels: usize) -> String {
    let labels: Vec<_> = (0..labels).map(|label| format!("l{label}=\"1\"")).collect();
    format!("{name}{{{}}} 1\n", labels.join(","))
}

/// Each is refused at the node for one of its limits, or was served and made Prometheus refuse the whole node.
fn past_limits() -> [String; 8] {
    [
        labelled("labels", 11),
        format!("value{{a=\"{}\"}} 1\n", "v".repeat(201)),
        format!("name{{{}=\"1\"}} 1\n", "n".repeat(101)),
        format!("{} 1\n", "m".repeat(101)),
        (0..101)
            .map(|number| format!("series{{n=\"{number}\"}} 1\n"))
            .collect(),
        format!("# {}\n", "c".repeat(70_000)),
        "# TYPE healthy histogram\n".to_owned(),
        "# TYPE healthy_count summary\nhealthy_count{quantile=\"high\"} -1\n".to_owned(),
    ]
}

/// Prometheus' limits hold for a target, which is the node: one application past one of them would cost all.
async fn limits_of_a_target_are_not_passed_by_one_application(program: &Path) {
    let proxy = Sandbox::start(&[
        "--scrape.max-labels=10",
        "--scrape.max-label-value-length=200B",
        "--scrape.max-name-length=100B",
        "--scrape.max-series=100",
        "--scrape.max-payload=64KiB",
    ])
    .await;
    let mut apps = vec![App::text(proxy.tcp(), "healthy_count{app=\"a\"} -3\n").await];
    let at_the_limit = labelled("healthy_at_the_limit", 10);
    apps.push(App::text(proxy.tcp(), &at_the_limit).await);
    let mut pusher = Peer::connect(proxy.tcp()).await;
    pusher.key().await;
    for text in past_limits() {
        apps.push(App::text(proxy.tcp(), &text).await);
        // Refused, or held and served: what must not be is that it is held and costs the others.
        let _ = pusher.push(&text.replace("{", "{pushed=\"yes\",")).await;
    }
    drop(pusher);
    // Name, job and instance come beside the labels of a sample.
    let prometheus = Prometheus::running(
        program,
        &format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\n\
             scrape_configs:\n\
             - {{job_name: connected, metrics_path: /metrics/connected, honor_labels: true, \
                label_limit: 13, label_name_length_limit: 100, label_value_length_limit: 200, \
                sample_limit: 2000, body_size_limit: 1MB, \
                static_configs: [{{targets: ['{}']}}]}}\n",
            proxy.web()
        ),
    )
    .await;
    prometheus.shows("healthy_count{app=\"a\"}", -3.0).await;
    prometheus.shows("healthy_at_the_limit", 1.0).await;
    prometheus.scrapes(3).await;
    prometheus.shows("min_over_time(up[1h])", 1.0).await;
}

#[tokio::test]
async fn limits_of_a_target_are_not_passed_by_one_application_in_2() {
    need!(Prometheus);
    limits_of_a_target_are_not_passed_by_one_application("prometheus".as_ref()).await;
}

#[tokio::test]
async fn limits_of_a_target_are_not_passed_by_one_application_in_3() {
    need!(Prometheus3);
    limits_of_a_target_are_not_passed_by_one_application(&prometheus_3()).await;
}

/// Passes everything between its clients and `proxy`; shows the last response's head.
async fn relay(proxy: SocketAddr) -> (SocketAddr, watch::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let (heads, seen) = watch::channel(String::new());
    let heads = Arc::new(heads);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let heads = Arc::clone(&heads);
            tokio::spawn(async move {
                let mut server = TcpStream::connect(proxy).await.expect("a listening node");
                let (mut from_server, mut to_server) = server.split();
                let (mut from_client, mut to_client) = client.into_split();
                let up = tokio::io::copy(&mut from_client, &mut to_server);
                let down = async {
                    let mut piece = vec![0; 1 << 16];
                    loop {
                        let bytes = from_server.read(&mut piece).await?;
                        if bytes == 0 {
                            return to_client.shutdown().await;
                        }
                        let text = String::from_utf8_lossy(&piece[..bytes]);
                        if let (true, Some((head, _))) =
                            (text.starts_with("HTTP/1.1"), text.split_once("\r\n\r\n"))
                        {
                            heads.send_replace(head.to_lowercase());
                        }
                        to_client.write_all(&piece[..bytes]).await?;
                    }
                };
                let _ = tokio::join!(up, down);
            });
        }
    });
    (address, seen)
}

#[tokio::test]
async fn what_it_asks_for_compressed_comes_compressed_and_whole() {
    need!(Prometheus);
    let proxy = Sandbox::start(&[]).await;
    let text: String = (0..5000)
        .map(|row| format!("series{{row=\"{row}\"}} {row}\n"))
        .collect();
    let _app = App::text(proxy.tcp(), &text).await;
    let (between, heads) = relay(proxy.web()).await;
    let prometheus = Prometheus::watching(between).await;
    prometheus.shows("count(series)", 5000.0).await;
    prometheus
        .shows("sum(series)", f64::from(4999 * 5000 / 2))
        .await;
    let head = heads.borrow().clone();
    assert!(head.contains("\ncontent-encoding: gzip"), "{head}");
    prometheus.assert_content().await;
}

#[tokio::test]
async fn promtool_reads_the_merge_of_applications_that_contradict_each_other() {
    need!(Promtool);
    let proxy = Sandbox::start(&[]).await;
    let mut apps = Vec::new();
    for text in MIXED {
        apps.push(App::text(proxy.tcp(), text).await);
        let body = proxy.get("/metrics/connected").await.body;
        let lint = Lint::of(&body).await;
        assert!(
            lint.accepts(),
            "{:?}: {}\n{}",
            lint.code,
            lint.findings,
            String::from_utf8_lossy(&body)
        );
    }
}

#[tokio::test]
async fn promtool_finds_nothing_to_say_about_the_nodes_own_metrics() {
    need!(Promtool);
    let proxy = Sandbox::start(&[]).await;
    let _app = App::text(proxy.tcp(), "up 1\n").await;
    let _rubbish = App::connect(proxy.tcp(), Answer::Rubbish).await;
    let mut pusher = Peer::connect(proxy.tcp()).await;
    pusher.key().await;
    pusher.push("jobs_total 1\n").await.unwrap();
    pusher.push("up{ 1\n").await.unwrap_err();
    proxy.scrape().await;
    let lint = Lint::of(&proxy.get("/metrics/proxy").await.body).await;
    assert_eq!((lint.code, lint.findings.as_str()), (Some(0), ""));
}

/// The configuration that the documentation recommends, for these nodes.
pub(crate) fn recommended(nodes: &[SocketAddr]) -> String {
    let text = include_str!("../../docs/prometheus.yml");
    let nodes = nodes.iter().map(|node| format!("\"{node}\""));
    let nodes = nodes.collect::<Vec<_>>().join(", ");
    text.replace("\"proxy-1:8080\", \"proxy-2:8080\"", &nodes)
        .replace(
            "scrape_interval: 10s",
            "scrape_interval: 1s\n  scrape_timeout: 1s",
        )
}

#[tokio::test]
async fn an_application_that_moves_to_another_node_keeps_its_series() {
    need!(Prometheus);
    let nodes = [Sandbox::start(&[]).await, Sandbox::start(&[]).await];
    let prometheus = Prometheus::with(&recommended(&[nodes[0].web(), nodes[1].web()])).await;
    for (round, node) in [&nodes[0], &nodes[1], &nodes[0]].into_iter().enumerate() {
        let text = format!(
            "moves_total{{app=\"shop\"}} {round}\n\
             names_itself_total{{app=\"shop\",instance=\"shop-1\",job=\"shop\"}} {round}\n"
        );
        let app = App::text(node.tcp(), &text).await;
        prometheus.shows("moves_total", round as f64).await;
        prometheus.shows("names_itself_total", round as f64).await;
        drop(app);
        node.connected(0).await;
    }
    for (query, value) in [
        ("count(last_over_time(moves_total[1h]))", 1.0),
        ("count(last_over_time(names_itself_total[1h]))", 1.0),
        (
            "count(last_over_time(moves_total{app=\"shop\",instance=\"rsocket\",job=\"proxied-applications\",proxy_node=\"\"}[1h]))",
            1.0,
        ),
        (
            "count(last_over_time(names_itself_total{instance=\"shop-1\",job=\"shop\"}[1h]))",
            1.0,
        ),
        ("resets(moves_total[1h])", 0.0),
        // The nodes are told apart nevertheless.
        (
            "count(count by (proxy_node) (up{job=\"proxied-applications\",proxy_node!=\"\"}))",
            2.0,
        ),
        (
            "count(count by (instance) (prometheus_proxy_build_info))",
            2.0,
        ),
        ("min(min_over_time(up[1h]))", 1.0),
    ] {
        assert_eq!(prometheus.value(query).await, Some(value), "{query}");
    }
    // Where scrapes of both nodes overlap, it may rightly drop some as out of order.
    prometheus.assert_dropped_none("duplicate_timestamp").await;
}
