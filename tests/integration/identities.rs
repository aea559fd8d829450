//! Applications that say who they are, and what follows from that.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use prometheus_rsocket_wire::session::{CloseReason, SetupOptions, StreamError};
use prometheus_rsocket_wire::{Credentials, ErrorCode};
use sha2::{Digest, Sha256};
use tokio::time::timeout;

use crate::app::{Answer, App, Peer};
use crate::peers::{Program, Scratch, need};
use crate::sandbox::{Sandbox, eventually};

pub(crate) fn bearer(token: &str) -> Credentials {
    Credentials::Bearer(token.as_bytes().to_vec().into())
}

fn simple(name: &str, password: &str) -> Credentials {
    Credentials::Simple {
        name: name.to_owned(),
        password: password.as_bytes().to_vec().into(),
    }
}

pub(crate) fn shown(credentials: &Credentials) -> SetupOptions {
    let mut setup = SetupOptions::default();
    credentials.write(&mut setup).expect("short credentials");
    setup
}

pub(crate) fn sha256(token: &str) -> String {
    let digest = Sha256::digest(token);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Payments shows a token or a password, reports a token.
pub(crate) fn identities() -> String {
    let hash = bcrypt::hash("pass word", 4).expect("a hash");
    let (payments, reports) = (sha256("token of payments"), sha256("token of reports"));
    format!(
        "identities:\n\
         - name: payments\n\
         \x20 tokens_sha256: [{payments}]\n\
         \x20 users: {{payments: '{hash}'}}\n\
         \x20 labels: {{team: payments}}\n\
         - name: reports\n\
         \x20 tokens_sha256: [{reports}]\n\
         \x20 labels: {{team: reports}}\n"
    )
}

/// A node that asks applications who they are, and its file.
pub(crate) async fn asking(file: &str, flags: &[&str]) -> (Sandbox, Scratch, String) {
    let scratch = Scratch::new();
    let path = scratch.file("identities.yml", file);
    let flag = format!("--rsocket.auth.file={path}");
    let proxy = Sandbox::start(&[&[flag.as_str()], flags].concat()).await;
    (proxy, scratch, path)
}

async fn app(proxy: &Sandbox, credentials: &Credentials, text: &str) -> App {
    let mut peer = Peer::connect_with(proxy.tcp(), shown(credentials)).await;
    peer.key().await;
    peer.answering(Answer::Text(text.into()))
}

#[tokio::test]
async fn labels_of_a_sample_are_counted_with_those_that_its_identity_adds() {
    let (proxy, ..) = asking(&identities(), &["--scrape.max-labels=3"]).await;
    let payments = bearer("token of payments");
    let fits = "fits{a=\"1\",b=\"2\"} 1\n";
    let too_many = "too_many{a=\"1\",b=\"2\",c=\"3\"} 1\n";
    // Its own label of that name is renamed, and counts.
    let renamed = "renamed{a=\"1\",b=\"2\",team=\"mine\"} 1\n";
    let _fits = app(&proxy, &payments, fits).await;
    let _too_many = app(&proxy, &payments, too_many).await;
    let _renamed = app(&proxy, &payments, renamed).await;
    let served = "fits{team=\"payments\",a=\"1\",b=\"2\"} 1";
    assert_eq!(proxy.scrape().await, [served]);
    let status = proxy.status().await;
    for connection in [1, 2] {
        let last = &status["connections"][connection]["last_scrape"];
        let reason = last["reason"].as_str().expect("a reason");
        assert!(reason.contains("too many labels"), "{reason}");
    }
    let mut pusher = Peer::connect_with(proxy.tcp(), shown(&payments)).await;
    pusher.key().await;
    pusher.push(fits).await.expect("acknowledged");
    for text in [too_many, renamed] {
        assert!(pusher.push(text).await.is_err(), "{text}");
    }
    let limit = "prometheus_proxy_pushes_refused_total{reason=\"limit\"}";
    assert_eq!(proxy.own(limit).await, 2.0);
}

/// What one identity may say without costing another a sample.
const HOSTILE: [&str; 12] = [
    "# TYPE queue histogram\n",
    "# TYPE queue_count summary\n# HELP queue_count mine\n",
    "# TYPE latency histogram\nlatency_bucket{le=\"high\"} -1\nlatency_count -1\n",
    "latency{quantile=\"p99\"} 1\n",
    "# TYPE took gauge\n",
    "took_bucket{le=\"rubbish\"} 1\ntook_count -2\ntook_sum{le=\"\"} 1\n",
    "# TYPE took counter\ntook 1\n# TYPE took histogram\n# TYPE took_bucket counter\n",
    "# TYPE queue info\nqueue_info{a=\"b\"} 1\nqueue_total 1\nqueue_created 1\n# EOF\n",
    "{\"kind\":\"Status\",\"code\":404}",
    "queue{a=\"1\",b=\"2\",c=\"3\",d=\"4\",e=\"5\",f=\"6\"} 1\n",
    "queue{a=\"1\",a=\"2\"} 1\n",
    "}{\n",
];

#[tokio::test]
async fn what_an_identity_declares_costs_no_other_a_sample() {
    const HEALTHY: [&str; 9] = [
        "queue 1",
        "queue_count -3",
        "latency{quantile=\"0.5\"} 1",
        "latency_sum 2",
        "latency_count 3",
        "took_bucket{le=\"0.5\"} 1",
        "took_bucket{le=\"+Inf\"} 2",
        "took_sum 3",
        "took_count 2",
    ];
    let (proxy, ..) = asking(&identities(), &["--scrape.max-labels=5"]).await;
    let (payments, reports) = (bearer("token of payments"), bearer("token of reports"));
    let healthy = HEALTHY.join("\n") + "\n# TYPE took histogram\n# TYPE latency summary\n";
    let labelled = HEALTHY.map(|sample| {
        let labels = "{team=\"reports\",".to_owned();
        match sample.split_once('{') {
            Some((name, rest)) => format!("{name}{labels}{rest}"),
            None => sample.replacen(' ', "{team=\"reports\"} ", 1),
        }
    });
    // The older of two that have one vote each decides.
    let mut apps = vec![app(&proxy, &reports, &healthy).await];
    for text in HOSTILE {
        apps.push(app(&proxy, &payments, text).await);
    }
    let hostile_pushes = async || {
        let mut pusher = Peer::connect_with(proxy.tcp(), shown(&payments)).await;
        pusher.key().await;
        for text in HOSTILE {
            // Held or refused: what is held has to be served.
            let _ = pusher.push(text).await;
        }
    };
    for pushes in 0..3 {
        let mut pusher = Peer::connect_with(proxy.tcp(), shown(&reports)).await;
        pusher.key().await;
        let pushed = format!("pushed{{number=\"{pushes}\"}} 1\n");
        pusher.push(&pushed).await.expect("acknowledged");
        hostile_pushes().await;
        let scraped = proxy.get("/metrics/connected").await;
        let lines: Vec<_> = scraped.text().lines().collect();
        let pushed = format!("pushed{{team=\"reports\",number=\"{pushes}\"}} 1");
        for sample in labelled.iter().chain([&pushed]) {
            let there = lines.iter().filter(|line| **line == sample.as_str());
            assert_eq!(there.count(), 1, "{sample} of\n{}", scraped.text());
        }
        assert!(
            lines.contains(&"# TYPE took histogram"),
            "{}",
            scraped.text()
        );
    }
    let dropped = proxy.own("prometheus_proxy_scrape_dropped_samples_total");
    assert_eq!(dropped.await, 0.0);
}

pub(crate) async fn refused(proxy: &Sandbox, exception: &str) -> f64 {
    let labels = format!("{{exception=\"{exception}\",transport=\"TCP\"}}");
    let series = format!("prometheus_proxy_connection_error_total{labels}");
    proxy.own(&series).await
}

/// Neither served nor closed.
async fn hears_nothing(peer: &mut Peer) {
    let early = timeout(Duration::from_millis(300), peer.connection.next()).await;
    assert!(early.is_err(), "{early:?}");
}

/// How the proxy ends a connection that it refuses.
async fn turned_away(proxy: SocketAddr, setup: SetupOptions) -> (ErrorCode, String) {
    let mut peer = Peer::connect_with(proxy, setup).await;
    match peer.closed().await {
        CloseReason::PeerError { code, message } => (code, message),
        other => panic!("expected an ERROR, got {other:?}"),
    }
}

#[tokio::test]
async fn an_application_gets_the_labels_of_who_it_shows_to_be() {
    let (proxy, ..) = asking(&identities(), &[]).await;
    // Its own label of that name says what it likes.
    let text = "up{team=\"reports\"} 1\n";
    let _one = app(&proxy, &bearer("token of payments"), text).await;
    let _two = app(&proxy, &simple("payments", "pass word"), "two_up 1\n").await;
    let _three = app(&proxy, &bearer("token of reports"), "up 1\n").await;
    let mut scraped = proxy.scrape().await;
    scraped.sort();
    assert_eq!(
        scraped,
        [
            "two_up{team=\"payments\"} 1",
            "up{team=\"payments\",exported_team=\"reports\"} 1",
            "up{team=\"reports\"} 1",
        ]
    );
    let status = proxy.status().await;
    let connections = status["connections"].as_array().expect("a list");
    let names = connections.iter().map(|one| one["identity"].as_str());
    assert_eq!(
        names.collect::<Vec<_>>(),
        [Some("payments"), Some("payments"), Some("reports")]
    );
    let page = proxy.get("/").await;
    assert!(page.text().contains("payments"), "{}", page.text());
}

#[tokio::test]
async fn a_push_under_a_stolen_name_bears_the_thiefs_own() {
    let (proxy, ..) = asking(&identities(), &["--push.retention=1h"]).await;
    let setup = shown(&bearer("token of reports"));
    let mut thief = Peer::connect_with(proxy.tcp(), setup).await;
    thief.key().await;
    thief
        .push("paid_total{team=\"payments\"} 1\n")
        .await
        .unwrap();
    let setup = shown(&bearer("token of payments"));
    let mut owner = Peer::connect_with(proxy.tcp(), setup).await;
    owner.key().await;
    owner.push("paid_total 2\n").await.unwrap();
    drop((thief, owner));
    proxy.connected(0).await;
    let mut scraped = proxy.scrape().await;
    scraped.sort();
    assert_eq!(
        scraped,
        [
            "paid_total{team=\"payments\"} 2",
            "paid_total{team=\"reports\",exported_team=\"payments\"} 1",
        ]
    );
}

#[tokio::test]
async fn wrong_credentials_are_told_so_after_a_pause_and_never_taken_for_none() {
    let file = format!("anonymous: {{}}\n{}", identities());
    let (proxy, ..) = asking(&file, &[]).await;
    let started = Instant::now();
    for credentials in [
        bearer("token of somebody"),
        simple("payments", "token of payments"),
        simple("nobody", "pass word"),
    ] {
        let (code, message) = turned_away(proxy.tcp(), shown(&credentials)).await;
        assert_eq!(code, ErrorCode::REJECTED_SETUP);
        assert!(
            message.contains("does not know these credentials"),
            "{message}"
        );
    }
    assert!(started.elapsed() >= Duration::from_secs(3));
    assert_eq!(refused(&proxy, "credentials").await, 3.0);
    let mut rubbish = shown(&bearer("token of payments"));
    rubbish.payload.metadata = Some(b"\xFC\0\0\x09\x81abc"[..].into());
    turned_away(proxy.tcp(), rubbish).await;
    assert_eq!(refused(&proxy, "credentials").await, 4.0);
    assert!(proxy.scrape().await.is_empty());
}

/// Told at once, an unmodified Java client would be back at once, again and again.
#[tokio::test]
async fn an_application_that_shows_nothing_is_left_unanswered_until_it_is_turned_away() {
    let (proxy, ..) = asking(&identities(), &["--rsocket.setup-timeout=2s"]).await;
    let started = Instant::now();
    let (code, message) = turned_away(proxy.tcp(), SetupOptions::default()).await;
    assert_eq!(code, ErrorCode::REJECTED_SETUP);
    assert!(message.contains("token"), "{message}");
    assert!(started.elapsed() >= Duration::from_secs(2));
    assert_eq!(refused(&proxy, "no_credentials").await, 1.0);
}

/// Java clients by the hundred, on the day that the file is given: if they pushed each other out, they would all be back at
/// once, again and again.
#[tokio::test]
async fn connections_left_unanswered_take_no_place_of_accepted_ones() {
    let (proxy, ..) = asking(&identities(), &["--rsocket.max-handshakes=2"]).await;
    let mut unanswered = Vec::new();
    for _ in 0..6 {
        let mut peer = Peer::connect(proxy.tcp()).await;
        hears_nothing(&mut peer).await;
        unanswered.push(peer);
    }
    let _app = app(&proxy, &bearer("token of reports"), "up 1\n").await;
    for peer in &mut unanswered {
        hears_nothing(peer).await;
    }
    assert_eq!(refused(&proxy, "no_credentials").await, 6.0);
    assert_eq!(refused(&proxy, "crowded").await, 0.0);
}

#[tokio::test]
async fn applications_without_credentials_are_accepted_where_the_file_says_so() {
    let file = "anonymous:\n  labels: {team: nobody}\n  limits: {series: 2}\n";
    let (proxy, ..) = asking(file, &[]).await;
    let _small = App::text(proxy.tcp(), "a 1\nb 1\n").await;
    let _large = App::text(proxy.tcp(), "c 1\nd 1\ne 1\n").await;
    assert_eq!(
        proxy.scrape().await,
        ["a{team=\"nobody\"} 1", "b{team=\"nobody\"} 1"]
    );
    let limit = "prometheus_proxy_scrape_seconds_count{outcome=\"invalid\",exception=\"limit\"}";
    assert_eq!(proxy.own(limit).await, 1.0);
}

#[tokio::test]
async fn an_identitys_limits_hold_for_its_applications_together() {
    let token = sha256("token");
    let file = format!(
        "anonymous: {{}}\n\
         identities:\n\
         - name: small\n\
         \x20 tokens_sha256: [{token}]\n\
         \x20 limits: {{connections: 2, payload: 100B, pushes_per_second: 1}}\n"
    );
    let (proxy, ..) = asking(&file, &[]).await;
    let setup = || shown(&bearer("token"));
    let mut first = Peer::connect_with(proxy.tcp(), setup()).await;
    first.key().await;
    let mut second = Peer::connect_with(proxy.tcp(), setup()).await;
    second.key().await;
    let mut third = Peer::connect_with(proxy.tcp(), setup()).await;
    hears_nothing(&mut third).await;
    assert_eq!(refused(&proxy, "identity_connections").await, 1.0);
    // Others are none of theirs.
    let _other = App::text(proxy.tcp(), &format!("{}up 1\n", "# much\n".repeat(100))).await;

    first.push("a 1\n").await.unwrap();
    let refused = second.push("b 1\n").await;
    let Err(StreamError::Application { code, .. }) = refused else {
        panic!("expected a refusal, got {refused:?}");
    };
    assert_eq!(code, ErrorCode::REJECTED);
    let series = "prometheus_proxy_pushes_refused_total{reason=\"rate\"}";
    assert_eq!(proxy.own(series).await, 1.0);
    drop(first);
    third.key().await;
    let _third = third.answering(Answer::Text("x".repeat(101)));
    let _second = second.answering(Answer::Text("y 1\n".into()));
    let mut scraped = proxy.scrape().await;
    scraped.sort();
    assert_eq!(scraped, ["a 1", "up 1", "y 1"]);
}

#[tokio::test]
async fn what_the_file_says_no_more_does_not_hold_any_more() {
    let (proxy, _scratch, path) = asking(&identities(), &[]).await;
    let gone = app(&proxy, &bearer("token of reports"), "gone_up 1\n").await;
    let _stays = app(&proxy, &bearer("token of payments"), "up 1\n").await;
    let file = identities().replace("team: payments", "team: money");
    std::fs::write(&path, "identities: [").expect("a file");
    std::fs::write(
        &path,
        file.replace(&sha256("token of reports"), &sha256("another")),
    )
    .unwrap();
    let CloseReason::PeerError { code, message } = gone.closed().await else {
        panic!("expected an ERROR");
    };
    assert_eq!(code, ErrorCode::CONNECTION_CLOSE);
    assert!(message.contains("were revoked"), "{message}");
    assert_eq!(proxy.scrape().await, ["up{team=\"money\"} 1"]);
    let retired = "prometheus_proxy_connections_retired_total{cause=\"revoked\"}";
    assert_eq!(proxy.own(retired).await, 1.0);
    turned_away(proxy.tcp(), shown(&bearer("token of reports"))).await;
}

#[tokio::test]
async fn a_limit_that_is_new_counts_those_who_are_there() {
    let (proxy, _scratch, path) = asking(&identities(), &[]).await;
    let _first = app(&proxy, &bearer("token of reports"), "a 1\n").await;
    let second = app(&proxy, &bearer("token of reports"), "b 1\n").await;
    let file = identities().replace(
        "labels: {team: reports}",
        "labels: {team: clerks}\n  limits: {connections: 2}",
    );
    std::fs::write(&path, file).unwrap();
    eventually("the new file", async || {
        proxy.scrape().await == ["a{team=\"clerks\"} 1", "b{team=\"clerks\"} 1"]
    })
    .await;
    let mut third = Peer::connect_with(proxy.tcp(), shown(&bearer("token of reports"))).await;
    hears_nothing(&mut third).await;
    assert_eq!(refused(&proxy, "identity_connections").await, 1.0);
    drop(second);
    third.key().await;
}

#[tokio::test]
async fn who_is_somebody_else_by_now_comes_anew() {
    let (proxy, _scratch, path) = asking(&identities(), &[]).await;
    let moved = app(&proxy, &bearer("token of reports"), "up 1\n").await;
    let (reports, payments) = (sha256("token of reports"), sha256("token of payments"));
    let file = identities()
        .replace(&reports, "0")
        .replace(&payments, &reports);
    std::fs::write(&path, file.replace("[0]", &format!("[{payments}]"))).unwrap();
    moved.closed().await;
    let _back = app(&proxy, &bearer("token of reports"), "up 1\n").await;
    assert_eq!(proxy.scrape().await, ["up{team=\"payments\"} 1"]);
}

#[tokio::test]
async fn metrics_say_that_the_file_cannot_be_used() {
    let (proxy, _scratch, path) = asking(&identities(), &[]).await;
    let of_use = async |expected: f64| {
        let series = "prometheus_proxy_config_last_reload_successful{file=\"identities\"}";
        eventually("a look", async || proxy.own(series).await == expected).await;
    };
    of_use(1.0).await;
    std::fs::write(&path, "identities: [").expect("a file");
    of_use(0.0).await;
    std::fs::write(&path, identities()).expect("a file");
    of_use(1.0).await;
    assert_eq!(
        proxy.own("prometheus_proxy_push_max_bytes").await,
        f64::from(256 << 20)
    );
}

#[tokio::test]
async fn a_node_that_asks_nobody_takes_credentials_for_nothing() {
    let proxy = Sandbox::start(&[]).await;
    let _app = app(&proxy, &bearer("whatever"), "up 1\n").await;
    assert_eq!(proxy.scrape().await, ["up 1"]);
}

#[test]
fn a_mistake_in_the_file_is_one_line_that_names_it() {
    use prometheus_rsocket_proxy::cli::settings;
    let scratch = Scratch::new();
    for (text, part) in [
        ("identities: [{name: a}]", "identity a: needs"),
        ("identities:\n- nam: a\n", "line 2"),
        (
            "identities: [{name: a, certificates: [b]}]",
            "--rsocket.tls.client-ca-file",
        ),
    ] {
        let path = scratch.file("identities.yml", text);
        let flag = format!("--rsocket.auth.file={path}");
        let said = settings([flag.as_str()]).expect_err("a mistake");
        assert!(
            said.starts_with(&format!("--rsocket.auth.file {path}: ")),
            "{said}"
        );
        assert!(said.contains(part), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[tokio::test]
async fn texts_past_the_nodes_limits_are_not_taken() {
    let proxy = Sandbox::start(&[
        "--scrape.max-series=2",
        "--scrape.max-name-length=10B",
        "--scrape.max-label-value-length=5B",
    ])
    .await;
    let _good = App::text(proxy.tcp(), "good{a=\"12345\"} 1\n").await;
    let _many = App::text(proxy.tcp(), "a 1\nb 1\nc 1\n").await;
    let _name = App::text(proxy.tcp(), "a_very_long_name 1\n").await;
    let _value = App::text(proxy.tcp(), "a{b=\"123456\"} 1\n").await;
    assert_eq!(proxy.scrape().await, ["good{a=\"12345\"} 1"]);
    let mut pusher = Peer::connect(proxy.tcp()).await;
    pusher.key().await;
    assert!(pusher.push("a 1\nb 1\nc 1\n").await.is_err());
    let refused = "prometheus_proxy_pushes_refused_total{reason=\"limit\"}";
    eventually("the refusal", async || proxy.own(refused).await == 1.0).await;
}

#[tokio::test]
async fn a_push_that_its_labels_make_too_long_for_other_nodes_is_refused() {
    let (proxy, ..) = asking(&identities(), &["--scrape.max-payload=1KiB"]).await;
    let setup = shown(&bearer("token of reports"));
    let mut pusher = Peer::connect_with(proxy.tcp(), setup).await;
    pusher.key().await;
    assert!(pusher.push(&"a 1\n".repeat(250)).await.is_err());
    let refused = "prometheus_proxy_pushes_refused_total{reason=\"limit\"}";
    eventually("the refusal", async || proxy.own(refused).await == 1.0).await;
    pusher.push("a 1\n").await.unwrap();
}

/// An unmodified Java client, which shows nothing.
fn java(proxy: &Sandbox) -> Program {
    let port = proxy.tcp().port().to_string();
    Program::interop(
        "client",
        &["--port", &port, "--name", "shop", "--count", "1"],
    )
}

#[tokio::test]
async fn an_unmodified_java_client_is_anonymous() {
    need!(Java);
    let file = "anonymous: {labels: {tenant: anonymous}}\n";
    let (proxy, ..) = asking(file, &[]).await;
    let _java = java(&proxy);
    proxy.connected(1).await;
    let scraped = proxy.scrape().await;
    assert!(!scraped.is_empty());
    let labelled = |sample: &String| sample.contains("{tenant=\"anonymous\"");
    assert!(scraped.iter().all(labelled), "{scraped:?}");
}

/// It comes back at once when it is turned away; only the pause before that keeps it from doing so all the time.
#[tokio::test]
async fn an_unmodified_java_client_that_is_refused_does_not_come_back_at_once() {
    need!(Java);
    let (proxy, ..) = asking(&identities(), &["--rsocket.setup-timeout=2s"]).await;
    let started = Instant::now();
    let _java = java(&proxy);
    eventually("three refusals", async || {
        refused(&proxy, "no_credentials").await == 3.0
    })
    .await;
    assert!(
        started.elapsed() >= Duration::from_secs(4),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn credentials_that_rsocket_java_writes_are_understood() {
    need!(Java);
    let (proxy, ..) = asking(&identities(), &[]).await;
    let port = proxy.tcp().port().to_string();
    for shown in [
        &["--token", "token of payments"][..],
        &["--token", "token of payments", "--alone"],
        &["--user", "payments", "--password", "pass word"],
    ] {
        let app = Program::interop("rsocket", &[&["--port", port.as_str()], shown].concat());
        proxy.connected(1).await;
        let status = proxy.status().await;
        assert_eq!(
            status["connections"][0]["identity"], "payments",
            "{shown:?}"
        );
        drop(app);
        proxy.connected(0).await;
    }
}
