//! How pushing is set.

use clap::Args;

use crate::store::Limits;

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
}
