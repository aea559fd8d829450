//! The directory, behind a lock.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::{Application, ApplicationId, Directory, End, Outcome, Target};
use crate::nodes::NodeId;

/// The directory of one node, shared by its connections and by who looks for applications.
#[derive(Debug)]
pub struct SharedDirectory {
    inner: Mutex<Directory>,
    revision: watch::Sender<u64>,
    in_use: watch::Sender<bool>,
}

impl SharedDirectory {
    /// An empty one, of the node `me`. An application that is gone without a goodbye is kept for `linger`.
    pub fn new(me: NodeId, linger: Duration) -> Self {
        Self {
            inner: Mutex::new(Directory::new(me, linger)),
            revision: watch::Sender::new(0),
            in_use: watch::Sender::new(false),
        }
    }

    /// What a connection of this node speaks for, from now on; what it spoke for before and does no more has left.
    pub fn connected(&self, connection: u64, targets: Vec<Target>) {
        self.with(|directory, now| directory.connected(connection, targets, now));
    }

    /// How a pull of an application went that is connected to this node.
    pub fn pulled(&self, connection: u64, id: &ApplicationId, outcome: Outcome) {
        self.with(|directory, _| directory.pulled(connection, id, outcome));
    }

    /// A connection of this node is no more.
    pub fn ended(&self, connection: u64, end: End, reason: &Arc<str>) {
        self.with(|directory, now| directory.ended(connection, end, reason, now));
    }

    /// Whether anybody has asked for the targets lately, at any node: connections that do not say who they are need to be
    /// known by their samples only then.
    pub fn in_use(&self) -> bool {
        *self.in_use.borrow()
    }

    /// Waits until [`Self::in_use`].
    pub async fn used(&self) {
        // The sender is here.
        let _ = self.in_use.subscribe().wait_for(|in_use| *in_use).await;
    }

    /// [`Directory::applications`] at this moment, which is `wall` by the time of day.
    pub fn applications(&self, wall: SystemTime) -> Vec<Application> {
        self.inner.lock().applications(Instant::now(), wall)
    }

    /// Those of them that are targets.
    pub fn targets(&self, wall: SystemTime) -> Vec<Application> {
        self.inner.lock().targets(Instant::now(), wall)
    }

    /// Word of each change that may change an answer.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// Does something with the directory, and lets those know who wait for a change.
    pub fn with<R>(&self, step: impl FnOnce(&mut Directory, Instant) -> R) -> R {
        let now = Instant::now();
        let mut directory = self.inner.lock();
        let result = step(&mut directory, now);
        let (revision, in_use) = (directory.revision(), directory.in_use(now));
        drop(directory);
        let differs = |known: &mut u64| {
            let newer = revision > *known;
            *known = revision.max(*known);
            newer
        };
        self.revision.send_if_modified(differs);
        self.in_use.send_if_modified(|known| {
            let differs = *known != in_use;
            *known = in_use;
            differs
        });
        result
    }
}
