//! A registry of the crate `prometheus`.

use std::error::Error;

use prometheus::{IntCounter, Registry};
use prometheus_rsocket_client::{Client, adapter};

fn main() -> Result<(), Box<dyn Error>> {
    let registry = Registry::new();
    let jobs = IntCounter::new("jobs_done_total", "Jobs.")?;
    registry.register(Box::new(jobs.clone()))?;

    let client = Client::from_env(adapter::prometheus(registry))?.connect();
    jobs.inc();
    client.push_and_close_blocking()?;
    Ok(())
}
