//! How pushing is set.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::store::Limits;

/// The default interval of Prometheus.
const WATCH: Duration = Duration::from_secs(60);

/// Pushes held for the next scrape.
#[derive(Debug, Clone, Args)]
#[group(skip)]
pub struct Settings {
    /// How long they are held, and how much of them.
    #[command(flatten)]
    pub limits: Limits,
    /// Maximum pushes per second of one connection, and as many at once; 0 for no limit
    #[arg(id = "push.max-rate", long, value_name = "N", default_value = "1000")]
    pub max_rate: u32,
    /// Number of other nodes that hold a copy of each push
    #[arg(id = "push.replicas", long, value_name = "N", default_value = "2")]
    pub replicas: usize,
    /// No push is over before scrapes have been seen for so long. Long enough for those of all consumers, as a rule.
    #[arg(skip = WATCH)]
    pub watch: Duration,
    /// Write each push to this directory before it is acknowledged, and restore pushes from it at start; --push.ttl goes
    /// on while the node is down, by the system clock
    #[arg(id = "push.dir", long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}
