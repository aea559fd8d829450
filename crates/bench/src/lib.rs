//! A load generator: simulated applications connect, are scraped and push, and what that costs the node is measured.
//!
//! [`process`] and [`text`] stand for themselves and serve other benchmarks as well.

mod app;
mod descriptors;
pub mod failure;
mod fleet;
mod http;
mod meter;
mod node;
pub mod process;
mod renderer;
pub mod report;
mod scrape;
mod targets;
pub mod text;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use futures_util::future::try_join_all;
use futures_util::{StreamExt, stream};
use hyper::http::uri::Authority;
use indicatif::ProgressBar;
use prometheus_rsocket_client::{Address, HttpProxy};
use serde::Serialize;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout_at};

pub use app::Envelope;
use app::{App, Load};
use failure::{FailureKind, Failures, LoadFailure};
use fleet::Fleet;
use http::Connections;
use meter::Meter;
use node::{Addresses, Node};
use renderer::Renderer;
use report::Report;
use scrape::{Encoding, Page, Scraped, scrape};
use text::{Source, Texts};

/// What to do.
#[derive(Debug)]
pub struct Options {
    /// The node under load.
    pub target: Target,
    /// How many files this process may have open; `None`: the system does not say.
    pub open_files: Option<u64>,
    /// Applications, and jobs at a time.
    pub apps: usize,
    /// What they expose.
    pub texts: Texts,
    /// Which parts.
    pub mix: Mix,
    /// How the applications are scraped.
    pub mode: Mode,
    /// Scrapes of each encoding.
    pub scrapes: usize,
    /// From the beginning of one scrape to that of the next, unless it takes longer. Targets are scraped one after the other
    /// in this time.
    pub interval: Duration,
    /// How long a scrape may take: what Prometheus would be configured with.
    pub scrape_timeout: Duration,
    /// Jobs that push.
    pub pushes: usize,
    /// Which envelope the applications use.
    pub envelope: Envelope,
    /// For a connection with its key, and for the acknowledgement of a push.
    pub timeout: Duration,
}

/// The node under load.
#[derive(Debug)]
pub enum Target {
    /// One that is started for this run: a child process of this program, which takes `serve`.
    Own(PathBuf),
    /// One that runs already.
    Running {
        /// Tried in turn by each application.
        proxies: Vec<Address>,
        /// Connections to them go through it.
        http_proxy: Option<HttpProxy>,
        /// Where it is scraped: HTTP in the clear. All nodes of a cluster, or what balances them.
        webs: Vec<Authority>,
    },
}

/// How applications are scraped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// All together, at /metrics/connected of each node
    Connected,
    /// One by one, as found at /targets, at each node in turn
    Targets,
}

/// The parts of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mix {
    /// One after the other
    All,
    /// All applications connect at once
    ConnectStorm,
    /// They connect, and are scraped plain and then gzipped
    Scrape,
    /// Jobs connect, push and leave
    PushStorm,
}

impl Mix {
    fn scrapes(self) -> bool {
        matches!(self, Self::All | Self::Scrape)
    }

    fn pushes(self) -> bool {
        matches!(self, Self::All | Self::PushStorm)
    }
}

/// Why a run did not begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Each application takes a descriptor.
    #[error(transparent)]
    Descriptors(#[from] descriptors::TooFew),
    /// The node of its own did not start.
    #[error("the node did not start: {0}")]
    Node(io::Error),
}

/// Runs until everything is measured, or until `stop` comes.
pub async fn run(
    options: Options,
    progress: ProgressBar,
    stop: impl Future<Output = ()>,
) -> Result<Report, StartError> {
    descriptors::require(options.apps, options.open_files)?;
    let mut run = Run::start(options, progress).await?;
    let interrupted = tokio::select! {
        () = run.parts() => false,
        () = stop => true,
    };
    run.report.interrupted = interrupted;
    run.end().await;
    run.progress.finish_and_clear();
    Ok(run.report)
}

/// A run under way.
struct Run {
    options: Options,
    node: Node,
    webs: Vec<Authority>,
    load: Arc<Load>,
    progress: ProgressBar,
    report: Report,
    /// Of the phase under way.
    meter: Option<Meter>,
}

impl Run {
    async fn start(options: Options, progress: ProgressBar) -> Result<Self, StartError> {
        let (node, Addresses { proxies, webs }, http_proxy) = match &options.target {
            Target::Running {
                proxies,
                http_proxy,
                webs,
            } => {
                let (proxies, webs) = (proxies.clone(), webs.clone());
                let node = Node::Running(webs.clone());
                (node, Addresses { proxies, webs }, http_proxy.clone())
            }
            Target::Own(program) => {
                let say = log_above(progress.clone());
                let started = Node::start(program, options.apps, say).await;
                let (node, addresses) = started.map_err(StartError::Node)?;
                (node, addresses, None)
            }
        };
        let report = Report {
            version: env!("CARGO_PKG_VERSION"),
            apps: options.apps,
            mode: options.mode,
            series: options.texts.application_series,
            seed: options.texts.seed,
            own_node: matches!(options.target, Target::Own(_)),
            processors: meter::processors(),
            phases: Vec::new(),
            failures: Failures::default(),
            interrupted: false,
        };
        let load = Load {
            proxies,
            http_proxy,
            renderer: Renderer::new(options.texts),
            envelope: options.envelope,
            timeout: options.timeout,
        };
        Ok(Self {
            options,
            node,
            webs,
            load: Arc::new(load),
            progress,
            report,
            meter: None,
        })
    }

    async fn parts(&mut self) {
        let mix = self.options.mix;
        if mix != Mix::PushStorm {
            let mut fleet = self.connect().await;
            let encodings = [
                ("scrape_plain", Encoding::Plain),
                ("scrape_gzip", Encoding::Gzip),
            ];
            match self.options.mode {
                _ if !mix.scrapes() => {}
                Mode::Connected => {
                    for (name, encoding) in encodings {
                        self.scrapes(name, encoding, &mut fleet).await;
                    }
                }
                Mode::Targets => {
                    let paths = self.discover().await;
                    for (name, encoding) in encodings {
                        self.scrape_targets(name, encoding, &paths).await;
                    }
                }
            }
            fleet.leave(&mut self.report.failures).await;
        }
        if mix.pushes() {
            let acknowledged = self.pushes().await;
            if self.report.own_node {
                self.scrape_pushes(acknowledged).await;
            }
        }
    }

    async fn connect(&mut self) -> Fleet {
        self.begin("connect", self.options.apps).await;
        let mut fleet = Fleet::default();
        let connect = |number| App::connect(Arc::clone(&self.load), Source::Application(number));
        let mut connecting: JoinSet<_> = (0..self.options.apps).map(connect).collect();
        while let Some(connected) = connecting.join_next().await {
            let connected = connected
                .unwrap_or_else(|error| Err(LoadFailure::new(FailureKind::Connect, error)));
            let outcome = connected.map(|(app, time)| {
                fleet.add(app);
                time
            });
            self.step(outcome);
        }
        self.end().await;
        fleet
    }

    async fn scrapes(&mut self, name: &'static str, encoding: Encoding, fleet: &mut Fleet) {
        let marker = self.options.texts.marker(Source::Application(0));
        self.begin(name, self.options.scrapes).await;
        for left in (0..self.options.scrapes).rev() {
            let next = Instant::now() + self.options.interval;
            let scraped = self.scrape(encoding, &marker).await;
            let connected = fleet.count(&mut self.report.failures);
            if let Some(scraped) = scraped {
                self.missing(FailureKind::Missing, connected, scraped.marked);
            }
            if left > 0 {
                self.pause(next).await;
            }
        }
        self.end().await;
    }

    /// Gives how many were acknowledged.
    async fn pushes(&mut self) -> usize {
        self.begin("push", self.options.pushes).await;
        let load = Arc::clone(&self.load);
        let push = |job| tokio::spawn(App::push(Arc::clone(&load), Source::Job(job)));
        let pushes = stream::iter(0..self.options.pushes).map(push);
        let mut pushes = pushes.buffer_unordered(self.options.apps);
        let mut acknowledged = 0;
        while let Some(outcome) = pushes.next().await {
            let outcome = outcome.unwrap_or_else(|error| {
                Err(LoadFailure::new(FailureKind::PushUnacknowledged, error))
            });
            acknowledged += usize::from(outcome.is_ok());
            self.step(outcome);
        }
        self.end().await;
        acknowledged
    }

    /// Nobody else scrapes an own node: all pushes must be there.
    async fn scrape_pushes(&mut self, acknowledged: usize) {
        let marker = self.options.texts.marker(Source::Job(0));
        self.begin("scrape_pushes", 1).await;
        if let Some(scraped) = self.scrape(Encoding::Plain, &marker).await {
            self.missing(FailureKind::PushLost, acknowledged, scraped.marked);
        }
        self.end().await;
    }

    /// The paths of the applications, once all are listed.
    async fn discover(&mut self) -> Vec<targets::Path> {
        self.begin("discover", 1).await;
        let (job, count) = (self.options.texts.job(), self.options.apps);
        let Some(web) = self.webs.first() else {
            return Vec::new();
        };
        let timeout = self.options.timeout;
        let listed = targets::discover(&Connections::new(), web, &job, count, timeout).await;
        let paths = match listed {
            Ok((paths, time)) => {
                self.step(Ok(time));
                self.missing(FailureKind::Missing, count, paths.len());
                paths
            }
            Err(failure) => {
                self.step(Err(failure));
                Vec::new()
            }
        };
        self.end().await;
        paths
    }

    /// Every target once in each interval, spread evenly over it, at the nodes in turn.
    async fn scrape_targets(
        &mut self,
        name: &'static str,
        encoding: Encoding,
        paths: &[targets::Path],
    ) {
        let marker: Arc<str> = self.options.texts.marker(Source::Application(0)).into();
        let connections = Connections::new();
        let interval = self.options.interval;
        self.begin(name, self.options.scrapes * paths.len()).await;
        let started = Instant::now();
        let mut scrapes = JoinSet::new();
        for round in 0..self.options.scrapes {
            for (place, path) in paths.iter().enumerate() {
                let passed = (round * paths.len() + place) as f64 / paths.len() as f64;
                let due = started + interval.mul_f64(passed);
                while let Some(scraped) = next_until(&mut scrapes, due).await {
                    self.take(scraped);
                }
                let Some(web) = self.webs.get((round + place) % self.webs.len()) else {
                    return;
                };
                let page = Page {
                    web: web.clone(),
                    path: path.clone(),
                    encoding,
                    timeout: self.options.scrape_timeout,
                };
                let (connections, marker) = (connections.clone(), Arc::clone(&marker));
                scrapes.spawn(async move { scrape(&connections, &page, &marker).await });
            }
        }
        while let Some(scraped) = scrapes.join_next().await {
            self.take(scraped);
        }
        self.end().await;
    }

    fn take(&mut self, scraped: Result<Result<Scraped, LoadFailure>, JoinError>) {
        let scraped =
            scraped.unwrap_or_else(|error| Err(LoadFailure::new(FailureKind::Scrape, error)));
        if let Some(scraped) = self.scraped(scraped) {
            self.missing(FailureKind::Missing, 1, scraped.marked);
        }
    }

    /// Scrapes all nodes at once. Gives what came together, and the time of the slowest.
    async fn scrape(&mut self, encoding: Encoding, marker: &str) -> Option<Scraped> {
        let connections = Connections::new();
        let pages = self.webs.iter().map(|web| Page {
            web: web.clone(),
            path: "/metrics/connected".to_owned(),
            encoding,
            timeout: self.options.scrape_timeout,
        });
        let scrapes = pages.map(async |page| scrape(&connections, &page, marker).await);
        let scraped = try_join_all(scrapes).await.map(|scraped| {
            let mut together = Scraped::default();
            for scraped in scraped {
                together.time = together.time.max(scraped.time);
                together.bytes += scraped.bytes;
                together.marked += scraped.marked;
            }
            together
        });
        self.scraped(scraped)
    }

    fn scraped(&mut self, scraped: Result<Scraped, LoadFailure>) -> Option<Scraped> {
        match scraped {
            Ok(scraped) => {
                if let Some(meter) = &mut self.meter {
                    meter.received(scraped.bytes);
                }
                self.step(Ok(scraped.time));
                Some(scraped)
            }
            Err(failure) => {
                self.step(Err(failure));
                None
            }
        }
    }

    fn missing(&mut self, kind: FailureKind, expected: usize, there: usize) {
        if let Some(missing @ 1..) = expected.checked_sub(there) {
            let failure = LoadFailure::new(kind, format!("{there} of {expected} in a scrape"));
            self.report.failures.add_times(failure, missing);
        }
    }

    async fn begin(&mut self, name: &'static str, steps: usize) {
        self.progress.reset();
        self.progress.set_length(steps as u64);
        self.progress.set_message(name);
        self.meter = Some(Meter::start(name, &self.node).await);
    }

    fn step(&mut self, outcome: Result<Duration, LoadFailure>) {
        self.progress.inc(1);
        match (outcome, &mut self.meter) {
            (Ok(time), Some(meter)) => meter.step(time),
            (Ok(_), None) => {}
            (Err(failure), _) => self.report.failures.add(failure),
        }
    }

    async fn pause(&mut self, until: Instant) {
        let begun = Instant::now();
        sleep_until(until).await;
        if let Some(meter) = &mut self.meter {
            meter.paused(begun.elapsed());
        }
    }

    /// Closes the phase under way, if there is one.
    async fn end(&mut self) {
        if let Some(meter) = self.meter.take() {
            self.report.phases.push(meter.finish(&self.node).await);
        }
    }
}

/// The next that is done; `None` when the time has come.
async fn next_until<T: 'static>(
    tasks: &mut JoinSet<T>,
    due: Instant,
) -> Option<Result<T, JoinError>> {
    match timeout_at(due, tasks.join_next()).await {
        Ok(Some(done)) => Some(done),
        Ok(None) => {
            sleep_until(due).await;
            None
        }
        Err(_) => None,
    }
}

/// Writes a line of the node's log where it does not break the progress bar.
fn log_above(progress: ProgressBar) -> impl Fn(&str) + Send + 'static {
    move |line| {
        progress.suspend(|| {
            #[expect(
                clippy::print_stderr,
                reason = "the node has no other place for its log"
            )]
            {
                eprintln!("node: {line}");
            }
        });
    }
}
