//! The agent as a process of its own: HTTP targets behind it, a node in front of it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, LOCATION};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use prometheus_rsocket_wire::session::Limits;
use prometheus_rsocket_wire::transport::tcp::Tcp;
use prometheus_rsocket_wire::{Connection, Event, Payload, Session};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use crate::peers::{Program, Scratch, need, reserved_port};
use crate::prometheus::Prometheus;
use crate::sandbox::{Sandbox, TcpConnection, eventually, samples};

/// What a target answers.
#[derive(Clone)]
pub(crate) enum Page {
    /// As text format 0.0.4.
    Text(String),
    /// With this Content-Type; empty: with none.
    Typed(&'static str, String),
    /// The bytes, said to be gzip.
    Gzip(Vec<u8>),
    /// OpenMetrics to who asks for that first, else JSON, as Vault does.
    Vault(&'static str),
    Status(StatusCode),
    /// To another place; that answers this.
    Redirect(String, &'static str),
    /// Nothing, ever.
    Never,
}

impl Page {
    pub(crate) fn text(text: &str) -> Self {
        Self::Text(text.into())
    }
}

/// What a target saw.
#[derive(Default)]
pub(crate) struct Seen {
    connections: AtomicUsize,
    requests: AtomicUsize,
    last: Mutex<Option<hyper::HeaderMap>>,
}

impl Seen {
    /// The headers of the last request.
    pub(crate) fn headers(&self) -> hyper::HeaderMap {
        self.last.lock().unwrap().clone().expect("a request")
    }

    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

/// An HTTP target whose page can be changed.
pub(crate) struct HttpTarget {
    pub(crate) address: SocketAddr,
    pub(crate) page: watch::Sender<Page>,
    pub(crate) seen: Arc<Seen>,
}

impl HttpTarget {
    pub(crate) async fn start(page: Page) -> Self {
        Self::start_with(page, None).await
    }

    /// Where there is a configuration, through TLS.
    pub(crate) async fn start_with(page: Page, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (page, current) = watch::channel(page);
        let seen = Arc::new(Seen::default());
        tokio::spawn(serve(listener, tls, current, Arc::clone(&seen)));
        Self {
            address,
            page,
            seen,
        }
    }

    pub(crate) fn flag(&self, rest: &str) -> String {
        format!("--target=http://{}/metrics{rest}", self.address)
    }

    /// Its `up` without labels of its own.
    pub(crate) fn up(&self, value: u8) -> String {
        let address = self.address;
        format!("up{{instance=\"{address}\",target=\"http://{address}/metrics\"}} {value}")
    }
}

async fn serve(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    page: watch::Receiver<Page>,
    seen: Arc<Seen>,
) {
    while let Ok((stream, _)) = listener.accept().await {
        seen.connections.fetch_add(1, Ordering::SeqCst);
        let (page, seen) = (page.clone(), Arc::clone(&seen));
        let tls = tls.clone();
        tokio::spawn(async move {
            match tls {
                None => serve_one(stream, page, seen).await,
                Some(tls) => {
                    if let Ok(stream) = TlsAcceptor::from(tls).accept(stream).await {
                        serve_one(stream, page, seen).await;
                    }
                }
            }
        });
    }
}

async fn serve_one(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    page: watch::Receiver<Page>,
    seen: Arc<Seen>,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        *seen.last.lock().unwrap() = Some(request.headers().clone());
        seen.requests.fetch_add(1, Ordering::SeqCst);
        let page = page.borrow().clone();
        async move { Ok::<_, Infallible>(answer(page, &request).await) }
    });
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // Who asked may have gone.
    let _ = connection.await;
}

const TEXT: &str = "text/plain; version=0.0.4";

async fn answer(page: Page, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let response = Response::builder();
    let typed = |content_type: &str| Response::builder().header(CONTENT_TYPE, content_type);
    let response = match page {
        Page::Text(text) => typed(TEXT).body(Full::from(text)),
        Page::Typed("", text) => response.body(Full::from(text)),
        Page::Typed(content_type, text) => typed(content_type).body(Full::from(text)),
        Page::Gzip(bytes) => typed(TEXT)
            .header(CONTENT_ENCODING, "gzip")
            .body(Full::from(bytes)),
        Page::Vault(text) => {
            let accept = request.headers()[ACCEPT].as_bytes();
            let openmetrics = "application/openmetrics-text";
            if accept.starts_with(openmetrics.as_bytes()) {
                typed(openmetrics).body(Full::from(format!("{text}# EOF\n")))
            } else {
                typed("application/json").body(Full::from("{}"))
            }
        }
        Page::Status(status) => response.status(status).body(Full::default()),
        Page::Redirect(_, text) if request.uri().path() != "/metrics" => {
            typed(TEXT).body(Full::from(text))
        }
        Page::Redirect(location, _) => response
            .status(StatusCode::TEMPORARY_REDIRECT)
            .header(LOCATION, location)
            .body(Full::default()),
        Page::Never => std::future::pending().await,
    };
    response.expect("a valid response")
}

pub(crate) fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_prometheus-rsocket-proxy"));
    command.arg("agent").args(arguments);
    command
}

/// An agent connected to the node.
pub(crate) async fn agent(proxy: &Sandbox, arguments: &[&str]) -> Program {
    let address = format!("--proxy=tcp://{}", proxy.tcp());
    let program = Program::start(program(&[&address, "--first-backoff=50ms"]).args(arguments));
    proxy.connected(1).await;
    // The first pull that is answered shows that the agent has the key.
    eventually("an answer of the agent", async || {
        !proxy.scrape().await.is_empty()
    })
    .await;
    program
}

/// A scrape with a timeout of three seconds, as its samples in the order served.
pub(crate) async fn scrape(proxy: &Sandbox) -> Vec<String> {
    let seconds = [("x-prometheus-scrape-timeout-seconds", "3")];
    samples(proxy.get_with("/metrics/connected", &seconds).await.text())
}

#[tokio::test]
async fn targets_are_served_merged_with_their_labels_and_an_up_each() {
    let proxy = Sandbox::start(&[]).await;
    let one = HttpTarget::start(Page::text("# TYPE a counter\na{x=\"1\"} 1\nb 2\n")).await;
    let other = HttpTarget::start(Page::text("# TYPE a counter\na 3 \n")).await;
    let flags = [
        one.flag(",job=one,instance=web-1"),
        other.flag(",job=say \"two\""),
    ];
    let _agent = agent(&proxy, &[&flags[0], &flags[1]]).await;
    let (one, other) = (one.address, other.address);
    assert_eq!(
        proxy.scrape().await,
        [
            "a{instance=\"web-1\",job=\"one\",x=\"1\"} 1",
            "a{job=\"say \\\"two\\\"\"} 3",
            "b{instance=\"web-1\",job=\"one\"} 2",
            &format!("up{{instance=\"web-1\",job=\"one\",target=\"http://{one}/metrics\"}} 1"),
            &format!(
                "up{{instance=\"{other}\",job=\"say \\\"two\\\"\",target=\"http://{other}/metrics\"}} 1"
            ),
        ]
    );
}

#[tokio::test]
async fn a_target_that_is_dead_slow_long_or_invalid_is_down_and_the_others_are_served() {
    let proxy = Sandbox::start(&[]).await;
    let well = HttpTarget::start(Page::text("well 1\n")).await;
    let target = HttpTarget::start(Page::text("a 1\n")).await;
    let mut agent = agent(
        &proxy,
        &[
            &well.flag(""),
            &target.flag(""),
            "--scrape.max-payload=1000B",
            "--scrape.timeout=2s",
        ],
    )
    .await;
    let bomb = gzip(&"a 1\n".repeat(1 << 20));
    let mut cut = [gzip("a 1\n"), gzip("b 1\n")].concat();
    cut.truncate(cut.len() - 4);
    for (page, reason) in [
        (Page::Never, "no complete answer in time"),
        (Page::Text("a 1\n".repeat(251)), "--scrape.max-payload"),
        (Page::Gzip(bomb), "--scrape.max-payload"),
        (Page::Gzip(b"no gzip".to_vec()), "gzip stream"),
        (Page::text("a{ 1\n"), "line 1, column 4"),
        (Page::Status(StatusCode::INTERNAL_SERVER_ERROR), "500"),
        (Page::Status(StatusCode::FOUND), "302"),
        (
            Page::Redirect("/metrics".into(), ""),
            "stopped after 10 redirects",
        ),
        (Page::Redirect("ftp://a/".into(), ""), "redirected to"),
        (
            Page::Typed("", "a 1\n".into()),
            "no Content-Type, and no fallback_scrape_protocol",
        ),
        (Page::Typed("text/html", "a 1\n".into()), "text/html"),
        (
            Page::Typed("application/openmetrics-text", "a 1 1700000000\n".into()),
            "# EOF",
        ),
        (Page::text("{\"kind\":\"Status\"}"), "JSON"),
        (Page::Gzip(cut), "ends too early"),
        (
            Page::Gzip(gzip(&format!("a{{b=\"{}\"}} 1\n", "x".repeat(300_000)))),
            "--scrape.max-payload",
        ),
    ] {
        target.page.send_replace(page);
        assert!(
            scrape(&proxy).await.contains(&"well 1".to_owned()),
            "{reason}"
        );
        let line = agent.line_with("msg=\"target is down\"").await;
        assert!(
            line.contains(reason) && line.contains("level=warn"),
            "{line}"
        );
        let samples = scrape(&proxy).await;
        assert!(
            samples.contains(&target.up(0)) && samples.contains(&well.up(1)),
            "{samples:?}"
        );
        assert!(!samples.contains(&"a 1".to_owned()), "{samples:?}");
        let targets = proxy.status().await["connections"][0]["targets"].clone();
        assert_eq!(targets["failures"][0]["outcome"], "down", "{targets}");
        let said = targets["failures"][0]["reason"].as_str().unwrap();
        assert!(said.contains(reason), "{said}");
        target.page.send_replace(Page::Gzip(gzip("a 1\n")));
        let samples = scrape(&proxy).await;
        assert!(
            samples.contains(&target.up(1)) && samples.contains(&"a 1".to_owned()),
            "{samples:?}"
        );
        let line = agent.line_with("msg=\"target is up again\"").await;
        assert!(line.contains("level=warn"), "{line}");
    }
    let status = proxy.status().await;
    assert_eq!(
        status["connections"][0]["last_scrape"]["outcome"],
        "success"
    );
}

#[tokio::test]
async fn a_target_that_nobody_listens_at_is_down_from_the_first_scrape() {
    let proxy = Sandbox::start(&[]).await;
    let port = reserved_port();
    let target = format!("--target=http://127.0.0.1:{port}");
    let mut agent = agent(&proxy, &[&target, "--target-label=url"]).await;
    let up =
        format!("up{{instance=\"127.0.0.1:{port}\",url=\"http://127.0.0.1:{port}/metrics\"}} 0");
    assert_eq!(scrape(&proxy).await, [up]);
    agent.line_with("Connection refused").await;
}

#[tokio::test]
async fn a_target_is_asked_as_prometheus_asks_over_one_connection() {
    let proxy = Sandbox::start(&[]).await;
    let target = HttpTarget::start(Page::text("a 1\n")).await;
    let _agent = agent(&proxy, &[&target.flag("")]).await;
    for _ in 0..3 {
        scrape(&proxy).await;
    }
    assert_eq!(target.seen.connections.load(Ordering::SeqCst), 1);
    let headers = target.seen.headers();
    // What Prometheus 3.16 sends.
    assert_eq!(
        headers["accept"],
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.7,\
         application/openmetrics-text;version=0.0.1;q=0.6,\
         text/plain;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.3"
    );
    assert_eq!(headers["accept-encoding"], "gzip");
    let seconds: f64 = headers["x-prometheus-scrape-timeout-seconds"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!(seconds > 0.0 && seconds <= 10.0, "{seconds}");
}

#[tokio::test]
async fn families_are_kept_and_dropped_whole() {
    let proxy = Sandbox::start(&[]).await;
    let text = "# TYPE took histogram\ntook_bucket{le=\"+Inf\"} 1\ntook_sum 1\ntook_count 1\n\
                # TYPE go_info gauge\ngo_info 1\nother 1\n";
    let target = HttpTarget::start(Page::text(text)).await;
    let _agent = agent(
        &proxy,
        &[&target.flag(""), "--keep=took|go_.*", "--drop=go_in.o"],
    )
    .await;
    assert_eq!(
        proxy.scrape().await,
        [
            "took_bucket{le=\"+Inf\"} 1",
            "took_sum 1",
            "took_count 1",
            &target.up(1),
        ]
    );
}

#[tokio::test]
async fn an_answer_has_a_limit_and_what_is_past_it_is_down() {
    let proxy = Sandbox::start(&[]).await;
    let one = HttpTarget::start(Page::Text("a 1\n".repeat(150))).await;
    let other = HttpTarget::start(Page::Text("b 1\n".repeat(150))).await;
    let _agent = agent(
        &proxy,
        &[&one.flag(""), &other.flag(""), "--scrape.max-answer=1000B"],
    )
    .await;
    let samples = proxy.scrape().await;
    let down = samples
        .iter()
        .filter(|line| line.starts_with("up{") && line.ends_with(" 0"));
    assert_eq!(down.count(), 1, "{samples:?}");
    assert_eq!(samples.len(), 150 + 2);
}

#[tokio::test]
async fn a_targets_file_is_followed_and_a_broken_one_changes_nothing() {
    let proxy = Sandbox::start(&[]).await;
    let one = HttpTarget::start(Page::text("a 1\n")).await;
    let other = HttpTarget::start(Page::text("b 1\n")).await;
    let scratch = Scratch::new();
    let list = |address: SocketAddr| {
        format!("- targets: ['{address}']\n  labels: {{job: file, __meta_x: y}}\n")
    };
    let file = scratch.file("targets.yml", &list(one.address));
    let mut agent = agent(&proxy, &[&format!("--targets-file={file}")]).await;
    assert!(
        proxy
            .scrape()
            .await
            .contains(&"a{job=\"file\"} 1".to_owned())
    );
    scratch.file("targets.yml", "- targets:\n  - a b\n");
    let line = agent.line_with("msg=\"cannot use targets file").await;
    assert!(
        line.contains(&file) && line.contains("line 2, column 5"),
        "{line}"
    );
    assert!(
        proxy
            .scrape()
            .await
            .contains(&"a{job=\"file\"} 1".to_owned())
    );
    // As Kubernetes does it: another file takes the place of the first.
    let next = scratch.file("next.yml", &list(other.address));
    std::fs::rename(next, &file).unwrap();
    agent.read_files();
    agent.line_with("signal=SIGHUP").await;
    agent.line_with("msg=\"targets file read\"").await;
    eventually("the other target", async || {
        proxy
            .scrape()
            .await
            .contains(&"b{job=\"file\"} 1".to_owned())
    })
    .await;
}

#[tokio::test]
async fn a_mistake_in_the_usage_of_the_agent_is_one_line_and_exit_2() {
    let scratch = Scratch::new();
    let broken = scratch.file("broken.json", "[\n{\"targets\": [\"a/b\"]}]\n");
    let broken = format!("--targets-file={broken}");
    let config = scratch.file(
        "agent.yml",
        "scrape_configs:\n- {job_name: a, relabel_configs: []}\n",
    );
    let config = format!("--config.file={config}");
    for (arguments, part) in [
        (&[][..], "--target"),
        (&["--target=localhost:9100"], "http://HOST:PORT/PATH"),
        (&["--target=http://a,job"], "NAME=VALUE"),
        (&["--target=http://a,__x=1"], "reserved"),
        (&["--target=http://a,target=1"], "--target-label"),
        (&["--target=http://a,x=\"1"], "not closed"),
        (
            &["--config.file=/nowhere.yml"],
            "/nowhere.yml: No such file",
        ),
        (&[&config], "agent.yml: line 2, column 17"),
        (
            &["--target=http://a", "--fallback-scrape-protocol=x"],
            "OpenMetricsText1.0.0",
        ),
        (
            &["--target=http://a", "--target-label=a\"b"],
            "--target-label",
        ),
        (&["--target=http://a", "--keep=("], "unclosed group"),
        (&["--target=http://a", "--drop=a{9999}{9999}"], "--drop"),
        (
            &["--target=http://a", "--target=http://b", "--max-targets=1"],
            "--max-targets=1",
        ),
        (
            &["--targets-file=/nowhere.yml"],
            "/nowhere.yml: No such file",
        ),
        (&[&broken], "broken.json: line 2, column 14"),
        (&["--target=http://a", "--proxy=localhost"], "--proxy"),
        (
            &["--target=http://a", "--scrape.timeout=0s"],
            "--scrape.timeout",
        ),
    ] {
        let output = program(arguments).output().await.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains(part), "{said}");
    }
}

#[tokio::test]
async fn sigterm_closes_the_connection_and_exits_0() {
    let proxy = Sandbox::start(&[]).await;
    let target = HttpTarget::start(Page::Never).await;
    let mut agent = Program::start(&mut program(&[
        &format!("--proxy=tcp://{}", proxy.tcp()),
        &target.flag(""),
    ]));
    proxy.connected(1).await;
    agent.terminate();
    assert_eq!(agent.ended().await.code(), Some(0));
    proxy.connected(0).await;
}

#[tokio::test]
async fn without_a_proxy_sigterm_ends_the_agent_all_the_same() {
    let port = reserved_port();
    let address = format!("--proxy=tcp://127.0.0.1:{port}");
    let mut agent = Program::start(&mut program(&[&address, "--target=http://127.0.0.1:1"]));
    agent.line_with("not connected to the proxy").await;
    agent.terminate();
    assert_eq!(agent.ended().await.code(), Some(0));
}

/// A proxy that asks once and then takes nothing of the answer.
async fn deaf_proxy(listener: TcpListener) -> TcpConnection {
    let (stream, _) = listener.accept().await.expect("the agent");
    let session = Session::accepting(Limits::default(), Instant::now().into_std());
    let mut proxy = Connection::new(session, Tcp::new(stream, 1 << 24));
    assert!(matches!(proxy.next().await, Event::Setup(_)));
    let key = Payload::of_data("plaintext");
    let session = proxy.session();
    session.fire_and_forget(key.clone()).expect("room");
    session.request_response(key).expect("room");
    // Sends what waits; the answer takes longer than that.
    assert!(proxy.next().now_or_never().is_none());
    proxy
        .transport()
        .get_ref()
        .readable()
        .await
        .expect("an answer");
    proxy
}

#[tokio::test]
async fn a_second_signal_ends_an_agent_that_cannot_close_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("--proxy=tcp://{}", listener.local_addr().unwrap());
    // More than the sockets between the two hold.
    let text: String = (0..400_000).map(|n| format!("sample_{n} {n}\n")).collect();
    let target = HttpTarget::start(Page::Text(text)).await;
    let mut agent = Program::start(&mut program(&[&address, &target.flag("")]));
    let _proxy = deaf_proxy(listener).await;
    agent.terminate();
    agent.line_with("msg=\"signal received\"").await;
    agent.terminate();
    agent
        .line_with("msg=\"second signal, exiting at once\"")
        .await;
    assert_eq!(agent.ended().await.code(), Some(0));
}

#[tokio::test]
async fn the_agent_comes_back_when_the_proxy_does() {
    let proxy = Sandbox::start(&[]).await;
    let target = HttpTarget::start(Page::text("a 1\n")).await;
    let _agent = agent(&proxy, &[&target.flag(""), "--max-backoff=100ms"]).await;
    let flag = format!("--rsocket.tcp.listen-address={}", proxy.tcp());
    proxy.node.drain(Duration::from_secs(5)).await;
    let proxy = Sandbox::start(&[&flag]).await;
    eventually("the target's sample", async || {
        proxy.scrape().await.contains(&"a 1".to_owned())
    })
    .await;
}

#[tokio::test]
async fn a_node_exporter_behind_an_agent_reaches_prometheus_and_its_death_is_seen_there() {
    need!(Prometheus, NodeExporter);
    let proxy = Sandbox::start(&[]).await;
    let address = format!("127.0.0.1:{}", reserved_port());
    let exporter = Program::start(
        Command::new("prometheus-node-exporter").arg(format!("--web.listen-address={address}")),
    );
    let target = format!("--target=http://{address},job=node,instance=web-1");
    let _agent = agent(&proxy, &[&target]).await;
    let prometheus = Prometheus::watching(proxy.web()).await;
    let up = "up{job=\"node\",instance=\"web-1\"}";
    let modes =
        "count(node_cpu_seconds_total{job=\"node\",instance=\"web-1\",cpu=\"0\",mode=\"idle\"})";
    prometheus.shows(up, 1.0).await;
    prometheus.shows(modes, 1.0).await;
    exporter.kill().await;
    prometheus.shows(up, 0.0).await;
    eventually("stale series", async || {
        prometheus.value(modes).await.is_none()
    })
    .await;
    prometheus.shows("up{job=\"connected\"}", 1.0).await;
}

/// As `gzip` would make it.
pub(crate) fn gzip(text: &str) -> Vec<u8> {
    use std::io::Write as _;

    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).expect("memory");
    encoder.finish().expect("memory")
}
