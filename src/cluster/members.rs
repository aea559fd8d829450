//! Who is in the cluster, as plain data: what the rest of the node is told.

use std::net::SocketAddr;
use std::time::Instant;

use super::metrics::DEAD;
use crate::nodes::{NodeId, NodeState};

/// What a node has to do: counts, never payloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Applications' connections.
    pub connections: usize,
    /// Whether it takes no more of them (`--rsocket.max-connections`).
    pub full: bool,
    /// Pushes that no scrape has served yet.
    pub pushes: usize,
}

/// What a node tells of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// [`NodeId::generation`].
    pub generation: u64,
    /// Where it serves HTTP.
    pub http_address: SocketAddr,
    /// Where it takes replication calls.
    pub grpc_address: SocketAddr,
    /// The version of its software.
    pub version: String,
    /// What it is doing.
    pub state: NodeState,
    /// What it has to do.
    pub load: Load,
}

/// Whether a member is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Heard again and again since then.
    Alive {
        /// When it was first heard.
        since: Instant,
    },
    /// Not heard for [`DEAD_AFTER`](super::roster::DEAD_AFTER).
    Dead {
        /// When that was noticed.
        since: Instant,
    },
}

/// Another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Which one.
    pub id: NodeId,
    /// Where it gossips.
    pub gossip_address: SocketAddr,
    /// What it told last.
    pub profile: Profile,
    /// Whether it is heard.
    pub presence: Presence,
}

impl Member {
    /// Whether it is heard.
    pub fn is_alive(&self) -> bool {
        matches!(self.presence, Presence::Alive { .. })
    }

    /// The word in status and metrics: its own, or `dead`.
    pub fn state_name(&self) -> &'static str {
        match self.presence {
            Presence::Alive { .. } => self.profile.state.name(),
            Presence::Dead { .. } => DEAD,
        }
    }
}

/// This node, as its peers know it. What changes about it, ask its own parts for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Me {
    /// Which one.
    pub id: NodeId,
    /// Where its HTTP is reached.
    pub http_address: SocketAddr,
    /// Where its peers reach it; `None` for a cluster of one, which opens no port for peers.
    pub peering: Option<Peering>,
}

/// The addresses that peers use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peering {
    /// Gossip, UDP.
    pub gossip_address: SocketAddr,
    /// Replication, TCP.
    pub grpc_address: SocketAddr,
}

/// The cluster of the moment, as one node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Members {
    /// The one that sees it.
    pub me: Me,
    /// The others, by name. Those that died are listed until they are forgotten; those that left are not, nor those
    /// whose name is alive in a later generation.
    pub others: Vec<Member>,
}

impl Members {
    /// A cluster of one.
    pub fn alone(me: Me) -> Self {
        Self {
            me,
            others: Vec::new(),
        }
    }

    /// The others that are heard.
    pub fn alive(&self) -> impl Iterator<Item = &Member> + Clone {
        self.others.iter().filter(|member| member.is_alive())
    }
}
