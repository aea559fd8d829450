//! A node that stood still may own what others have taken over and served meanwhile: it asks them before it lends.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::{PushId, Store};
use crate::nodes::NodeId;

/// Steps come several times a second: a node that took none for so long stood still. No other node takes its pushes over
/// sooner.
const STOOD_STILL: Duration = Duration::from_secs(2);
/// So long it waits for answers. Longer than it takes until nodes that took this one for lost see it again.
const ASKED_FOR: Duration = Duration::from_secs(15);

/// What this node owns and must not lend yet.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    /// When this node last took a step.
    last_step: Option<Instant>,
    until: Option<Instant>,
    ask_at: Option<Instant>,
    /// Who has not answered yet.
    unanswered: BTreeMap<PushId, BTreeSet<NodeId>>,
}

impl Doubts {
    /// Whether this node must not lend the push yet.
    pub(super) fn concern(&self, push: &PushId) -> bool {
        self.unanswered.contains_key(push)
    }

    /// `node` has said how the push stands with it.
    pub(super) fn answered(&mut self, node: &NodeId, push: &PushId) {
        if let Some(nodes) = self.unanswered.get_mut(push) {
            nodes.remove(node);
            if nodes.is_empty() {
                self.unanswered.remove(push);
            }
        }
    }
}

impl Store {
    /// Notes that time goes on; to be called first in each step. After a standstill every push that this node owns is in
    /// doubt, until all other holders that it saw alive have said how it stands.
    pub(super) fn note_step(&mut self, now: Instant) {
        let last = self.doubts.last_step.replace(now);
        let stood_still =
            last.is_some_and(|last| now.saturating_duration_since(last) >= STOOD_STILL);
        if !stood_still {
            return;
        }
        for (push, held) in self.ledger.iter() {
            if held.ownership().owner != self.me {
                continue;
            }
            let others = held.holders.nodes();
            let others = others.filter(|node| self.members.is_alive(node)).cloned();
            let others = BTreeSet::from_iter(others);
            if !others.is_empty() {
                self.doubts.unanswered.insert(push.clone(), others);
            }
        }
        self.doubts.until = Some(now + ASKED_FOR);
        self.doubts.ask_at = None;
    }

    /// Asks those that have not answered, each second: a node that took this one for lost may hear it again only later.
    pub(super) fn ask_in_doubt(&mut self, now: Instant) {
        if self.doubts.unanswered.is_empty() || self.doubts.ask_at.is_some_and(|at| now < at) {
            return;
        }
        if self.doubts.until.is_none_or(|until| now >= until) {
            self.doubts.unanswered.clear();
            return;
        }
        self.doubts.ask_at = Some(now + self.replication.resend);
        for (push, nodes) in &self.doubts.unanswered {
            for node in nodes {
                let words = self.words.entry(node.clone()).or_default();
                words.insert(push.clone());
            }
        }
    }
}
