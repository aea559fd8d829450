//! Keeps up with what is connected to the other nodes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, interval, sleep, sleep_until};
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use super::Targets;
use crate::cluster::calls::{Peer, Unchanged};
use crate::limits::log_limit::LogLimit;
use crate::nodes::NodeId;

/// Between two questions to one node, where there is always news.
const PACE: Duration = Duration::from_millis(50);
/// After a question that was not answered.
const RETRY: Duration = Duration::from_millis(500);
/// After an answer that the node knows no targets.
const OLDER_RELEASE: Duration = Duration::from_secs(10);
/// What has ended is forgotten, and what there is counted, as often.
const TICK: Duration = Duration::from_secs(5);

static REFUSED: LogLimit = LogLimit::new(10);

impl Targets {
    /// Follows the members of the cluster until the process ends.
    pub async fn run(self: Arc<Self>, mut peers: watch::Receiver<Arc<[Peer]>>) {
        let mut followed: BTreeMap<NodeId, AbortOnDropHandle<()>> = BTreeMap::new();
        let mut tick = interval(TICK);
        let mut counted = None;
        loop {
            let alive: BTreeMap<_, _> = peers
                .borrow_and_update()
                .iter()
                .map(|peer| (peer.id.clone(), peer.state))
                .collect();
            self.directory
                .with(|directory, now| directory.members(&alive, now));
            followed.retain(|node, _| alive.contains_key(node));
            for node in alive.into_keys() {
                followed.entry(node).or_insert_with_key(|node| {
                    let (targets, node) = (Arc::clone(&self), node.clone());
                    AbortOnDropHandle::new(tokio::spawn(async move { targets.follow(&node).await }))
                });
            }
            loop {
                tokio::select! {
                    _ = tick.tick() => self.tick(&mut counted),
                    Ok(()) = peers.changed() => break,
                }
            }
        }
    }

    async fn follow(&self, node: &NodeId) {
        loop {
            let began = Instant::now();
            let question = self
                .directory
                .with(|directory, now| directory.question(node, now));
            let Some((asked, clock)) = question else {
                return;
            };
            match self.peers.changes(node, asked, clock).await {
                Ok(changes) => {
                    self.directory.with(|directory, now| {
                        directory.answered(node, &asked, &changes, now);
                    });
                    sleep_until(began + PACE).await;
                }
                Err(Unchanged::OlderRelease) => {
                    if self
                        .directory
                        .with(|directory, _| directory.knows_none(node))
                    {
                        info!(%node, "another node runs a release without targets, until it is replaced there are none");
                    }
                    sleep(OLDER_RELEASE).await;
                }
                Err(Unchanged::Failed) => sleep(RETRY).await,
            }
        }
    }

    /// Counts, unless that has been done at this revision. Those that linger end without a change.
    fn tick(&self, counted: &mut Option<u64>) {
        let counts = self.directory.with(|directory, now| {
            directory.tick(now);
            let revision = directory.revision();
            if *counted == Some(revision) {
                return None;
            }
            let counts = directory.counts(now);
            *counted = (counts.lost + counts.moved == 0).then_some(revision);
            Some(counts)
        });
        let Some(counts) = counts else {
            return;
        };
        let refused = self.metrics.note(&counts);
        if refused > 0
            && let Some(suppressed) = REFUSED.due()
        {
            warn!(
                refused,
                suppressed,
                "applications that connected are no targets: they take up too much room in the directory"
            );
        }
    }
}
