//! A job that ends before anyone scrapes it: it pushes, however it ends.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_rsocket_client::Client;

fn main() -> Result<(), Box<dyn Error>> {
    let done = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&done);
    let render = move || {
        let count = counted.load(Ordering::Relaxed);
        format!("# TYPE job_rows_total counter\njob_rows_total{{job=\"import\"}} {count}\n")
    };
    // Pushes at the end of this scope: after `?` and a panic, too.
    let _client = Client::from_env(render)?.push_on_drop().connect();
    for row in ["1", "2", "3"] {
        let _: u64 = row.parse()?;
        done.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
