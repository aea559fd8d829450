//! A node's life as the outside sees it, and its end: one function, one line per stage, one deadline around all.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::cluster::Cluster;
pub use crate::cluster::State;
use crate::metrics::Metrics;
use crate::push::Pushes;
use crate::rsocket::Applications;
use crate::store::Condition;

/// Kept back from the grace period for closing connections once pushes had their chance to be scraped.
const CLOSING: Duration = Duration::from_secs(2);

impl From<State> for Condition {
    fn from(state: State) -> Self {
        match state {
            State::Starting => Self::Starting,
            State::Active => Self::Active,
            State::Draining => Self::Draining,
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

    /// The state of the moment, and each change.
    pub fn subscribe(&self) -> watch::Receiver<State> {
        self.0.subscribe()
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
    /// The node's part in the cluster.
    pub cluster: Cluster,
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

    settle_pushes(&node.pushes, deadline - closing).await;

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
    // Those that came while connections were still open, and the ends of the last scrapes.
    if !node.pushes.are_closed() {
        let rest = timeout_at(deadline, node.pushes.all_settled()).await;
        if rest.is_err() {
            let held = node.pushes.counts();
            warn!(
                pushes = held.pending + held.claimed,
                "no other node took these pushes, they are lost unless it holds them already"
            );
        }
    }
    info!(stage = "leaving the cluster", "draining");
    if timeout_at(deadline, node.cluster.leave()).await.is_err() {
        warn!("gossip went on at the end of the grace period");
    }
    info!("drained");
}

/// Gives the pushes held to other nodes, or where there is none, to a scrape. What other nodes do not take in time has
/// another chance at the end.
async fn settle_pushes(pushes: &Pushes, deadline: Instant) {
    let held = pushes.counts();
    let due = held.pending + held.claimed;
    if !pushes.are_alone() {
        let pushes = due + held.retained;
        info!(stage = "handing over pushes", pushes, "draining");
    } else if due > 0 {
        let stage = "waiting for a scrape of pushes";
        info!(stage, pushes = due, "draining");
    }
    let settled = timeout_at(deadline, pushes.all_settled()).await;
    if settled.is_err() && pushes.are_alone() {
        pushes.close();
        warn!(
            pushes = pushes.counts().pending,
            "no scrape came for these pushes, they are lost"
        );
    }
}
