//! No tokio anywhere: the client has a thread of its own. It is pulled until Ctrl-C or SIGTERM, and pushes then.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use prometheus_rsocket_client::Client;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

fn main() -> Result<(), Box<dyn Error>> {
    let end = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        flag::register(signal, Arc::clone(&end))?;
    }
    let client = Client::from_env(|| "up{app=\"plain\"} 1\n")?.connect_and_wait_blocking()?;
    while !end.load(Ordering::Relaxed) {
        sleep(Duration::from_millis(100));
    }
    client.push_and_close_blocking()?;
    Ok(())
}
