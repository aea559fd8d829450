//! The proxies that are compared, each as a process of its own.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader, Lines};
use tokio::process::{Child, Command};

use crate::Result;
use prometheus_rsocket_bench::process::Process;

/// A proxy, and the client that its applications are on.
pub(crate) enum Kind {
    /// With the published client, as the Java proxy.
    Ours,
    OursWithOurClient,
    /// The published proxy, with the JVM's own choice of heap or with this greatest one.
    Java {
        heap: Option<String>,
    },
}

impl Kind {
    /// The program of `tests/interop` that the applications are, and its own options.
    pub(crate) fn client(&self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::Ours | Self::Java { .. } => ("client", &[]),
            // As the published client: a thousand applications in one JVM keep each other waiting.
            Self::OursWithOurClient => (
                "own-client",
                &["--keepalive", "20000", "--max-lifetime", "90000"],
            ),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ours => f.write_str("ours"),
            Self::OursWithOurClient => f.write_str("ours, our client"),
            Self::Java { heap: None } => f.write_str("Java"),
            Self::Java { heap: Some(heap) } => write!(f, "Java -Xmx{heap}"),
        }
    }
}

/// A program of `tests/interop`, with the JVM's own choices unless told otherwise.
pub(crate) fn peer(program: &str) -> Command {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/run.sh"));
    command.arg(program).env("JAVA_OPTS", "").kill_on_drop(true);
    command
}

/// A proxy that is ready. It is killed when this is dropped.
pub(crate) struct Proxy {
    child: Child,
    pub(crate) process: Process,
    /// Where it is scraped.
    pub(crate) web: SocketAddr,
    /// The port where applications connect over TCP.
    pub(crate) tcp: u16,
}

impl Proxy {
    pub(crate) async fn start(kind: &Kind) -> Result<Self> {
        match kind {
            Kind::Ours | Kind::OursWithOurClient => Self::start_ours().await,
            Kind::Java { heap } => Self::start_java(heap.as_deref()).await,
        }
    }

    async fn start_java(heap: Option<&str>) -> Result<Self> {
        let mut command = peer("proxy");
        if let Some(heap) = heap {
            command.env("JAVA_OPTS", format!("-Xmx{heap}"));
        }
        // It ends with its standard input.
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
        let ready = next(&mut lines).await?;
        let port = |name| value(&ready, name).and_then(|port| port.parse().ok());
        let ports = port("http").zip(port("tcp"));
        let (http, tcp) = ports.ok_or_else(|| format!("not ready but {ready}"))?;
        Self::ready(child, lines, (Ipv4Addr::LOCALHOST, http).into(), tcp)
    }

    async fn start_ours() -> Result<Self> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_prometheus-rsocket-proxy"))
            .arg("--web.listen-address=127.0.0.1:0")
            .arg("--rsocket.tcp.listen-address=127.0.0.1:0")
            .arg("--rsocket.websocket.listen-address=127.0.0.1:0")
            // The Java proxy waits for as long as it takes.
            .arg("--scrape.timeout=60s")
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut lines = BufReader::new(child.stderr.take().ok_or("no log")?).lines();
        let (mut web, mut tcp) = (None, None);
        loop {
            let line = next(&mut lines).await?;
            let address = || value(&line, "address")?.parse::<SocketAddr>().ok();
            match value(&line, "listener") {
                Some("web") => web = address(),
                Some("rsocket-tcp") => tcp = address(),
                _ if line.contains("msg=\"ready\"") => break,
                _ => {}
            }
        }
        let (web, tcp) = web.zip(tcp).ok_or("no listener's address in its log")?;
        Self::ready(child, lines, web, tcp.port())
    }

    /// `lines` are read to their end, so that the proxy never waits for us.
    fn ready<R>(child: Child, mut lines: Lines<R>, web: SocketAddr, tcp: u16) -> Result<Self>
    where
        R: AsyncBufReadExt + AsyncRead + Unpin + Send + 'static,
    {
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                println!("{line}");
            }
        });
        Ok(Self {
            process: Process::new(child.id().ok_or("it has ended")?),
            child,
            web,
            tcp,
        })
    }

    /// Ends it, and returns when the machine is free of it.
    pub(crate) async fn stop(mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }
}

async fn next<R: AsyncBufReadExt + Unpin>(lines: &mut Lines<R>) -> Result<String> {
    let line = lines.next_line().await?;
    line.ok_or_else(|| "it ended before it was ready".into())
}

/// Of `name=value` among words.
fn value<'l>(line: &'l str, name: &str) -> Option<&'l str> {
    line.split(' ')
        .filter_map(|word| word.split_once('='))
        .find_map(|(key, value)| (key == name).then_some(value))
}
