//! What `--push.dir` costs those who push: a node with a directory beside one without, under many pushers at once.
//!
//! ```text
//! cargo bench --bench push_disk
//! cargo bench --bench push_disk -- --pushers 64 --seconds 5 --dir /var/tmp
//! ```
//!
//! Each pusher has a connection and waits for the acknowledgement of one push before it makes the next. The disk is that
//! of `--dir`, a directory that is made and deleted.

#![allow(clippy::print_stdout, reason = "it prints what it measured")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use prometheus_rsocket_wire::envelope::version1;
use prometheus_rsocket_wire::key::PublicKey;
use prometheus_rsocket_wire::session::{Limits, SetupOptions};
use prometheus_rsocket_wire::transport::tcp::Tcp;
use prometheus_rsocket_wire::{Connection, Event, Session};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

struct Options {
    pushers: usize,
    seconds: u64,
    dir: PathBuf,
}

impl Options {
    fn read() -> Self {
        let arguments: Vec<_> = std::env::args().collect();
        let value = |name: &str| {
            let at = arguments.iter().position(|argument| argument == name)?;
            arguments.get(at + 1).cloned()
        };
        let number = |name, default| {
            value(name)
                .and_then(|value| value.parse().ok())
                .unwrap_or(default)
        };
        Self {
            pushers: number("--pushers", 64) as usize,
            seconds: number("--seconds", 5),
            dir: value("--dir").map_or_else(std::env::temp_dir, PathBuf::from),
        }
    }
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<()> {
    let options = Options::read();
    if cfg!(debug_assertions) {
        println!("built without optimisation");
    }
    println!("{} pushers, {} s each", options.pushers, options.seconds);
    for _ in 0..2 {
        measure("in memory", &options, None).await?;
        let dir = options
            .dir
            .join(format!("push-disk-{}", std::process::id()));
        measure("on disk", &options, Some(&dir)).await?;
        std::fs::remove_dir_all(&dir)?;
    }
    Ok(())
}

async fn measure(what: &str, options: &Options, dir: Option<&PathBuf>) -> Result<()> {
    let (mut node, proxy) = start(dir).await?;
    let started = Instant::now();
    let until = started + Duration::from_secs(options.seconds);
    let mut pushers = JoinSet::new();
    for pusher in 0..options.pushers {
        pushers.spawn(push(proxy, pusher, until));
    }
    let mut times = Vec::new();
    while let Some(pushed) = pushers.join_next().await {
        times.extend(pushed??);
    }
    let rate = times.len() as f64 / started.elapsed().as_secs_f64();
    times.sort_unstable();
    let at = |part: usize| {
        times
            .get(times.len() * part / 100)
            .copied()
            .unwrap_or_default()
    };
    let (half, most) = (at(50).as_secs_f64() * 1e3, at(99).as_secs_f64() * 1e3);
    println!("{what:10} {rate:7.0} pushes/s   p50 {half:6.1} ms   p99 {most:6.1} ms");
    node.kill().await?;
    Ok(())
}

async fn start(dir: Option<&PathBuf>) -> Result<(Child, SocketAddr)> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_prometheus-rsocket-proxy"));
    command
        .args(
            ["web", "rsocket.tcp", "rsocket.websocket"]
                .map(|port| format!("--{port}.listen-address=127.0.0.1:0")),
        )
        .arg("--push.max-bytes=4GiB")
        .args(dir.map(|dir| format!("--push.dir={}", dir.display())))
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    let mut node = command.spawn()?;
    let output = node.stderr.take().ok_or("no output")?;
    let mut lines = BufReader::new(output).lines();
    let mut proxy = None;
    while let Some(line) = lines.next_line().await? {
        if line.contains("listener=rsocket-tcp") {
            proxy = line
                .rsplit('=')
                .next()
                .and_then(|address| address.parse().ok());
        }
        if let Some(proxy) = proxy.filter(|_| line.contains("msg=\"ready\"")) {
            // So that the node never waits for a reader.
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Ok((node, proxy));
        }
    }
    Err("the node did not start".into())
}

/// The time to the acknowledgement of each push.
async fn push(proxy: SocketAddr, pusher: usize, until: Instant) -> Result<Vec<Duration>> {
    let stream = TcpStream::connect(proxy).await?;
    stream.set_nodelay(true)?;
    let session = Session::connecting(SetupOptions::default(), Limits::default(), Instant::now())?;
    let mut connection = Connection::new(session, Tcp::new(stream, 1 << 24));
    let key = loop {
        match connection.next().await {
            Event::FireAndForget { payload } => break PublicKey::from_spki_der(&payload.data)?,
            Event::Closed(_) => return Err("closed".into()),
            _ => {}
        }
    };
    let mut times = Vec::new();
    for number in 0.. {
        let text: String = (0..10)
            .map(|row| format!("pushed{{pusher=\"{pusher}\",push=\"{number}\",row=\"{row}\"}} 1\n"))
            .collect();
        let payload = version1::seal(text.as_bytes(), &key)?;
        let started = Instant::now();
        if started >= until {
            break;
        }
        let sent = connection.session().request_response(payload.into())?;
        let outcome = loop {
            match connection.next().await {
                Event::Response { stream, result } if stream == sent => break result,
                Event::Closed(_) => return Err("closed".into()),
                _ => {}
            }
        };
        outcome.map_err(|error| format!("refused: {error:?}"))?;
        times.push(started.elapsed());
    }
    Ok(times)
}
