//! `serve`: run a proxy node until SIGTERM or SIGINT.

use std::process::ExitCode;

use clap::Args;
use tracing::{error, info, warn};

use super::{bad_usage, runtime};
use crate::limits::descriptors;
use crate::node::{Checked, Node, Settings, StartError};
use crate::{drain, logging};

/// Open files besides the connections of applications and over HTTP, for calls between nodes and files that are read.
const OTHER_FILES: usize = 600;

#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    #[command(flatten)]
    pub(super) node: Settings,
    #[command(flatten)]
    log: logging::Settings,
}

pub(super) fn run(args: ServeArgs) -> ExitCode {
    let mut checked = match args.node.check() {
        Ok(checked) => checked,
        Err(line) => return bad_usage(&line),
    };
    logging::init(&args.log);
    fit_into_open_files(&mut checked.settings);
    let failure = match runtime::block_on(serve(checked)) {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(failure)) => failure.to_string(),
        Err(failure) => failure.to_string(),
    };
    error!(error = %failure, "stopped");
    ExitCode::FAILURE
}

/// Where the system allows too few open files for all connections, applications have fewer, so that scrapes, probes and
/// other nodes find some free.
fn fit_into_open_files(settings: &mut Settings) {
    let Some(limit) = descriptors::raise() else {
        return;
    };
    let (rsocket, web) = (
        settings.rsocket.max_connections,
        settings.web.max_connections,
    );
    let needed = rsocket.saturating_add(web).saturating_add(OTHER_FILES);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    if limit >= needed {
        return;
    }
    let (rsocket, web) = shares(limit, rsocket, web);
    settings.rsocket.max_connections = rsocket;
    settings.web.max_connections = web;
    warn!(
        limit,
        needed,
        rsocket_max_connections = rsocket,
        web_max_connections = web,
        "too few open files allowed for --rsocket.max-connections and --web.max-connections, using less: raise the hard \
         limit (ulimit -Hn, LimitNOFILE= of systemd, --ulimit nofile= of docker) or lower these"
    );
}

/// Connections of applications, and over HTTP, with so many open files: of the former what the others leave, which is at
/// least half.
fn shares(limit: usize, rsocket: usize, web: usize) -> (usize, usize) {
    let others = web.saturating_add(OTHER_FILES).min(limit / 2);
    let rsocket = rsocket.min(limit.saturating_sub(others));
    let web = web.min(limit.saturating_sub(rsocket) / 2);
    (rsocket.max(1), web.max(1))
}

async fn serve(checked: Checked) -> Result<(), StartError> {
    let grace_period = checked.settings.shutdown.grace_period;
    let mut signals = drain::Signals::new()?;
    let node = Node::bind(checked).await?;
    let mut signalled = true;
    tokio::select! {
        _ = signals.received(|| read_files(&node)) => {}
        () = node.drain_asked() => signalled = false,
    }
    let second_signal = async {
        // A drain asked for over HTTP may come before an ordinary SIGTERM.
        if !signalled {
            signals.received(|| {}).await;
        }
        signals.received(|| {}).await
    };
    tokio::select! {
        () = node.drain(grace_period) => {}
        _ = second_signal => warn!("second signal, exiting at once"),
    }
    Ok(())
}

fn read_files(node: &Node) {
    match node.read_files() {
        0 => info!(signal = "SIGHUP", "signal received, no files to read again"),
        files => info!(
            signal = "SIGHUP",
            files, "signal received, reading the files again"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_few_open_files_something_is_left_for_scrapes() {
        for (limit, rsocket, expected) in [
            (20_000, 20_000, (18_888, 512)),
            (1024, 20_000, (512, 256)),
            (700, 100, (100, 300)),
            (300, 20_000, (150, 75)),
            (1, 20_000, (1, 1)),
        ] {
            assert_eq!(shares(limit, rsocket, 512), expected, "{limit}");
        }
    }
}
