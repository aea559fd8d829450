//! Where a node stands in its life.

use std::time::SystemTime;

use tokio::sync::watch;

use crate::nodes::NodeState;

/// What a drain is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The node answers that it is not ready.
    NotReady,
    /// Balancers have time to learn it.
    AwaitingBalancers,
    /// The applications' ports are closed.
    Closed,
    /// Other nodes take the pushes.
    HandingOver,
    /// There is no other node; a scrape takes the pushes.
    AwaitingScrape,
    /// Connections end one by one, each after a scrape where one comes.
    Moving,
    /// HTTP answers what is under way.
    Finishing,
    /// The remaining connections end.
    Closing,
    /// The last pushes are with other nodes, and the gossip ends.
    Leaving,
}

impl Stage {
    /// Every stage, in order.
    pub const ALL: [Self; 9] = [
        Self::NotReady,
        Self::AwaitingBalancers,
        Self::Closed,
        Self::HandingOver,
        Self::AwaitingScrape,
        Self::Moving,
        Self::Finishing,
        Self::Closing,
        Self::Leaving,
    ];

    /// The words in log and status.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotReady => "not ready",
            Self::AwaitingBalancers => "waiting for balancers",
            Self::Closed => "no more connections",
            Self::HandingOver => "handing over pushes",
            Self::AwaitingScrape => "waiting for a scrape of pushes",
            Self::Moving => "moving connections",
            Self::Finishing => "finishing scrapes",
            Self::Closing => "closing connections",
            Self::Leaving => "leaving the cluster",
        }
    }

    /// The word in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::NotReady => "not_ready",
            Self::AwaitingBalancers => "waiting_for_balancers",
            Self::Closed => "no_more_connections",
            Self::HandingOver => "handing_over_pushes",
            Self::AwaitingScrape => "waiting_for_scrape",
            Self::Moving => "moving_connections",
            Self::Finishing => "finishing_scrapes",
            Self::Closing => "closing_connections",
            Self::Leaving => "leaving_cluster",
        }
    }
}

/// How far a drain has come.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// What it is at.
    pub stage: Stage,
    /// When it is over at the latest.
    pub deadline: SystemTime,
}

/// Where a node stands; a drain is never taken back.
#[derive(Debug)]
pub struct Lifecycle {
    state: watch::Sender<NodeState>,
    progress: watch::Sender<Option<Progress>>,
}

impl Lifecycle {
    /// Starting.
    pub fn new() -> Self {
        Self {
            state: watch::Sender::new(NodeState::Starting),
            progress: watch::Sender::new(None),
        }
    }

    /// The state of the moment, and each change.
    pub fn subscribe(&self) -> watch::Receiver<NodeState> {
        self.state.subscribe()
    }

    /// The state of the moment.
    pub fn state(&self) -> NodeState {
        *self.state.borrow()
    }

    /// Everything is there, unless the node is leaving already.
    pub fn activate(&self) {
        self.state.send_if_modified(|state| {
            let starting = *state == NodeState::Starting;
            if starting {
                *state = NodeState::Active;
            }
            starting
        });
    }

    /// The node leaves, or is asked to.
    pub fn drain(&self) {
        self.state.send_replace(NodeState::Draining);
    }

    /// How far the drain has come; `None` before its first stage.
    pub fn progress(&self) -> Option<Progress> {
        *self.progress.borrow()
    }

    pub(super) fn enter(&self, progress: Progress) {
        self.progress.send_replace(Some(progress));
    }
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self::new()
    }
}
