//! `bench` as operators size a node with it.

use std::process::{Output, Stdio};

use serde_json::Value;
use tokio::process::Command;
use tokio::time::timeout;

use crate::app::App;
use crate::sandbox::{PATIENCE, Sandbox, eventually};

/// A load that is over in no time, if there are no pauses.
const SMALL: [&str; 4] = ["--apps=5", "--series=20", "--scrapes=2", "--format=json"];

fn command(interval: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_prometheus-rsocket-proxy"));
    command
        .arg("bench")
        .args(SMALL)
        .args(["--interval", interval])
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

async fn bench(arguments: &[&str]) -> Output {
    timeout(PATIENCE, command("0s", arguments).output())
        .await
        .expect("an end")
        .expect("the program")
}

fn parsed(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).expect("JSON and nothing else")
}

/// Names and counts of the phases.
fn phases(report: &Value) -> Vec<(&str, u64)> {
    let phases = report["phases"].as_array().expect("phases");
    phases
        .iter()
        .map(|phase| {
            let name = phase["name"].as_str().expect("a name");
            (name, phase["count"].as_u64().expect("a count"))
        })
        .collect()
}

#[tokio::test]
async fn applications_are_scraped_as_targets_of_their_own() {
    let output = bench(&["--mode=targets", "--mix=scrape"]).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report = parsed(&output);
    let expected = [
        ("connect", 5),
        ("discover", 1),
        // Five applications, twice each.
        ("scrape_plain", 10),
        ("scrape_gzip", 10),
    ];
    assert_eq!(phases(&report), expected);
    assert_eq!(report["mode"], "targets");
    assert_eq!(report["failures"], serde_json::json!({}));
}

#[tokio::test]
async fn a_node_of_its_own_is_measured_in_every_phase() {
    let output = bench(&[]).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    let report = parsed(&output);
    let expected = [
        ("connect", 5),
        ("scrape_plain", 2),
        ("scrape_gzip", 2),
        ("push", 5),
        ("scrape_pushes", 1),
    ];
    assert_eq!(phases(&report), expected);
    assert_eq!(report["own_node"], true);
    assert_eq!(report["interrupted"], false);
    assert_eq!(report["failures"], serde_json::json!({}));
    for phase in report["phases"].as_array().unwrap() {
        for key in ["p50", "p90", "p99", "max"] {
            assert!(phase["seconds"][key].as_f64().unwrap() > 0.0, "{phase}");
        }
        assert!(phase["wall_seconds"].as_f64().unwrap() > 0.0, "{phase}");
        if cfg!(target_os = "linux") {
            assert!(phase["node"]["cpu_seconds"].is_f64(), "{phase}");
            assert!(phase["node"]["resident_bytes"].is_u64(), "{phase}");
            assert!(phase["node"]["peak_bytes"].is_u64(), "{phase}");
            assert!(phase["generator"]["cpu_seconds"].is_f64(), "{phase}");
        }
    }
}

#[tokio::test]
async fn a_running_node_is_loaded_beside_what_it_does_already() {
    let proxy = Sandbox::start(&[]).await;
    let _app = App::text(proxy.tcp(), "up 1\n").await;
    let web = format!("--web=http://{}", proxy.web());
    for to in [
        format!("--proxy=tcp://{}", proxy.tcp()),
        format!("--proxy=ws://{}", proxy.node.websocket_address),
    ] {
        let output = bench(&[&to, &web, "--pushes=3"]).await;
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let report = parsed(&output);
        let expected = [
            ("connect", 5),
            ("scrape_plain", 2),
            ("scrape_gzip", 2),
            ("push", 3),
        ];
        assert_eq!(phases(&report), expected);
        assert_eq!(report["own_node"], false);
        proxy.connected(1).await;
        let scraped = proxy.scrape().await;
        let pushed = |line: &&String| line.starts_with("bench_job_info{");
        assert_eq!(scraped.iter().filter(pushed).count(), 3);
    }
}

#[tokio::test]
async fn what_goes_wrong_is_counted_by_kind_and_the_status_says_so() {
    let proxy = Sandbox::start(&["--push.max-bytes=1B"]).await;
    let to = format!("--proxy=tcp://{}", proxy.tcp());
    let nobody = "--web=http://127.0.0.1:1";
    let output = bench(&[&to, nobody]).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(!output.stderr.is_empty());
    let report = parsed(&output);
    assert_eq!(report["failures"]["scrape"]["count"], 4);
    assert_eq!(report["failures"]["push_refused"]["count"], 5);
    assert!(report["failures"]["push_refused"]["first"].is_string());
}

#[tokio::test]
async fn an_application_that_misses_a_scrape_is_noticed() {
    // No text of an application is this short.
    let proxy = Sandbox::start(&["--scrape.max-payload=1B"]).await;
    let to = format!("--proxy=tcp://{}", proxy.tcp());
    let web = format!("--web=http://{}", proxy.web());
    let output = bench(&[&to, &web, "--mix=scrape"]).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(parsed(&output)["failures"]["missing"]["count"], 20);
}

#[tokio::test]
async fn a_signal_ends_it_with_what_was_measured_until_then() {
    let proxy = Sandbox::start(&[]).await;
    let to = format!("--proxy=tcp://{}", proxy.tcp());
    let web = format!("--web=http://{}", proxy.web());
    let mut endless = command("1h", &[&to, &web, "--mix=scrape"]);
    let bench = endless
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let bench = bench.expect("the program");
    eventually("a scrape", async || {
        proxy
            .own("prometheus_proxy_scrape_seconds_count{outcome=\"success\",exception=\"none\"}")
            .await
            == 5.0
    })
    .await;
    let pid = bench.id().expect("a running process").to_string();
    let sent = Command::new("kill").args(["-INT", &pid]).status().await;
    assert!(sent.expect("kill").success());
    let output = timeout(PATIENCE, bench.wait_with_output()).await;
    let output = output.expect("an end").expect("an output");
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    let report = parsed(&output);
    assert_eq!(report["interrupted"], true);
    assert_eq!(phases(&report)[0], ("connect", 5));
    assert_eq!(phases(&report)[1].0, "scrape_plain");
}

#[tokio::test]
async fn a_reader_of_the_result_that_has_gone_is_a_failure_in_one_line() {
    let mut bench = command("0s", &["--mix=connect-storm"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program");
    drop(bench.stdout.take());
    let output = timeout(PATIENCE, bench.wait_with_output()).await;
    let output = output.expect("an end").expect("an output");
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("the result cannot be written"), "{said}");
}

#[tokio::test]
async fn too_few_descriptors_are_told_before_anything_starts() {
    let program = env!("CARGO_BIN_EXE_prometheus-rsocket-proxy");
    let script = format!("ulimit -n 256; exec {program} bench --apps=1000");
    let output = Command::new("sh").args(["-c", &script]).output().await;
    let output = output.expect("a shell");
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("the limit is 256"), "{said}");
}
