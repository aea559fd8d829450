//! A tokio application that runs for long: it is pulled while it runs, and pushes when it is asked to end.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_rsocket_client::Client;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let requests = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&requests);
    let render = move || {
        let count = counted.load(Ordering::Relaxed);
        format!("# TYPE requests_total counter\nrequests_total{{app=\"service\"}} {count}\n")
    };
    // Where the proxy is, PROXY_CLIENT_HOST and the like say.
    let client = Client::from_env(render)?.own_metrics(true).connect();

    let mut work = tokio::time::interval(Duration::from_millis(100));
    let mut end = std::pin::pin!(asked_to_end());
    loop {
        tokio::select! {
            _ = work.tick() => requests.fetch_add(1, Ordering::Relaxed),
            asked = &mut end => break asked?,
        };
    }
    client.push_and_close().await?;
    Ok(())
}

/// Ctrl-C, or the SIGTERM of service managers and containers.
async fn asked_to_end() -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => interrupted,
            _ = terminate.recv() => Ok(()),
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await
}
