//! What other nodes say about pushes, brought to the store and to the scrapes that wait for it.

use std::hash::RandomState;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use prometheus_rsocket_exposition::Exposition;

use super::{Pushes, content_of};
use crate::cluster::calls::{self, Holder, Secret};
use crate::nodes::NodeId;
use crate::rsocket::run;
use crate::store::{Content, Reply, Request};
use crate::tenant::Tenant;

impl Holder for Pushes {
    fn serve(&self, from: &NodeId, request: Request) -> Reply {
        self.with(|held, now| held.store.serve(from, request, now))
    }

    fn answered(&self, from: &NodeId, reply: Reply) {
        let claims = matches!(reply, Reply::Claim { .. });
        self.with(|held, now| ((), held.store.answered(from, reply, now)));
        if claims {
            self.answers.notify_waiters();
        }
    }

    /// A scrape need not wait for a node that cannot be reached, and a push is to find another holder.
    fn unanswered(&self, by: &NodeId, request: &Request) {
        match request {
            Request::Claim { claim, .. } => {
                if let Some(unreached) = self.held.lock().scrapes.get_mut(claim) {
                    unreached.insert(by.clone());
                }
                self.answers.notify_waiters();
            }
            Request::Replicate(replica) => {
                let mut held = self.held.lock();
                held.store.unreplicated(by, &replica.push, Instant::now());
            }
            // Made again by the store if need be.
            _ => {}
        }
    }

    fn pack(&self, texts: Vec<Arc<Content>>) -> BoxFuture<'static, Vec<Bytes>> {
        Box::pin(async move {
            let texts = texts.into_iter();
            let pack = move || {
                texts
                    .map_while(|content| calls::pack(content.text.text()))
                    .collect()
            };
            run(pack).await.unwrap_or_default()
        })
    }

    fn unpack(
        &self,
        packed: Vec<(Bytes, Tenant)>,
    ) -> BoxFuture<'static, Vec<Option<Arc<Content>>>> {
        let opener = self.opener.clone();
        let hasher = self.hasher.clone();
        Box::pin(async move {
            // No node hands out more at a time.
            let mut left = opener.max_text();
            let unpack = move || {
                let packed = packed.into_iter();
                let unpacked = packed.map(|(packed, pusher)| {
                    let content = read(&packed, pusher, left, &hasher)?;
                    left -= content.text.text().len();
                    Some(content)
                });
                unpacked.collect()
            };
            opener.run_for_peer(unpack).await.unwrap_or_default()
        })
    }

    fn unwrap_key(&self, wrapped: Bytes) -> BoxFuture<'static, Option<Secret>> {
        let opener = self.opener.clone();
        let keys = self.keys.subscribe().borrow().clone();
        Box::pin(async move {
            let secret = opener.unwrap_key(wrapped, &keys).await?;
            Some(Secret::new(secret.to_vec()))
        })
    }
}

/// The same demands as on what an application pushes.
pub(super) fn read(
    packed: &[u8],
    pusher: Tenant,
    max: usize,
    hasher: &RandomState,
) -> Option<Arc<Content>> {
    let text = calls::unpack(packed, max)?;
    let exposition = Exposition::parse(text).ok()?;
    if exposition.has_timestamps() {
        return None;
    }
    let (content, _) = content_of(Arc::new(exposition), pusher, hasher);
    Some(Arc::new(content))
}

impl Pushes {
    /// Whether a scrape's claim waits for a node that may yet answer.
    pub(super) fn awaits(&self, claim: &crate::store::ClaimId) -> bool {
        let held = self.held.lock();
        let Some(unreached) = held.scrapes.get(claim) else {
            return false;
        };
        let mut awaited = held.store.awaited(claim);
        awaited.any(|node| !unreached.contains(node))
    }

    /// Whether this node's end costs no push: the others have all, or nobody else is there and every consumer has had all. In
    /// the latter case none may come any more.
    pub(super) fn settled(&self) -> bool {
        let mut held = self.held.lock();
        let now = Instant::now();
        if !held.alone {
            return held.store.may_leave(now);
        }
        // What is on disk is there again when the node is.
        let kept = self.disk.is_some() && held.waiting.is_empty() && held.scrapes.is_empty();
        let all_had = held.store.is_all_had();
        held.closed |= kept || all_had;
        held.closed
    }
}
