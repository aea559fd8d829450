//! The node under load: a child process, or one that runs somewhere already.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::header::HeaderMap;
use hyper::http::uri::Authority;
use prometheus_rsocket_client::Address;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::timeout;

use super::http::Connections;
use super::process::Process;

/// Bytes of a node's own metrics that are read; it has some 20 kB.
const MAX_METRICS: usize = 1 << 20;
/// For an own node to be ready, which takes a fraction of a second.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// For a running node to tell its own metrics; one that takes longer goes without figures.
const METRICS_TIMEOUT: Duration = Duration::from_secs(2);
/// Connections beyond the applications', for a proxy of its own.
const SPARE_CONNECTIONS: usize = 16;

/// What a node has used so far, as far as it can be read.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Usage {
    pub(super) cpu_seconds: Option<f64>,
    pub(super) resident_bytes: Option<u64>,
    /// Since [`Node::reset_peak`].
    pub(super) peak_bytes: Option<u64>,
}

impl Usage {
    /// Of two nodes together.
    fn and(self, other: Self) -> Self {
        let bytes = |one: Option<u64>, other: Option<u64>| Some(one? + other?);
        Self {
            cpu_seconds: self
                .cpu_seconds
                .zip(other.cpu_seconds)
                .map(|(one, other)| one + other),
            resident_bytes: bytes(self.resident_bytes, other.resident_bytes),
            peak_bytes: bytes(self.peak_bytes, other.peak_bytes),
        }
    }
}

/// The node under load, or the nodes.
#[derive(Debug)]
pub(super) enum Node {
    /// Ends with this value.
    Own(Child),
    Running(Vec<Authority>),
}

/// Where a node is reached.
#[derive(Debug)]
pub(super) struct Addresses {
    pub(super) proxies: Vec<Address>,
    pub(super) webs: Vec<Authority>,
}

impl Node {
    /// Starts a node on free ports, as a process of its own, and waits until it is ready. Its settings come from the
    /// environment, as always. `say` gets each line of its log that is a warning or an error.
    pub(super) async fn start(
        program: &Path,
        connections: usize,
        say: impl Fn(&str) + Send + 'static,
    ) -> io::Result<(Self, Addresses)> {
        let mut child = spawn(program, connections)?;
        let log = child.stderr.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let mut log = BufReader::new(log).lines();
        let addresses = timeout(START_TIMEOUT, addresses(&mut log)).await??;
        tokio::spawn(async move {
            while let Ok(Some(line)) = log.next_line().await {
                if line.contains(" level=warn ") || line.contains(" level=error ") {
                    say(&line);
                }
            }
        });
        Ok((Self::Own(child), addresses))
    }

    /// What it has used so far; on a running node what its own metrics say.
    pub(super) async fn usage(&self) -> Usage {
        match self {
            Self::Own(child) => child.id().map(own_usage).unwrap_or_default(),
            Self::Running(webs) => {
                let mut sum = None;
                for web in webs {
                    let metrics = timeout(METRICS_TIMEOUT, metrics(web)).await;
                    let usage = metrics.ok().flatten().map(|text| told(&text));
                    let usage = usage.unwrap_or_default();
                    sum = Some(sum.map_or(usage, |sum: Usage| sum.and(usage)));
                }
                sum.unwrap_or_default()
            }
        }
    }

    /// Begins a new peak of memory, where that can be.
    pub(super) fn reset_peak(&self) {
        if let Self::Own(child) = self
            && let Some(id) = child.id()
        {
            // Without, the peak is that since the process began.
            let _ = Process::new(id).reset_peak();
        }
    }
}

fn spawn(program: &Path, connections: usize) -> io::Result<Child> {
    let connections = connections + SPARE_CONNECTIONS;
    Command::new(program)
        .arg("serve")
        .args([
            "--web.listen-address=127.0.0.1:0",
            "--rsocket.tcp.listen-address=127.0.0.1:0",
            "--rsocket.websocket.listen-address=127.0.0.1:0",
            "--log.level=info",
            "--log.format=logfmt",
        ])
        .arg(format!("--rsocket.max-connections={connections}"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        // A terminal's Ctrl-C goes to the whole group: the node would drain under the load's feet.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

/// Reads the log of a node until it is ready.
async fn addresses(log: &mut Lines<BufReader<ChildStderr>>) -> io::Result<Addresses> {
    let (mut tcp, mut web) = (None, None);
    let mut last = String::new();
    while let Some(line) = log.next_line().await? {
        let address = || {
            let address: Option<SocketAddr> = line.rsplit('=').next()?.parse().ok();
            address
        };
        if line.contains(" listener=web ") {
            web = address().and_then(|web| web.to_string().parse().ok());
        } else if line.contains(" listener=rsocket-tcp ") {
            tcp = address().and_then(|tcp| format!("tcp://{tcp}").parse().ok());
        } else if line.contains(" msg=\"ready\"")
            && let (Some(tcp), Some(web)) = (tcp.take(), web.take())
        {
            return Ok(Addresses {
                proxies: vec![tcp],
                webs: vec![web],
            });
        }
        last = line;
    }
    Err(io::Error::other(last))
}

fn own_usage(id: u32) -> Usage {
    let process = Process::new(id);
    Usage {
        cpu_seconds: process.cpu_seconds().ok(),
        resident_bytes: process.resident_bytes().ok(),
        peak_bytes: process.peak_bytes().ok(),
    }
}

async fn metrics(web: &Authority) -> Option<String> {
    let connections = Connections::new();
    let response = connections.get(web, "/metrics/proxy", HeaderMap::new());
    let response = response.await;
    let body = Limited::new(response.ok()?.into_body(), MAX_METRICS);
    let bytes = body.collect().await.ok()?.to_bytes();
    String::from_utf8(bytes.into()).ok()
}

fn told(metrics: &str) -> Usage {
    let value = |name: &str| -> Option<f64> {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name))?;
        line.strip_prefix(' ')?.parse().ok()
    };
    Usage {
        cpu_seconds: value("process_cpu_seconds_total"),
        resident_bytes: value("process_resident_memory_bytes").map(|bytes| bytes as u64),
        peak_bytes: None,
    }
}
