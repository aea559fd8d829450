//! Which nodes live, as this one sees it, and the order in which they are chosen for a push.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::PushId;
use crate::nodes::{NodeId, NodeState};

/// The live nodes, this one among them.
pub type View = BTreeMap<NodeId, NodeState>;

/// A node that no view has named yet counts as alive for this long after it was heard of: views lag.
const STRANGER: Duration = Duration::from_secs(10);
/// Such nodes remembered; past it one more counts as dead, which may serve its pushes twice.
const MAX_STRANGERS: usize = 1024;
/// A node that left the view is known to be dead for this long, so that a late message does not make a stranger of it.
const GONE: Duration = Duration::from_secs(600);
/// Dead nodes remembered; past it the ones gone longest are forgotten, and a late message of theirs costs [`STRANGER`].
const MAX_GONE: usize = 1024;

/// Who lives, and who does not any more.
#[derive(Debug)]
pub(super) struct Members {
    me: NodeId,
    view: View,
    strangers: BTreeMap<NodeId, Instant>,
    gone: BTreeMap<NodeId, Instant>,
    draining_since: Option<Instant>,
    candidates: Arc<[NodeId]>,
}

impl Members {
    /// This node alone.
    pub(super) fn new(me: NodeId) -> Self {
        Self {
            view: View::from([(me.clone(), NodeState::Active)]),
            me,
            strangers: BTreeMap::new(),
            gone: BTreeMap::new(),
            draining_since: None,
            candidates: Arc::default(),
        }
    }

    /// Takes the view over; says whether it differs from the last one.
    pub(super) fn update(&mut self, view: View, now: Instant) -> bool {
        if view == self.view {
            return false;
        }
        for node in self.view.keys().filter(|node| !view.contains_key(*node)) {
            self.gone.insert(node.clone(), now + GONE);
        }
        self.view = view;
        if self.am_draining() {
            self.draining_since.get_or_insert(now);
        }
        self.candidates = self.find_candidates();
        self.gone.retain(|node, _| !self.view.contains_key(node));
        self.strangers
            .retain(|node, _| !self.view.contains_key(node));
        self.forget(now);
        true
    }

    /// A message came from `node` or named it as an owner.
    pub(super) fn heard_of(&mut self, node: &NodeId, now: Instant) {
        let unknown = !self.view.contains_key(node) && !self.gone.contains_key(node);
        if unknown && self.strangers.len() < MAX_STRANGERS {
            self.strangers.entry(node.clone()).or_insert(now + STRANGER);
        }
    }

    /// Lets go of what is remembered for a time.
    pub(super) fn forget(&mut self, now: Instant) {
        let silent: Vec<_> = self
            .strangers
            .extract_if(.., |_, until| *until <= now)
            .map(|(node, _)| node)
            .collect();
        self.gone
            .extend(silent.into_iter().map(|node| (node, now + GONE)));
        self.gone.retain(|_, until| *until > now);
        while self.gone.len() > MAX_GONE {
            let oldest = self.gone.iter().min_by_key(|(_, until)| **until);
            let Some(oldest) = oldest.map(|(node, _)| node.clone()) else {
                break;
            };
            self.gone.remove(&oldest);
        }
    }

    /// Whether a push of `node`'s is its own business.
    pub(super) fn is_alive(&self, node: &NodeId) -> bool {
        *node == self.me || self.view.contains_key(node) || self.strangers.contains_key(node)
    }

    /// `node` with the name that is kept here: one that came in a message has memory of its own.
    pub(super) fn known(&self, node: &NodeId) -> NodeId {
        let view = self.view.get_key_value(node).map(|(id, _)| id);
        let stranger = || self.strangers.get_key_value(node).map(|(id, _)| id);
        let gone = || self.gone.get_key_value(node).map(|(id, _)| id);
        let known = view.or_else(stranger).or_else(gone);
        known.unwrap_or(node).clone()
    }

    /// Whether the view names `node`.
    pub(super) fn knows(&self, node: &NodeId) -> bool {
        self.view.contains_key(node)
    }

    /// Whether this node is about to leave.
    pub(super) fn am_draining(&self) -> bool {
        self.state(&self.me) == Some(NodeState::Draining)
    }

    /// Whether this node is not in service yet.
    pub(super) fn am_starting(&self) -> bool {
        self.state(&self.me) == Some(NodeState::Starting)
    }

    /// Since when this node is about to leave.
    pub(super) fn draining_since(&self) -> Option<Instant> {
        self.draining_since
    }

    /// Smaller for a node that is rather asked to hold a push.
    pub(super) fn preference(&self, node: &NodeId) -> u8 {
        match self.state(node) {
            None => 0,
            Some(NodeState::Active) => 1,
            Some(NodeState::Starting) => 2,
            Some(NodeState::Draining) => 3,
        }
    }

    /// What `node` is doing, if the view names it.
    pub(super) fn state(&self, node: &NodeId) -> Option<NodeState> {
        self.view.get(node).copied()
    }

    /// Whether `node` is in service.
    pub(super) fn is_active(&self, node: &NodeId) -> bool {
        self.state(node) == Some(NodeState::Active)
    }

    /// All other nodes in the view.
    pub(super) fn peers(&self) -> impl Iterator<Item = &NodeId> {
        self.view.keys().filter(|node| **node != self.me)
    }

    /// The nodes to hold replicas: active peers, and those about to be, so that they are when they hold what they are to
    /// hold; a node that leaves needs active ones. Where there is no active peer, any.
    pub(super) fn candidates(&self) -> Arc<[NodeId]> {
        Arc::clone(&self.candidates)
    }

    fn find_candidates(&self) -> Arc<[NodeId]> {
        let any = !self.peers().any(|node| self.is_active(node));
        let leaving = self.am_draining();
        let peers = self.peers().filter(|node| {
            let starting = self.state(node) == Some(NodeState::Starting);
            any || self.is_active(node) || (starting && !leaving)
        });
        peers.cloned().collect()
    }

    /// The one of `holders` that takes a push over whose owner is gone: the first in rendezvous order, those in service
    /// before others.
    pub(super) fn heir<'a>(
        &self,
        push: &PushId,
        holders: impl Iterator<Item = &'a NodeId>,
    ) -> Option<&'a NodeId> {
        holders
            .filter(|node| self.is_alive(node))
            .min_by_key(|node| (!self.is_active(node), rank(push, node)))
    }
}

/// The place of a node in the rendezvous order of a push: every node computes the same, and another push has another
/// order, so that the pushes of one node are spread over all.
pub(super) fn rank(push: &PushId, node: &NodeId) -> u64 {
    let mut hash = Sha256::new();
    for part in [&push.acceptor, node] {
        hash.update((part.name.len() as u64).to_be_bytes());
        hash.update(part.name.as_bytes());
        hash.update(part.generation.to_be_bytes());
    }
    hash.update(push.sequence.to_be_bytes());
    let digest: [u8; 32] = hash.finalize().into();
    digest
        .first_chunk()
        .map_or(0, |first| u64::from_be_bytes(*first))
}
