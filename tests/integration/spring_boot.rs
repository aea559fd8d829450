//! Spring Boot applications with our starter, on each line that it supports. A JVM costs seconds to start, so that one
//! application goes through everything.

use std::net::SocketAddr;

use bytes::Bytes;
use hyper::Method;
use prometheus_rsocket_wire::session::{Limits, Setup};
use prometheus_rsocket_wire::transport::tcp::Tcp;
use prometheus_rsocket_wire::{Connection, Event, Payload, Session};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use crate::identities::{asking, identities};
use crate::peers::{self, Program, Scratch, need, reserved_port};
use crate::sandbox::{PATIENCE, Sandbox, eventually, request, samples};
use crate::tls::Authority;

const TOKEN: &str = "token of somebody else";

/// Makes these tests for each program.
macro_rules! on_each {
    ($($test:ident $program:literal;)+) => {
        $(#[tokio::test]
        async fn $test() {
            need!(Java);
            lives($program).await;
        })+
    };
}

on_each! {
    an_application_on_spring_boot_3_3_is_scraped_moves_and_pushes_at_its_end "boot33";
    an_application_on_spring_boot_3_5_is_scraped_moves_and_pushes_at_its_end "boot35";
    an_application_on_spring_boot_4_1_is_scraped_moves_and_pushes_at_its_end "boot41";
}

/// Of the four proxies that the application is told, one at a time is there and takes it: one that shows what it
/// receives, over TCP; one that wants another token; one over WebSocket, which is killed; one with TLS.
async fn lives(program: &str) {
    let scratch = Scratch::new();
    let authority = Authority::new(&scratch, "ca.pem");
    let open = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let open_port = open.local_addr().expect("an address").port();
    let (refusing, ..) = asking(&identities(), &[]).await;
    let (websocket, tls) = (reserved_port(), reserved_port());
    let (pull, pulled) = oneshot::channel();
    let received = tokio::spawn(receive(open, pulled));

    let mut command = Program::peer(program);
    command
        .env("MICROMETER_PROMETHEUS_RSOCKET_BEARERTOKEN", TOKEN)
        .args([
            "--spring.application.name=shop",
            "--micrometer.prometheus.rsocket.instance=shop-1",
            "--micrometer.prometheus.rsocket.open-metrics=true",
            &format!(
                "--micrometer.prometheus.rsocket.proxies=tcp://127.0.0.1:{open_port},tcp://{},\
                 ws://127.0.0.1:{websocket},tls://localhost:{tls}",
                refusing.tcp()
            ),
            &format!(
                "--spring.ssl.bundle.pem.proxy.truststore.certificate=file:{}",
                authority.ca_file
            ),
            "--micrometer.prometheus.rsocket.ssl.bundle=proxy",
        ]);
    let mut app = Program::start(&mut command);
    let http = http(&mut app).await;
    app.say("inc").await;
    app.line("INCREMENTED").await;
    let up = json!({"status": "UP", "details": {"proxy": format!("tcp://127.0.0.1:{open_port}")}});
    healthy(http, |contributor| *contributor == up).await;
    let warned = app.all_with("LOG WARN");
    assert!(
        warned
            .iter()
            .all(|line| line.contains("Credentials are sent")),
        "{warned:?}"
    );
    assert!(!app.has_said("LOG ERROR"));
    for endpoint in ["configprops", "env"] {
        let shown = request(http, Method::GET, &format!("/actuator/{endpoint}"), &[]).await;
        assert!(
            shown.text().contains("micrometer.prometheus.rsocket"),
            "{}",
            shown.text()
        );
        assert!(!shown.text().contains(TOKEN), "{}", shown.text());
    }

    pull.send(()).expect("a proxy");
    let (setup, text) = timeout(PATIENCE, received)
        .await
        .expect("an answer")
        .expect("no panic");
    let says = serde_json::from_slice::<Value>(&setup.payload.data).expect("JSON");
    assert_eq!(
        says["targets"],
        json!([{"instance": "shop-1", "job": "shop"}])
    );
    let counted = text
        .lines()
        .find(|line| line.starts_with("interop_events_total{"));
    let counted = counted.expect("a counter");
    assert!(counted.contains("} 1.0 # {"), "{counted}");
    assert!(
        counted.contains("trace_id=\"0af7651916cd43dd8448eb211c80319c\""),
        "{counted}"
    );

    let line = app.line_with("does not know these credentials").await;
    assert!(line.starts_with("LOG WARN"), "{line}");
    healthy(http, |contributor| {
        contributor["status"] == "UNKNOWN" && contributor["details"]["reason"].is_string()
    })
    .await;

    let flags = [
        format!("--rsocket.tcp.listen-address=127.0.0.1:{}", reserved_port()),
        format!("--rsocket.websocket.listen-address=127.0.0.1:{websocket}"),
    ];
    let (node, web) = peers::node(&flags).await;
    eventually("a scrape over WebSocket", async || {
        counted_by(web).await == ["1.0"]
    })
    .await;
    node.kill().await;

    let flag = format!("--rsocket.tcp.listen-address=127.0.0.1:{tls}");
    let node = authority.node(&scratch, &[&flag]).await;
    eventually("a scrape with TLS", async || {
        counted_by(node.web()).await == ["1.0"]
    })
    .await;

    app.say("inc").await;
    app.line("INCREMENTED").await;
    pushes_its_last_work(&mut app, &node).await;
    assert!(!app.all_lines().await.contains(TOKEN));
}

/// What a proxy receives that has no key: the SETUP, and once that is asked for, the text.
async fn receive(listener: TcpListener, mut asked: oneshot::Receiver<()>) -> (Setup, String) {
    let (stream, _) = listener.accept().await.expect("an application");
    drop(listener);
    let session = Session::accepting(Limits::default(), Instant::now().into_std());
    let mut connection = Connection::new(session, Tcp::new(stream, 1 << 24));
    let key = || Payload::of_data(Bytes::from_static(b"plaintext"));
    let Event::Setup(setup) = connection.next().await else {
        panic!("no SETUP");
    };
    connection.session().fire_and_forget(key()).expect("room");
    tokio::select! {
        event = connection.next() => panic!("{event:?}"),
        _ = &mut asked => {}
    }
    connection.session().request_response(key()).expect("room");
    let Event::Response { result, .. } = connection.next().await else {
        panic!("no answer");
    };
    let text = result.expect("an answer").data;
    (setup, String::from_utf8(text.to_vec()).expect("UTF-8"))
}

/// Waits for the application's start, and gives its HTTP address.
async fn http(app: &mut Program) -> SocketAddr {
    let port = app.line("READY").await;
    let port = port
        .strip_prefix("http=")
        .and_then(|port| port.parse().ok());
    SocketAddr::from(([127, 0, 0, 1], port.expect("a port")))
}

/// Waits until the contributor's health is like this. The application as a whole is up all the time.
async fn healthy(http: SocketAddr, like: impl Fn(&Value) -> bool) {
    eventually("this health", async || {
        let health = request(http, Method::GET, "/actuator/health", &[]).await;
        assert_eq!(health.status, 200, "{}", health.text());
        let health = serde_json::from_slice::<Value>(&health.body).expect("JSON");
        assert_eq!(health["status"], "UP");
        like(&health["components"]["prometheusRSocket"])
    })
    .await;
}

/// The values of the application's counter in a scrape.
async fn counted_by(web: SocketAddr) -> Vec<String> {
    let scrape = request(web, Method::GET, "/metrics/connected", &[]).await;
    values(&samples(scrape.text()), "interop_events_total{app=\"shop\"")
}

fn values(scrape: &[String], series: &str) -> Vec<String> {
    let lines = scrape.iter().filter(|line| line.starts_with(series));
    let value = |line: &String| line.rsplit(' ').next().map(str::to_owned);
    lines.filter_map(value).collect()
}

/// Ends the application, whose push counts what it did while it ended.
async fn pushes_its_last_work(app: &mut Program, node: &Sandbox) {
    app.terminate();
    assert_eq!(app.ended().await.code(), Some(143));
    node.connected(0).await;
    node.pending(1).await;
    let pushed = node.scrape().await;
    assert_eq!(
        values(&pushed, "interop_events_total{app=\"shop\"").len(),
        1
    );
    for phase in ["stop", "destroy"] {
        let series = format!("interop_last_work_total{{app=\"shop\",phase=\"{phase}\"");
        assert_eq!(values(&pushed, &series), ["1.0"], "{phase}");
    }
}

#[tokio::test]
async fn a_worker_that_was_processed_ahead_of_time_does_not_become_a_web_server() {
    need!(Java);
    let node = Sandbox::start(&[]).await;
    let mut worker = Program::peer("boot35-worker");
    worker
        .env(
            "JAVA_OPTS",
            "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Dspring.aot.enabled=true",
        )
        .arg("--spring.application.name=shop")
        // As the published starter calls it.
        .arg(format!(
            "--management.metrics.export.prometheus.rsocket.port={}",
            node.tcp().port()
        ));
    let mut app = Program::start(&mut worker);
    assert_eq!(app.line("READY").await, "http=null");
    node.connected(1).await;
    assert_eq!(counted_by(node.web()).await, ["0.0"]);
    pushes_its_last_work(&mut app, &node).await;
}

#[tokio::test]
async fn a_starter_that_backs_off_says_why() {
    need!(Java);
    let mut app = Program::interop(
        "boot41",
        &["--management.prometheus.metrics.export.enabled=false"],
    );
    let line = app
        .line_with("No connection to a Prometheus RSocket proxy is made")
        .await;
    assert!(
        line.contains("management.prometheus.metrics.export.enabled is false"),
        "{line}"
    );
    app.line("READY").await;
    assert!(!app.has_said("LOG WARN") && !app.has_said("LOG ERROR"));
    app.say("exit").await;
    assert!(app.ended().await.success());
}
