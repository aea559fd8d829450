//! The programs of `tests/interop` and the tools of this machine, as child processes of a test.

use std::ffi::OsStr;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

use crate::network;
use crate::sandbox::PATIENCE;

/// What a test cannot do without.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Tool {
    Java,
    Python,
    Prometheus,
    Prometheus3,
    Promtool,
    NodeExporter,
    Networks,
    Haproxy,
    Tinyproxy,
    Openssl,
    Curl,
    Browser,
}

/// What no installation brings: without it a test is left out everywhere.
const PERMISSION: &str = "permission to make networks";

/// The names under which systems install Chromium.
pub(crate) const CHROMIUMS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

impl Tool {
    /// The name of what is missing.
    fn missing(self) -> Option<&'static str> {
        let programs: &[&str] = match self {
            Self::Java => &["java", "javac", "mvn"],
            Self::Python => &["python3"],
            Self::Prometheus => &["prometheus"],
            Self::Prometheus3 => &["go"],
            Self::Promtool => &["promtool"],
            Self::NodeExporter => &["prometheus-node-exporter"],
            Self::Networks => &["ip", "iptables"],
            Self::Haproxy => &["haproxy"],
            Self::Tinyproxy => &["tinyproxy"],
            Self::Openssl => &["openssl"],
            Self::Curl => &["curl"],
            Self::Browser => &["node", "npm"],
        };
        if let Some(program) = programs.iter().find(|program| !installed(program)) {
            return Some(program);
        }
        match self {
            Self::Java | Self::Prometheus3 => build_peers(),
            Self::Browser if !CHROMIUMS.into_iter().any(installed) => return Some("chromium"),
            Self::Browser => build_browser(),
            Self::Python => {
                build_peers();
                if !interop().join("python/.venv/built").exists() {
                    return Some("python3-venv");
                }
            }
            Self::Networks => {
                if !network::may_be_made() {
                    return Some(PERMISSION);
                }
            }
            Self::Prometheus
            | Self::Promtool
            | Self::NodeExporter
            | Self::Haproxy
            | Self::Tinyproxy
            | Self::Openssl
            | Self::Curl => {}
        }
        None
    }
}

/// Ends the test where a tool is missing: with a line that says so, or as failed where nothing may be left out.
macro_rules! need {
    ($($tool:ident),+) => {{
        fn here() {}
        $(if $crate::peers::skipped(std::any::type_name_of_val(&here), $crate::peers::Tool::$tool) {
            return;
        })+
    }};
}
pub(crate) use need;

pub(crate) fn skipped(here: &str, tool: Tool) -> bool {
    let Some(missing) = tool.missing() else {
        return false;
    };
    let test = here.split("::{{closure}}").next().unwrap_or(here);
    let test = test.split_once("::").map_or(test, |(_, path)| path);
    let line = format!("SKIPPED: {test}: there is no {missing}");
    let required = std::env::var_os("PROXY_TEST_REQUIRE_ALL").is_some_and(|value| value == "1");
    assert!(!required || missing == PERMISSION, "{line}");
    // Not `eprintln!`, which shows nothing of a test that passes.
    writeln!(std::io::stderr(), "{line}").expect("standard error");
    true
}

pub(crate) fn installed(program: &str) -> bool {
    found(program).is_some()
}

/// Where a program is.
pub(crate) fn found(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).map(|directory| directory.join(program));
    places.find(|place| place.is_file())
}

/// Prometheus 3, once [`need!`] has seen to it.
pub(crate) fn prometheus_3() -> PathBuf {
    interop().join("prometheus-3/target/prometheus")
}

fn interop() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop")
}

/// Builds the programs, once however many tests ask.
fn build_peers() {
    static BUILT: OnceLock<Output> = OnceLock::new();
    build(&BUILT, "tests/interop/build.sh");
}

/// Fetches what drives the browser, likewise.
fn build_browser() {
    static BUILT: OnceLock<Output> = OnceLock::new();
    build(&BUILT, "tests/browser/build.sh");
}

fn build(once: &OnceLock<Output>, script: &str) {
    let built = once.get_or_init(|| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(script);
        std::process::Command::new(path).output().expect(script)
    });
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
}

/// A port that stays free until a node takes it, and between one node and its successor: the system hands out none of
/// this range by itself.
pub(crate) fn reserved_port() -> u16 {
    const FIRST: u16 = 20_000;
    const PORTS: u16 = 12_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test binaries that run at the same time start in different places.
    let start = (std::process::id().wrapping_mul(61) % u32::from(PORTS)) as u16;
    let free = (0..PORTS)
        .map(|_| FIRST + (start + NEXT.fetch_add(1, Ordering::Relaxed) % PORTS) % PORTS)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    free.expect("a free port")
}

/// A directory for what child processes read and write; it goes with the test.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("integration-{}-{number}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }

    pub(crate) fn path(&self, file: &str) -> String {
        let path = self.0.join(file).into_os_string();
        path.into_string().expect("UTF-8")
    }

    /// Writes a file and gives its path.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, text).expect("a file");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left goes with the target directory.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running child process that speaks in lines.
pub(crate) struct Program {
    child: Child,
    input: Option<ChildStdin>,
    lines: mpsc::UnboundedReceiver<String>,
    heard: Vec<String>,
}

impl Program {
    /// One of the programs of `tests/interop`.
    pub(crate) fn interop(program: &str, arguments: &[&str]) -> Self {
        Self::start(Self::peer(program).args(arguments))
    }

    /// What starts one of the programs of `tests/interop`.
    pub(crate) fn peer(program: &str) -> Command {
        let mut command = Command::new(interop().join("run.sh"));
        command.arg(program);
        command
    }

    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the program");
        let (sender, lines) = mpsc::unbounded_channel();
        forward(child.stdout.take().expect("a pipe"), "", sender.clone());
        forward(child.stderr.take().expect("a pipe"), "stderr: ", sender);
        Self {
            input: child.stdin.take(),
            child,
            lines,
            heard: Vec::new(),
        }
    }

    pub(crate) async fn say(&mut self, command: &str) {
        let input = self.input.as_mut().expect("an open input");
        input
            .write_all(format!("{command}\n").as_bytes())
            .await
            .expect("a listening program");
    }

    /// Says nothing more.
    pub(crate) fn hang_up(&mut self) {
        self.input = None;
    }

    /// Waits for a line that is `words` or goes on with a space, past all others, and gives what follows.
    pub(crate) async fn line(&mut self, words: &str) -> String {
        self.next(words, |line| match line.strip_prefix(words) {
            Some(rest) => rest
                .is_empty()
                .then(String::new)
                .or(rest.strip_prefix(' ').map(Into::into)),
            None => None,
        })
        .await
    }

    /// Waits for a line with this somewhere in it, past all others, and gives it.
    pub(crate) async fn line_with(&mut self, part: &str) -> String {
        self.next(part, |line| line.contains(part).then(|| line.to_owned()))
            .await
    }

    async fn next(&mut self, what: &str, found: impl Fn(&str) -> Option<String>) -> String {
        // Not for each line: there are programs that say something else again and again.
        let until = Instant::now() + PATIENCE;
        loop {
            let line = timeout_at(until, self.lines.recv()).await.ok().flatten();
            let Some(line) = line else {
                panic!("never said: {what}; heard: {:#?}", self.heard);
            };
            let found = found(&line);
            self.heard.push(line);
            if let Some(found) = found {
                return found;
            }
        }
    }

    /// Whether a line so far began with `words`: what [`Program::line`] went past, and what came since.
    pub(crate) fn has_said(&mut self, words: &str) -> bool {
        self.all().any(|line| line.starts_with(words))
    }

    /// The lines so far that begin with `words`.
    pub(crate) fn all_with(&mut self, words: &str) -> Vec<String> {
        let begins = |line: &&str| line.starts_with(words);
        self.all().filter(begins).map(str::to_owned).collect()
    }

    /// All lines, of a program that has ended.
    pub(crate) async fn all_lines(&mut self) -> String {
        while let Some(line) = self.lines.recv().await {
            self.heard.push(line);
        }
        self.heard.join("\n")
    }

    /// Whether this stood anywhere in a line so far.
    pub(crate) fn has_mentioned(&mut self, part: &str) -> bool {
        self.all().any(|line| line.contains(part))
    }

    fn all(&mut self) -> impl Iterator<Item = &str> {
        while let Ok(line) = self.lines.try_recv() {
            self.heard.push(line);
        }
        self.heard.iter().map(String::as_str)
    }

    pub(crate) fn terminate(&self) {
        self.signal("-TERM");
    }

    /// Stops the process where it is, so that it neither answers nor closes anything.
    pub(crate) fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets a process that was stopped go on.
    pub(crate) fn resume(&self) {
        self.signal("-CONT");
    }

    /// Asks it to read its files again.
    pub(crate) fn read_files(&self) {
        self.signal("-HUP");
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().expect("a running process").to_string();
        let sent = std::process::Command::new("kill")
            .args([signal, &pid])
            .status();
        assert!(sent.expect("kill").success());
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().expect("a status").is_none()
    }

    /// Ends the process without letting it do anything about that.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.expect("a process to kill");
    }

    pub(crate) async fn ended(&mut self) -> ExitStatus {
        timeout(PATIENCE, self.child.wait())
            .await
            .expect("an end")
            .expect("a status")
    }
}

fn forward(
    output: impl AsyncRead + Send + Unpin + 'static,
    mark: &'static str,
    to: mpsc::UnboundedSender<String>,
) {
    tokio::spawn(async move {
        let mut lines = BufReader::new(output).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if to.send(format!("{mark}{line}")).is_err() {
                return;
            }
        }
    });
}

/// What `promtool check metrics` thinks of an exposition.
pub(crate) struct Lint {
    pub(crate) code: Option<i32>,
    pub(crate) findings: String,
}

impl Lint {
    pub(crate) async fn of(exposition: &[u8]) -> Self {
        let mut child = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("promtool");
        let mut input = child.stdin.take().expect("a pipe");
        // It reads all before it says anything, so neither waits for the other.
        input.write_all(exposition).await.expect("promtool reads");
        drop(input);
        let output = timeout(PATIENCE, child.wait_with_output())
            .await
            .expect("an end")
            .expect("an output");
        let findings = [output.stdout, output.stderr].concat();
        Self {
            code: output.status.code(),
            findings: String::from_utf8_lossy(&findings).into_owned(),
        }
    }

    /// It could read everything; 3 says that it would have named things differently.
    pub(crate) fn accepts(&self) -> bool {
        matches!(self.code, Some(0 | 3))
    }
}

/// The node as a process of its own, on these ports.
pub(crate) async fn node(ports: &[String]) -> (Program, SocketAddr) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_prometheus-rsocket-proxy"));
    command
        .args(ports)
        .arg::<&OsStr>("--web.listen-address=127.0.0.1:0".as_ref());
    let mut program = Program::start(&mut command);
    let line = program
        .line_with("msg=\"listening\" listener=web address=")
        .await;
    let web = line
        .rsplit('=')
        .next()
        .and_then(|address| address.parse().ok())
        .expect("an address");
    program.line_with("msg=\"ready\"").await;
    (program, web)
}

/// Whether `condition` comes to hold within `patience`: for what may rightly not happen.
pub(crate) async fn happens(patience: Duration, mut condition: impl AsyncFnMut() -> bool) -> bool {
    let wait = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(patience, wait).await.is_ok()
}
