//! What names a node of the cluster, and what it is doing: all that [`cluster`](crate::cluster) and
//! [`store`](crate::store) have to know in common; and the time that they share.

mod clock;

use std::fmt;
use std::sync::Arc;

pub(crate) use clock::Clock;

/// Names one life of one node. A node that is started again has lost what it held, and is another one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId {
    /// The node's name, the same after a restart, unique among those that live.
    pub name: Arc<str>,
    /// When this life began, in microseconds since 1970: greater after each restart, and so fine that two nodes of one
    /// name, which a mistake can make, hardly share it. A gossip that had to be started again within the process does
    /// not change it.
    pub generation: u64,
}

impl NodeId {
    /// The life of the node of this name that began at `generation`.
    pub fn new(name: &str, generation: u64) -> Self {
        Self {
            name: name.into(),
            generation,
        }
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// What a live node is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NodeState {
    /// Not ready yet.
    Starting,
    /// In service.
    Active,
    /// Leaving.
    Draining,
}

impl NodeState {
    /// Every state, in the order of a node's life.
    pub const ALL: [Self; 3] = [Self::Starting, Self::Active, Self::Draining];

    /// The word in status, metrics, log and gossip.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Active => "active",
            Self::Draining => "draining",
        }
    }
}
