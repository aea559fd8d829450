//! How applications are targets of their own.

use std::time::Duration;

use clap::Parser;

use prometheus_rsocket_config::values::any_duration;

/// Applications as targets of their own.
#[derive(Debug, Clone, Parser)]
#[group(skip)]
pub struct Settings {
    /// Keep an application whose connection broke in /targets until this long after, so that its `up` is 0
    #[arg(id = "targets.linger", long, value_name = "DURATION", default_value = "5m", value_parser = any_duration)]
    pub linger: Duration,
}
