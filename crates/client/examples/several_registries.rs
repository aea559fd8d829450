//! Two registries, of two crates, in one answer: their texts one behind the other. The proxy reads a text of which one
//! part is OpenMetrics as OpenMetrics, and merges families that come twice.

use std::error::Error;
use std::sync::Arc;

use prometheus_rsocket_client::{Client, adapter};

fn main() -> Result<(), Box<dyn Error>> {
    let own = adapter::prometheus(prometheus::default_registry().clone());
    let library =
        adapter::prometheus_client(Arc::new(prometheus_client::registry::Registry::default()));
    let both = move || -> Result<String, Box<dyn Error>> { Ok(own()? + &library()?) };

    let client = Client::from_env(both)?.connect();
    client.push_and_close_blocking()?;
    Ok(())
}
