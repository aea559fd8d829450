//! The nodes that can be called: one link to each, made and dropped as the membership changes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use prometheus_rsocket_exposition::Encoding;
use tokio::time::{Instant, timeout};

use super::link::{Caller, Calling, Link};
use super::{PackedText, Peer, Secret, Unchanged, Unpulled, UnpulledKind, directory};
use crate::directory::{ApplicationId, Asked, Changes};
use crate::nodes::NodeId;
use crate::store::Request;

/// How long an application waits for another node to unwrap the key of its push.
const OPEN_WITHIN: Duration = Duration::from_secs(2);

/// The links to all other nodes; none in a cluster of one.
#[derive(Default)]
pub struct Peers {
    links: Mutex<BTreeMap<NodeId, Link>>,
}

impl Peers {
    /// Calls a node, without waiting. The reply goes to the [`Holder`](super::Holder). A node that is not a member has no address: its
    /// call is handed back.
    pub fn call(&self, node: &NodeId, request: Request) -> Option<Request> {
        match self.links.lock().get(node) {
            Some(link) => {
                link.call(request);
                None
            }
            None => Some(request),
        }
    }

    /// Whether any node can be asked to unwrap a key.
    pub fn can_open(&self) -> bool {
        self.links.lock().values().any(Link::is_authenticated)
    }

    /// Asks all nodes to unwrap a key, and gives the first success.
    pub async fn open(&self, wrapped: &Bytes) -> Option<Secret> {
        let mut asked: FuturesUnordered<_> = self
            .links
            .lock()
            .values()
            .map(|link| link.open(wrapped.clone()))
            .collect();
        let first = async {
            while let Some(answer) = asked.next().await {
                if answer.is_some() {
                    return answer;
                }
            }
            None
        };
        timeout(OPEN_WITHIN, first).await.ok().flatten()
    }

    /// Asks a node what has changed in its list of applications, and waits for a change for a while.
    pub async fn changes(
        &self,
        node: &NodeId,
        asked: Asked,
        clock: u64,
    ) -> Result<Changes, Unchanged> {
        let caller = self.caller(node).ok_or(Unchanged::Failed)?;
        directory::changes(&caller, asked, clock).await
    }

    /// Has a node pull an application that is connected to it; the text is packed.
    pub async fn pull(
        &self,
        node: &NodeId,
        id: &ApplicationId,
        encoding: Encoding,
        deadline: Instant,
    ) -> Result<PackedText, Unpulled> {
        let caller = self.caller(node).ok_or_else(|| Unpulled {
            kind: UnpulledKind::Unreachable,
            reason: format!("node {node} is not heard any more"),
        })?;
        directory::pull(&caller, id, encoding, deadline).await
    }

    fn caller(&self, node: &NodeId) -> Option<Arc<Caller>> {
        self.links.lock().get(node).map(Link::caller)
    }

    /// Whether a node can be called.
    pub fn reaches(&self, node: &NodeId) -> bool {
        self.links.lock().contains_key(node)
    }

    /// Whether every node knows this one and has given it what it is to hold.
    pub async fn owe_nothing(&self) -> bool {
        let asked: FuturesUnordered<_> = self.links.lock().values().map(Link::owed).collect();
        asked.all(async |owed| owed == Some(0)).await
    }

    /// Links to these nodes and no others.
    pub fn link(&self, peers: &[Peer], common: &Calling) {
        let mut links = self.links.lock();
        links.retain(|id, link| {
            let mut peers = peers.iter();
            peers.any(|peer| peer.id == *id && peer.grpc == link.address)
        });
        for peer in peers.iter().filter(|peer| peer.id != common.me) {
            links
                .entry(peer.id.clone())
                .or_insert_with(|| Link::new(peer, common));
        }
    }

    /// Drops all links when the guard is dropped.
    pub fn unlink_after(&self) -> impl Drop + use<'_> {
        Unlink(self)
    }
}

impl std::fmt::Debug for Peers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.links.lock().keys()).finish()
    }
}

struct Unlink<'a>(&'a Peers);

impl Drop for Unlink<'_> {
    fn drop(&mut self) {
        self.0.links.lock().clear();
    }
}
