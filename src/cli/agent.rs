//! `agent`: answer a proxy's pulls with what HTTP targets expose, until SIGTERM or SIGINT.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use prometheus_rsocket_agent::{
    Agent, Families, Follow, Pattern, Settings, Sources, Spec, protocol,
};
use prometheus_rsocket_client::Builder;
use prometheus_rsocket_config::values::{any_duration, bytes, duration, positive};
use prometheus_rsocket_exposition::{Format, Labels};
use tokio::time::timeout;
use tracing::{error, info, warn};

use super::proxies::ProxyArgs;
use super::{bad_usage, runtime};
use crate::drain::Signals;
use crate::logging;

/// For the connection to be closed; the proxy notices without that, too.
const CLOSING: Duration = Duration::from_secs(5);
/// How often the first proxy is looked for while connected to a later one.
const PREFER_FIRST: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
#[command(
    after_help = "Each target has an `up` in the answer, 1 or 0, with its labels, `instance` (its address and port, \
                  unless it has that label) and `target` (its URL)."
)]
pub(super) struct AgentArgs {
    /// A file with scrape_configs as in Prometheus: targets with TLS, credentials and limits (keys: docs/agent.md). Read again when it changes
    #[arg(
        long = "config.file",
        env = "PROXY_AGENT_CONFIG_FILE",
        value_name = "FILE"
    )]
    config_file: Option<PathBuf>,
    /// A target's URL (default path: /metrics) and labels for its samples: URL[,NAME=VALUE]... A value with a comma is put in double quotes. Repeatable; in the environment separated by ;
    #[arg(
        long = "target",
        env = "PROXY_AGENT_TARGET",
        value_name = "TARGET",
        value_delimiter = ';'
    )]
    targets: Vec<Spec>,
    /// A file with targets in the format of Prometheus' file_sd_configs (YAML or JSON), read again when it changes. The file name may contain *. Repeatable; in the environment separated by ;
    #[arg(
        long = "targets-file",
        env = "PROXY_AGENT_TARGETS_FILE",
        value_name = "FILE",
        value_delimiter = ';'
    )]
    targets_files: Vec<PathBuf>,
    /// Add a label of this name with the target's URL to each sample
    #[arg(
        long = "target-label",
        env = "PROXY_AGENT_TARGET_LABEL",
        value_name = "NAME",
        value_parser = label_name
    )]
    target_label: Option<String>,
    /// Maximum number of targets; a file that lists more is refused
    #[arg(long = "max-targets", env = "PROXY_AGENT_MAX_TARGETS", value_name = "N", default_value = "1000", value_parser = positive)]
    max_targets: usize,
    /// Keep a sample's own label where its target has one of the same name, as Prometheus' honor_labels does; without this it is renamed to exported_NAME
    #[arg(long = "honor-labels", env = "PROXY_AGENT_HONOR_LABELS")]
    honor_labels: bool,
    /// Pass on only families whose whole name matches; a histogram is one family. Repeatable
    #[arg(long = "keep", env = "PROXY_AGENT_KEEP", value_name = "REGEX")]
    keep: Vec<Pattern>,
    /// Leave out families whose whole name matches, also those that --keep matches. Repeatable
    #[arg(long = "drop", env = "PROXY_AGENT_DROP", value_name = "REGEX")]
    drop: Vec<Pattern>,
    /// Format of a target whose Content-Type is missing or unknown: PrometheusText0.0.4 or OpenMetricsText1.0.0. Without this such a target is down, as in Prometheus 3
    #[arg(
        long = "fallback-scrape-protocol",
        env = "PROXY_AGENT_FALLBACK_SCRAPE_PROTOCOL",
        value_name = "PROTOCOL",
        value_parser = protocol
    )]
    fallback_scrape_protocol: Option<Format>,
    /// Timeout for all targets together where the proxy names none
    #[arg(long = "scrape.timeout", env = "PROXY_AGENT_SCRAPE_TIMEOUT", value_name = "DURATION", default_value = "10s", value_parser = duration)]
    scrape_timeout: Duration,
    /// Subtracted from the proxy's deadline, so that the answer arrives in time
    #[arg(long = "scrape.timeout-offset", env = "PROXY_AGENT_SCRAPE_TIMEOUT_OFFSET", value_name = "DURATION", default_value = "500ms", value_parser = any_duration)]
    scrape_timeout_offset: Duration,
    /// The longest decompressed text of one target; a job can set body_size_limit
    #[arg(long = "scrape.max-payload", env = "PROXY_AGENT_SCRAPE_MAX_PAYLOAD", value_name = "BYTES", default_value = "64MiB", value_parser = bytes)]
    scrape_max_payload: usize,
    /// The longest answer, all targets together; a target that does not fit is down. Keep it within the proxy's --scrape.max-payload
    #[arg(long = "scrape.max-answer", env = "PROXY_AGENT_SCRAPE_MAX_ANSWER", value_name = "BYTES", default_value = "64MiB", value_parser = bytes)]
    scrape_max_answer: usize,
    #[command(flatten)]
    proxy: ProxyArgs,
    /// Delay before the second attempt to connect; it doubles with each attempt
    #[arg(long = "first-backoff", env = "PROXY_AGENT_FIRST_BACKOFF", value_name = "DURATION", default_value = "500ms", value_parser = duration)]
    first_backoff: Duration,
    /// Maximum delay between attempts to connect; each delay is lengthened by up to itself at random
    #[arg(long = "max-backoff", env = "PROXY_AGENT_MAX_BACKOFF", value_name = "DURATION", default_value = "2s", value_parser = duration)]
    max_backoff: Duration,
    /// Exit with status 1 after this many failed retries in a row. Default: retry without end
    #[arg(
        long = "max-retries",
        env = "PROXY_AGENT_MAX_RETRIES",
        value_name = "N"
    )]
    max_retries: Option<u32>,
    #[command(flatten)]
    log: logging::Settings,
}

impl AgentArgs {
    fn settings(&self) -> Settings {
        Settings {
            sources: Sources {
                targets: self.targets.clone(),
                files: self.targets_files.clone(),
                config: self.config_file.clone(),
                max_targets: self.max_targets,
            },
            families: Families {
                keep: self.keep.clone(),
                drop: self.drop.clone(),
            },
            address_label: self.target_label.clone(),
            honor_labels: self.honor_labels,
            fallback: self.fallback_scrape_protocol,
            timeout: self.scrape_timeout,
            timeout_offset: self.scrape_timeout_offset,
            max_payload: self.scrape_max_payload,
            max_answer: self.scrape_max_answer,
            host: gethostname::gethostname().to_string_lossy().into_owned(),
        }
    }

    fn client(&self, agent: &Arc<Agent>) -> Result<Builder, String> {
        let described = agent.client().map_err(|error| error.to_string())?;
        let mut builder = described
            .backoff(self.first_backoff, self.max_backoff)
            .prefer_first(PREFER_FIRST);
        if let Some(retries) = self.max_retries {
            builder = builder.max_retries(retries);
        }
        self.proxy.apply(builder)
    }
}

pub(super) fn run(args: &AgentArgs) -> ExitCode {
    // What the files list is usage, too: nothing is connected before it is known to be good.
    let (agent, follow) = match Agent::new(args.settings()) {
        Ok(agent) => agent,
        Err(error) => return bad_usage(&error.to_string()),
    };
    let targets = agent.targets();
    let agent = Arc::new(agent);
    let builder = match args.client(&agent) {
        Ok(builder) => builder,
        Err(line) => return bad_usage(&line),
    };
    logging::init(&args.log);
    info!(targets, "agent started");
    match runtime::block_on(serve(&agent, builder, follow)).flatten() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!(%error, "stopped");
            ExitCode::FAILURE
        }
    }
}

async fn serve(agent: &Agent, builder: Builder, follow: Follow) -> io::Result<()> {
    let mut signals = Signals::new()?;
    let files = follow.files();
    let read_files = || match &files {
        None => info!(signal = "SIGHUP", "signal received, no files to read again"),
        Some(files) => {
            info!(
                signal = "SIGHUP",
                "signal received, reading the files again"
            );
            files.notify_one();
        }
    };
    tokio::spawn(follow.run());
    let client = builder.connect();
    tokio::select! {
        _ = signals.received(read_files) => {}
        () = agent.describe(&client) => {}
        () = client.ended() => return Err(io::Error::other("gave up connecting (--max-retries)")),
    }
    tokio::select! {
        closed = timeout(CLOSING, client.close()) => match closed {
            Ok(()) => info!("connection closed"),
            Err(_) => warn!("the connection was not closed in time, exiting"),
        },
        _ = signals.received(|| {}) => warn!("second signal, exiting at once"),
    }
    Ok(())
}

fn label_name(name: &str) -> Result<String, String> {
    let mut labels = Labels::default();
    labels
        .insert(name, "any")
        .map_err(|error| error.to_string())?;
    Ok(name.to_owned())
}
