//! Pushes: held when acknowledged, served once, never lost on the way to Prometheus.

use std::time::Duration;

use http_body_util::BodyExt;
use hyper::{Method, StatusCode};
use prometheus_rsocket_wire::session::StreamError;
use prometheus_rsocket_wire::{ErrorCode, Payload};
use tokio::time::timeout;

use crate::app::{App, Peer};
use crate::sandbox::{PATIENCE, Sandbox, begin, eventually, long_text, request};

/// Ends a connection, so that the next scrape does not wait for an answer to its pull.
async fn leave(proxy: &Sandbox, app: Peer) {
    drop(app);
    proxy.connected(0).await;
}

async fn pusher(proxy: &Sandbox) -> Peer {
    let mut peer = Peer::connect(proxy.tcp()).await;
    peer.key().await;
    peer
}

fn code(result: &Result<(), StreamError>) -> Option<ErrorCode> {
    match result {
        Err(StreamError::Application { code, .. }) => Some(*code),
        _ => None,
    }
}

#[tokio::test]
async fn an_acknowledged_push_is_served_by_the_next_scrape_and_only_by_that() {
    let proxy = Sandbox::start(&[]).await;
    let mut app = pusher(&proxy).await;
    app.push("jobs_total 1\n").await.unwrap();
    leave(&proxy, app).await;
    assert_eq!(proxy.scrape().await, ["jobs_total 1"]);
    assert!(proxy.scrape().await.is_empty());
}

#[tokio::test]
async fn a_push_waits_for_each_consumer_and_the_status_says_for_which() {
    let proxy = Sandbox::start(&[]).await;
    for name in ["a", "b", "a", "b"] {
        proxy.scrape_as(name).await;
    }
    let mut app = pusher(&proxy).await;
    app.push("jobs_total 1\n").await.unwrap();
    leave(&proxy, app).await;
    let look = [("user-agent", "curl/8.0")];
    let looked = proxy.get_with("/metrics/pushes", &look).await;
    assert_eq!(looked.text(), "jobs_total 1\n");
    assert_eq!(proxy.scrape_as("a").await, ["jobs_total 1"]);
    assert!(proxy.scrape_as("a").await.is_empty());
    let status = proxy.status().await;
    let consumers = status["pushes"]["consumers"].as_array().expect("consumers");
    let seen = consumers.iter().map(|one| {
        (
            one["name"].as_str(),
            one["counts"].as_bool(),
            one["waiting"].as_u64(),
        )
    });
    let expected = [
        (Some("127.0.0.1 curl"), Some(false), Some(0)),
        (Some("a"), Some(true), Some(0)),
        (Some("b"), Some(true), Some(1)),
    ];
    assert_eq!(Vec::from_iter(seen), expected);
    assert_eq!(proxy.scrape_as("b").await, ["jobs_total 1"]);
    eventually("the push to be over", async || {
        proxy.own("prometheus_proxy_push_bytes").await == 0.0
    })
    .await;
}

#[tokio::test]
async fn a_push_right_before_the_end_of_the_connection_is_read() {
    let proxy = Sandbox::start(&[]).await;
    for _ in 0..20 {
        let mut app = pusher(&proxy).await;
        let payload = app.seal("jobs_total 1\n");
        app.connection.session().fire_and_forget(payload).unwrap();
        app.connection.session().end();
        app.connection.finish().await;
    }
    proxy.pending(20).await;
}

#[tokio::test]
async fn several_pushes_of_one_connection_are_all_kept() {
    let proxy = Sandbox::start(&[]).await;
    let mut app = pusher(&proxy).await;
    for job in 0..40 {
        app.push(&format!("job{{number=\"{job}\"}} 1\n"))
            .await
            .unwrap();
    }
    leave(&proxy, app).await;
    assert_eq!(proxy.scrape().await.len(), 40);
}

#[tokio::test]
async fn pushes_with_a_series_in_common_go_out_one_scrape_after_the_other() {
    // In one exposition, Prometheus would keep the first sample and drop the others.
    let proxy = Sandbox::start(&[]).await;
    let mut app = pusher(&proxy).await;
    app.push("job{a=\"1\",b=\"2\"} 1\n").await.unwrap();
    app.push("job{b=\"2\",a=\"1\"} 2\nother 1\n").await.unwrap();
    app.push("other 2\n").await.unwrap();
    app.push("unrelated 1\n").await.unwrap();
    leave(&proxy, app).await;
    assert_eq!(
        proxy.scrape().await,
        ["job{a=\"1\",b=\"2\"} 1", "unrelated 1"]
    );
    assert_eq!(proxy.scrape().await, ["job{b=\"2\",a=\"1\"} 2", "other 1"]);
    assert_eq!(proxy.scrape().await, ["other 2"]);
    assert!(proxy.own("prometheus_proxy_pushes_deferred_total").await >= 3.0);
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_given_up_and_the_push_goes_to_the_next() {
    let proxy = Sandbox::start(&["--web.io-timeout=200ms"]).await;
    let mut pusher = pusher(&proxy).await;
    pusher.push("zz_jobs_total 1\n").await.unwrap();
    leave(&proxy, pusher).await;
    let _app = App::text(proxy.tcp(), &long_text()).await;
    let stalled = begin(proxy.web(), Method::GET, "/metrics/connected", &[]).await;
    proxy.pending(1).await;
    assert!(
        proxy
            .get("/metrics/connected")
            .await
            .text()
            .ends_with("zz_jobs_total 1\n")
    );
    drop(stalled);
}

#[tokio::test]
async fn a_scrape_that_accepts_no_encoding_consumes_no_push() {
    let proxy = Sandbox::start(&[]).await;
    let mut pusher = pusher(&proxy).await;
    pusher.push("jobs_total 1\n").await.unwrap();
    leave(&proxy, pusher).await;
    let nothing = [("accept-encoding", "identity;q=0")];
    let refused = proxy.get_with("/metrics/connected", &nothing).await;
    assert_eq!(refused.status, StatusCode::NOT_ACCEPTABLE);
    assert_eq!(proxy.scrape().await, ["jobs_total 1"]);
}

#[tokio::test]
async fn a_head_request_and_a_response_that_breaks_off_consume_nothing() {
    let proxy = Sandbox::start(&[]).await;
    let mut pusher = pusher(&proxy).await;
    pusher.push("zz_jobs_total 1\n").await.unwrap();
    leave(&proxy, pusher).await;
    let _app = App::text(proxy.tcp(), &long_text()).await;

    request(proxy.web(), Method::HEAD, "/metrics/connected", &[]).await;
    assert_eq!(proxy.status().await["pushes"]["pending"], 1);

    for encoding in ["identity", "gzip"] {
        let headers = [("accept-encoding", encoding)];
        let mut response = begin(proxy.web(), Method::GET, "/metrics/connected", &headers).await;
        response
            .frame()
            .await
            .expect("a first piece")
            .expect("no error");
        assert_eq!(proxy.status().await["pushes"]["claimed"], 1, "{encoding}");
        drop(response);
        proxy.pending(1).await;
    }
    let response = proxy.get("/metrics/connected").await;
    assert!(response.text().ends_with("zz_jobs_total 1\n"));
    eventually("the push to be served", async || {
        proxy.own("prometheus_proxy_pushes_served_total").await == 1.0
    })
    .await;
}

/// Prometheus takes the first of samples of one series; the application that is back has its own in the next scrape.
#[tokio::test]
async fn a_push_stands_before_what_a_live_application_has_of_the_same_series() {
    let proxy = Sandbox::start(&["--push.retention=1h"]).await;
    let live = "# TYPE jobs_total counter\njobs_total 0\n";
    let _back = App::text(proxy.tcp(), live).await;
    let mut app = pusher(&proxy).await;
    app.push("# TYPE jobs_total gauge\njobs_total 7\n")
        .await
        .unwrap();
    drop(app);
    proxy.connected(1).await;
    let first = proxy.get("/metrics/connected").await;
    // The older one still says of which type the family is.
    assert_eq!(
        first.text(),
        format!("{}jobs_total 7\njobs_total 0\n", &live[..26])
    );
    // Once served, a push gives way.
    assert_eq!(proxy.scrape().await, ["jobs_total 0", "jobs_total 7"]);
}

#[tokio::test]
async fn two_scrapes_at_once_do_not_both_get_a_push() {
    let proxy = Sandbox::start(&[]).await;
    let mut app = pusher(&proxy).await;
    app.push("jobs_total 1\n").await.unwrap();
    leave(&proxy, app).await;
    let (first, second) = tokio::join!(proxy.scrape(), proxy.scrape());
    assert_eq!(first.len() + second.len(), 1);
}

#[tokio::test]
async fn what_cannot_be_held_is_refused_with_a_reason_and_never_acknowledged() {
    let proxy = Sandbox::start(&["--push.max-bytes=4KiB"]).await;
    let mut app = pusher(&proxy).await;
    let rubbish = Payload {
        metadata: Some(vec![1; 256].into()),
        data: vec![2; 32].into(),
    };
    assert_eq!(
        code(&app.push_payload(rubbish).await),
        Some(ErrorCode::APPLICATION_ERROR)
    );
    let Err(StreamError::Application {
        code: invalid,
        message,
    }) = app.push("up{ 1\n").await
    else {
        panic!("an invalid push was acknowledged");
    };
    assert_eq!(invalid, ErrorCode::INVALID);
    assert!(message.starts_with("line 1, column "), "{message}");
    assert_eq!(
        code(&app.push("up 1 1700000000000\n").await),
        Some(ErrorCode::INVALID)
    );
    app.push("up 1\n").await.unwrap();
    let long: String = (0..100)
        .map(|i| format!("series{{row=\"{i}\"}} {i}\n"))
        .collect();
    assert_eq!(
        code(&app.push(&long).await),
        Some(ErrorCode::APPLICATION_ERROR)
    );
    leave(&proxy, app).await;
    assert_eq!(proxy.scrape().await, ["up 1"]);
    for (reason, count) in [
        ("envelope", 1.0),
        ("exposition", 1.0),
        ("timestamp", 1.0),
        ("full", 1.0),
    ] {
        let series = format!("prometheus_proxy_pushes_refused_total{{reason=\"{reason}\"}}");
        assert!(
            (proxy.own(&series).await - count).abs() < f64::EPSILON,
            "{reason}"
        );
    }
}

#[tokio::test]
async fn a_push_that_nobody_scrapes_is_dropped_after_its_time_to_live() {
    let proxy = Sandbox::start(&["--push.ttl=100ms"]).await;
    let mut app = pusher(&proxy).await;
    app.push("jobs_total 1\n").await.unwrap();
    eventually("the push to expire", async || {
        proxy.own("prometheus_proxy_pushes_expired_total").await == 1.0
    })
    .await;
    assert_eq!(proxy.status().await["pushes"]["bytes"], 0);
}

#[tokio::test]
async fn with_a_retention_a_push_is_served_until_a_newer_one_replaces_it() {
    let proxy = Sandbox::start(&["--push.retention=1h"]).await;
    proxy.scrape().await;
    let mut app = pusher(&proxy).await;
    app.push("jobs_total 1\n").await.unwrap();
    leave(&proxy, app).await;
    for _ in 0..3 {
        assert_eq!(proxy.scrape().await, ["jobs_total 1"]);
        eventually("the claim to be committed", async || {
            proxy.status().await["pushes"]["retained"] == 1
        })
        .await;
    }
    let mut app = pusher(&proxy).await;
    app.push("jobs_total 2\n").await.unwrap();
    leave(&proxy, app).await;
    assert_eq!(proxy.scrape().await, ["jobs_total 2"]);
}

#[tokio::test]
async fn a_push_sealed_to_an_earlier_key_still_opens() {
    let proxy = Sandbox::rotating(Duration::from_millis(300)).await;
    let mut app = pusher(&proxy).await;
    let sealed = app.seal("jobs_total 1\n");
    timeout(PATIENCE, app.key())
        .await
        .expect("the new key is announced");
    app.push_payload(sealed).await.unwrap();
    leave(&proxy, app).await;
    assert_eq!(proxy.scrape().await, ["jobs_total 1"]);
}
