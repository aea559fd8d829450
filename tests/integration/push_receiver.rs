//! Pushes over HTTP, for what has nothing but `curl`.

use std::net::SocketAddr;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::timeout;

use crate::cluster_gossip::{formed, nodes};
use crate::identities::{asking, identities, sha256};
use crate::peers::{Scratch, need};
use crate::sandbox::{PATIENCE, Response, Sandbox, eventually, request};
use crate::web_config::{credentials, user};

const PATH: &str = "/api/v1/push";
const ENABLED: &str = "--web.enable-push-receiver";

async fn push_with(web: SocketAddr, headers: &[(&str, &str)], text: &str) -> Response {
    let stream = TcpStream::connect(web).await.expect("a listening node");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .expect("HTTP");
    tokio::spawn(connection);
    let mut request = Request::post(PATH).header("host", web.to_string());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = Full::new(Bytes::copy_from_slice(text.as_bytes()));
    let response = sender.send_request(request.body(body).expect("a valid request"));
    let (parts, body) = response.await.expect("a response").into_parts();
    Response {
        status: parts.status,
        headers: parts.headers,
        body: body.collect().await.expect("a body").to_bytes().to_vec(),
    }
}

async fn push(proxy: &Sandbox, text: &str) -> Response {
    push_with(proxy.web(), &[], text).await
}

async fn refused(proxy: &Sandbox, reason: &str) -> f64 {
    let series = format!("prometheus_proxy_pushes_refused_total{{reason=\"{reason}\"}}");
    proxy.own(&series).await
}

/// What a sender has written of which more is to come, and its response.
struct Unfinished(TcpStream);

impl Unfinished {
    async fn send(web: SocketAddr, head: &str, body: &str) -> Self {
        let mut stream = TcpStream::connect(web).await.expect("a listening node");
        let request = format!("POST {PATH} HTTP/1.1\r\nhost: proxy\r\n{head}\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).await.expect("sent");
        Self(stream)
    }

    async fn response(mut self) -> String {
        let mut response = Vec::new();
        let read = timeout(PATIENCE, self.0.read_to_end(&mut response)).await;
        // What it had sent may have been unread when the node closed the connection.
        let _ = read.expect("an end");
        String::from_utf8(response).expect("UTF-8")
    }
}

#[tokio::test]
async fn what_is_pushed_is_held_and_served_once() {
    let proxy = Sandbox::start(&[ENABLED]).await;
    let text = "# TYPE jobs counter\njobs_total 1\njobs_total 2\nsize{of=\"a\"} 3\n# EOF\n";
    let response = push(&proxy, text).await;
    assert_eq!(response.status, StatusCode::OK, "{}", response.text());
    assert_eq!(
        response.text(),
        format!(
            "push held by this node: samples 3, series 2, bytes {}\n",
            text.len()
        )
    );
    assert_eq!(proxy.status().await["pushes"]["pending"], 1);
    let served = ["jobs_total 1", "jobs_total 2", "size{of=\"a\"} 3"];
    assert_eq!(proxy.scrape().await, served);
    assert_eq!(proxy.scrape().await, [""; 0]);
}

#[tokio::test]
async fn curl_pushes_a_file() {
    need!(Curl);
    let proxy = Sandbox::start(&[ENABLED]).await;
    let scratch = Scratch::new();
    // Longer than what curl sends before it has asked for 100 Continue.
    let samples: Vec<_> = (0..100_000)
        .map(|n| format!("job{{n=\"{n}\"}} 1"))
        .collect();
    let file = scratch.file("metrics.prom", &(samples.join("\n") + "\n"));
    let curl = Command::new("curl")
        .args([
            "--silent",
            "--show-error",
            "--fail-with-body",
            "--data-binary",
        ])
        .arg(format!("@{file}"))
        .arg(format!("http://{}{PATH}", proxy.web()))
        .output();
    let output = timeout(PATIENCE, curl)
        .await
        .expect("an end")
        .expect("curl");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(proxy.scrape().await, samples);
}

#[tokio::test]
async fn in_a_cluster_it_is_acknowledged_when_another_node_holds_it() {
    let nodes = nodes(2, &[ENABLED]).await;
    formed(&nodes).await;
    let response = push(&nodes[0], "jobs_total 1\n").await;
    assert_eq!(
        response.text(),
        "push held by this node and at least one other: samples 1, series 1, bytes 13\n"
    );
    assert_eq!(nodes[1].status().await["pushes"]["replicas"], 1);
    assert_eq!(nodes[1].scrape().await, ["jobs_total 1"]);
    assert_eq!(nodes[0].scrape().await, [""; 0]);
}

#[tokio::test]
async fn it_is_off_unless_it_is_enabled() {
    let proxy = Sandbox::start(&[]).await;
    let response = push(&proxy, "up 1\n").await;
    assert_eq!(response.status, StatusCode::NOT_FOUND);
    assert!(response.text().contains(ENABLED), "{}", response.text());
}

#[tokio::test]
async fn what_cannot_be_held_is_refused_with_a_reason() {
    let flags = [
        ENABLED,
        "--scrape.max-payload=1KiB",
        "--push.max-bytes=8KiB",
    ];
    let proxy = Sandbox::start(&flags).await;
    let long = "# a long comment\n".repeat(64);
    for (headers, text, status, reason) in [
        (
            &[][..],
            "up 1\nup{ 1\n",
            400,
            "line 2, column 5: invalid label name",
        ),
        (
            &[],
            "up 1 1700000000000\n",
            400,
            "a pushed sample has a timestamp",
        ),
        (&[], "", 400, "no samples"),
        (&[], "# TYPE up gauge\n", 400, "no samples"),
        (&[], &long, 413, "longer than --scrape.max-payload"),
        (
            &[("content-encoding", "gzip")],
            "up 1\n",
            415,
            "Content-Encoding",
        ),
    ] {
        let response = push_with(proxy.web(), headers, text).await;
        assert_eq!(response.status, status, "{text}");
        assert!(response.text().contains(reason), "{}", response.text());
        assert_eq!(response.text().lines().count(), 1, "{}", response.text());
    }
    let get = request(proxy.web(), Method::GET, PATH, &[]).await;
    assert_eq!(get.status, StatusCode::METHOD_NOT_ALLOWED);

    let kept = push(&proxy, "up 1\n").await;
    assert_eq!(kept.status, StatusCode::OK);
    let full = loop {
        let response = push(&proxy, "up 1\n").await;
        if response.status != StatusCode::OK {
            break response;
        }
    };
    assert_eq!(full.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(full.text().contains("--push.max-bytes"), "{}", full.text());
    assert_eq!(full.headers["retry-after"], "5");
    for (reason, count) in [
        ("exposition", 3.0),
        ("timestamp", 1.0),
        ("payload", 1.0),
        ("encoding", 1.0),
    ] {
        assert_eq!(refused(&proxy, reason).await, count, "{reason}");
    }
}

#[tokio::test]
async fn a_web_page_cannot_push() {
    let proxy = Sandbox::start(&[ENABLED]).await;
    let own = format!("http://{}", proxy.web());
    for header in [
        ("origin", "https://example.com"),
        ("origin", "null"),
        ("origin", &own),
        ("sec-fetch-site", "cross-site"),
    ] {
        // As a form is sent, which a browser asks nobody about.
        let headers = [header, ("content-type", "text/plain")];
        let response = push_with(proxy.web(), &headers, "up 1\n").await;
        assert_eq!(response.status, StatusCode::FORBIDDEN, "{header:?}");
    }
    assert_eq!(refused(&proxy, "origin").await, 4.0);
    assert_eq!(proxy.scrape().await, [""; 0]);
}

#[tokio::test]
async fn where_there_are_identities_they_decide_and_the_web_password_is_not_asked() {
    let scratch = Scratch::new();
    let users = format!("basic_auth_users: {{{}}}\n", user("ann", "one"));
    let web = format!("--web.config.file={}", scratch.file("web.yml", &users));
    let (proxy, ..) = asking(&identities(), &[ENABLED, &web]).await;
    let text = "jobs_total{team=\"mine\"} 1\n";
    for right in [
        "Bearer token of payments".to_owned(),
        "bearer token of reports".into(),
        credentials("payments", "pass word"),
    ] {
        let response = push_with(proxy.web(), &[("authorization", &right)], text).await;
        assert_eq!(response.status, StatusCode::OK, "{right}");
    }
    for wrong in [
        Some("Bearer token of nobody".to_owned()),
        Some(credentials("payments", "password")),
        Some(credentials("ann", "one")),
        Some("Digest payments".into()),
        Some("Bearer".into()),
        None,
    ] {
        let headers: Vec<_> = wrong
            .iter()
            .map(|wrong| ("authorization", &**wrong))
            .collect();
        let response = push_with(proxy.web(), &headers, text).await;
        assert_eq!(response.status, StatusCode::UNAUTHORIZED, "{wrong:?}");
        assert_eq!(response.headers["www-authenticate"], "Bearer, Basic");
    }
    // Of all other paths the web configuration decides.
    let right = credentials("ann", "one");
    let right = [("authorization", &*right)];
    let token = [("authorization", "Bearer token of payments")];
    for path in [
        "/metrics/pushes",
        "/api/v1/pushes",
        "/api/v1/push/",
        "/api//v1/push",
    ] {
        let response = proxy.get_with(path, &token).await;
        assert_eq!(response.status, StatusCode::UNAUTHORIZED, "{path}");
    }
    let status = proxy.get_with("/api/v1/status", &right).await;
    let status: serde_json::Value = serde_json::from_slice(&status.body).expect("JSON");
    assert_eq!(status["pushes"]["pushers"][0]["pusher"], "payments");
    let mut served = Vec::new();
    eventually("three pushes", async || {
        let scrape = proxy.get_with("/metrics/pushes", &right).await;
        let text = scrape.text().lines().map(str::to_owned);
        served.extend(text.filter(|line| !line.starts_with('#')));
        served.len() == 3
    })
    .await;
    served.sort_unstable();
    assert_eq!(
        served,
        [
            "jobs_total{team=\"payments\",exported_team=\"mine\"} 1",
            "jobs_total{team=\"payments\",exported_team=\"mine\"} 1",
            "jobs_total{team=\"reports\",exported_team=\"mine\"} 1",
        ]
    );
}

#[tokio::test]
async fn what_an_identity_may_push_holds_over_http() {
    let file = format!(
        "anonymous: {{labels: {{team: none}}}}\n\
         identities:\n\
         - {{name: slow, tokens_sha256: [{}], limits: {{pushes_per_second: 1}}}}\n\
         - {{name: short, tokens_sha256: [{}], limits: {{payload: 10B, series: 1}}}}\n",
        sha256("slow"),
        sha256("short")
    );
    let (proxy, ..) = asking(&file, &[ENABLED, "--push.max-rate=2"]).await;
    let push = async |token: &str, text: &str| {
        let authorization = format!("Bearer {token}");
        let headers = [("authorization", &*authorization)];
        push_with(proxy.web(), &headers, text).await.status
    };
    let mut answers = Vec::new();
    for _ in 0..2 {
        answers.push(push("slow", "a 1\n").await);
    }
    assert_eq!(answers, [200, 429]);
    assert_eq!(push("short", "a 1\nb 1\n").await, 400);
    assert_eq!(push("short", "a{b=\"c\"} 1\n").await, 413);
    let mut anonymous = Vec::new();
    for _ in 0..3 {
        anonymous.push(push_with(proxy.web(), &[], "none 1\n").await.status);
    }
    assert_eq!(anonymous, [200, 200, 429]);
    assert_eq!(refused(&proxy, "rate").await, 2.0);
}

#[tokio::test]
async fn without_identities_the_web_configuration_decides() {
    let scratch = Scratch::new();
    let users = format!("basic_auth_users: {{{}}}\n", user("ann", "one"));
    let web = format!("--web.config.file={}", scratch.file("web.yml", &users));
    let proxy = Sandbox::start(&[ENABLED, &web]).await;
    let right = credentials("ann", "one");
    for (headers, status) in [
        (&[][..], StatusCode::UNAUTHORIZED),
        (&[("authorization", &*right)], StatusCode::OK),
    ] {
        assert_eq!(
            push_with(proxy.web(), headers, "up 1\n").await.status,
            status
        );
    }
}

#[tokio::test]
async fn a_sender_that_stops_is_given_up_and_holds_nothing() {
    let flags = [ENABLED, "--web.io-timeout=500ms"];
    let proxy = Sandbox::start(&flags).await;
    let body = "# a comment\n".repeat(10_000);
    let stopped = Unfinished::send(proxy.web(), "content-length: 1000000", &body).await;
    eventually("some of it", async || {
        proxy.own("prometheus_proxy_unfinished_bytes").await >= 100_000.0
    })
    .await;
    let response = stopped.response().await;
    assert!(response.starts_with("HTTP/1.1 408 "), "{response}");
    assert_eq!(proxy.own("prometheus_proxy_unfinished_bytes").await, 0.0);
    assert_eq!(refused(&proxy, "payload").await, 1.0);
}

#[tokio::test]
async fn one_address_has_so_many_pushes_under_way_and_scrapes_go_on() {
    let trusted = "--web.forwarded-for.trusted=127.0.0.1";
    let proxy = Sandbox::start(&[ENABLED, "--web.max-connections=8", trusted]).await;
    let body = "# a comment\n".repeat(10_000);
    let slow = Unfinished::send(proxy.web(), "content-length: 1000000", &body).await;
    eventually("some of it", async || {
        proxy.own("prometheus_proxy_unfinished_bytes").await >= 100_000.0
    })
    .await;
    let response = push(&proxy, "up 1\n").await;
    assert_eq!(response.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers["retry-after"], "5");
    assert_eq!(proxy.scrape().await, [""; 0]);
    let elsewhere = [("x-forwarded-for", "192.0.2.7")];
    let response = push_with(proxy.web(), &elsewhere, "up 1\n").await;
    assert_eq!(response.status, StatusCode::OK);
    drop(slow);
    eventually("its place", async || {
        push(&proxy, "up 1\n").await.status == StatusCode::OK
    })
    .await;
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused_before_it_is_sent() {
    let proxy = Sandbox::start(&[ENABLED]).await;
    let head = "content-length: 100000000\r\nexpect: 100-continue";
    let response = Unfinished::send(proxy.web(), head, "")
        .await
        .response()
        .await;
    assert!(response.starts_with("HTTP/1.1 413 "), "{response}");
}
