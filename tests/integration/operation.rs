//! The program as operators meet it: flags, exit codes, log lines, signals.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use hyper::{Method, StatusCode};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::app::{Answer, App, Peer};
use crate::sandbox::{PATIENCE, Response, Sandbox, eventually, request};

const FREE_PORTS: [&str; 3] = [
    "--web.listen-address=127.0.0.1:0",
    "--rsocket.tcp.listen-address=127.0.0.1:0",
    "--rsocket.websocket.listen-address=127.0.0.1:0",
];

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_prometheus-rsocket-proxy"));
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// A node as a process of its own.
struct Process {
    child: Child,
    log: Lines<BufReader<ChildStderr>>,
}

impl Process {
    fn start(arguments: &[&str]) -> Self {
        Self::of(program(&[&FREE_PORTS[..], arguments].concat()))
    }

    fn of(mut program: Command) -> Self {
        let mut child = program.spawn().expect("the program");
        let log = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        Self { child, log }
    }

    async fn line(&mut self, part: &str) -> String {
        let find = async {
            while let Some(line) = self.log.next_line().await.expect("a log") {
                if line.contains(part) {
                    return line;
                }
            }
            panic!("the log ended without {part}");
        };
        timeout(PATIENCE, find)
            .await
            .unwrap_or_else(|_| panic!("never logged: {part}"))
    }

    async fn address(&mut self, listener: &str) -> std::net::SocketAddr {
        let line = self
            .line(&format!("msg=\"listening\" listener={listener} address="))
            .await;
        line.rsplit('=').next().unwrap().parse().unwrap()
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().expect("a running process").to_string();
        let sent = std::process::Command::new("kill")
            .args([&format!("-{name}"), &pid])
            .status();
        assert!(sent.expect("kill").success());
    }

    /// A node with one application that answers so, and a scrape that waits for it.
    async fn start_and_scrape(arguments: &[&str], answer: Answer) -> (Self, JoinHandle<Response>) {
        let mut process = Self::start(arguments);
        let web = process.address("web").await;
        let tcp = process.address("rsocket-tcp").await;
        let app = App::connect(tcp, answer).await;
        let seen = Arc::clone(&app.seen);
        let scrape = tokio::spawn(async move {
            let response = request(web, Method::GET, "/metrics/connected", &[]).await;
            drop(app);
            response
        });
        eventually("a pull", async || seen.pulls() == 1).await;
        (process, scrape)
    }

    async fn exit_code(&mut self) -> Option<i32> {
        timeout(PATIENCE, self.child.wait())
            .await
            .expect("an end")
            .expect("a status")
            .code()
    }
}

#[tokio::test]
async fn a_mistake_in_the_usage_is_one_line_that_names_the_flag_and_exit_2() {
    for (arguments, part) in [
        (&["--web.listen-address=here"][..], "--web.listen-address"),
        (&["--scrape.timeout=0s"], "--scrape.timeout"),
        (&["--push.max-bytes=lots"], "--push.max-bytes"),
        (
            &["--rsocket.envelope=plaintext"],
            "--rsocket.insecure-plaintext",
        ),
        (&["--rsocket.max-frame=1KiB"], "--rsocket.max-frame"),
        (&["--no-such-flag"], "--no-such-flag"),
        (&["serve", "--log.level=loud"], "--log.level"),
        (
            &["--web.listen-addres=:1"],
            "; did you mean '--web.listen-address'?",
        ),
        (&["bensh"], "; did you mean 'bench'?"),
        (&["serve", "--log.format=jsn"], "; did you mean 'json'?"),
    ] {
        let output = program(arguments).output().await.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains(part), "{said}");
    }
}

#[tokio::test]
async fn help_and_version_are_there_on_every_level() {
    for arguments in [
        &["--help"][..],
        &["--version"],
        &["serve", "--help"],
        &["serve", "--version"],
    ] {
        let output = program(arguments).output().await.unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(!output.stdout.is_empty());
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_a_failure_at_run_time_that_names_the_flag() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let flag = format!(
        "--rsocket.tcp.listen-address={}",
        taken.local_addr().unwrap()
    );
    let arguments = [FREE_PORTS[0], FREE_PORTS[2], &flag];
    let output = program(&arguments).output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("--rsocket.tcp.listen-address")
    );
}

#[tokio::test]
async fn a_node_listens_on_every_address_that_is_given() {
    let mut node = program(&[
        "--web.listen-address=127.0.0.1:0",
        "--web.listen-address=127.0.0.2:0",
        FREE_PORTS[2],
    ]);
    node.env(
        "PROXY_RSOCKET_TCP_LISTEN_ADDRESS",
        "127.0.0.1:0,127.0.0.2:0",
    );
    let mut process = Process::of(node);
    let mut addresses = Vec::new();
    for listener in ["web", "web", "rsocket-tcp", "rsocket-tcp"] {
        let line = process.line(&format!("listener={listener} ")).await;
        let address = line.split("address=").nth(1).expect("an address");
        addresses.push(address.parse::<std::net::SocketAddr>().unwrap());
    }
    process.line("msg=\"ready\"").await;
    let _first = App::text(addresses[2], "a 1\n").await;
    let _second = App::text(addresses[3], "b 1\n").await;
    for web in &addresses[..2] {
        let scraped = request(*web, Method::GET, "/metrics/connected", &[]).await;
        assert_eq!(scraped.text(), "a 1\nb 1\n");
    }
}

#[tokio::test]
async fn settings_come_from_the_environment_too() {
    let output = program(&[])
        .env("PROXY_SCRAPE_TIMEOUT", "soon")
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("--scrape.timeout")
    );
}

#[tokio::test]
async fn the_limit_on_open_files_is_raised_and_told_where_it_stays_too_low() {
    let node = program(&[&FREE_PORTS[..], &["--rsocket.max-connections=100"]].concat());
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "ulimit -Sn 256; ulimit -Hn 700; exec \"$0\" \"$@\""])
        .arg(node.as_std().get_program())
        .args(node.as_std().get_args())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut process = Process::of(shell);
    let line = process.line("too few open files").await;
    let says = " limit=700 needed=1212 rsocket_max_connections=100 web_max_connections=300";
    assert!(line.contains(says), "{line}");
    process.line("msg=\"ready\"").await;
}

#[tokio::test]
async fn sigterm_lets_the_scrape_under_way_finish_and_exits_0() {
    let (open, gate) = tokio::sync::watch::channel(false);
    let answer = Answer::Gated("up 1\n".into(), gate);
    let (mut process, scrape) = Process::start_and_scrape(&[], answer).await;
    process.signal("TERM");
    process.line("stage=\"finishing scrapes\"").await;
    open.send_replace(true);
    assert_eq!(scrape.await.unwrap().text(), "up 1\n");
    assert_eq!(process.exit_code().await, Some(0));
}

#[tokio::test]
async fn sigquit_drains_and_the_signals_that_other_programs_end_by_do_nothing() {
    let mut process = Process::start(&[]);
    let web = process.address("web").await;
    for _ in 0..3 {
        process.signal("HUP");
        process
            .line("msg=\"signal received, no files to read again\"")
            .await;
    }
    for signal in ["USR1", "USR2"] {
        process.signal(signal);
    }
    let alive = request(web, Method::GET, "/-/healthy", &[]).await;
    assert_eq!(alive.status, StatusCode::OK);
    process.signal("QUIT");
    process.line("signal=SIGQUIT").await;
    assert_eq!(process.exit_code().await, Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_a_drain_at_once() {
    let grace_period = ["--shutdown.grace-period=1h"];
    let (mut process, scrape) = Process::start_and_scrape(&grace_period, Answer::Never).await;
    process.signal("TERM");
    process.line("stage=\"finishing scrapes\"").await;
    process.signal("INT");
    assert_eq!(process.exit_code().await, Some(0));
    scrape.abort();
}

#[tokio::test]
async fn the_grace_period_bounds_a_drain() {
    let grace_period = ["--shutdown.grace-period=300ms"];
    let (mut process, scrape) = Process::start_and_scrape(&grace_period, Answer::Never).await;
    process.signal("TERM");
    process.line("scrapes were still running").await;
    assert_eq!(process.exit_code().await, Some(0));
    scrape.abort();
}

#[tokio::test]
async fn a_drain_gives_held_pushes_the_chance_to_be_scraped() {
    let mut process = Process::start(&[]);
    let web = process.address("web").await;
    let tcp = process.address("rsocket-tcp").await;
    let mut app = Peer::connect(tcp).await;
    app.key().await;
    app.push("jobs_total 1\n").await.unwrap();
    process.signal("TERM");
    process.line("waiting for a scrape of pushes").await;
    let ready = request(web, Method::GET, "/-/ready", &[]).await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    let healthy = request(web, Method::GET, "/-/healthy", &[]).await;
    assert_eq!(healthy.status, StatusCode::OK);
    let scrape = request(web, Method::GET, "/metrics/connected", &[]).await;
    assert_eq!(scrape.text(), "jobs_total 1\n");
    assert_eq!(process.exit_code().await, Some(0));
}

#[tokio::test]
async fn ready_follows_the_key() {
    let proxy = Sandbox::start(&[]).await;
    eventually("readiness", async || {
        proxy.get("/-/ready").await.status == StatusCode::OK
    })
    .await;
    assert_eq!(proxy.get("/-/healthy").await.status, StatusCode::OK);
    assert_eq!(proxy.get("/nothing").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_status_names_the_node_its_one_member_and_its_connections() {
    let proxy = Sandbox::start(&[]).await;
    let app = App::text(proxy.tcp(), "up 1\n").await;
    proxy.scrape().await;
    let status = proxy.status().await;
    assert_eq!(status["node"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["node"]["state"], "active");
    assert_eq!(status["members"][0]["id"], status["node"]["id"]);
    assert_eq!(status["members"][0]["state"], "active");
    assert_eq!(status["members"][0]["connections"], 1);
    let connection = &status["connections"][0];
    assert_eq!(connection["transport"], "tcp");
    assert_eq!(connection["last_scrape"]["outcome"], "success");
    assert_eq!(connection["last_scrape"]["bytes"], 5);
    drop(app);
    proxy.connected(0).await;
    assert_eq!(proxy.status().await["left"][0]["peer"], connection["peer"]);
}

#[tokio::test]
async fn the_original_dashboards_find_their_metrics() {
    let proxy = Sandbox::start(&[]).await;
    let _app = App::text(proxy.tcp(), "up 1\n").await;
    proxy.scrape().await;
    for path in ["/metrics/proxy", "/metrics"] {
        let response = proxy.get(path).await;
        assert_eq!(
            response.headers["content-type"],
            "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"
        );
        for series in [
            "prometheus_proxy_scrape_active_connections 1",
            "prometheus_proxy_scrape_payload_bytes_max 5",
            "prometheus_proxy_scrape_payload_bytes_count 1",
            "prometheus_proxy_scrape_seconds_count{outcome=\"success\",exception=\"none\"} 1",
            "prometheus_proxy_scrape_seconds_count{outcome=\"closed\",exception=\"none\"} 0",
            "rsocket_request_response_seconds_count{signal_type=\"ON_COMPLETE\"} 1",
            "rsocket_request_response_seconds_count{signal_type=\"CANCEL\"} 0",
            "rsocket_request_response_seconds_count{signal_type=\"ON_ERROR\"} 0",
        ] {
            assert!(
                response.text().lines().any(|line| line == series),
                "{series}"
            );
        }
        prometheus_rsocket_exposition::Exposition::parse(response.body.into()).expect("valid text");
    }
}

#[tokio::test]
async fn an_idle_reader_of_headers_is_disconnected() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let proxy = Sandbox::start(&["--web.io-timeout=100ms"]).await;
    let mut slow = tokio::net::TcpStream::connect(proxy.web()).await.unwrap();
    slow.write_all(b"GET /metrics/con").await.unwrap();
    let mut heard = Vec::new();
    timeout(Duration::from_secs(30), slow.read_to_end(&mut heard))
        .await
        .expect("an end")
        .unwrap();
}
