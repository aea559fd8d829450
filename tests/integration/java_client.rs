//! The Java client of `clients/java`, on the newest libraries and on the oldest that it supports.

use std::time::Duration;

use tokio::process::Command;

use crate::client_java;
use crate::compat::{self, Transport, assert_declared_once, assert_valid, over_both, values};
use crate::identities::{asking, identities, refused};
use crate::peers::{Program, Scratch, happens, need, reserved_port};
use crate::prometheus::Prometheus;
use crate::sandbox::{Sandbox, eventually, samples};
use crate::tls::{Authority, only_clients_of};

const OPENED: &str = "prometheus_proxy_envelopes_opened_total";
/// Longer than a test: there is no second attempt.
const ONCE: [&str; 4] = ["--first-backoff", "60000", "--max-backoff", "60000"];

over_both! {
    the_client_is_scraped_by_version_2_and_says_goodbye needs Java;
    the_client_on_the_oldest_libraries_is_scraped_by_version_2_and_says_goodbye needs Java;
}

async fn the_client_is_scraped_by_version_2_and_says_goodbye(transport: Transport) {
    scraped("own-client", transport).await;
}

async fn the_client_on_the_oldest_libraries_is_scraped_by_version_2_and_says_goodbye(
    transport: Transport,
) {
    scraped("own-client-113", transport).await;
}

async fn scraped(program: &str, transport: Transport) {
    let proxy = Sandbox::start(&[]).await;
    let options = ["--series", "1000"];
    let mut app = compat::connect(program, transport, &proxy, "shop", &options);
    let address = app.line("READY shop").await;
    assert!(address.starts_with(&format!("{}://127.0.0.1:", transport.option())));
    let response = proxy.get("/metrics/connected").await;
    assert_valid(&response.body).await;
    assert_declared_once(response.text());
    let scrape = samples(response.text());
    assert_eq!(values(&scrape, "interop_events_total", "shop"), [0.0]);
    assert_eq!(values(&scrape, "interop_series", "shop").len(), 1000);
    for own in ["connected", "connects_total"] {
        let own = format!("prometheus_rsocket_client_{own}");
        assert_eq!(values(&scrape, &own, "shop"), [1.0], "{own}");
    }
    let connection = proxy.status().await["connections"][0].clone();
    assert_eq!(connection["transport"], transport.name());

    app.say("inc").await;
    app.line("INCREMENTED shop").await;
    let scrape = proxy.scrape().await;
    assert_eq!(values(&scrape, "interop_events_total", "shop"), [1.0]);
    for (version, opened) in [(1, 0.0), (2, 2.0)] {
        let series = format!("{OPENED}{{version=\"{version}\"}}");
        assert_eq!(proxy.own(&series).await, opened, "{series}");
    }

    app.say("close").await;
    app.line("CLOSED shop").await;
    proxy.connected(0).await;
    let left = proxy.status().await["left"][0].clone();
    let reason = left["reason"].as_str().expect("a reason");
    assert!(reason.contains("CONNECTION_CLOSE"), "{reason}");
    assert!(!app.has_said("RETRY"));
}

#[tokio::test]
async fn texts_of_several_registries_in_one_answer_become_one_valid_exposition() {
    need!(Java);
    compat::registries("own-client").await;
}

#[tokio::test]
async fn openmetrics_with_exemplars_is_served_as_format_0_0_4() {
    need!(Java);
    compat::openmetrics("own-client").await;
}

#[tokio::test]
async fn a_real_prometheus_stores_what_the_client_measures() {
    need!(Java, Prometheus);
    let proxy = Sandbox::start(&[]).await;
    let prometheus = Prometheus::watching(proxy.web()).await;
    let mut app = compat::connect("own-client", Transport::Tcp, &proxy, "shop", &[]);
    app.say("inc").await;
    prometheus
        .shows("interop_events_total{app=\"shop\"}", 1.0)
        .await;
}

// Pushes.

#[tokio::test]
async fn a_blocking_push_is_acknowledged_and_served_once() {
    need!(Java);
    for program in ["own-client", "own-client-113"] {
        let proxy = Sandbox::start(&[]).await;
        let options = ["--series", "10", "--timeout", "30000"];
        let mut app = compat::connect(program, Transport::Tcp, &proxy, "job", &options);
        // No need to be connected: it waits.
        app.say("inc").await;
        app.say("pushblocking").await;
        app.line("DONE").await;
        assert_eq!(proxy.status().await["pushes"]["pending"], 1);
        proxy.connected(0).await;
        let served = proxy.scrape().await;
        assert_eq!(values(&served, "interop_events_total", "job"), [1.0]);
        assert_eq!(values(&served, "interop_series", "job").len(), 10);
        assert!(proxy.scrape().await.is_empty());
        let version_2 = format!("{OPENED}{{version=\"2\"}}");
        assert_eq!(proxy.own(&version_2).await, 1.0);
    }
}

#[tokio::test]
async fn each_of_a_hundred_pushes_that_nobody_waits_for_arrives() {
    need!(Java);
    const APPS: usize = 100;
    let proxy = Sandbox::start(&[]).await;
    let count = APPS.to_string();
    let options = ["--count", &count, "--series", "10", "--timeout", "30000"];
    let mut apps = compat::connect("own-client", Transport::Tcp, &proxy, "job", &options);
    proxy.connected(APPS).await;
    apps.say("push").await;
    apps.line("DONE").await;
    // Nothing but the pushes holds the JVM open.
    apps.say("leave").await;
    let ended = apps.ended().await;
    assert!(ended.success(), "{ended}");
    assert_eq!(proxy.status().await["pushes"]["pending"], APPS);
    let lines = apps.all_lines().await;
    assert!(!lines.contains("PUSH-FAILED"), "{lines}");
    let served = proxy.scrape().await;
    for app in 1..=APPS {
        let app = format!("job-{app}");
        assert_eq!(
            values(&served, "interop_events_total", &app),
            [0.0],
            "{app}"
        );
    }
}

#[tokio::test]
async fn a_refused_push_says_why_and_is_not_tried_again() {
    need!(Java);
    let proxy = Sandbox::start(&[]).await;
    let scratch = Scratch::new();
    let text = scratch.file("text", "up{ 1\n");
    let options = ["--text", &text, "--timeout", "30000"];
    let mut app = compat::connect("own-client", Transport::Tcp, &proxy, "job", &options);
    app.line("READY job").await;
    app.say("push").await;
    let refused = app.line("PUSH-FAILED job").await;
    assert!(refused.contains("line 1, column "), "{refused}");
    let series = "prometheus_proxy_pushes_refused_total{reason=\"exposition\"}";
    assert_eq!(proxy.own(series).await, 1.0);
}

// TLS.

/// Connects through TLS, with what these options say.
fn secure(transport: Transport, proxy: &Sandbox, name: &str, options: &[&str]) -> Program {
    let options = [&["--host", "localhost"], options].concat();
    compat::connect("own-client", transport, proxy, name, &options)
}

#[tokio::test]
async fn the_client_is_scraped_and_pushes_through_tls_and_shows_its_certificate() {
    need!(Java);
    let scratch = Scratch::new();
    let authority = Authority::new(&scratch, "ca.pem");
    let flags = [only_clients_of(&authority)];
    let proxy = authority.node(&scratch, &[&flags[0]]).await;
    let [certificate, key] = authority.issue(&scratch, "application", "client");
    let ca = ["--ca", &authority.ca_file];
    let shown = [&ca[..], &["--cert", &certificate, "--key", &key]].concat();
    for transport in [Transport::Tcp, Transport::WebSocket] {
        let mut app = secure(transport, &proxy, "shop", &shown);
        app.line("READY shop").await;
        let scrape = proxy.scrape().await;
        assert_eq!(values(&scrape, "interop_events_total", "shop"), [0.0]);
        app.say("pushblocking").await;
        app.line("DONE").await;
        assert_eq!(proxy.status().await["pushes"]["pending"], 1);
        proxy.connected(0).await;
        proxy.scrape().await;
    }
    // A client without a certificate learns it, and does not reconnect at once.
    let options = [&ca[..], &ONCE].concat();
    let mut stranger = secure(Transport::Tcp, &proxy, "stranger", &options);
    stranger.line("RETRY stranger").await;
    assert!(!stranger.has_said("READY"));
    proxy.connected(0).await;
}

#[tokio::test]
async fn a_proxy_of_an_unknown_authority_is_not_trusted_and_the_log_says_so() {
    need!(Java);
    let scratch = Scratch::new();
    let authority = Authority::new(&scratch, "ca.pem");
    let unknown = Authority::new(&scratch, "unknown.pem");
    let proxy = authority.node(&scratch, &[]).await;
    // For another host than the one connected to.
    let elsewhere = ["--ca", &authority.ca_file, "--host", "127.0.0.1"];
    for (transport, options, said) in [
        (
            Transport::Tcp,
            &["--ca", &unknown.ca_file][..],
            "PKIX path validation failed",
        ),
        (
            Transport::WebSocket,
            &elsewhere,
            "No subject alternative names",
        ),
    ] {
        let mut app = secure(transport, &proxy, "shop", options);
        app.line_with(said).await;
        assert!(!app.has_said("READY"));
    }
    assert_eq!(proxy.status().await["connections"], serde_json::json!([]));
}

// Who it is.

#[tokio::test]
async fn wrong_credentials_are_said_once_in_a_while_and_a_corrected_file_is_read() {
    need!(Java);
    let (proxy, ..) = asking(&identities(), &[]).await;
    let scratch = Scratch::new();
    let token = scratch.file("token", "token of somebody\n");
    let password = scratch.file("password", "pass word\n");
    let options = [&["--token-file", &token], &ONCE[..]].concat();
    let mut patient = compat::connect("own-client", Transport::Tcp, &proxy, "patient", &options);
    let said = patient.line_with("does not know these credentials").await;
    assert!(said.starts_with("LOG WARNING"), "{said}");
    assert!(
        patient.has_mentioned("unencrypted"),
        "others can read a token without TLS"
    );
    assert!(!patient.has_mentioned("token of somebody"));
    let again = async || refused(&proxy, "credentials").await > 1.0;
    assert!(!happens(Duration::from_secs(4), again).await);

    let options = ["--token-file", &token, "--first-backoff", "200"];
    let mut eager = compat::connect("own-client", Transport::Tcp, &proxy, "eager", &options);
    eager.line("RETRY eager").await;
    scratch.file("token", "token of reports\n");
    eager.line("READY eager").await;
    let options = ["--user", "payments", "--password-file", &password];
    let mut user = compat::connect("own-client", Transport::WebSocket, &proxy, "user", &options);
    user.line("READY user").await;
    let scrape = proxy.scrape().await;
    for (team, app) in [("reports", "eager"), ("payments", "user")] {
        let sample = format!("interop_events_total{{team=\"{team}\",app=\"{app}\"}} 0");
        assert!(
            scrape.iter().any(|line| line.starts_with(&sample)),
            "{sample}"
        );
    }
}

// The published Java proxy.

#[tokio::test]
async fn the_java_proxy_pulls_and_takes_both_kinds_of_pushes() {
    need!(Java);
    let tcp = reserved_port();
    let (_proxy, http) = client_java::java_proxy(tcp).await;
    let port = tcp.to_string();
    for push in ["pushblocking", "push"] {
        let options = ["--port", &port, "--name", "shop", "--timeout", "30000"];
        let mut app = Program::interop("own-client", &options);
        app.line("READY shop").await;
        let pulled = client_java::scrape(http).await;
        assert_eq!(values(&pulled, "interop_events_total", "shop"), [0.0]);
        app.say("inc").await;
        app.line("INCREMENTED shop").await;
        app.say(push).await;
        app.line("PUSHED shop").await;
        // It serves the push when the pull of the closed connection fails, once.
        eventually("the push", async || {
            let scrape = client_java::scrape(http).await;
            values(&scrape, "interop_events_total", "shop") == [1.0]
        })
        .await;
        assert!(client_java::scrape(http).await.is_empty());
    }

    let options = ["--port", &port, "--name", "strict", "--forbid-downgrade"];
    let options = [&options[..], &ONCE].concat();
    let mut strict = Program::interop("own-client", &options);
    let said = strict.line_with("LOG WARNING").await;
    assert!(said.contains("version 2"), "{said}");
    assert!(client_java::scrape(http).await.is_empty());
    assert!(!strict.has_said("READY"));
}

// Its own tests.

/// As `mvn verify` in that folder: compiled already, but for the tests.
#[tokio::test]
async fn the_tests_of_the_java_client_pass() {
    need!(Java);
    let mut maven = Command::new("mvn");
    maven.args(["-B", "-ntp", "verify"]).kill_on_drop(true);
    maven.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/clients/java"));
    let output = maven.output().await.expect("mvn");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("Tests run: "), "{said}");
}
