//! Targets behind an agent as Prometheus' users know them: every format, TLS, credentials, limits, and the hostile ones.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use hyper::StatusCode;
use prometheus_rsocket_proxy::tls::{ClientAuth, Files, Policy, Tls};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::time::timeout;

use crate::agent::{HttpTarget, Page, agent, gzip, program, scrape};
use crate::nodes::{BINARY, Node};
use crate::peers::{Program, Scratch};
use crate::sandbox::{Sandbox, eventually, samples};
use crate::tls::Authority;

/// The samples of one target, asked by an agent with these flags beside it.
async fn served(page: Page, flags: &[&str]) -> Vec<String> {
    let proxy = Sandbox::start(&[]).await;
    let target = HttpTarget::start(page).await;
    let _agent = agent(&proxy, &[&[&*target.flag("")], flags].concat()).await;
    let samples = scrape(&proxy).await.into_iter();
    samples
        .filter(|sample| !sample.starts_with("up{"))
        .collect()
}

#[tokio::test]
async fn a_text_is_what_its_content_type_says() {
    let dotnet =
        "# TYPE dotnet_requests counter\ndotnet_requests{route=\"a\"} 21 1700000000000\n# EOF\n";
    for content_type in ["text/plain; charset=utf-8; version=0.0.4", "text/plain"] {
        let page = Page::Typed(content_type, dotnet.into());
        assert_eq!(
            served(page, &[]).await,
            ["dotnet_requests{route=\"a\"} 21 1700000000000"]
        );
    }
    let openmetrics = "# TYPE a counter\na_total 1 1700000000\n# EOF\n";
    let page = Page::Typed(
        "application/openmetrics-text; version=1.0.0",
        openmetrics.into(),
    );
    assert_eq!(served(page, &[]).await, ["a_total 1 1700000000000"]);
    let fallback = "--fallback-scrape-protocol=OpenMetricsText1.0.0";
    let page = Page::Typed("", openmetrics.into());
    assert_eq!(served(page, &[fallback]).await, ["a_total 1 1700000000000"]);
}

#[tokio::test]
async fn a_target_that_goes_by_the_first_format_asked_for_is_up() {
    let text = "# TYPE app_requests counter\napp_requests_total{code=\"200\"} 3\n\
                # TYPE kube_demo info\nkube_demo_info{name=\"a\"} 1\n";
    assert_eq!(
        served(Page::Vault(text), &[]).await,
        [
            "app_requests_total{code=\"200\"} 3",
            "kube_demo_info{name=\"a\"} 1"
        ]
    );
}

#[tokio::test]
async fn every_member_of_a_gzip_body_is_read() {
    let members = [gzip("raw_total{x=\"1\"} 3\n"), gzip("raw_second 1\n")];
    assert_eq!(
        served(Page::Gzip(members.concat()), &[]).await,
        ["raw_second 1", "raw_total{x=\"1\"} 3"]
    );
}

#[tokio::test]
async fn two_targets_that_serve_the_same_series_are_told_from_two_applications() {
    let proxy = Sandbox::start(&[]).await;
    let page = || Page::Typed("text/plain", "jobs_total 1\n".into());
    let targets = [
        HttpTarget::start(page()).await,
        HttpTarget::start(page()).await,
    ];
    let flags = targets.each_ref().map(|target| target.flag(""));
    let _agent = agent(&proxy, &[&flags[0], &flags[1]]).await;
    scrape(&proxy).await;
    let duplicates = proxy.status().await["duplicates"].clone();
    assert_eq!(duplicates.as_array().map(Vec::len), Some(1), "{duplicates}");
    let page = proxy.get("/").await;
    assert!(
        page.text().contains("Two targets of the agent"),
        "{}",
        page.text()
    );
}

/// An agent's configuration of one job with the target and what else is said of it.
fn config(scratch: &Scratch, target: SocketAddr, rest: &str) -> String {
    let text = format!(
        "scrape_configs:\n- job_name: one\n  static_configs: [{{targets: ['localhost:{}']}}]\n{rest}",
        target.port()
    );
    format!("--config.file={}", scratch.file("agent.yml", &text))
}

#[tokio::test]
async fn a_redirect_is_followed_unless_the_job_forbids_it_and_takes_credentials_nowhere_else() {
    let proxy = Sandbox::start(&[]).await;
    let scratch = Scratch::new();
    let other = HttpTarget::start(Page::Redirect(String::new(), "away 1\n")).await;
    let target = HttpTarget::start(Page::Redirect("/mount/".into(), "here 1\n")).await;
    let auth = "  basic_auth: {username: ann, password: hunter2}\n";
    let flag = config(&scratch, target.address, auth);
    let mut agent = agent(&proxy, &[&flag]).await;
    let here = |name: &str| {
        let port = target.address.port();
        format!("{name}{{instance=\"localhost:{port}\",job=\"one\"}} 1")
    };
    assert!(scrape(&proxy).await.contains(&here("here")));
    assert_eq!(
        target.seen.headers()["authorization"],
        "Basic YW5uOmh1bnRlcjI="
    );
    // By another name of the same machine.
    let away = format!("http://127.0.0.1:{}/m", other.address.port());
    target.page.send_replace(Page::Redirect(away, ""));
    assert!(scrape(&proxy).await.contains(&here("away")));
    assert!(!other.seen.headers().contains_key("authorization"));
    let before = other.seen.requests();
    config(&scratch, target.address, "  follow_redirects: false\n");
    agent.line_with("msg=\"configuration read\"").await;
    eventually("the redirect to be refused", async || {
        let status = proxy.status().await;
        scrape(&proxy).await;
        let targets = &status["connections"][0]["targets"];
        targets["failures"][0]["reason"] == "answered 307 Temporary Redirect"
    })
    .await;
    assert!(other.seen.requests() > 0 && before > 0);
    assert!(!agent.has_mentioned("hunter2"));
}

#[tokio::test]
async fn a_target_with_tls_and_credentials_is_asked_as_its_job_says() {
    let proxy = Sandbox::start(&[]).await;
    let scratch = Scratch::new();
    let authority = Authority::new(&scratch, "ca.pem");
    let [certificate, key] = authority.issue(&scratch, "target.internal", "target");
    let [own, own_key] = authority.issue(&scratch, "agent", "agent");
    let files = Files {
        certificate: std::path::PathBuf::from(certificate).into(),
        key: std::path::PathBuf::from(key).into(),
        client_ca: Some(std::path::PathBuf::from(&authority.ca_file).into()),
    };
    let policy = Policy {
        client_auth: ClientAuth::RequireAndVerifyClientCert,
        ..Policy::default()
    };
    let tls = Tls::read(files, policy).expect("good files");
    let page = Page::text("a 1\n");
    let target = HttpTarget::start_with(page, Some(tls.config().clone())).await;
    let token = scratch.file("token", "hunter2\n");
    let job = |tls: &str| {
        let rest = format!(
            "  scheme: https\n  authorization: {{credentials_file: {token}}}\n  tls_config: {{{tls}}}\n"
        );
        config(&scratch, target.address, &rest)
    };
    let shown = format!("cert_file: {own}, key_file: {own_key}");
    let trusting = format!("ca_file: {}, {shown}", authority.ca_file);
    let sample = format!(
        "a{{instance=\"localhost:{}\",job=\"one\"}} 1",
        target.address.port()
    );
    for (tls, expected) in [
        (format!("{trusting}, server_name: target.internal"), None),
        (format!("insecure_skip_verify: true, {shown}"), None),
        // The certificate is for another name.
        (trusting.clone(), Some("certificate")),
        (shown.clone(), Some("certificate")),
        (
            format!(
                "ca_file: {}, server_name: target.internal",
                authority.ca_file
            ),
            Some(""),
        ),
    ] {
        let agent = agent(&proxy, &[&job(&tls)]).await;
        let is_served = scrape(&proxy).await.contains(&sample);
        assert_eq!(is_served, expected.is_none(), "{tls}");
        let targets = proxy.status().await["connections"][0]["targets"].clone();
        let reason = targets["failures"][0]["reason"].as_str();
        assert!(
            reason
                .unwrap_or_default()
                .contains(expected.unwrap_or_default()),
            "{targets}"
        );
        if is_served {
            assert_eq!(target.seen.headers()["authorization"], "Bearer hunter2");
        }
        agent.kill().await;
        proxy.connected(0).await;
    }
}

/// What the agent's own limits let through, and those of the node do not.
#[tokio::test]
async fn the_node_refuses_one_target_of_an_agent_and_serves_the_others() {
    let proxy = Sandbox::start(&["--scrape.max-label-value-length=1KiB"]).await;
    let text = format!("q{{query=\"{}\"}} 1\nr 1\n", "x".repeat(2000));
    let bad = HttpTarget::start(Page::text("r 1\n")).await;
    let good = HttpTarget::start(Page::text("well 1\n")).await;
    let _agent = agent(&proxy, &[&bad.flag(""), &good.flag("")]).await;
    let refused = "prometheus_proxy_scrape_target_failures_total{outcome=\"limit\"}";
    for (page, up) in [(Page::Text(text), 0), (Page::text("r 1\n"), 1)] {
        bad.page.send_replace(page);
        let samples = scrape(&proxy).await;
        assert!(samples.contains(&bad.up(up)), "{samples:?}");
        assert!(samples.contains(&good.up(1)) && samples.contains(&"well 1".to_owned()));
        assert_eq!(samples.contains(&"r 1".to_owned()), up == 1, "{samples:?}");
        let status = proxy.status().await;
        let connection = &status["connections"][0];
        assert_eq!(connection["last_scrape"]["outcome"], "success");
        assert_eq!(connection["targets"]["total"], 2);
        assert_eq!(connection["targets"]["failed"], 1 - up, "{status}");
        if up == 0 {
            let failure = &connection["targets"]["failures"][0];
            assert_eq!(failure["outcome"], "limit");
            let reason = failure["reason"].as_str().unwrap();
            assert!(reason.contains("label value too long"), "{reason}");
            let target = failure["target"].as_str().unwrap();
            assert!(target.contains(&bad.address.to_string()), "{target}");
            let page = proxy.get("/").await;
            assert!(page.text().contains("label value too long"));
        }
        assert_eq!(proxy.own(refused).await, 1.0);
    }
}

#[tokio::test]
async fn a_job_has_a_timeout_of_its_own() {
    let proxy = Sandbox::start(&[]).await;
    let scratch = Scratch::new();
    let slow = HttpTarget::start(Page::Never).await;
    let good = HttpTarget::start(Page::text("well 1\n")).await;
    let flag = config(&scratch, slow.address, "  scrape_timeout: 100ms\n");
    let _agent = agent(&proxy, &[&flag, &good.flag("")]).await;
    // The proxy would wait for the rest of a minute.
    let seconds = [("x-prometheus-scrape-timeout-seconds", "60")];
    let scraping = proxy.get_with("/metrics/connected", &seconds);
    let response = timeout(Duration::from_secs(20), scraping).await;
    let samples = samples(response.expect("in time").text());
    assert!(samples.contains(&"well 1".to_owned()), "{samples:?}");
    let targets = proxy.status().await["connections"][0]["targets"].clone();
    assert_eq!(
        targets["failures"][0]["reason"],
        "no complete answer in time"
    );
}

#[tokio::test]
async fn the_node_logs_when_a_target_fails_and_when_it_does_no_more() {
    let mut command = Command::new(BINARY);
    command.args([
        "--web.listen-address=127.0.0.1:0",
        "--rsocket.tcp.listen-address=127.0.0.1:0",
        "--rsocket.websocket.listen-address=127.0.0.1:0",
        "--scrape.max-label-value-length=1KiB",
    ]);
    let mut node = Node::start(&mut command, Ipv4Addr::LOCALHOST.into()).await;
    let text = format!("q{{query=\"{}\"}} 1\n", "x".repeat(2000));
    let target = HttpTarget::start(Page::Text(text)).await;
    let proxy = format!("--proxy=tcp://{}", node.tcp);
    let _agent = Program::start(&mut program(&[&proxy, &target.flag("")]));
    eventually("the agent", async || node.scrape().await == [target.up(0)]).await;
    let line = node
        .program
        .line_with("target of an agent not served")
        .await;
    for part in [
        "level=warn",
        "outcome=limit",
        "label value too long",
        &target.address.to_string(),
    ] {
        assert!(line.contains(part), "{part} in {line}");
    }
    target.page.send_replace(Page::text("a 1\n"));
    assert_eq!(node.scrape().await, ["a 1", &target.up(1)]);
    let line = node
        .program
        .line_with("target of an agent is served again")
        .await;
    assert!(line.contains("level=warn"), "{line}");
}

/// By the agent's own limits, each of which is a node's default.
#[tokio::test]
async fn what_is_past_a_limit_costs_its_target_at_the_agent() {
    let proxy = Sandbox::start(&[]).await;
    let bad = HttpTarget::start(Page::text("a 1\n")).await;
    let good = HttpTarget::start(Page::text("well 1\n")).await;
    let long_label = format!("q{{query=\"{}\"}} 1\n", "x".repeat(300_000));
    let long_name = format!("{} 1\n", "n".repeat(2000));
    let labels: Vec<String> = (0..101).map(|number| format!("l{number}=\"1\"")).collect();
    let many_labels = format!("a{{{}}} 1\n", labels.join(","));
    let mut agent = agent(&proxy, &[&bad.flag(""), &good.flag("")]).await;
    for (text, reason) in [
        (long_label, "label value too long"),
        (long_name, "name too long"),
        (many_labels, "too many labels"),
    ] {
        bad.page.send_replace(Page::Text(text));
        let samples = scrape(&proxy).await;
        assert_eq!(
            samples,
            [&*bad.up(0), &good.up(1), "well 1"].map(str::to_owned)
        );
        agent.line_with(reason).await;
        bad.page.send_replace(Page::text("a 1\n"));
        scrape(&proxy).await;
    }
}

/// What a hostile target does with a connection.
async fn misbehave(mut stream: TcpStream, how: &str) -> std::io::Result<()> {
    let mut request = [0; 1024];
    let _ = stream.read(&mut request).await?;
    if how == "headers without end" {
        stream.write_all(b"HTTP/1.1 200 OK\r\n").await?;
        loop {
            stream.write_all(b"x-more: and more\r\n").await?;
        }
    }
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nconnection: close\r\n";
    stream.write_all(head.as_bytes()).await?;
    match how {
        "members without end" => {
            stream.write_all(b"content-encoding: gzip\r\n\r\n").await?;
            let members = gzip("").repeat(1000);
            loop {
                stream.write_all(&members).await?;
            }
        }
        "a body without end" => {
            stream.write_all(b"\r\n").await?;
            loop {
                stream.write_all(&[b'\n'; 1 << 16]).await?;
            }
        }
        _ => {
            stream.write_all(b"content-length: 1000\r\n\r\n").await?;
            loop {
                stream.write_all(b"\n").await?;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

#[tokio::test]
async fn a_hostile_target_costs_only_itself() {
    for how in [
        "headers without end",
        "members without end",
        "a body without end",
        "a body that trickles",
    ] {
        let proxy = Sandbox::start(&[]).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let hostile = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(misbehave(stream, how));
            }
        });
        let good = HttpTarget::start(Page::text("well 1\n")).await;
        let bad = format!("--target=http://{hostile}");
        let flags = [
            &bad,
            &good.flag(""),
            "--scrape.max-payload=1MiB",
            "--scrape.timeout=2s",
        ];
        let mut agent = agent(&proxy, &flags).await;
        for _ in 0..2 {
            let samples = scrape(&proxy).await;
            assert!(
                samples.contains(&"well 1".to_owned()) && samples.contains(&good.up(1)),
                "{how}"
            );
            assert_eq!(samples.len(), 3, "{how}: {samples:?}");
        }
        agent.line_with("msg=\"target is down\"").await;
    }
}

/// The paths of the node's list, each with the zone of its target.
async fn listed(node: &Sandbox) -> Vec<(String, String)> {
    let groups: Value =
        serde_json::from_slice(&node.get("/targets").await.body).unwrap_or_default();
    let groups = groups.as_array().cloned().unwrap_or_default();
    let label = |group: &Value, name: &str| {
        group["labels"][name]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let pair = |group: &Value| (label(group, "__metrics_path__"), label(group, "zone"));
    groups.iter().map(pair).collect()
}

#[tokio::test]
async fn each_target_is_one_of_prometheus_own_and_a_changed_file_changes_the_list() {
    let node = Sandbox::start(&[]).await;
    let good = HttpTarget::start(Page::text("a{zone=\"x\"} 1\n")).await;
    let bad = HttpTarget::start(Page::Status(StatusCode::NOT_FOUND)).await;
    let scratch = Scratch::new();
    let list = |instance: &str| {
        format!(
            "- targets: ['{}']\n  labels: {{job: node, instance: good, zone: b}}\n\
             - targets: ['{}']\n  labels: {{instance: {instance}}}\n",
            good.address, bad.address
        )
    };
    let file = scratch.file("targets.yml", &list("bad"));
    let _agent = agent(&node, &[&format!("--targets-file={file}")]).await;
    let good_and = |other: &str| {
        let good = ("/metrics/app/good".to_owned(), "b".to_owned());
        let other = (format!("/metrics/app/{other}"), String::new());
        let mut all = vec![good, other];
        all.sort();
        all
    };
    eventually("both targets", async || {
        listed(&node).await == good_and("bad")
    })
    .await;

    // As the target has it: labels are Prometheus' to add, and so is `up`.
    let response = node.get("/metrics/app/good?job=node").await;
    assert_eq!(response.text(), "a{zone=\"x\"} 1\n");
    let response = node.get("/metrics/app/bad").await;
    assert_eq!(response.status, StatusCode::BAD_GATEWAY);
    assert!(
        response.text().contains("answered 404 Not Found"),
        "{}",
        response.text()
    );
    // Beside that, all of them in one answer.
    assert!(node.scrape().await.contains(&format!(
        "up{{instance=\"bad\",target=\"http://{}/metrics\"}} 0",
        bad.address
    )));

    let next = scratch.file("next.yml", &list("renamed"));
    std::fs::rename(next, &file).unwrap();
    eventually("the other name", async || {
        listed(&node).await == good_and("renamed")
    })
    .await;
    let gone = node.get("/metrics/app/bad").await;
    assert_eq!(gone.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(
        gone.text().contains("no longer a target"),
        "{}",
        gone.text()
    );
}
