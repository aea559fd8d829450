//! `bench`: puts a node under load and says what that costs it.

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use prometheus_rsocket_bench::report::Report;
use prometheus_rsocket_bench::text::Texts;
use prometheus_rsocket_bench::{self as bench, Envelope, Mix, Mode, Options, Target};
use prometheus_rsocket_client::Address;
use prometheus_rsocket_config::values;

use super::proxies::HttpProxyFlag;
use super::{bad_usage, failure, runtime};
use crate::drain::{Ending, Signals};
use crate::http::client;
use crate::limits::descriptors;

/// Where a node serves HTTP if not told otherwise.
const WEB_PORT: u16 = 8080;

#[derive(Debug, Args)]
pub(super) struct BenchArgs {
    /// Number of applications that connect, and of jobs that push at a time
    #[arg(long = "apps", value_name = "N", default_value = "1000", value_parser = values::positive)]
    apps: usize,
    /// Number of samples of each application
    #[arg(long = "series", value_name = "M", default_value = "1000", value_parser = values::positive)]
    series: usize,
    /// Number of plain scrapes, and of scrapes with gzip
    #[arg(long = "scrapes", value_name = "K", default_value = "5", value_parser = values::positive)]
    scrapes: usize,
    /// Time from the start of one scrape to the start of the next
    #[arg(long = "interval", value_name = "DURATION", default_value = "1s", value_parser = values::any_duration)]
    interval: Duration,
    /// Prometheus' scrape_timeout: a scrape that takes longer has failed
    #[arg(long = "scrape-timeout", value_name = "DURATION", default_value = "10s", value_parser = values::duration)]
    scrape_timeout: Duration,
    /// Number of jobs that connect, push and disconnect [default: as many as --apps]
    #[arg(long = "pushes", value_name = "N", value_parser = values::positive)]
    pushes: Option<usize>,
    /// Number of samples of each job
    #[arg(long = "push-series", value_name = "M", default_value = "100", value_parser = values::positive)]
    push_series: usize,
    /// How to scrape the applications
    #[arg(long = "mode", value_name = "MODE", default_value = "connected")]
    mode: Mode,
    /// What to measure
    #[arg(long = "mix", value_name = "MIX", default_value = "all")]
    mix: Mix,
    /// Seed of all names and values; several load generators on one cluster need different ones
    #[arg(long = "seed", value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// Address of a running proxy: tcp://HOST:PORT or ws://. Repeatable: tried in turn. Without it, bench starts a node
    /// as a child process, with the settings of the environment
    #[arg(long = "proxy", value_name = "ADDRESS", value_delimiter = ',')]
    proxies: Vec<Address>,
    /// Connect the applications to it through this HTTP proxy (CONNECT): http://[USER:PASSWORD@]HOST[:PORT]. Without it: HTTPS_PROXY, ALL_PROXY and NO_PROXY, as curl reads them
    #[arg(
        long = "http-proxy",
        value_name = "URL",
        value_parser = HttpProxyFlag::parse,
        requires = "proxies"
    )]
    http_proxy: Option<HttpProxyFlag>,
    /// Address to scrape that proxy at [default: port 8080 of the host of --proxy]. Repeatable: all nodes of a cluster
    #[arg(
        long = "web",
        value_name = "http://HOST:PORT",
        value_delimiter = ',',
        requires = "proxies"
    )]
    webs: Vec<client::Address>,
    /// Envelope version to encrypt with
    #[arg(long = "envelope", value_name = "VERSION", default_value = "auto")]
    envelope: Envelope,
    /// Timeout for connecting, until the key is received, and for the acknowledgement of a push
    #[arg(long = "timeout", value_name = "DURATION", default_value = "30s", value_parser = values::duration)]
    timeout: Duration,
    /// Output format
    #[arg(long = "format", value_name = "FORMAT", default_value = "table")]
    format: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// For people
    Table,
    /// For scripts: one object
    Json,
}

impl BenchArgs {
    fn options(self) -> Result<Options, String> {
        let unsupported = |address: &&Address| !matches!(address.scheme(), "tcp" | "ws");
        if let Some(address) = self.proxies.iter().find(unsupported) {
            return Err(format!(
                "--proxy {address}: bench connects over tcp:// and ws:// only"
            ));
        }
        if let Some(web) = self.webs.iter().find(|web| web.is_secure()) {
            return Err(format!("--web {web}: bench scrapes over http:// only"));
        }
        let target = match self.proxies.first() {
            None => Target::Own(env::current_exe().map_err(|error| error.to_string())?),
            Some(first) => {
                let mut webs = self.webs;
                if webs.is_empty() {
                    webs.push(client::Address::new(first.host(), WEB_PORT));
                }
                let authority = |web: client::Address| {
                    let web = web.authority();
                    web.parse()
                        .map_err(|_| format!("--web {web}: no host and port"))
                };
                Target::Running {
                    http_proxy: HttpProxyFlag::or_environment(self.http_proxy.as_ref())?,
                    webs: webs.into_iter().map(authority).collect::<Result<_, _>>()?,
                    proxies: self.proxies,
                }
            }
        };
        Ok(Options {
            target,
            open_files: descriptors::raise(),
            apps: self.apps,
            texts: Texts {
                seed: self.seed,
                application_series: self.series,
                job_series: self.push_series,
            },
            mix: self.mix,
            mode: self.mode,
            scrapes: self.scrapes,
            interval: self.interval,
            scrape_timeout: self.scrape_timeout,
            pushes: self.pushes.unwrap_or(self.apps),
            envelope: self.envelope,
            timeout: self.timeout,
        })
    }
}

pub(super) fn run(args: BenchArgs) -> ExitCode {
    let format = args.format;
    let options = match args.options() {
        Ok(options) => options,
        Err(line) => return bad_usage(&line),
    };
    let measured = runtime::block_on(measure(options));
    match measured.unwrap_or_else(|error| Err(error.to_string())) {
        Ok((report, ending)) => conclude(&report, format, ending),
        Err(error) => failure(&error),
    }
}

async fn measure(options: Options) -> Result<(Report, Option<Ending>), String> {
    let style = "{msg:13} {wide_bar} {pos}/{len} {elapsed}";
    let style = ProgressStyle::with_template(style).map_err(|error| error.to_string())?;
    // Shown on standard error, where that is a terminal.
    let progress = ProgressBar::new(0).with_style(style);
    let mut signals = Signals::new().map_err(|error| format!("signals: {error}"))?;
    let mut ending = None;
    let stop = async { ending = Some(signals.received(|| {}).await) };
    let report = bench::run(options, progress, stop).await;
    Ok((report.map_err(|error| error.to_string())?, ending))
}

/// Interrupted is not failed: what was measured until then counts. The exit status is that of shells, 128 and the signal.
fn conclude(report: &Report, format: Format, ending: Option<Ending>) -> ExitCode {
    if let Err(error) = print(report, format) {
        return failure(&format!("the result cannot be written: {error}"));
    }
    if report.failed() {
        return failure(&report.failures.to_string());
    }
    ending.map_or(ExitCode::SUCCESS, |ending| {
        ExitCode::from(128 + ending.number())
    })
}

fn print(report: &Report, format: Format) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match format {
        Format::Table => write!(out, "{report}")?,
        Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(report)?)?,
    }
    out.flush()
}
