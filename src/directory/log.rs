//! What has changed in a node's list, in order: a node that has seen everything up to a sequence number is told the rest.

use std::collections::{BTreeMap, VecDeque};

/// Removals remembered. A node that has not heard of an earlier one is told the whole list.
const MAX_REMOVED: usize = 10_000;

/// The last change of each entry, and the removals of lately.
#[derive(Debug, Default)]
pub(super) struct Log {
    sequence: u64,
    changes: BTreeMap<u64, Change>,
    /// Where the last change of an entry stands.
    of: BTreeMap<u64, u64>,
    removed: VecDeque<u64>,
    /// Removals up to this one are forgotten.
    floor: u64,
}

/// A change of the entry with this number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Put(u64),
    Removed(u64),
}

impl Log {
    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Whether all removals after `known` are remembered.
    pub(super) fn reaches_back_to(&self, known: u64) -> bool {
        (self.floor..=self.sequence).contains(&known)
    }

    pub(super) fn put(&mut self, number: u64) {
        let at = self.next(number);
        self.of.insert(number, at);
        self.changes.insert(at, Change::Put(number));
    }

    pub(super) fn remove(&mut self, number: u64) {
        let at = self.next(number);
        self.changes.insert(at, Change::Removed(number));
        self.removed.push_back(at);
        if self.removed.len() > MAX_REMOVED
            && let Some(oldest) = self.removed.pop_front()
        {
            self.changes.remove(&oldest);
            self.floor = oldest;
        }
    }

    /// Everything after `after`, with the sequence number of each.
    pub(super) fn after(&self, after: u64) -> impl Iterator<Item = (u64, Change)> {
        let from = after.saturating_add(1);
        self.changes
            .range(from..)
            .map(|(at, change)| (*at, *change))
    }

    /// The next place, for a change of this entry, which makes the one before needless.
    fn next(&mut self, number: u64) -> u64 {
        if let Some(before) = self.of.remove(&number) {
            self.changes.remove(&before);
        }
        self.sequence += 1;
        self.sequence
    }
}
