//! A node's life as the outside sees it, and its end: one function, one line per stage, one deadline around all.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::metrics::Metrics;
use crate::push::Pushes;
use crate::rsocket::Applications;

/// Kept back from the grace period for closing connections once pushes had their chance to be scraped.
const CLOSING: Duration = Duration::from_secs(2);

/// What a node is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not serving everything yet.
    Starting,
    /// Serving.
    Active,
    /// Leaving.
    Draining,
}

impl State {
    /// The word in status, metrics and log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Active => "active",
            Self::Draining => "draining",
        }
    }
}

/// Where a node stands; a drain is never taken back.
#[derive(Debug)]
pub struct Lifecycle(watch::Sender<State>);

impl Lifecycle {
    /// Starting.
    pub fn new() -> Self {
        Self(watch::Sender::new(State::Starting))
    }

    /// The state of the moment.
    pub fn state(&self) -> State {
        *self.0.borrow()
    }

    /// Everything is there, unless the node is leaving already.
    pub fn activate(&self) {
        self.0.send_if_modified(|state| {
            let starting = *state == State::Starting;
            if starting {
                *state = State::Active;
            }
            starting
        });
    }

    /// The node leaves.
    pub fn drain(&self) {
        self.0.send_replace(State::Draining);
    }
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self::new()
    }
}

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

/// The parts of a node that take part in its end.
pub struct Leaving<F> {
    /// What the node says of itself.
    pub lifecycle: Arc<Lifecycle>,
    /// The node's metrics.
    pub metrics: Arc<Metrics>,
    /// Closes the applications' ports.
    pub stop_accepting: CancellationToken,
    /// The applications' connections.
    pub apps: Arc<Applications>,
    /// The pushes held.
    pub pushes: Arc<Pushes>,
    /// Takes no more requests and ends when those under way have been answered.
    pub finish_requests: F,
}

/// Ends a node within `grace_period`. A stage that the deadline cuts short is logged.
pub async fn run<F: Future<Output = ()>>(node: Leaving<F>, grace_period: Duration) {
    let deadline = Instant::now() + grace_period;
    let closing = CLOSING.min(grace_period / 2);

    node.lifecycle.drain();
    node.metrics.draining.set(1);
    info!(stage = "not ready", grace_period = %humantime::format_duration(grace_period), "draining");

    node.stop_accepting.cancel();
    info!(
        stage = "no more connections",
        connections = node.apps.registry.len(),
        "draining"
    );

    let held = node.pushes.counts();
    if held.pending + held.claimed > 0 {
        info!(
            stage = "waiting for a scrape of pushes",
            pushes = held.pending,
            "draining"
        );
    }
    if timeout_at(deadline - closing, node.pushes.all_served())
        .await
        .is_err()
    {
        warn!(
            pushes = node.pushes.counts().pending,
            "no scrape came for these pushes, they are lost"
        );
    }
    node.pushes.close();
    info!(stage = "finishing scrapes", "draining");
    if timeout_at(deadline, node.finish_requests).await.is_err() {
        warn!("scrapes were still under way at the end of the grace period");
    }

    info!(
        stage = "closing connections",
        connections = node.apps.registry.len(),
        "draining"
    );
    if timeout_at(deadline, node.apps.leave()).await.is_err() {
        let connections = node.apps.registry.len();
        warn!(
            connections,
            "connections were still open at the end of the grace period"
        );
    }
    info!("drained");
}
