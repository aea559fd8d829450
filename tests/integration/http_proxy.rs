//! Applications that reach the proxy through an HTTP proxy only: a real one, tinyproxy.

use std::process::{Output, Stdio};

use prometheus_rsocket_client::{Builder, Client};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::timeout;

use crate::agent::{HttpTarget, Page};
use crate::compat::{self, Transport, over_both, values};
use crate::nodes::BINARY;
use crate::peers::{Program, Scratch, need, reserved_port};
use crate::sandbox::{PATIENCE, Sandbox, eventually};
use crate::tls::Authority;

const VARIABLES: [&str; 6] = [
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
];

struct Tinyproxy {
    port: u16,
    program: Program,
    _scratch: Scratch,
}

impl Tinyproxy {
    async fn start(settings: &str) -> Self {
        let port = reserved_port();
        let scratch = Scratch::new();
        let text = format!("Listen 127.0.0.1\nPort {port}\nLogLevel Connect\n{settings}\n");
        let config = scratch.file("tinyproxy.conf", &text);
        let program = Program::start(Command::new("tinyproxy").arg("-d").arg("-c").arg(config));
        eventually("the HTTP proxy", async || {
            TcpStream::connect(("127.0.0.1", port)).await.is_ok()
        })
        .await;
        Self {
            port,
            program,
            _scratch: scratch,
        }
    }

    fn url(&self, credentials: &str) -> String {
        format!("http://{credentials}127.0.0.1:{}", self.port)
    }

    /// Waits until it has been asked for a connection to this port.
    async fn is_asked_for(&mut self, host: &str, port: u16) {
        let request = format!("CONNECT {host}:{port} HTTP/1.1");
        self.program.line_with(&request).await;
    }
}

fn client(http_proxy: &str, address: &str) -> Builder {
    Client::builder(|| "up 1\n")
        .proxy(address.parse().expect("an address"))
        .http_proxy(http_proxy.parse().expect("an HTTP proxy"))
        .timeout(PATIENCE)
}

#[tokio::test]
async fn an_application_is_pulled_and_pushes_through_an_http_proxy() {
    need!(Tinyproxy);
    let mut open = Tinyproxy::start("").await;
    let mut closed = Tinyproxy::start("BasicAuth user secret").await;
    let scratch = Scratch::new();
    let authority = Authority::new(&scratch, "ca.pem");
    let plain = Sandbox::start(&[]).await;
    let secure = authority.node(&scratch, &[]).await;
    for (http_proxy, credentials) in [(&mut open, ""), (&mut closed, "user:%73ecret@")] {
        for (scheme, node, address) in [
            ("tcp", &plain, plain.tcp()),
            ("ws", &plain, plain.node.websocket_address),
            ("tls", &secure, secure.tcp()),
            ("wss", &secure, secure.node.websocket_address),
        ] {
            let address = format!("{scheme}://localhost:{}", address.port());
            let builder = client(&http_proxy.url(credentials), &address);
            let builder = builder.tls_ca_file(&authority.ca_file).expect("a file");
            let client = builder.connect_and_wait().await.expect(&address);
            node.connected(1).await;
            assert_eq!(node.scrape().await, ["up 1"], "{address}");
            client.push_and_close().await.expect(&address);
            node.connected(0).await;
            assert_eq!(node.scrape().await, ["up 1"], "{address}");
            let port = address.rsplit(':').next().expect("a port");
            let port = port.parse().expect("a port");
            http_proxy.is_asked_for("localhost", port).await;
        }
    }
}

#[tokio::test]
async fn why_an_http_proxy_lets_nobody_through_is_said_in_plain_words() {
    need!(Tinyproxy);
    let closed = Tinyproxy::start("BasicAuth user secret").await;
    let https_only = Tinyproxy::start("ConnectPort 443").await;
    let nobody = reserved_port();
    for (url, address, words) in [
        (closed.url(""), "tcp://node:7001", "asks for credentials"),
        (
            closed.url("user:wrong@"),
            "tcp://node:7001",
            "refused the credentials",
        ),
        (
            https_only.url(""),
            "tcp://node:7001",
            "answered 403 Access violation to CONNECT node:7001 (HTTP proxies often allow CONNECT to port 443 only: \
             allow port 7001 there, or let the node listen on 443)",
        ),
        // The name is looked up there.
        (
            https_only.url(""),
            "tcp://node.invalid:443",
            "answered 500 Unable to connect to CONNECT node.invalid:443",
        ),
        (
            format!("http://user:wrong@127.0.0.1:{nobody}"),
            "tcp://node:7001",
            "cannot be reached: connection refused (is the proxy running, and is this its port?)",
        ),
    ] {
        let failed = client(&url, address)
            .max_retries(0)
            .connect_and_wait()
            .await;
        let error = failed.expect_err("a failure").to_string();
        let place = url.rsplit(['@', '/']).next().expect("a place");
        let said = format!("the HTTP proxy {place} {words}");
        assert!(error.ends_with(&said), "{error}");
    }
}

/// With these variables alone, whatever this machine's are.
fn program(arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(BINARY);
    for variable in VARIABLES {
        command.env_remove(variable);
    }
    command.args(arguments).envs(variables.iter().copied());
    command
}

async fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = program(arguments, variables);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().expect("the program");
    let mut pipe = child.stdin.take().expect("a pipe");
    // It may end without reading all, or anything.
    let _ = pipe.write_all(b"done 1\n").await;
    drop(pipe);
    let ended = timeout(PATIENCE, child.wait_with_output()).await;
    ended.expect("an end").expect("an output")
}

#[tokio::test]
async fn push_finds_its_http_proxy_by_flag_or_as_curl_does() {
    need!(Tinyproxy);
    let mut http_proxy = Tinyproxy::start("BasicAuth user secret").await;
    let good = http_proxy.url("user:secret@");
    let flag = format!("--http-proxy={good}");
    let node = Sandbox::start(&[]).await;
    let to = format!("--proxy=tcp://{}", node.tcp());
    let push = ["push", &*to];
    let nowhere = "http://127.0.0.1:1";
    for (arguments, variables) in [
        (
            &[push[0], push[1], &*flag][..],
            &[("ALL_PROXY", nowhere)][..],
        ),
        (&push, &[("PROXY_HTTP_PROXY", &*good)]),
        (&push, &[("HTTPS_PROXY", &*good), ("ALL_PROXY", nowhere)]),
        (&push, &[("ALL_PROXY", &*good), ("HTTP_PROXY", nowhere)]),
    ] {
        let output = run(arguments, variables).await;
        assert_eq!(output.status.code(), Some(0), "{variables:?} {output:?}");
        http_proxy
            .is_asked_for("127.0.0.1", node.tcp().port())
            .await;
    }
    let direct = [
        ("HTTPS_PROXY", nowhere),
        ("NO_PROXY", "10.0.0.1,127.0.0.0/8"),
    ];
    let output = run(&push, &direct).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    node.pending(5).await;
}

#[tokio::test]
async fn a_password_for_an_http_proxy_is_in_no_message() {
    need!(Tinyproxy);
    let http_proxy = Tinyproxy::start("BasicAuth user other").await;
    let wrong = http_proxy.url("user:secret@");
    let unusable = wrong.replace("http:", "https:");
    let to = ["push", "--proxy=tcp://node:7001", "--timeout=1s"];
    for (arguments, variables, status, words) in [
        (
            &to[..],
            &[("ALL_PROXY", &*wrong)],
            1,
            "refused the credentials",
        ),
        (&to, &[("ALL_PROXY", &*unusable)], 2, "ALL_PROXY: only HTTP"),
        (
            &to,
            &[("PROXY_HTTP_PROXY", &*unusable)],
            2,
            "--http-proxy: only HTTP",
        ),
        (
            &["push", "--help"],
            &[("PROXY_HTTP_PROXY", &*wrong)],
            0,
            "--http-proxy",
        ),
    ] {
        let output = run(arguments, variables).await;
        assert_eq!(output.status.code(), Some(status), "{output:?}");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(said.contains(words), "{said}");
        assert!(!said.contains("secret"), "{said}");
    }
}

#[tokio::test]
async fn an_agent_asks_its_targets_directly() {
    need!(Tinyproxy);
    let mut http_proxy = Tinyproxy::start("").await;
    let node = Sandbox::start(&[]).await;
    let target = HttpTarget::start(Page::text("a 1\n")).await;
    let to = format!("--proxy=tcp://{}", node.tcp());
    let nowhere = "http://127.0.0.1:1";
    let mut command = program(
        &["agent", &to, "--first-backoff=50ms", &target.flag("")],
        &[
            ("HTTPS_PROXY", &http_proxy.url("")),
            ("HTTP_PROXY", nowhere),
            ("http_proxy", nowhere),
        ],
    );
    let _agent = Program::start(&mut command);
    node.connected(1).await;
    eventually("the target's samples", async || {
        node.scrape().await.contains(&"a 1".to_owned())
    })
    .await;
    http_proxy
        .is_asked_for("127.0.0.1", node.tcp().port())
        .await;
    let to_target = format!(":{}", target.address.port());
    assert!(!http_proxy.program.has_mentioned(&to_target));
}

#[tokio::test]
async fn the_applications_of_bench_connect_through_an_http_proxy() {
    need!(Tinyproxy);
    let mut http_proxy = Tinyproxy::start("").await;
    let node = Sandbox::start(&[]).await;
    let arguments = [
        "bench",
        "--apps=3",
        "--series=5",
        "--scrapes=1",
        "--interval=0s",
        &format!("--proxy=tcp://{}", node.tcp()),
        &format!("--web=http://{}", node.web()),
        &format!("--http-proxy={}", http_proxy.url("")),
    ];
    let output = run(&arguments, &[]).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    http_proxy
        .is_asked_for("127.0.0.1", node.tcp().port())
        .await;
}

async fn is_scraped_through_an_http_proxy(program: &str, transport: Transport) {
    need!(Tinyproxy);
    let mut http_proxy = Tinyproxy::start("BasicAuth user secret").await;
    let node = Sandbox::start(&[]).await;
    let port = transport.port(&node).parse().expect("a port");
    let url = http_proxy.url("user:%73ecret@");
    let mut app = compat::connect(program, transport, &node, "shop", &["--http-proxy", &url]);
    node.connected(1).await;
    eventually("the application's samples", async || {
        values(&node.scrape().await, "interop_events_total", "shop") == [0.0]
    })
    .await;
    app.say("pushblocking").await;
    app.line("PUSHED").await;
    assert_eq!(
        values(&node.scrape().await, "interop_events_total", "shop"),
        [0.0]
    );
    http_proxy.is_asked_for("127.0.0.1", port).await;
}

over_both! {
    the_published_java_client_connects_through_an_http_proxy needs Java;
    the_java_client_connects_through_an_http_proxy needs Java;
    the_java_client_on_the_oldest_libraries_connects_through_an_http_proxy needs Java;
}

/// Over TCP with the handler of docs/clients.md.
async fn the_published_java_client_connects_through_an_http_proxy(transport: Transport) {
    is_scraped_through_an_http_proxy("client", transport).await;
}

async fn the_java_client_connects_through_an_http_proxy(transport: Transport) {
    is_scraped_through_an_http_proxy("own-client", transport).await;
}

async fn the_java_client_on_the_oldest_libraries_connects_through_an_http_proxy(
    transport: Transport,
) {
    is_scraped_through_an_http_proxy("own-client-113", transport).await;
}
