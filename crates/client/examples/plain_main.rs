//! No tokio anywhere: the client has a thread of its own.

use std::error::Error;
use std::thread::sleep;
use std::time::Duration;

use prometheus_rsocket_client::Client;

fn main() -> Result<(), Box<dyn Error>> {
    let client = Client::from_env(|| "up{app=\"plain\"} 1\n")?.connect_and_wait_blocking()?;
    // Pulled meanwhile.
    sleep(Duration::from_secs(10));
    client.push_and_close_blocking()?;
    Ok(())
}
