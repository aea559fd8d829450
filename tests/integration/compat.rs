//! Applications as they are in the field: the published Java client, its Spring starter, rsocket-java itself, and an
//! RSocket implementation that shares nothing with it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use hyper::{Method, StatusCode};
use prometheus_rsocket_exposition::Exposition;

use crate::peers::{self, Lint, Program, Scratch, happens, installed, need, reserved_port};
use crate::sandbox::{Sandbox, eventually, request, samples};

const SECONDS: &str = "x-prometheus-scrape-timeout-seconds";

#[derive(Debug, Clone, Copy)]
pub(crate) enum Transport {
    Tcp,
    WebSocket,
}

impl Transport {
    /// What the programs call it.
    pub(crate) fn option(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::WebSocket => "ws",
        }
    }

    /// What the Spring starter and the status call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::WebSocket => "websocket",
        }
    }

    pub(crate) fn port(self, proxy: &Sandbox) -> String {
        let address = match self {
            Self::Tcp => proxy.tcp(),
            Self::WebSocket => proxy.node.websocket_address,
        };
        address.port().to_string()
    }
}

/// Makes each of these a test over TCP and one over WebSocket.
macro_rules! over_both {
    ($($test:ident needs $tool:ident;)+) => {
        mod over_tcp {
            $(#[tokio::test]
            async fn $test() {
                crate::peers::need!($tool);
                super::$test(super::Transport::Tcp).await;
            })+
        }
        mod over_websocket {
            $(#[tokio::test]
            async fn $test() {
                crate::peers::need!($tool);
                super::$test(super::Transport::WebSocket).await;
            })+
        }
    };
}
pub(crate) use over_both;

over_both! {
    a_java_client_is_scraped_and_the_next_scrape_sees_what_changed needs Java;
    a_blocking_push_of_the_java_client_is_acknowledged_and_served_once needs Java;
    a_java_client_comes_back_after_a_drain_and_is_scraped_by_the_next_node needs Java;
    a_java_client_comes_back_after_a_node_was_killed needs Java;
    rsocket_java_sends_more_than_a_frame_holds_in_fragments needs Java;
    a_lease_of_one_request_is_respected_by_the_key_and_by_pulls needs Java;
    resumption_is_refused_as_the_protocol_says needs Java;
    bad_answers_of_rsocket_java_cost_only_themselves needs Java;
    rsocket_java_learns_how_its_pushes_went needs Java;
    a_spring_boot_app_is_scraped_and_its_last_push_is_served_once needs Java;
    an_independent_implementation_is_scraped_and_pushes needs Python;
    an_independent_implementation_sends_more_than_a_frame_holds needs Python;
}

/// Starts a program that connects over this transport; it answers to this name.
pub(crate) fn connect(
    program: &str,
    transport: Transport,
    proxy: &Sandbox,
    name: &str,
    options: &[&str],
) -> Program {
    let port = transport.port(proxy);
    let ways = [
        "--transport",
        transport.option(),
        "--port",
        &port,
        "--name",
        name,
    ];
    Program::interop(program, &[&ways, options].concat())
}

/// The values of an app's series with this name.
pub(crate) fn values(scrape: &[String], name: &str, app: &str) -> Vec<f64> {
    let app = format!("app=\"{app}\"");
    let of = |line: &&String| line.split('{').next() == Some(name) && line.contains(&app);
    let value = |line: &String| line.rsplit(' ').next().and_then(|value| value.parse().ok());
    scrape
        .iter()
        .filter(of)
        .map(|line| value(line).expect("a number"))
        .collect()
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines
}

/// Valid in format 0.0.4 for our parser and, where there is one, for Prometheus' own.
pub(crate) async fn assert_valid(exposition: &[u8]) {
    Exposition::parse(exposition.to_vec().into()).expect("a valid exposition");
    if installed("promtool") {
        let lint = Lint::of(exposition).await;
        assert!(lint.accepts(), "{:?}: {}", lint.code, lint.findings);
    }
}

/// No family has a second HELP or TYPE.
pub(crate) fn assert_declared_once(exposition: &str) {
    let mut seen = BTreeSet::new();
    for line in exposition.lines().filter(|line| line.starts_with("# ")) {
        let declaration = line.splitn(4, ' ').take(3).collect::<Vec<_>>();
        assert!(seen.insert(declaration), "again: {line}");
    }
}

// The published Java client.

async fn a_java_client_is_scraped_and_the_next_scrape_sees_what_changed(transport: Transport) {
    scraped("client", transport).await;
}

#[tokio::test]
async fn the_java_client_on_the_newest_rsocket_java_is_scraped_and_pushes() {
    need!(Java);
    scraped("client-newest", Transport::Tcp).await;
    blocking_push("client-newest", Transport::Tcp).await;
}

async fn scraped(program: &str, transport: Transport) {
    let proxy = Sandbox::start(&[]).await;
    let mut app = connect(program, transport, &proxy, "shop", &["--series", "1000"]);
    app.line("READY shop").await;
    let response = proxy.get("/metrics/connected").await;
    assert_valid(&response.body).await;
    let scrape = samples(response.text());
    assert_eq!(values(&scrape, "interop_events_total", "shop"), [0.0]);
    let mut rows = values(&scrape, "interop_series", "shop");
    rows.sort_by(f64::total_cmp);
    assert_eq!(rows, (0..1000).map(f64::from).collect::<Vec<_>>());
    assert_eq!(
        proxy.status().await["connections"][0]["transport"],
        transport.name()
    );

    app.say("inc").await;
    app.line("INCREMENTED shop").await;
    assert_eq!(
        values(&proxy.scrape().await, "interop_events_total", "shop"),
        [1.0]
    );
    app.say("close").await;
    app.line("CLOSED shop").await;
    proxy.connected(0).await;
    assert!(proxy.scrape().await.is_empty());
}

async fn a_blocking_push_of_the_java_client_is_acknowledged_and_served_once(transport: Transport) {
    blocking_push("client", transport).await;
}

async fn blocking_push(program: &str, transport: Transport) {
    let proxy = Sandbox::start(&[]).await;
    let mut app = connect(
        program,
        transport,
        &proxy,
        "job",
        &["--series", "10", "--timeout", "30000"],
    );
    app.line("READY job").await;
    app.say("inc").await;
    app.say("pushblocking").await;
    let outcome = app.line("LOG INFO Pushing data").await;
    assert!(outcome.contains("was successful!"), "{outcome}");
    app.line("DONE").await;
    proxy.connected(0).await;
    assert_eq!(
        proxy.status().await["pushes"]["pending"],
        1,
        "what was acknowledged is held"
    );
    let served = proxy.scrape().await;
    assert_eq!(values(&served, "interop_events_total", "job"), [1.0]);
    assert_eq!(values(&served, "interop_series", "job").len(), 10);
    assert!(proxy.scrape().await.is_empty());
    assert!(!app.has_said("ERROR"));
}

#[tokio::test]
async fn a_push_that_the_java_client_does_not_wait_for_is_held() {
    need!(Java);
    // The client closes without waiting for what it has sent. In a JVM that has done this before, the push often does
    // not leave it; in a new one it nearly always does, unless the machine is busy.
    for _ in 0..15 {
        let proxy = Sandbox::start(&[]).await;
        let mut app = connect("client", Transport::Tcp, &proxy, "job", &[]);
        app.line("READY job").await;
        app.say("push").await;
        app.line("DONE").await;
        proxy.connected(0).await;
        let held = async || proxy.status().await["pushes"]["pending"] == 1;
        if happens(Duration::from_secs(3), held).await {
            assert_eq!(
                values(&proxy.scrape().await, "interop_events_total", "job"),
                [0.0]
            );
            assert!(proxy.scrape().await.is_empty());
            return;
        }
    }
    panic!("none of fifteen pushes arrived");
}

#[tokio::test]
async fn texts_of_several_java_registries_in_one_answer_become_one_valid_exposition() {
    need!(Java);
    registries("client").await;
}

pub(crate) async fn registries(program: &str) {
    let proxy = Sandbox::start(&[]).await;
    let mut app = connect(
        program,
        Transport::Tcp,
        &proxy,
        "shop",
        &["--registries", "3", "--series", "5"],
    );
    app.line("READY shop").await;
    let response = proxy.get("/metrics/connected").await;
    assert_valid(&response.body).await;
    assert_declared_once(response.text());
    let scrape = samples(response.text());
    assert_eq!(values(&scrape, "interop_events_total", "shop").len(), 3);
    assert_eq!(values(&scrape, "interop_series", "shop").len(), 15);
}

#[tokio::test]
async fn openmetrics_of_the_java_client_with_exemplars_is_served_as_format_0_0_4() {
    need!(Java);
    openmetrics("client").await;
}

pub(crate) async fn openmetrics(program: &str) {
    let proxy = Sandbox::start(&[]).await;
    let mut apps = Vec::new();
    // One with exemplars, one without, and one that never heard of OpenMetrics.
    for (name, options) in [
        ("traced", &["--openmetrics", "--exemplars"][..]),
        ("modern", &["--openmetrics"]),
        ("oldish", &[]),
    ] {
        let mut app = connect(program, Transport::Tcp, &proxy, name, options);
        app.line(&format!("READY {name}")).await;
        app.say("inc").await;
        app.line(&format!("INCREMENTED {name}")).await;
        apps.push(app);
    }
    let response = proxy.get("/metrics/connected").await;
    let status = proxy.status().await;
    let sent = |app: usize| status["connections"][app]["last_scrape"]["bytes"].as_u64();
    let exemplar =
        " # {span_id=\"b7ad6b7169203331\",trace_id=\"0af7651916cd43dd8448eb211c80319c\"}";
    assert!(
        sent(0) > sent(1).map(|bytes| bytes + exemplar.len() as u64),
        "{:?} bytes with an exemplar, {:?} without",
        sent(0),
        sent(1)
    );
    assert_eq!(
        response.headers["content-type"],
        "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"
    );
    assert_valid(&response.body).await;
    assert_declared_once(response.text());
    assert!(
        response
            .text()
            .contains("# TYPE interop_events_total counter\n")
    );
    for left in ["# EOF", "trace_id", "span_id", "# UNIT"] {
        assert!(
            !response.text().contains(left),
            "{left} in {}",
            response.text()
        );
    }
    let scrape = samples(response.text());
    for app in ["traced", "modern", "oldish"] {
        assert_eq!(values(&scrape, "interop_events_total", app), [1.0], "{app}");
    }
}

#[tokio::test]
async fn a_java_client_that_hangs_is_left_out_and_the_others_are_scraped() {
    need!(Java);
    let proxy = Sandbox::start(&[]).await;
    let mut hung = connect("client", Transport::Tcp, &proxy, "hung", &["--hang"]);
    hung.line("READY hung").await;
    let mut healthy = connect("client", Transport::Tcp, &proxy, "healthy", &[]);
    healthy.line("READY healthy").await;
    for _ in 0..2 {
        let response = proxy
            .get_with("/metrics/connected", &[(SECONDS, "3")])
            .await;
        let scrape = samples(response.text());
        assert_eq!(values(&scrape, "interop_events_total", "healthy"), [0.0]);
        assert!(values(&scrape, "interop_events_total", "hung").is_empty());
    }
    let status = proxy.status().await;
    assert_eq!(
        status["connections"][0]["last_scrape"]["outcome"],
        "timeout"
    );
}

#[tokio::test]
async fn two_hundred_java_clients_are_in_one_answer() {
    need!(Java);
    const APPS: usize = 200;
    let proxy = Sandbox::start(&[]).await;
    let (count, options) = (APPS.to_string(), ["--series", "20", "--count"]);
    let mut apps = connect(
        "client",
        Transport::Tcp,
        &proxy,
        "many",
        &[&options[..], &[&count]].concat(),
    );
    proxy.connected(APPS).await;
    let response = proxy
        .get_with("/metrics/connected", &[(SECONDS, "60")])
        .await;
    let scrape = samples(response.text());
    for app in 1..=APPS {
        let app = format!("many-{app}");
        assert_eq!(
            values(&scrape, "interop_events_total", &app).len(),
            1,
            "{app}"
        );
        assert_eq!(values(&scrape, "interop_series", &app).len(), 20, "{app}");
    }
    assert_declared_once(response.text());
    apps.say("inc").await;
    for _ in 0..APPS {
        apps.line_with("INCREMENTED many-").await;
    }
    let response = proxy
        .get_with("/metrics/connected", &[(SECONDS, "60")])
        .await;
    let ones = samples(response.text());
    let ones = ones
        .iter()
        .filter(|line| line.starts_with("interop_events_total{") && line.ends_with(" 1.0"));
    assert_eq!(ones.count(), APPS);
}

// Reconnecting.

/// Flags for two nodes, one after the other, that the same application finds.
fn ports(transport: Transport) -> (u16, [String; 2]) {
    let (tcp, websocket) = (reserved_port(), reserved_port());
    let flags = [
        format!("--rsocket.tcp.listen-address=127.0.0.1:{tcp}"),
        format!("--rsocket.websocket.listen-address=127.0.0.1:{websocket}"),
    ];
    match transport {
        Transport::Tcp => (tcp, flags),
        Transport::WebSocket => (websocket, flags),
    }
}

async fn a_java_client_comes_back_after_a_drain_and_is_scraped_by_the_next_node(
    transport: Transport,
) {
    let (_, flags) = ports(transport);
    let flags = [flags[0].as_str(), flags[1].as_str()];
    let first = Sandbox::start(&flags).await;
    let mut app = connect("client", transport, &first, "shop", &[]);
    app.line("READY shop").await;
    app.say("inc").await;
    app.line("INCREMENTED shop").await;
    assert_eq!(
        values(&first.scrape().await, "interop_events_total", "shop"),
        [1.0]
    );
    let addresses = [first.tcp(), first.node.websocket_address];
    first.node.drain(Duration::from_secs(30)).await;
    let error = app.line("ERROR shop").await;
    assert!(
        error.starts_with("0x102 stream=0 "),
        "CONNECTION_CLOSE, not {error}"
    );
    app.line("CLOSED shop").await;
    app.line("RETRY shop").await;
    eventually("ports to be free again", async || {
        // A process that another test starts at this moment has the sockets of this one until it becomes its program.
        addresses
            .iter()
            .all(|address| std::net::TcpListener::bind(address).is_ok())
    })
    .await;

    let second = Sandbox::start(&flags).await;
    app.line("READY shop").await;
    second.connected(1).await;
    assert_eq!(
        values(&second.scrape().await, "interop_events_total", "shop"),
        [1.0]
    );
    // With the key of the second node, not with that of the first.
    app.say("pushblocking").await;
    assert!(
        app.line("LOG INFO Pushing data")
            .await
            .contains("was successful!")
    );
    second.connected(0).await;
    assert_eq!(
        values(&second.scrape().await, "interop_events_total", "shop"),
        [1.0]
    );
}

async fn a_java_client_comes_back_after_a_node_was_killed(transport: Transport) {
    let (port, flags) = ports(transport);
    let (first, web) = peers::node(&flags).await;
    let port = port.to_string();
    let options = [
        "--transport",
        transport.option(),
        "--port",
        &port,
        "--name",
        "shop",
    ];
    let mut app = Program::interop("client", &options);
    app.line("READY shop").await;
    let scrape = request(web, Method::GET, "/metrics/connected", &[]).await;
    assert_eq!(
        values(&samples(scrape.text()), "interop_events_total", "shop"),
        [0.0]
    );
    first.kill().await;
    app.line("CLOSED shop").await;
    app.line("RETRY shop").await;

    let (_second, web) = peers::node(&flags).await;
    app.line("READY shop").await;
    let scrape = request(web, Method::GET, "/metrics/connected", &[]).await;
    assert_eq!(scrape.status, StatusCode::OK);
    assert_eq!(
        values(&samples(scrape.text()), "interop_events_total", "shop"),
        [0.0]
    );
}

// rsocket-java without the published client.

/// An exposition longer than 16 MiB, also once compressed: a frame cannot hold it.
fn longer_than_a_frame(app: &str) -> String {
    const BYTES: usize = 17 << 20;
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut text = String::with_capacity(BYTES + 2048);
    for row in 0.. {
        if text.len() >= BYTES {
            break;
        }
        write!(text, "ballast{{app=\"{app}\",row=\"{row}\",text=\"").unwrap();
        for _ in 0..100 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            text.extend((0..10).map(|at| char::from(LETTERS[(random >> (at * 6)) as usize & 63])));
        }
        writeln!(text, "\"}} {row}").unwrap();
    }
    text.push_str("# HELP ballast Weight\n# TYPE ballast gauge\n");
    text
}

async fn rsocket_java_sends_more_than_a_frame_holds_in_fragments(transport: Transport) {
    fragments("rsocket", transport).await;
}

async fn fragments(program: &str, transport: Transport) {
    let proxy = Sandbox::start(&[]).await;
    let text = longer_than_a_frame("big");
    let scratch = Scratch::new();
    let path = scratch.file("text", &text);
    let mut app = connect(
        program,
        transport,
        &proxy,
        "big",
        &["--text", &path, "--mtu", "65536"],
    );
    app.line("READY big").await;
    let response = proxy
        .get_with("/metrics/connected", &[(SECONDS, "60")])
        .await;
    let pulled = app.line("PULLED big sealed").await;
    let data = pulled
        .split(['=', ' '])
        .nth(1)
        .and_then(|bytes| bytes.parse::<usize>().ok());
    assert!(data.is_some_and(|bytes| bytes > 1 << 24), "{pulled}");
    assert_eq!(response.body.len(), text.len());
    assert!(
        sorted(response.text()) == sorted(&text),
        "other lines than the app's"
    );

    app.say("pushblocking").await;
    app.line("PUSHED big").await;
    app.say("close").await;
    proxy.connected(0).await;
    let response = proxy.get("/metrics/connected").await;
    assert!(
        sorted(response.text()) == sorted(&text),
        "other lines than the push's"
    );
    assert!(proxy.scrape().await.is_empty());
}

async fn a_lease_of_one_request_is_respected_by_the_key_and_by_pulls(transport: Transport) {
    let proxy = Sandbox::start(&[]).await;
    let mut app = connect("rsocket", transport, &proxy, "lessor", &["--lease", "1"]);
    app.line("READY lessor").await;
    let leased = Instant::now();
    // The key was the request of the first five seconds.
    let early = proxy
        .get_with("/metrics/connected", &[(SECONDS, "0.4")])
        .await;
    assert!(early.body.is_empty());
    for _ in 0..2 {
        let scrape = proxy
            .get_with("/metrics/connected", &[(SECONDS, "30")])
            .await;
        assert_eq!(
            values(&samples(scrape.text()), "interop_up", "lessor"),
            [1.0]
        );
    }
    assert!(
        leased.elapsed() > Duration::from_secs(7),
        "{:?}",
        leased.elapsed()
    );
    // The application in turn is granted requests.
    app.say("pushblocking").await;
    app.line("PUSHED lessor").await;
    for line in ["ERROR", "FAILED", "CLOSED"] {
        assert!(!app.has_said(line), "{line}");
    }
}

async fn resumption_is_refused_as_the_protocol_says(transport: Transport) {
    let proxy = Sandbox::start(&[]).await;
    let mut app = connect("rsocket", transport, &proxy, "resumer", &["--resume"]);
    let error = app.line("ERROR resumer").await;
    assert!(
        error.starts_with("0x003 stream=0 "),
        "REJECTED_SETUP, not {error}"
    );
    app.line("CLOSED resumer").await;
    proxy.connected(0).await;
    assert!(!app.has_said("READY"));
}

async fn bad_answers_of_rsocket_java_cost_only_themselves(transport: Transport) {
    let proxy = Sandbox::start(&[]).await;
    let mut apps = Vec::new();
    for answer in ["rubbish", "empty", "error", "never", "text"] {
        let mut app = connect("rsocket", transport, &proxy, answer, &["--answer", answer]);
        app.line(&format!("READY {answer}")).await;
        apps.push(app);
    }
    let response = proxy
        .get_with("/metrics/connected", &[(SECONDS, "4")])
        .await;
    assert_eq!(response.status, StatusCode::OK);
    assert_eq!(samples(response.text()), ["interop_up{app=\"text\"} 1"]);
    let status = proxy.status().await;
    let outcomes: Vec<_> = (0..5)
        .map(|place| &status["connections"][place]["last_scrape"]["outcome"])
        .collect();
    assert_eq!(
        outcomes,
        ["invalid", "invalid", "error", "timeout", "success"]
    );
    let reason = status["connections"][2]["last_scrape"]["reason"]
        .as_str()
        .unwrap();
    assert!(reason.contains("the app says no"), "{reason}");
    apps[3].line("CANCELLED never").await;
    assert!(
        !apps.iter_mut().any(|app| app.has_said("CLOSED")),
        "all stay connected"
    );
}

async fn rsocket_java_learns_how_its_pushes_went(transport: Transport) {
    let proxy = Sandbox::start(&[]).await;
    let mut app = connect("rsocket", transport, &proxy, "pusher", &[]);
    app.line("READY pusher").await;
    app.say("pushrubbish").await;
    let refused = app.line("PUSH-FAILED pusher").await;
    assert!(refused.contains("envelope"), "{refused}");
    assert!(
        app.has_said("ERROR pusher 0x201 "),
        "APPLICATION_ERROR on the stream"
    );
    app.say("pushblocking").await;
    app.line("PUSHED pusher").await;
    assert_eq!(proxy.status().await["pushes"]["pending"], 1);
    app.say("close").await;
    proxy.connected(0).await;
    assert_eq!(proxy.scrape().await, ["interop_up{app=\"pusher\"} 1"]);
    assert!(proxy.scrape().await.is_empty());

    let scratch = Scratch::new();
    let path = scratch.file("text", "interop_up{ 1\n");
    let mut app = connect("rsocket", transport, &proxy, "invalid", &["--text", &path]);
    app.line("READY invalid").await;
    app.say("pushblocking").await;
    let refused = app.line("PUSH-FAILED invalid").await;
    assert!(refused.contains("line 1, column "), "{refused}");
    assert!(
        app.has_said("ERROR invalid 0x204 "),
        "INVALID on the stream"
    );
    app.say("push").await;
    app.line("PUSHED invalid").await;
    eventually("a refusal that nobody hears", async || {
        proxy
            .own("prometheus_proxy_pushes_refused_total{reason=\"exposition\"}")
            .await
            >= 2.0
    })
    .await;
    assert_eq!(proxy.status().await["pushes"]["pending"], 0);
}

#[tokio::test]
async fn openmetrics_is_rewritten_sample_by_sample() {
    need!(Java);
    let proxy = Sandbox::start(&[]).await;
    let scratch = Scratch::new();
    let text = "# TYPE jobs counter\n# HELP jobs Done\n# UNIT size_bytes bytes\n# TYPE size_bytes gauge\n\
                jobs_total{kind=\"a\"} 3 # {trace_id=\"0af7651916cd43dd8448eb211c80319c\"} 1.0 1700000000.000\n\
                size_bytes 5\n# TYPE took histogram\n\
                took_bucket{le=\"1.0\"} 1 # {trace_id=\"b7ad\"} 0.5\ntook_bucket{le=\"+Inf\"} 2\ntook_count 2\ntook_sum 9\n\
                # EOF\n";
    let path = scratch.file("text", text);
    let mut app = connect(
        "rsocket",
        Transport::Tcp,
        &proxy,
        "modern",
        &["--text", &path],
    );
    app.line("READY modern").await;
    let response = proxy.get("/metrics/connected").await;
    assert_valid(&response.body).await;
    assert_eq!(
        response.text(),
        "# HELP jobs_total Done\n# TYPE jobs_total counter\njobs_total{kind=\"a\"} 3\n\
         # TYPE size_bytes gauge\nsize_bytes 5\n# TYPE took histogram\n\
         took_bucket{le=\"1.0\"} 1\ntook_bucket{le=\"+Inf\"} 2\ntook_count 2\ntook_sum 9\n"
    );
}

// Spring Boot with the published starter.

async fn a_spring_boot_app_is_scraped_and_its_last_push_is_served_once(transport: Transport) {
    published_starter("spring", transport).await;
}

#[tokio::test]
async fn the_published_starter_works_on_spring_boot_3_2() {
    need!(Java);
    published_starter("spring32", Transport::Tcp).await;
}

async fn published_starter(program: &str, transport: Transport) {
    let proxy = Sandbox::start(&[]).await;
    let mut app = Program::interop(
        program,
        &[
            &format!(
                "--management.metrics.export.prometheus.rsocket.port={}",
                transport.port(&proxy)
            ),
            &format!(
                "--management.metrics.export.prometheus.rsocket.transport={}",
                transport.name()
            ),
            "--spring.application.name=shop",
        ],
    );
    app.line_with("READY http=").await;
    proxy.connected(1).await;
    app.say("inc").await;
    app.line("INCREMENTED").await;
    let response = proxy.get("/metrics/connected").await;
    assert_valid(&response.body).await;
    assert_declared_once(response.text());
    let scrape = samples(response.text());
    assert_eq!(values(&scrape, "interop_events_total", "shop"), [1.0]);
    assert!(!values(&scrape, "jvm_memory_used_bytes", "shop").is_empty());

    app.say("inc").await;
    app.line("INCREMENTED").await;
    app.terminate();
    assert_eq!(app.ended().await.code(), Some(143));
    proxy.connected(0).await;
    proxy.pending(1).await;
    let pushed = proxy.scrape().await;
    assert_eq!(values(&pushed, "interop_events_total", "shop"), [2.0]);
    assert!(proxy.scrape().await.is_empty());
}

// An implementation that is not Java's.

async fn an_independent_implementation_is_scraped_and_pushes(transport: Transport) {
    let proxy = Sandbox::start(&[]).await;
    let mut app = connect("python", transport, &proxy, "script", &[]);
    app.line("READY script").await;
    assert_eq!(
        proxy.scrape().await,
        ["interop_events_total{app=\"script\"} 0"]
    );
    app.line("PULLED script sealed").await;
    app.say("inc").await;
    app.line("INCREMENTED script").await;
    assert_eq!(
        proxy.scrape().await,
        ["interop_events_total{app=\"script\"} 1"]
    );
    app.say("pushrubbish").await;
    let refused = app.line("PUSH-FAILED script").await;
    assert!(refused.contains("envelope"), "{refused}");
    app.say("pushblocking").await;
    app.line("PUSHED script").await;
    assert_eq!(proxy.status().await["pushes"]["pending"], 1);
    app.say("close").await;
    app.line("CLOSED script").await;
    proxy.connected(0).await;
    assert_eq!(
        proxy.scrape().await,
        ["interop_events_total{app=\"script\"} 1"]
    );
    assert!(proxy.scrape().await.is_empty());
}

async fn an_independent_implementation_sends_more_than_a_frame_holds(transport: Transport) {
    fragments("python", transport).await;
}
