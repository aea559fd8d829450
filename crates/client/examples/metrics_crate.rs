//! The recorder of the crate `metrics`.

use std::error::Error;

use metrics_exporter_prometheus::PrometheusBuilder;
use prometheus_rsocket_client::{Client, adapter};

fn main() -> Result<(), Box<dyn Error>> {
    let recorder = PrometheusBuilder::new().install_recorder()?;

    let client = Client::from_env(adapter::metrics(recorder))?.connect();
    metrics::counter!("jobs_done_total").increment(1);
    client.push_and_close_blocking()?;
    Ok(())
}
