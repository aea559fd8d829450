//! The signals by which a node is told to leave.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;

/// SIGTERM and SIGINT.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From now on neither signal ends the process by itself.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next of either.
    pub async fn received(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => info!(signal = "SIGTERM", "signal received"),
            _ = self.interrupt.recv() => info!(signal = "SIGINT", "signal received"),
        }
    }
}
