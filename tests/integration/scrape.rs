//! Pulling: one valid exposition in time, whatever single applications do.

use std::io::Read;
use std::time::Duration;

use flate2::read::GzDecoder;
use hyper::{Method, StatusCode};
use prometheus_rsocket_wire::ErrorCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::app::{Answer, App, Peer};
use crate::sandbox::{Sandbox, begin, eventually, request, samples};

const SECONDS: &str = "x-prometheus-scrape-timeout-seconds";

#[tokio::test]
async fn families_of_several_applications_are_grouped_under_one_help_and_type() {
    let proxy = Sandbox::start(&[]).await;
    let text = |app| format!("# HELP up Whether it is.\n# TYPE up gauge\nup{{app=\"{app}\"}} 1\n");
    let _first = App::text(proxy.tcp(), &text("a")).await;
    let _second = App::text(proxy.tcp(), &text("b")).await;
    let response = proxy.get("/metrics/connected").await;
    assert_eq!(response.status, StatusCode::OK);
    assert_eq!(
        response.headers["content-type"],
        "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"
    );
    assert_eq!(
        response.text(),
        "# HELP up Whether it is.\n# TYPE up gauge\nup{app=\"a\"} 1\nup{app=\"b\"} 1\n"
    );
}

#[tokio::test]
async fn without_applications_the_answer_is_an_empty_exposition() {
    let proxy = Sandbox::start(&[]).await;
    let response = proxy.get("/metrics/connected").await;
    assert_eq!((response.status, response.body.len()), (StatusCode::OK, 0));
    assert_eq!(
        response.headers["content-type"],
        "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"
    );
}

#[tokio::test]
async fn one_bad_application_costs_only_itself() {
    let bomb = "a".repeat(2 << 20);
    let cases = [
        (
            Answer::Never,
            "timeout",
            "no answer before the scrape's deadline",
        ),
        (
            Answer::Rubbish,
            "invalid",
            "the envelope is not encrypted to this key",
        ),
        (
            Answer::NoKey,
            "invalid",
            "the envelope has no key in its metadata",
        ),
        (
            Answer::Empty,
            "invalid",
            "the envelope has no key in its metadata",
        ),
        (
            Answer::Error(ErrorCode::APPLICATION_ERROR),
            "error",
            "peer answered APPLICATION_ERROR: no",
        ),
        (
            Answer::Text(bomb),
            "invalid",
            "the text is longer than the limit",
        ),
        (
            Answer::Text("up{ 1\n".into()),
            "invalid",
            "line 1, column 5: ",
        ),
        (
            Answer::Text("up{a=\"1\",a=\"2\"} 1\n".into()),
            "invalid",
            "line 1, column ",
        ),
    ];
    for (answer, outcome, reason) in cases {
        let proxy = Sandbox::start(&["--scrape.max-payload=1MiB"]).await;
        let bad = App::connect(proxy.tcp(), answer).await;
        let _good = App::text(proxy.tcp(), "up 1\n").await;
        for round in 1..=2 {
            let response = proxy
                .get_with("/metrics/connected", &[(SECONDS, "2")])
                .await;
            assert_eq!(response.text(), "up 1\n", "{reason}");
            assert_eq!(
                bad.seen.pulls(),
                round,
                "asked again the next time: {reason}"
            );
        }
        let status = proxy.status().await;
        let last = &status["connections"][0]["last_scrape"];
        assert_eq!(last["outcome"], outcome, "{last}");
        assert!(
            last["reason"].as_str().unwrap().starts_with(reason),
            "{last}"
        );
        assert_eq!(
            status["connections"][1]["last_scrape"]["outcome"],
            "success"
        );
        let metrics = proxy.get("/metrics/proxy").await;
        let counted =
            format!("prometheus_proxy_scrape_seconds_count{{outcome=\"{outcome}\",exception=\"");
        let line = metrics
            .text()
            .lines()
            .find(|line| line.starts_with(&counted));
        assert!(line.is_some_and(|line| line.ends_with(" 2")), "{line:?}");
    }
}

#[tokio::test]
async fn an_application_that_answers_one_byte_at_a_time_does_not_hold_up_the_others() {
    let proxy = Sandbox::start(&[]).await;
    let _good = App::text(proxy.tcp(), "up 1\n").await;
    let mut slow = TcpStream::connect(proxy.tcp()).await.unwrap();
    let setup = include_bytes!("../../crates/wire/tests/vectors/session/client_to_server.bin");
    slow.write_all(&setup[..62]).await.unwrap();
    proxy.connected(2).await;
    let dripping = tokio::spawn(async move {
        let (mut read, mut write) = slow.split();
        let mut heard = vec![0; 4096];
        let drip = async {
            // A frame that claims 16 MB, and never comes.
            for byte in [0xff, 0xff, 0xff, 0, 0, 0, 4]
                .into_iter()
                .chain(std::iter::repeat(0))
            {
                write.write_all(&[byte]).await.unwrap();
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let hear = async { while read.read(&mut heard).await.is_ok_and(|bytes| bytes > 0) {} };
        tokio::join!(drip, hear);
    });
    for _ in 0..2 {
        let started = Instant::now();
        let response = proxy
            .get_with("/metrics/connected", &[(SECONDS, "3")])
            .await;
        assert_eq!(response.text(), "up 1\n");
        assert!(
            started.elapsed() < Duration::from_secs(3),
            "{:?}",
            started.elapsed()
        );
    }
    dripping.abort();
}

#[tokio::test]
async fn a_request_that_nobody_waits_for_any_more_is_cancelled() {
    let proxy = Sandbox::start(&[]).await;
    let hung = App::connect(proxy.tcp(), Answer::Never).await;
    proxy
        .get_with("/metrics/connected", &[(SECONDS, "0.2")])
        .await;
    eventually("CANCEL at the deadline", async || hung.seen.cancels() == 1).await;

    let gone = tokio::spawn(request(proxy.web(), Method::GET, "/metrics/connected", &[]));
    eventually("a second pull", async || hung.seen.pulls() == 2).await;
    gone.abort();
    eventually("CANCEL when Prometheus hangs up", async || {
        hung.seen.cancels() == 2
    })
    .await;
}

#[tokio::test]
async fn two_scrapes_at_once_share_one_pull_and_both_get_its_answer() {
    let proxy = Sandbox::start(&[]).await;
    let (open, gate) = watch::channel(false);
    let app = App::connect(proxy.tcp(), Answer::Gated("up 1\n".into(), gate)).await;
    let scrape = || tokio::spawn(request(proxy.web(), Method::GET, "/metrics/connected", &[]));
    let (first, second) = (scrape(), scrape());
    eventually("two scrapes under way", async || {
        proxy.own("prometheus_proxy_scrapes_active").await >= 2.0
    })
    .await;
    open.send_replace(true);
    assert_eq!(first.await.unwrap().text(), "up 1\n");
    assert_eq!(second.await.unwrap().text(), "up 1\n");
    assert_eq!(app.seen.pulls(), 1);
}

#[tokio::test]
async fn an_application_that_lost_a_request_is_asked_again_while_scrapes_overlap() {
    let proxy = Sandbox::start(&[]).await;
    let (open, gate) = watch::channel(false);
    let app = App::connect(proxy.tcp(), Answer::Gated("up 1\n".into(), gate)).await;
    let web = proxy.web();
    let scrape = |seconds: &'static str| {
        tokio::spawn(async move {
            request(
                web,
                Method::GET,
                "/metrics/connected",
                &[(SECONDS, seconds)],
            )
            .await
        })
    };
    let under_way = async |scrapes: f64| {
        eventually("scrapes under way", async || {
            proxy.own("prometheus_proxy_scrapes_active").await >= scrapes
        })
        .await;
    };
    let first = scrape("1");
    under_way(1.0).await;
    let joined = scrape("50");
    under_way(2.0).await;
    assert!(first.await.unwrap().body.is_empty());
    assert_eq!(
        (app.seen.pulls(), app.seen.cancels()),
        (1, 0),
        "the second still waits"
    );
    let third = scrape("50");
    eventually("a new request", async || app.seen.pulls() == 2).await;
    assert_eq!(app.seen.cancels(), 1);
    open.send_replace(true);
    assert_eq!(joined.await.unwrap().text(), "up 1\n");
    assert_eq!(third.await.unwrap().text(), "up 1\n");
}

#[tokio::test]
async fn a_scrape_too_many_is_told_so_and_the_others_go_on() {
    let proxy = Sandbox::start(&["--scrape.max-concurrent=1"]).await;
    let (open, gate) = watch::channel(false);
    let app = App::connect(proxy.tcp(), Answer::Gated("up 1\n".into(), gate)).await;
    let first = tokio::spawn(request(proxy.web(), Method::GET, "/metrics/connected", &[]));
    eventually("a pull", async || app.seen.pulls() == 1).await;
    let refused = proxy.get("/metrics/connected").await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.text().contains("--scrape.max-concurrent"));
    open.send_replace(true);
    assert_eq!(first.await.unwrap().text(), "up 1\n");
}

#[tokio::test]
async fn gzip_is_served_where_it_is_accepted() {
    let proxy = Sandbox::start(&[]).await;
    let text: String = (0..5000)
        .map(|i| format!("series{{row=\"{i}\"}} {i}\n"))
        .collect();
    let _app = App::text(proxy.tcp(), &text).await;
    let plain = proxy.get("/metrics/connected").await;
    assert_eq!(plain.headers.get("content-encoding"), None);
    let packed = proxy
        .get_with("/metrics/connected", &[("accept-encoding", "gzip")])
        .await;
    assert_eq!(packed.headers["content-encoding"], "gzip");
    assert!(packed.body.len() < plain.body.len() / 2);
    let mut unpacked = String::new();
    GzDecoder::new(&packed.body[..])
        .read_to_string(&mut unpacked)
        .unwrap();
    assert_eq!(unpacked, plain.text());
}

#[tokio::test]
async fn a_head_request_pulls_nobody() {
    let proxy = Sandbox::start(&[]).await;
    let app = App::text(proxy.tcp(), "up 1\n").await;
    let head = request(proxy.web(), Method::HEAD, "/metrics/connected", &[]).await;
    assert_eq!((head.status, head.body.len()), (StatusCode::OK, 0));
    assert_eq!(
        head.headers["content-type"],
        "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"
    );
    // It would be that of no text.
    assert_eq!(head.headers.get("content-length"), None);
    assert_eq!(app.seen.pulls(), 0);
}

#[tokio::test]
async fn a_text_is_counted_for_what_its_families_cost() {
    let proxy = Sandbox::start(&["--scrape.max-memory=64KiB"]).await;
    let names: String = (0..1_000).map(|i| format!("a{i} 1\n")).collect();
    assert!(names.len() < 8 << 10);
    let rows: String = (0..1_000)
        .map(|i| format!("up{{row=\"{i}\"}} 1\n"))
        .collect();
    let _names = App::text(proxy.tcp(), &names).await;
    let _rows = App::text(proxy.tcp(), &rows).await;
    assert_eq!(proxy.scrape().await, samples(&rows));
    let status = proxy.status().await;
    let connections = status["connections"].as_array().unwrap();
    let failed: Vec<_> = connections
        .iter()
        .map(|connection| &connection["last_scrape"])
        .filter(|scrape| scrape["outcome"] != "success")
        .collect();
    assert_eq!(failed.len(), 1, "{failed:?}");
    let reason = failed[0]["reason"].as_str().unwrap();
    assert!(reason.contains("--scrape.max-memory"), "{reason}");
}

#[tokio::test]
async fn a_reader_that_goes_away_half_way_frees_what_was_held_for_it() {
    let proxy = Sandbox::start(&["--scrape.max-memory=24MiB", "--scrape.max-concurrent=1"]).await;
    let text: String = (0..400_000)
        .map(|i| format!("series{{row=\"{i}\"}} {i}\n"))
        .collect();
    let _app = App::text(proxy.tcp(), &text).await;
    for _ in 0..3 {
        eventually("room for a scrape", async || {
            let head = begin(proxy.web(), Method::GET, "/metrics/connected", &[]).await;
            head.status() == StatusCode::OK
        })
        .await;
    }
    eventually("a whole scrape", async || {
        proxy.get("/metrics/connected").await.body.len() == text.len()
    })
    .await;
    assert_eq!(
        proxy.status().await["connections"][0]["last_scrape"]["outcome"],
        "success"
    );
}

#[tokio::test]
async fn the_plaintext_envelope_is_taken_where_it_was_announced() {
    let flags = [
        "--rsocket.envelope=plaintext",
        "--rsocket.insecure-plaintext",
    ];
    let proxy = Sandbox::start(&flags).await;
    let mut app = Peer::connect(proxy.tcp()).await;
    assert!(matches!(
        app.next().await,
        prometheus_rsocket_wire::Event::FireAndForget { payload } if payload.data == "plaintext"
    ));
    let client = prometheus_rsocket_client::Client::builder(|| "up 1\n")
        .proxy(format!("tcp://{}", proxy.tcp()).parse().unwrap())
        .connect();
    client.ready().await.unwrap();
    let response = proxy
        .get_with("/metrics/connected", &[(SECONDS, "2")])
        .await;
    assert_eq!(samples(response.text()), ["up 1"]);
}

#[tokio::test]
async fn the_client_library_works_over_websocket() {
    let proxy = Sandbox::start(&[]).await;
    let client = prometheus_rsocket_client::Client::builder(|| "up 1\n")
        .proxy(
            format!("ws://{}", proxy.node.websocket_address)
                .parse()
                .unwrap(),
        )
        .connect();
    client.ready().await.unwrap();
    assert_eq!(proxy.scrape().await, ["up 1"]);
    assert_eq!(
        proxy.status().await["connections"][0]["transport"],
        "websocket"
    );
    client.push_and_close().await.unwrap();
    proxy.connected(0).await;
    assert_eq!(proxy.scrape().await, ["up 1"]);
}
