//! The directory, behind a lock.

use std::sync::Arc;
use std::time::Duration;

use super::{ApplicationId, End, Outcome, Target};
use crate::nodes::NodeId;

/// The directory of one node, shared by its connections and by who looks for applications.
#[derive(Debug)]
pub struct SharedDirectory {
    _me: NodeId,
    _linger: Duration,
}

impl SharedDirectory {
    /// An empty one, of the node `me`. An application that is gone without a goodbye is kept for `linger`.
    pub fn new(me: NodeId, linger: Duration) -> Self {
        Self {
            _me: me,
            _linger: linger,
        }
    }

    /// What a connection of this node speaks for, from now on; what it spoke for before and does no more has left.
    pub fn connected(&self, _connection: u64, _targets: Vec<Target>) {}

    /// How a pull of an application went that is connected to this node.
    pub fn pulled(&self, _connection: u64, _id: &ApplicationId, _outcome: Outcome) {}

    /// A connection of this node is no more.
    pub fn ended(&self, _connection: u64, _end: End, _reason: &Arc<str>) {}

    /// Whether anybody has asked for the targets lately, at any node: connections that do not say who they are need to be
    /// known by their samples only then.
    pub fn in_use(&self) -> bool {
        false
    }

    /// Waits until [`Self::in_use`].
    pub async fn used(&self) {
        std::future::pending().await
    }
}
