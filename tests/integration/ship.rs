//! What is shipped beside the program, against real nodes and a real Prometheus: its configuration, alerts, dashboards.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Output;

use prometheus_rsocket_wire::session::StreamError;
use regex::Regex;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::app::{Answer, App, Peer};
use crate::cluster_push::{Hung, Member};
use crate::peers::{Scratch, happens, need};
use crate::prometheus::Prometheus;
use crate::sandbox::{PATIENCE, Sandbox};
use crate::tls::Authority;

fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(shipped(path)).expect("a shipped file")
}

/// What follows `key` on its lines.
fn values(text: &str, key: &str) -> BTreeSet<String> {
    let lines = text.lines().map(str::trim);
    lines
        .filter_map(|line| line.strip_prefix(key))
        .map(str::to_owned)
        .collect()
}

fn alerts() -> BTreeSet<String> {
    values(&read("scripts/prometheus/rules.yml"), "- alert: ")
}

async fn promtool(arguments: &[&str]) -> Output {
    let mut command = Command::new("promtool");
    command.args(arguments).kill_on_drop(true);
    command.output().await.expect("promtool")
}

async fn accepts(arguments: &[&str]) {
    let output = promtool(arguments).await;
    let said = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&said)
    );
}

#[tokio::test]
async fn each_alert_fires_when_it_should_and_not_before() {
    need!(Promtool);
    let tests = shipped("scripts/prometheus/rules.test.yml");
    accepts(&["test", "rules", tests.to_str().expect("UTF-8")]).await;
}

#[test]
fn each_alert_is_tested_and_has_a_runbook() {
    let tested = values(&read("scripts/prometheus/rules.test.yml"), "alertname: ");
    assert_eq!(tested, alerts());
    let runbooks = std::fs::read_dir(shipped("docs/runbooks")).expect("a directory");
    let pages: BTreeSet<_> = runbooks
        .map(|page| page.expect("a page").path())
        .filter_map(|page| Some(page.file_stem()?.to_str()?.to_owned()))
        .collect();
    assert_eq!(pages, alerts());
    let linked = values(&read("scripts/prometheus/rules.yml"), "runbook_url: ");
    for alert in alerts() {
        let page = format!("/docs/runbooks/{alert}.md");
        assert!(linked.iter().any(|url| url.ends_with(&page)), "{alert}");
    }
}

/// The configuration that a ConfigMap carries.
fn configuration_on_kubernetes() -> String {
    let manifest = read("scripts/kubernetes/prometheus/01-prometheus-configmap.yaml");
    let (_, text) = manifest
        .split_once("  prometheus.yml: |-\n")
        .expect("a configuration");
    text.lines()
        .map(|line| line.strip_prefix("    ").unwrap_or(line).to_owned() + "\n")
        .collect()
}

/// A configuration without the discovery that a promtool may be built without.
fn without_discovery(text: &str) -> String {
    let discovery = "(?m)^    kubernetes_sd_configs:\\n(      .*\\n)+";
    let discovery = Regex::new(discovery).expect("a pattern");
    discovery
        .replace_all(text, "    static_configs: []\n")
        .into_owned()
}

#[tokio::test]
async fn prometheus_takes_the_configurations() {
    need!(Promtool);
    let scratch = Scratch::new();
    scratch.file("rules.yml", &read("scripts/prometheus/rules.yml"));
    for text in [
        read("scripts/compose/prometheus.yml"),
        read("scripts/compose/prometheus-targets.yml"),
        read("docs/prometheus-targets.yml"),
        without_discovery(&configuration_on_kubernetes()),
        without_discovery(&read("scripts/kustomize/targets/prometheus.yml")),
    ] {
        let config = scratch.file("prometheus.yml", &text);
        accepts(&["check", "config", &config]).await;
    }
    let hardened = without_discovery(&read("scripts/kustomize/hardened/prometheus.yml"));
    let config = scratch.file("prometheus.yml", &hardened);
    // The files that it names are Prometheus' own.
    accepts(&["check", "config", "--syntax-only", &config]).await;
}

/// The configuration of docker-compose.yml, with these targets in place of what DNS would say, and in a hurry.
fn configuration(targets: &[String]) -> String {
    let text = read("scripts/compose/prometheus.yml");
    let discovery =
        Regex::new(r"(?m)^    dns_sd_configs: &nodes\n(      .*\n)+").expect("a pattern");
    let fixed = format!(
        "    static_configs: &nodes\n      - targets: ['{}']\n",
        targets.join("', '")
    );
    let text = discovery.replace(&text, fixed);
    let rules = shipped("scripts/prometheus/rules.yml");
    text.replace("dns_sd_configs", "static_configs")
        .replace("  - rules.yml", &format!("  - {}", rules.display()))
        .replace("_interval: 10s", "_interval: 1s")
        .replace("scrape_timeout: 9s", "scrape_timeout: 1s")
}

/// Each application of this node as a target of its own, beside that.
fn with_targets(configuration: &str, node: SocketAddr) -> String {
    format!(
        "{configuration}  - job_name: found\n    \
             http_sd_configs: [{{url: 'http://{node}/targets', refresh_interval: 1s}}]\n    \
             sample_limit: 1000\n    \
             relabel_configs: [{{target_label: proxied_by, replacement: rsocket}}]\n"
    )
}

/// Nodes to which everything happens that the dashboards show.
struct Eventful {
    nodes: [Sandbox; 2],
    /// Pushes to a node that never answers.
    unlucky: Member,
    /// Has a certificate, and a file that is read again.
    certified: Sandbox,
    _files: Scratch,
    _hung: Hung,
    _apps: Vec<App>,
}

impl Eventful {
    async fn start() -> Self {
        let first = Sandbox::start(&[
            "--cluster.listen-address=127.0.0.1:0",
            "--cluster.peer=127.0.0.1:9",
        ])
        .await;
        let gossip = first.node.gossip_address.expect("a cluster");
        let peer = format!("--cluster.peer={gossip}");
        let files = Scratch::new();
        let directory = format!("--push.dir={}", files.path("pushes"));
        let flags = ["--cluster.listen-address=127.0.0.1:0", &peer, &directory];
        let second = Sandbox::start(&flags).await;
        let hung = Hung::start().await;
        let unlucky = Member::start("unlucky", Some("a secret of some length"), &[]).await;
        unlucky.see(vec![hung.as_other()]).await;
        let web = files.file("web.yml", "http_server_config: {}\n");
        let web = format!("--web.config.file={web}");
        let authority = Authority::new(&files, "ca.pem");
        let certified = authority.node(&files, &[&web]).await;
        let apps = vec![
            App::text(first.tcp(), "# TYPE orders counter\norders_total 1\n").await,
            App::text(second.tcp(), "queue{instance=\"a\"} 1\n").await,
            App::connect(first.tcp(), Answer::Rubbish).await,
            App::connect(unlucky.proxy.tcp(), Answer::Never).await,
        ];
        Self {
            nodes: [first, second],
            unlucky,
            certified,
            _files: files,
            _hung: hung,
            _apps: apps,
        }
    }

    fn targets(&self) -> Vec<String> {
        let [first, second] = &self.nodes;
        let nodes = [first, second, &self.unlucky.proxy, &self.certified];
        nodes.map(|node| node.web().to_string()).to_vec()
    }

    /// What a counter does not show until it happens, once more.
    async fn happen(&self) {
        let unlucky = &self.unlucky.proxy;
        push(unlucky, "job_total 1\n").await.expect("held");
        push(unlucky, "job_total{\n").await.expect_err("rubbish");
        let first = &self.nodes[0];
        push(first, "report_total 1\n").await.expect("held");
        for address in [first.tcp(), first.web(), self.unlucky.node_address()] {
            let mut stream = TcpStream::connect(address).await.expect("a listening node");
            // It may be closed under the writing.
            let _ = stream.write_all(&[0xff; 64]).await;
            let _ = stream.shutdown().await;
        }
    }
}

async fn push(node: &Sandbox, text: &str) -> Result<(), StreamError> {
    let mut app = Peer::connect(node.tcp()).await;
    app.key().await;
    app.push(text).await
}

/// Every value of a key `expr`, wherever it stands, and those of variables.
fn queries(dashboard: &Value, found: &mut BTreeSet<String>) {
    match dashboard {
        Value::Object(object) => {
            for (key, value) in object {
                match (key.as_str(), value) {
                    ("expr", Value::String(query)) => {
                        found.insert(query.clone());
                    }
                    ("query", Value::String(query)) if query.starts_with("label_values(") => {
                        found.insert(query.clone());
                    }
                    _ => queries(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| queries(item, found)),
        _ => {}
    }
}

/// As Grafana asks it, with zeros: for what does not happen to any node here.
fn with_zeros(query: &str) -> String {
    let query = filled_in(query);
    query.strip_suffix(" > 0").unwrap_or(&query).to_owned()
}

/// As Grafana asks it: with variables filled in.
fn filled_in(query: &str) -> String {
    let values = Regex::new(r"^label_values\((.*), ([a-z_]+)\)$").expect("a pattern");
    let query = values.replace(query, "count by ($2) ($1)");
    // Nobody is draining.
    let query = query.replace(
        "prometheus_proxy_draining{job=\"$job\"} == 1",
        "prometheus_proxy_draining{job=\"$job\"}",
    );
    query
        .replace("$__rate_interval", "20s")
        .replace("$__range", "1h")
        .replace("$job", "proxies")
        .replace("$instance", ".*")
        .replace("$applications", ".*")
}

/// One query for each metric that an alert looks at.
fn looked_at(rules: &str) -> BTreeSet<String> {
    let series = Regex::new(r"([a-z_]+)\{job=").expect("a pattern");
    series
        .captures_iter(rules)
        .map(|found| format!("{}{{job=\"proxies\"}}", &found[1]))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_of_dashboards_and_alerts_finds_something() {
    need!(Prometheus);
    let eventful = Eventful::start().await;
    let configuration = configuration(&eventful.targets());
    let node = eventful.nodes[0].web();
    let prometheus = Prometheus::with(&with_targets(&configuration, node)).await;
    prometheus
        .shows("count(up{proxied_by=\"\"} == 1)", 8.0)
        .await;

    let mut unanswered = BTreeSet::new();
    for file in std::fs::read_dir(shipped("scripts/grafana/dashboards")).expect("dashboards") {
        let text = std::fs::read_to_string(file.expect("a file").path()).expect("a dashboard");
        queries(&serde_json::from_str(&text).expect("JSON"), &mut unanswered);
    }
    assert!(unanswered.len() > 50, "{}", unanswered.len());
    unanswered.extend(looked_at(&read("scripts/prometheus/rules.yml")));
    let answered = happens(PATIENCE, async || {
        eventful.happen().await;
        for query in unanswered.clone() {
            if prometheus.value(&with_zeros(&query)).await.is_some() {
                unanswered.remove(&query);
            }
        }
        unanswered.is_empty()
    });
    assert!(answered.await, "without an answer: {unanswered:#?}");
}

/// The panels of a dashboard that a reader sees without opening a row.
fn open_panels(dashboard: &str) -> Vec<Value> {
    let dashboard: Value = serde_json::from_str(dashboard).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let with_queries = panels.iter().filter(|panel| panel["targets"].is_array());
    with_queries.cloned().collect()
}

/// An empty panel on a healthy node looks like a fault, and twenty lines of zeros hide the one that is not.
#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_of_a_healthy_node_has_no_unexplained_panel_and_no_line_of_zeros() {
    need!(Prometheus);
    let node = Sandbox::start(&[]).await;
    let _app = App::text(node.tcp(), "orders 1\n").await;
    let prometheus = Prometheus::with(&configuration(&[node.web().to_string()])).await;
    prometheus.shows("orders", 1.0).await;
    let pulled = "rate(prometheus_proxy_scrape_seconds_count{outcome=\"success\"}[20s]) > bool 0";
    prometheus.shows(pulled, 1.0).await;

    let mut panels = open_panels(&read(
        "scripts/grafana/dashboards/prometheus-rsocket-proxy.json",
    ));
    assert!(panels.len() > 20, "{}", panels.len());
    let answered = happens(PATIENCE, async || {
        let mut wrong = Vec::new();
        for panel in panels.drain(..) {
            if !is_clear(&prometheus, &panel).await {
                wrong.push(panel);
            }
        }
        panels = wrong;
        panels.is_empty()
    });
    let answered = answered.await;
    let titles: Vec<_> = panels.iter().map(|panel| &panel["title"]).collect();
    assert!(answered, "{titles:?}");
}

/// Whether each line of the panel shows something, and the panel says what it means that there is none.
async fn is_clear(prometheus: &Prometheus, panel: &Value) -> bool {
    let explained = panel["fieldConfig"]["defaults"]["noValue"].as_str();
    let mut lines = Vec::new();
    for target in panel["targets"].as_array().expect("targets") {
        let query = filled_in(target["expr"].as_str().expect("a query"));
        lines.extend(prometheus.query(&query).await);
    }
    let may_be_zero = panel["type"] == "stat";
    explained.is_some_and(|text| !text.is_empty())
        && lines
            .iter()
            .all(|(_, value)| may_be_zero && *value == 0.0 || value.abs() > 0.0)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_keeps_its_series_when_it_moves_between_nodes_of_the_compose_file() {
    need!(Prometheus);
    let nodes = [Sandbox::start(&[]).await, Sandbox::start(&[]).await];
    let targets = nodes.each_ref().map(|node| node.web().to_string());
    let prometheus = Prometheus::with(&configuration(&targets)).await;
    let text = "orders 1\nqueue{instance=\"mine\",job=\"shop\"} 1\n";
    for node in &nodes {
        let app = App::text(node.tcp(), text).await;
        prometheus.shows("orders", 1.0).await;
        drop(app);
        prometheus.shows("count(orders) or vector(0)", 0.0).await;
    }
    for (query, value) in [
        (
            "count(count_over_time(orders{instance=\"rsocket\",job=\"proxied-applications\"}[1h]))",
            1.0,
        ),
        ("count(count_over_time(orders[1h]))", 1.0),
        (
            "count(count_over_time(queue{instance=\"mine\",job=\"shop\"}[1h]))",
            1.0,
        ),
        (
            "count(count by (proxy_node) (up{job=\"proxied-applications\"}))",
            2.0,
        ),
    ] {
        prometheus.shows(query, value).await;
    }
}
