//! Who else holds a push.

use std::time::Instant;

use crate::nodes::NodeId;

/// What is known of another holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holding {
    /// It was asked, or named by another holder, and has not answered. It may be asked again then. How often it failed to
    /// take the push.
    Asked { again: Instant, failures: u32 },
    /// It holds the push.
    Confirmed,
}

/// The other holders of a push, in the order of their names. There are few: a list takes less room than a map.
#[derive(Debug, Default)]
pub(super) struct Holders(Vec<(NodeId, Holding)>);

impl Holders {
    pub(super) fn get(&self, node: &NodeId) -> Option<&Holding> {
        let at = self.find(node).ok()?;
        self.0.get(at).map(|(_, holding)| holding)
    }

    pub(super) fn get_mut(&mut self, node: &NodeId) -> Option<&mut Holding> {
        let at = self.find(node).ok()?;
        self.0.get_mut(at).map(|(_, holding)| holding)
    }

    pub(super) fn contains(&self, node: &NodeId) -> bool {
        self.find(node).is_ok()
    }

    /// Says what is known of `node`; whether it was among the holders before.
    pub(super) fn put(&mut self, node: &NodeId, holding: Holding) -> bool {
        match self.find(node) {
            Ok(at) => self.0[at].1 = holding,
            Err(at) => {
                self.0.reserve_exact(1);
                self.0.insert(at, (node.clone(), holding));
                return false;
            }
        }
        true
    }

    pub(super) fn remove(&mut self, node: &NodeId) {
        self.0.retain(|(holder, _)| holder != node);
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&NodeId) -> bool) {
        self.0.retain(|(node, _)| keep(node));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&NodeId, Holding)> {
        self.0.iter().map(|(node, holding)| (node, *holding))
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = &NodeId> {
        self.0.iter().map(|(node, _)| node)
    }

    pub(super) fn holdings_mut(&mut self) -> impl Iterator<Item = &mut Holding> {
        self.0.iter_mut().map(|(_, holding)| holding)
    }

    pub(super) fn any_confirmed(&self) -> bool {
        self.iter()
            .any(|(_, holding)| holding == Holding::Confirmed)
    }

    fn find(&self, node: &NodeId) -> Result<usize, usize> {
        self.0.binary_search_by(|(holder, _)| holder.cmp(node))
    }
}

impl FromIterator<(NodeId, Holding)> for Holders {
    fn from_iter<I: IntoIterator<Item = (NodeId, Holding)>>(holders: I) -> Self {
        let mut holders: Vec<_> = holders.into_iter().collect();
        holders.sort_by(|(a, _), (b, _)| a.cmp(b));
        holders.dedup_by(|(a, _), (b, _)| a == b);
        holders.shrink_to_fit();
        Self(holders)
    }
}
