//! What names nodes, pushes and claims in a cluster.

use std::sync::Arc;

/// One life of a node.
///
/// A node that is started again has lost what it held: it has a new generation and is another node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId {
    /// What the node calls itself, unique among those that live.
    pub name: Arc<str>,
    /// Greater with each start.
    pub generation: u64,
}

impl NodeId {
    /// The node of this name that was started as its `generation`th.
    pub fn new(name: &str, generation: u64) -> Self {
        Self {
            name: name.into(),
            generation,
        }
    }
}

/// Names one push in the whole cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PushId {
    /// The node that took the push from the application.
    pub acceptor: NodeId,
    /// Greater for later pushes of the same acceptor.
    pub sequence: u64,
}

/// Names one claim in the whole cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClaimId {
    /// The node that is being scraped.
    pub scraper: NodeId,
    /// Greater for later claims of the same node.
    pub sequence: u64,
}
