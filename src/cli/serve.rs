//! `serve`: run a proxy node until SIGTERM or SIGINT.

use std::process::ExitCode;

use clap::Args;
use tracing::{error, warn};

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
    let checked = match args.node.check() {
        Ok(checked) => checked,
        Err(line) => return bad_usage(&line),
    };
    logging::init(&args.log);
    raise_open_files(&checked.settings);
    let failure = match runtime::block_on(serve(checked)) {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(failure)) => failure.to_string(),
        Err(failure) => failure.to_string(),
    };
    error!(error = %failure, "stopped");
    ExitCode::FAILURE
}

/// Says so where the system may run out of descriptors before the node's own limits hold.
fn raise_open_files(settings: &Settings) {
    let connections = settings
        .rsocket
        .max_connections
        .saturating_add(settings.web.max_connections);
    let needed = connections.saturating_add(OTHER_FILES) as u64;
    if let Some(limit) = descriptors::raise()
        && limit < needed
    {
        warn!(
            limit,
            needed,
            "too few open files allowed for --rsocket.max-connections and --web.max-connections: raise the hard limit \
             (ulimit -Hn, LimitNOFILE= of systemd, --ulimit nofile= of docker) or lower these"
        );
    }
}

async fn serve(checked: Checked) -> Result<(), StartError> {
    let grace_period = checked.settings.shutdown.grace_period;
    let mut signals = drain::Signals::new()?;
    let node = Node::bind(checked).await?;
    let mut signalled = true;
    tokio::select! {
        () = signals.received() => {}
        () = node.drain_asked() => signalled = false,
    }
    let second_signal = async {
        // A drain asked for over HTTP may come before an ordinary SIGTERM.
        if !signalled {
            signals.received().await;
        }
        signals.received().await;
    };
    tokio::select! {
        () = node.drain(grace_period) => {}
        () = second_signal => warn!("second signal, exiting at once"),
    }
    Ok(())
}
