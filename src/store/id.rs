//! What names pushes and claims in a cluster.

use crate::nodes::NodeId;

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
