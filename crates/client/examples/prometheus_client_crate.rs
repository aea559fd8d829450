//! A registry of the crate `prometheus-client`.

use std::error::Error;
use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use prometheus_rsocket_client::{Client, adapter};

fn main() -> Result<(), Box<dyn Error>> {
    let mut registry = Registry::default();
    let jobs = Counter::<u64>::default();
    registry.register("jobs_done", "Jobs", jobs.clone());

    let client = Client::from_env(adapter::prometheus_client(Arc::new(registry)))?.connect();
    jobs.inc();
    client.push_and_close_blocking()?;
    Ok(())
}
