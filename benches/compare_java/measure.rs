//! One proxy, from its start to its last scrape.

use std::time::{Duration, Instant};

use prometheus_rsocket_bench::process::Process;
use tokio::time::sleep;

use crate::Options;
use crate::load::Load;
use crate::proxy::{Kind, Proxy};
use crate::scrape::{self, Encoding};
use crate::{Result, calibration};

/// After a proxy became ready, after the applications connected, after the last scrape: until memory is read.
const SETTLE: Duration = Duration::from_secs(3);
/// A proxy rests that takes less CPU time than this in a second, and is waited for no longer than this after a storm:
/// applications whose connection was lost on the way connect again, which is no part of a scrape.
const RESTING: Duration = Duration::from_millis(50);
const REST_AT_MOST: Duration = Duration::from_secs(120);
/// What a proxy does within this after a scrape, collecting garbage say, belongs to the scrape.
const AFTERMATH: Duration = Duration::from_millis(500);

/// What one proxy cost, in two runs.
pub(crate) struct Figures {
    pub(crate) kind: Kind,
    pub(crate) gzip: Run,
    pub(crate) plain: Run,
}

#[derive(Default)]
pub(crate) struct Run {
    /// One private RSA operation, just before.
    pub(crate) calibration: Duration,
    pub(crate) ready: Cost,
    pub(crate) storm: Cost,
    /// Resident bytes.
    pub(crate) memory: Memory,
    pub(crate) scrapes: Vec<Cost>,
    pub(crate) lost: Lost,
    /// Bytes of a scrape's text, and as they were sent.
    pub(crate) text: usize,
    pub(crate) sent: usize,
}

#[derive(Clone, Copy, Default)]
pub(crate) struct Cost {
    pub(crate) cpu: Duration,
    pub(crate) wall: Duration,
}

#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) idle: u64,
    pub(crate) connected: u64,
    /// The most while the applications connected.
    pub(crate) storm: u64,
    /// The most during the scrapes.
    pub(crate) scrapes: u64,
    pub(crate) afterwards: u64,
}

pub(crate) async fn measure(
    kind: &Kind,
    encoding: Encoding,
    options: &Options,
    progress: &impl Fn(String),
) -> Result<Run> {
    let mut run = Run {
        calibration: calibration::private_rsa_operation()?,
        ..Run::default()
    };
    let proxy = run.start(kind).await?;
    progress(format!("ready after {}", run.ready));
    let load = run.connect(&proxy, kind, options).await?;
    progress(format!("{} connected after {}", options.apps, run.storm));
    progress(format!(
        "connections lost meanwhile: {}",
        run.lost.connecting
    ));
    run.scrape(&proxy, encoding, options, progress).await?;
    run.lost.scraped = load.closed() - run.lost.connecting;
    progress(format!("connections lost meanwhile: {}", run.lost.scraped));
    proxy.stop().await?;
    load.stop().await?;
    Ok(run)
}

/// Connections that ended without anybody wanting it. The applications made new ones, which cost the proxy something.
#[derive(Clone, Copy, Default)]
pub(crate) struct Lost {
    pub(crate) connecting: usize,
    pub(crate) scraped: usize,
}

impl Run {
    async fn start(&mut self, kind: &Kind) -> Result<Proxy> {
        let started = Instant::now();
        let proxy = Proxy::start(kind).await?;
        self.ready = Cost {
            cpu: cpu_of(proxy.process)?,
            wall: started.elapsed(),
        };
        sleep(SETTLE).await;
        self.memory.idle = proxy.process.resident_bytes()?;
        Ok(proxy)
    }

    async fn connect(&mut self, proxy: &Proxy, kind: &Kind, options: &Options) -> Result<Load> {
        let mut load = Load::hold(kind, proxy.tcp, options).await?;
        proxy.process.reset_peak()?;
        let meter = Meter::start(proxy.process)?;
        load.connect().await?;
        self.storm = meter.stop()?;
        sleep(SETTLE).await;
        rest(proxy.process).await?;
        self.lost.connecting = load.closed();
        self.memory.connected = proxy.process.resident_bytes()?;
        self.memory.storm = proxy.process.peak_bytes()?;
        Ok(load)
    }

    async fn scrape(
        &mut self,
        proxy: &Proxy,
        encoding: Encoding,
        options: &Options,
        progress: &impl Fn(String),
    ) -> Result<()> {
        proxy.process.reset_peak()?;
        for round in 1..=options.scrapes {
            let meter = Meter::start(proxy.process)?;
            let body = scrape::get(proxy.web, encoding).await?;
            let wall = meter.started.elapsed();
            sleep(AFTERMATH).await;
            let cpu = meter.stop()?.cpu;
            let cost = Cost { cpu, wall };
            progress(format!("scrape {round}: {cost}"));
            self.scrapes.push(cost);
            self.sent = body.len();
            self.text = check(&body, encoding, options)?;
        }
        self.memory.scrapes = proxy.process.peak_bytes()?;
        sleep(SETTLE).await;
        self.memory.afterwards = proxy.process.resident_bytes()?;
        Ok(())
    }

    pub(crate) fn cold(&self) -> Cost {
        self.scrapes.first().copied().unwrap_or_default()
    }

    /// The median CPU time of the later half of the scrapes.
    pub(crate) fn warm(&self) -> Cost {
        let mut later = self.scrapes.clone();
        later.drain(..later.len() / 2);
        later.sort_by_key(|cost| cost.cpu);
        later.get(later.len() / 2).copied().unwrap_or_default()
    }
}

async fn rest(process: Process) -> Result<()> {
    let started = Instant::now();
    let mut resting = false;
    while !resting && started.elapsed() < REST_AT_MOST {
        let meter = Meter::start(process)?;
        sleep(Duration::from_secs(1)).await;
        resting = meter.stop()?.cpu < RESTING;
    }
    Ok(())
}

/// A scrape that leaves something out is no bargain. Returns the length of its text.
fn check(body: &[u8], encoding: Encoding, options: &Options) -> Result<usize> {
    let text = scrape::text(body, encoding)?;
    let samples = scrape::samples(&text);
    let wanted = u64::from(options.apps) * u64::from(options.series);
    if u64::try_from(samples)? == wanted {
        Ok(text.len())
    } else {
        Err(format!("a scrape had {samples} samples of {wanted}").into())
    }
}

fn cpu_of(process: Process) -> Result<Duration> {
    Ok(Duration::try_from_secs_f64(process.cpu_seconds()?)?)
}

struct Meter {
    process: Process,
    cpu: Duration,
    started: Instant,
}

impl Meter {
    fn start(process: Process) -> Result<Self> {
        Ok(Self {
            process,
            cpu: cpu_of(process)?,
            started: Instant::now(),
        })
    }

    fn stop(self) -> Result<Cost> {
        Ok(Cost {
            cpu: cpu_of(self.process)?.saturating_sub(self.cpu),
            wall: self.started.elapsed(),
        })
    }
}

impl std::fmt::Display for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (cpu, wall) = (self.cpu.as_secs_f64(), self.wall.as_secs_f64());
        write!(f, "{cpu:.3} CPU-s, {wall:.3} s wall")
    }
}
