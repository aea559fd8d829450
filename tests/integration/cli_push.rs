//! `push` as cron jobs and shell scripts use it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::{Output, Stdio};
use std::time::Duration;

use hyper::{Method, StatusCode};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::peers::{Program, Scratch, need, reserved_port};
use crate::sandbox::{PATIENCE, Sandbox, eventually, request, samples};
use crate::tls::Authority;

/// Nobody listens there.
const NOBODY: &str = "--proxy=tcp://127.0.0.1:1";

fn at(tcp: SocketAddr) -> String {
    format!("--proxy=tcp://{tcp}")
}

async fn push(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_prometheus-rsocket-proxy"))
        .arg("push")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the program");
    let mut pipe = child.stdin.take().expect("a pipe");
    // It may end without reading all, or anything.
    let _ = pipe.write_all(input.as_bytes()).await;
    drop(pipe);
    timeout(PATIENCE, child.wait_with_output())
        .await
        .expect("an end")
        .expect("an output")
}

fn said(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).expect("UTF-8")
}

#[tokio::test]
async fn a_text_from_a_pipe_or_a_file_is_held_when_the_program_has_ended_well() {
    let proxy = Sandbox::start(&[]).await;
    let scratch = Scratch::new();
    let file = scratch.file("metrics.prom", "jobs_total{from=\"file\"} 1\n");
    let to = at(proxy.tcp());
    for (arguments, input) in [
        (&[&*to][..], "jobs_total{from=\"pipe\"} 1\n"),
        (&[&*to, "-"], "jobs_total{from=\"dash\"} 1\n"),
        (&[&*to, &file, "--quiet"], ""),
    ] {
        let output = push(arguments, input).await;
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let quiet = arguments.contains(&"--quiet");
        assert_eq!(said(&output).is_empty(), quiet, "{output:?}");
    }
    proxy.connected(0).await;
    assert_eq!(
        proxy.scrape().await,
        [
            "jobs_total{from=\"pipe\"} 1",
            "jobs_total{from=\"dash\"} 1",
            "jobs_total{from=\"file\"} 1"
        ]
    );
}

#[tokio::test]
async fn labels_of_the_command_line_are_added_as_those_of_a_target_are() {
    let proxy = Sandbox::start(&[]).await;
    let to = at(proxy.tcp());
    let arguments = [&*to, "--label=job=backup", "--label", "path=a=\"b\\c"];
    let text = "# TYPE runs counter\nruns_total{a=\"1\"} 1\n# TYPE took gauge\ntook{job=\"own\"} 2\n# EOF\n";
    let output = push(&arguments, text).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    proxy.connected(0).await;
    let path = r#"path="a=\"b\\c""#;
    assert_eq!(
        proxy.scrape().await,
        [
            format!("runs_total{{job=\"backup\",{path},a=\"1\"}} 1"),
            format!("took{{job=\"backup\",{path},exported_job=\"own\"}} 2"),
        ]
    );
}

#[tokio::test]
async fn a_text_that_the_proxy_would_refuse_is_not_sent() {
    let scratch = Scratch::new();
    let file = scratch.file("metrics.prom", "up 1\nup{ 1\n");
    let place = format!("{file}:2:5: invalid label name\n");
    for (arguments, input, reason) in [
        (&[NOBODY, &*file][..], "", &*place),
        (&[NOBODY, &*file, "--label=job=backup"], "", &*place),
        (
            &[NOBODY],
            "up 1 1700000000000\n",
            "<stdin>:1:6: a timestamp",
        ),
        (&[NOBODY], "", "<stdin>: no samples"),
        (
            &[NOBODY, "--max-bytes=4B"],
            "up 1\n",
            "<stdin>: longer than 4 bytes",
        ),
        (&[NOBODY, "/no/such/file"], "", "/no/such/file"),
    ] {
        let output = push(arguments, input).await;
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert_eq!(said(&output).lines().count(), 1, "{output:?}");
        let line = said(&output);
        let line = line.strip_prefix("error: ").unwrap_or(line);
        assert!(line.starts_with(reason), "{output:?}");
    }
}

#[tokio::test]
async fn a_mistake_in_the_usage_is_told_from_a_failure() {
    for arguments in [
        &["--proxy=http://proxy:7001"][..],
        &["--timeout=0s"],
        &["one", "two"],
        &["--label=job"],
        &["--label=job="],
        &["--label==backup"],
        &["--label=\"job=backup"],
        &["--label=__job=backup"],
        &["--label=le=1"],
        &["--label=job=a", "--label=job=b"],
    ] {
        let output = push(arguments, "up 1\n").await;
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert_eq!(said(&output).lines().count(), 1, "{output:?}");
    }
}

#[tokio::test]
async fn what_is_not_acknowledged_is_a_failure_with_its_reason() {
    let output = push(&[NOBODY, "--timeout=200ms", "--quiet"], "up 1\n").await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(said(&output).contains("connection refused"), "{output:?}");

    let full = Sandbox::start(&["--push.max-bytes=1B"]).await;
    let output = push(&[&at(full.tcp())], "up 1\n").await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(said(&output).contains("refused the push"), "{output:?}");
}

#[tokio::test]
async fn what_no_waiting_helps_fails_at_once_with_one_line_that_names_the_cause() {
    let scratch = Scratch::new();
    let authority = Authority::new(&scratch, "ca.pem");
    let plain = Sandbox::start(&[]).await;
    let secure = authority.node(&scratch, &[]).await;
    let identities = scratch.file(
        "identities.yml",
        &format!(
            "identities: [{{name: a, tokens_sha256: [{}]}}]\n",
            "0".repeat(64)
        ),
    );
    let guarded = Sandbox::start(&[&format!("--rsocket.auth.file={identities}")]).await;
    let token = format!("--bearer-token-file={}", scratch.file("token", "wrong\n"));
    let trusted = format!("--tls.ca-file={}", scratch.path("ca.pem"));
    let to = |scheme: &str, address: SocketAddr| {
        format!("--proxy={scheme}://localhost:{}", address.port())
    };
    for (proxy, argument, cause) in [
        (
            to("tcp", guarded.tcp()),
            &*token,
            "does not know these credentials",
        ),
        (to("tcp", guarded.tcp()), &trusted, "requires a token"),
        (
            to("tcp", plain.tcp()),
            "--bearer-token-file=/no/such/file",
            "/no/such/file",
        ),
        (
            to("tls", plain.tcp()),
            &trusted,
            "for tcp://, not for tls://",
        ),
        (
            to("wss", plain.node.websocket_address),
            &trusted,
            "for ws://, not for wss://",
        ),
        (to("ws", plain.tcp()), &trusted, "for tcp://, not for ws://"),
        (
            to("tcp", plain.node.websocket_address),
            &trusted,
            "for ws://, not for tcp://",
        ),
        (
            to("tls", secure.node.websocket_address),
            &trusted,
            "for wss://, not for tls://",
        ),
        (to("tcp", secure.tcp()), &trusted, "the peer speaks TLS"),
        (
            to("ws", secure.node.websocket_address),
            &trusted,
            "is it one for wss://",
        ),
        (
            to("tls", secure.tcp()),
            "--timeout=1h",
            "not signed by a trusted CA",
        ),
        (to("tcp", plain.web()), &trusted, "the peer speaks HTTP"),
        (to("ws", plain.web()), &trusted, "HTTP status"),
    ] {
        let arguments = [&*proxy, argument, "--timeout=1h", "--log.level=error"];
        let arguments = arguments.into_iter().collect::<BTreeSet<_>>();
        let output = push(&arguments.into_iter().collect::<Vec<_>>(), "up 1\n").await;
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert_eq!(said(&output).lines().count(), 1, "{output:?}");
        let begin = format!("error: cannot connect to the proxy: {}: ", &proxy[8..]);
        assert!(said(&output).starts_with(&begin), "{output:?}");
        assert!(said(&output).contains(cause), "{output:?}");
    }
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_one_line() {
    let output = push(&[NOBODY, "--timeout=1s"], "up 1\n").await;
    assert_eq!(
        said(&output),
        "error: not connected to the proxy in time: tcp://127.0.0.1:1: connection refused (is the proxy running, and \
         is this its port?)\n"
    );
}

#[tokio::test]
async fn a_push_that_is_too_long_or_repeats_a_series_is_said() {
    let proxy = Sandbox::start(&["--scrape.max-payload=64KiB"]).await;
    let to = at(proxy.tcp());
    // It is short on its way.
    let long: String = (0..5_000)
        .map(|i| format!("long{{i=\"{i}\"}} 1\n"))
        .collect();
    let output = push(&[&to], &long).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        said(&output).contains("longer than the limit"),
        "{output:?}"
    );
    let refused = "prometheus_proxy_pushes_refused_total{reason=\"payload\"}";
    assert_eq!(proxy.own(refused).await, 1.0);

    let output = push(&[&to], "a 1\nb 1\na 2\n").await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(
        said(&output).starts_with("warning: <stdin>:3: duplicate series"),
        "{output:?}"
    );
}

/// Scrapes a node that comes and goes, and keeps what it serves.
async fn collect(web: SocketAddr, mut until: watch::Receiver<bool>) -> BTreeSet<String> {
    let mut served = BTreeSet::new();
    loop {
        let last = *until.borrow_and_update();
        if tokio::net::TcpStream::connect(web).await.is_ok() {
            let scrape =
                tokio::spawn(
                    async move { request(web, Method::GET, "/metrics/connected", &[]).await },
                );
            // A node that goes away in the middle of a scrape keeps what it had for the next one.
            if let Ok(response) = scrape.await {
                served.extend(samples(response.text()));
            }
        }
        if last {
            return served;
        }
        let _ = timeout(Duration::from_millis(20), until.changed()).await;
    }
}

#[tokio::test]
async fn every_push_of_a_loop_that_ended_well_is_served_while_nodes_restart() {
    let (tcp, web) = (reserved_port(), reserved_port());
    let start = || {
        Program::start(
            Command::new(env!("CARGO_BIN_EXE_prometheus-rsocket-proxy"))
                .arg(format!("--web.listen-address=127.0.0.1:{web}"))
                .arg(format!("--rsocket.tcp.listen-address=127.0.0.1:{tcp}"))
                .arg("--rsocket.websocket.listen-address=127.0.0.1:0"),
        )
    };
    let to = format!("--proxy=tcp://127.0.0.1:{tcp}");
    let mut node = start();
    node.line_with("msg=\"ready\"").await;
    let (finish, finished) = watch::channel(false);
    let collecting = tokio::spawn(collect(([127, 0, 0, 1], web).into(), finished));
    let pushing = tokio::spawn(async move {
        let mut acknowledged = Vec::new();
        for job in 0..60 {
            let sample = format!("job{{number=\"{job}\"}} 1");
            let output = push(&[&to, "--quiet"], &format!("{sample}\n")).await;
            if output.status.success() {
                acknowledged.push(sample);
            }
        }
        acknowledged
    });
    for _ in 0..3 {
        node.terminate();
        assert!(node.ended().await.success());
        node = start();
        node.line_with("msg=\"ready\"").await;
    }
    let acknowledged = pushing.await.expect("no panic");
    finish.send_replace(true);
    let served = collecting.await.expect("no panic");
    let lost: Vec<_> = acknowledged
        .iter()
        .filter(|sample| !served.contains(*sample))
        .collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    assert_eq!(acknowledged.len(), 60);
}

#[tokio::test]
async fn the_java_proxy_takes_a_push() {
    need!(Java);
    let mut proxy = Program::interop("proxy", &[]);
    let ports = proxy.line("READY").await;
    let port = |name: &str| -> u16 {
        let port = ports
            .split(' ')
            .find_map(|port| port.strip_prefix(name)?.strip_prefix('='));
        port.expect("a port").parse().expect("a number")
    };
    let tcp = ([127, 0, 0, 1], port("tcp")).into();
    let web = ([127, 0, 0, 1], port("http")).into();
    let output = push(&[&at(tcp)], "jobs_total{job=\"backup\"} 1\n").await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    // It serves a held push once, in the scrape in which it notices that the connection has ended.
    eventually("the push", async || {
        let response = request(web, Method::GET, "/metrics/connected", &[]).await;
        response.status == StatusCode::OK && response.text().contains("jobs_total{job=\"backup\"")
    })
    .await;
}
