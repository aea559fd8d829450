//! What a node costs: a process of its own under a load made here, measured by the system's own accounting.
//!
//! ```text
//! cargo bench --bench node                         # 1,000 applications × 1,000 series
//! cargo bench --bench node -- --apps 100 --series 1000 --scrapes 5 --idle 10000
//! cargo bench --bench node -- --openmetrics        # applications that answer OpenMetrics, with exemplars
//! ```
//!
//! The applications seal their text once for the node's key and answer each pull with the same bytes: the node does the
//! same work as for a client that seals anew, and the load costs little beside it. Figures are the node's CPU seconds and
//! resident memory; wall times depend on what else the machine does.

#![allow(clippy::print_stdout, reason = "it prints what it measured")]

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use prometheus_rsocket_bench::process::Process;
use prometheus_rsocket_wire::envelope::{Hold, Sealed, version1};
use prometheus_rsocket_wire::key::{KeyPair, PublicKey};
use prometheus_rsocket_wire::session::{Limits, SetupOptions};
use prometheus_rsocket_wire::transport::tcp::Tcp;
use prometheus_rsocket_wire::{Connection, Event, Payload, Session};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

struct Options {
    apps: usize,
    series: usize,
    scrapes: usize,
    idle: usize,
    openmetrics: bool,
}

impl Options {
    fn read() -> Self {
        let arguments: Vec<_> = std::env::args().collect();
        let number = |name: &str, default| {
            let at = arguments.iter().position(|argument| argument == name);
            at.and_then(|at| arguments.get(at + 1)?.parse().ok())
                .unwrap_or(default)
        };
        Self {
            apps: number("--apps", 1000),
            series: number("--series", 1000),
            scrapes: number("--scrapes", 5),
            idle: number("--idle", 10_000),
            openmetrics: arguments.iter().any(|argument| argument == "--openmetrics"),
        }
    }
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<()> {
    let options = Options::read();
    if cfg!(debug_assertions) {
        println!("built without optimisation: run it with `cargo bench --bench node`");
        return Ok(());
    }
    let texts: Vec<_> = (0..options.apps)
        .map(|app| text(app, options.series, options.openmetrics))
        .collect();
    parts(&texts)?;
    idle_connections(options.idle).await?;
    scrapes(&options, texts).await
}

/// What one thread needs for the envelopes and the compression of a scrape; validation and merge have a benchmark of
/// their own in `crates/exposition`.
fn parts(texts: &[String]) -> Result<()> {
    let pair = KeyPair::generate()?;
    let public = PublicKey::from_spki_der(&pair.spki_der())?;
    let seal = |text: &String| version1::seal(text.as_bytes(), &public);
    let empty = (0..1000)
        .map(|_| version1::seal(b"", &public))
        .collect::<std::result::Result<Vec<_>, _>>()?;
    let sealed = texts
        .iter()
        .map(seal)
        .collect::<std::result::Result<Vec<_>, _>>()?;
    let bytes: usize = texts.iter().map(String::len).sum();

    let started = Instant::now();
    for sealed in empty {
        version1::open(&sealed.metadata, sealed.data, [&pair])?.text(0, Hold::Scrape)?;
    }
    let one = started.elapsed().as_secs_f64() / 1000.0;
    println!("private RSA operation    {:7.0} µs", one * 1e6);

    let started = Instant::now();
    for sealed in sealed {
        let block = version1::open(&sealed.metadata, sealed.data, [&pair])?;
        block.text(usize::MAX, Hold::Scrape)?;
    }
    report("open envelopes", bytes, started.elapsed());

    let started = Instant::now();
    let mut gzip = GzEncoder::new(io::sink(), Compression::fast());
    for text in texts {
        gzip.write_all(text.as_bytes())?;
    }
    gzip.finish()?;
    report("gzip, fastest", bytes, started.elapsed());
    Ok(())
}

fn report(what: &str, bytes: usize, time: Duration) {
    let megabytes = bytes as f64 / 1e6;
    let seconds = time.as_secs_f64();
    println!(
        "{what:24} {:7.0} MB/s, {:.3} s per 100 MB",
        megabytes / seconds,
        seconds / megabytes * 100.0
    );
}

/// A node that does nothing, then holds connections that do nothing.
async fn idle_connections(idle: usize) -> Result<()> {
    let started = Instant::now();
    let node = Node::start().await?;
    println!(
        "ready after             {:8.3} s wall",
        started.elapsed().as_secs_f64()
    );
    tokio::time::sleep(Duration::from_secs(1)).await;
    let empty = node.resident()?;
    println!("idle node               {:8.1} MB resident", empty / 1e6);
    let before = node.cpu()?;
    let apps = connect_all(&node, vec![String::new(); idle]).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (cpu, full) = (node.cpu()? - before, node.resident()?);
    println!("{idle:6} connects         {cpu:8.2} CPU-s");
    println!(
        "{idle:6} idle connections {:8.1} kB resident each",
        (full - empty) / idle as f64 / 1e3
    );
    drop(apps);
    Ok(())
}

async fn scrapes(options: &Options, texts: Vec<String>) -> Result<()> {
    let node = Node::start().await?;
    let before = node.cpu()?;
    let started = Instant::now();
    let bytes: usize = texts.iter().map(String::len).sum();
    let apps = connect_all(&node, texts).await?;
    println!(
        "{:6} connects         {:8.2} CPU-s, {:.2} s wall",
        options.apps,
        node.cpu()? - before,
        started.elapsed().as_secs_f64()
    );
    println!(
        "{} applications × {} series, {:.1} MB of text",
        options.apps,
        options.series,
        bytes as f64 / 1e6
    );
    let mut figures: Vec<Vec<Figures>> = SCRAPES.iter().map(|_| Vec::new()).collect();
    for round in 1..=options.scrapes {
        for (scrape, figures) in SCRAPES.iter().zip(&mut figures) {
            node.forget_peak()?;
            let before = node.cpu()?;
            let started = Instant::now();
            let received = get(node.web, scrape).await?;
            let wall = started.elapsed().as_secs_f64();
            let (cpu, peak) = (node.cpu()? - before, node.peak()?);
            figures.push(Figures { cpu, peak });
            println!(
                "{:26} {round}: {cpu:6.3} CPU-s {wall:6.3} s wall {:7.1} MB sent, peak {:6.1} MB, {:.2} × the text",
                scrape.name,
                received as f64 / 1e6,
                peak / 1e6,
                peak / bytes as f64
            );
        }
    }
    report_formats(&figures);
    tokio::time::sleep(Duration::from_secs(1)).await;
    println!("resident afterwards     {:8.1} MB", node.resident()? / 1e6);
    drop(apps);
    Ok(())
}

/// What one scrape cost the node: CPU seconds, and most memory in bytes.
struct Figures {
    cpu: f64,
    peak: f64,
}

/// Medians, and how they are to those of text 0.0.4 in the same compression.
fn report_formats(figures: &[Vec<Figures>]) {
    let median = |figures: &[Figures], of: fn(&Figures) -> f64| {
        let mut values: Vec<f64> = figures.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or_default()
    };
    let mut text = (0.0, 0.0);
    for (scrape, figures) in SCRAPES.iter().zip(figures) {
        let cpu = median(figures, |figures| figures.cpu);
        let peak = median(figures, |figures| figures.peak);
        if scrape.accept == TEXT {
            text = (cpu, peak);
        }
        println!(
            "median of {:26} {cpu:6.3} CPU-s, {:.2} × text; peak {:6.1} MB, {:.2} × text",
            scrape.name,
            cpu / text.0,
            peak / 1e6,
            peak / text.1
        );
    }
}

/// One kind of scrape: what it asks for.
struct Scrape {
    name: &'static str,
    accept: &'static str,
    encoding: &'static str,
}

const TEXT: &str = "text/plain;version=0.0.4";
/// As Prometheus 2 asks.
const OPENMETRICS_2: &str = "application/openmetrics-text;version=1.0.0";
/// As Prometheus 3 asks.
const OPENMETRICS_3: &str = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8";

/// Text comes first in each compression.
const SCRAPES: [Scrape; 8] = [
    Scrape::new("plain text", TEXT, "identity"),
    Scrape::new("plain OpenMetrics", OPENMETRICS_3, "identity"),
    Scrape::new("plain OpenMetrics, 2", OPENMETRICS_2, "identity"),
    Scrape::new("gzip text", TEXT, "gzip"),
    Scrape::new("gzip OpenMetrics", OPENMETRICS_3, "gzip"),
    Scrape::new("gzip OpenMetrics, 2", OPENMETRICS_2, "gzip"),
    Scrape::new("zstd text", TEXT, "zstd"),
    Scrape::new("zstd OpenMetrics", OPENMETRICS_3, "zstd"),
];

impl Scrape {
    const fn new(name: &'static str, accept: &'static str, encoding: &'static str) -> Self {
        Self {
            name,
            accept,
            encoding,
        }
    }
}

/// A node as a process of its own.
struct Node {
    child: Child,
    web: SocketAddr,
    tcp: SocketAddr,
}

impl Node {
    async fn start() -> Result<Self> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_prometheus-rsocket-proxy"))
            .args([
                "--web.listen-address=127.0.0.1:0",
                "--rsocket.tcp.listen-address=127.0.0.1:0",
            ])
            .args([
                "--rsocket.websocket.listen-address=127.0.0.1:0",
                "--scrape.timeout=60s",
            ])
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut log = BufReader::new(child.stderr.take().ok_or("no log")?).lines();
        let (mut web, mut tcp) = (None, None);
        while let Some(line) = log.next_line().await? {
            let address = line.rsplit('=').next().unwrap_or_default();
            if line.contains("listener=web ") {
                web = Some(address.parse()?);
            } else if line.contains("listener=rsocket-tcp ") {
                tcp = Some(address.parse()?);
            } else if line.contains("msg=\"ready\"") {
                break;
            }
        }
        tokio::spawn(async move {
            while let Ok(Some(line)) = log.next_line().await {
                println!("{line}");
            }
        });
        Ok(Self {
            child,
            web: web.ok_or("no HTTP address")?,
            tcp: tcp.ok_or("no RSocket address")?,
        })
    }

    fn process(&self) -> Result<Process> {
        Ok(Process::new(self.child.id().ok_or("the node has ended")?))
    }

    fn cpu(&self) -> Result<f64> {
        Ok(self.process()?.cpu_seconds()?)
    }

    fn resident(&self) -> Result<f64> {
        Ok(self.process()?.resident_bytes()? as f64)
    }

    fn peak(&self) -> Result<f64> {
        Ok(self.process()?.peak_bytes()? as f64)
    }

    fn forget_peak(&self) -> Result<()> {
        Ok(self.process()?.reset_peak()?)
    }
}

/// Applications that live until this is dropped.
struct Apps {
    _stop: DropGuard,
}

async fn connect_all(node: &Node, texts: Vec<String>) -> Result<Apps> {
    let (ready, mut connected) = mpsc::channel(1024);
    let stop = CancellationToken::new();
    let count = texts.len();
    for text in texts {
        let app = App { text, sealed: None };
        let (proxy, ready, stop) = (node.tcp, ready.clone(), stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                end = app.run(proxy, ready) => if let Err(error) = end {
                    println!("application: {error}");
                },
                () = stop.cancelled() => {}
            }
        });
    }
    for _ in 0..count {
        connected
            .recv()
            .await
            .ok_or("an application did not connect")?;
    }
    Ok(Apps {
        _stop: stop.drop_guard(),
    })
}

struct App {
    text: String,
    sealed: Option<Sealed>,
}

impl App {
    async fn run(mut self, proxy: SocketAddr, ready: mpsc::Sender<()>) -> io::Result<()> {
        let stream = TcpStream::connect(proxy).await?;
        stream.set_nodelay(true)?;
        let now = Instant::now();
        let session = Session::connecting(SetupOptions::default(), Limits::default(), now);
        let session = session.map_err(io::Error::other)?;
        let mut connection = Connection::new(session, Tcp::new(stream, 1 << 16));
        loop {
            match connection.next().await {
                Event::FireAndForget { .. } => drop(ready.send(()).await),
                Event::Request { stream, payload } => {
                    let sealed = self.sealed(&payload)?;
                    connection.session().respond(stream, Some(sealed));
                }
                Event::Closed(_) => return Ok(()),
                _ => {}
            }
        }
    }

    /// Sealed once: see the top of this file.
    fn sealed(&mut self, request: &Payload) -> io::Result<Payload> {
        let sealed = match self.sealed.take() {
            Some(sealed) => sealed,
            None => {
                let key = PublicKey::from_spki_der(&request.data).map_err(io::Error::other)?;
                version1::seal(self.text.as_bytes(), &key).map_err(io::Error::other)?
            }
        };
        self.sealed = Some(sealed.clone());
        Ok(sealed.into())
    }
}

/// What a Spring Boot application with Micrometer answers: some fifty families, long labels; in OpenMetrics counters,
/// every fifth with an exemplar.
fn text(app: usize, series: usize, openmetrics: bool) -> String {
    let mut text = String::new();
    let mut written = 0;
    let mut family = 0;
    let mut value = app as u64;
    let common = format!("application=\"checkout\",instance=\"checkout-7d9f8b6c5-{app:04x}\"");
    while written < series {
        let rows = 20.min(series - written);
        let name = format!("http_server_requests_{family:03}_seconds");
        let _ = writeln!(
            text,
            "# HELP {name} Duration of HTTP server request handling, family {family}"
        );
        let kind = if openmetrics { "counter" } else { "gauge" };
        let _ = writeln!(text, "# TYPE {name} {kind}");
        for row in 0..rows {
            // Knuth's generator for 64 bits: values that differ, and do not compress.
            value = value
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let (suffix, comma) = if openmetrics {
                ("_total", "")
            } else {
                ("", ",")
            };
            let _ = write!(
                text,
                "{name}{suffix}{{{common},method=\"GET\",uri=\"/api/v1/items/{row}\"{comma}}} {}.{:06}",
                value >> 54,
                (value >> 20) % 1_000_000
            );
            if openmetrics && row % 5 == 0 {
                let _ = write!(text, " # {{trace_id=\"{value:016x}\"}} 0.25 1520879607.789");
            }
            text.push('\n');
        }
        written += rows;
        family += 1;
    }
    if openmetrics {
        text.push_str("# EOF\n");
    }
    text
}

/// Bytes of the body, which is read and dropped.
async fn get(web: SocketAddr, scrape: &Scrape) -> Result<usize> {
    let mut stream = TcpStream::connect(web).await?;
    let request = format!(
        "GET /metrics/connected HTTP/1.0\r\nAccept: {}\r\nAccept-Encoding: {}\r\n\r\n",
        scrape.accept, scrape.encoding
    );
    stream.write_all(request.as_bytes()).await?;
    let mut buffer = vec![0; 256 << 10];
    let mut received = 0;
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(received),
            bytes => received += bytes,
        }
    }
}
