//! What a node tells of an application that is or was connected to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::nodes::NodeId;

use super::{ApplicationId, End, MAX_ENTRY, Named, Outcome, Target};

/// Bytes that an entry takes beside its strings.
const OVERHEAD: usize = 512;
/// The same of a label.
const LABEL_OVERHEAD: usize = 64;

/// An application at a node: one connection that speaks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Names it at its node; never used again there.
    pub number: u64,
    /// Who it is.
    pub target: Target,
    /// The node that it was connected to, where that is another, which is gone.
    pub at: Option<NodeId>,
    /// When the connection began to speak for it, by the cluster's own clock: of two, the newer one is the application.
    pub stamp: u64,
    /// Since when those of its name and identity have held the name without a break, by the same clock.
    pub claimed: u64,
    /// How it ended; `None` while it is connected.
    pub ended: Option<Ended>,
    /// How its last pull went.
    pub last: Option<Outcome>,
}

/// How and when an application's connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// How.
    pub end: End,
    /// When, by the clock of the node that keeps this.
    pub at: Instant,
    /// For people.
    pub reason: Arc<str>,
}

/// Whether an application that ended so should be there.
pub(super) fn lingers(end: End, at: Instant, now: Instant, linger: Duration) -> bool {
    end != End::Left && now.saturating_duration_since(at) < linger
}

impl Entry {
    /// Whether it is within the bound of one entry.
    pub fn fits(&self) -> bool {
        self.cost() <= MAX_ENTRY
    }

    /// Bytes that it takes in memory, and more than it takes in a message.
    pub(super) fn cost(&self) -> usize {
        let Target { id, about } = &self.target;
        let strings = [&id.job, &about.client, &about.identity];
        let strings: usize = strings.into_iter().flatten().map(|text| text.len()).sum();
        let labels = about.labels.iter();
        let labels: usize = labels
            .map(|(name, value)| name.len() + value.len() + LABEL_OVERHEAD)
            .sum();
        OVERHEAD + id.instance.len() + strings + labels
    }

    /// Whether it holds its name, if its node lives.
    pub(super) fn holds(&self, now: Instant, linger: Duration) -> bool {
        let ended = self.ended.as_ref();
        ended.is_none_or(|ended| lingers(ended.end, ended.at, now, linger))
    }

    /// Whether it has another name after it connects again.
    pub(super) fn is_named_by_address(&self) -> bool {
        self.target.about.named == Named::Address
    }

    /// Whether `other` is the same application, as far as anybody can tell.
    pub(super) fn is_one_with(&self, other: &Target) -> bool {
        self.target.id == other.id && self.target.about.identity == other.about.identity
    }
}

/// The entries of one node, by number and by name.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Entries {
    by_number: BTreeMap<u64, Entry>,
    by_id: BTreeMap<ApplicationId, BTreeSet<u64>>,
    bytes: usize,
}

impl Entries {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn get(&self, number: u64) -> Option<&Entry> {
        self.by_number.get(&number)
    }

    /// To change anything but its target.
    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut Entry> {
        self.by_number.get_mut(&number)
    }

    pub(super) fn numbers(&self) -> Vec<u64> {
        self.by_number.keys().copied().collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.by_number.values()
    }

    /// In the order of their names.
    pub(super) fn by_name(&self) -> impl Iterator<Item = &Entry> {
        let numbers = self.by_id.values().flatten();
        numbers.filter_map(|number| self.by_number.get(number))
    }

    pub(super) fn put(&mut self, entry: Entry) {
        self.remove(entry.number);
        let named = self.by_id.entry(entry.target.id.clone()).or_default();
        named.insert(entry.number);
        self.bytes += entry.cost();
        self.by_number.insert(entry.number, entry);
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<Entry> {
        let entry = self.by_number.remove(&number)?;
        self.bytes -= entry.cost();
        if let Some(named) = self.by_id.get_mut(&entry.target.id) {
            named.remove(&number);
            if named.is_empty() {
                self.by_id.remove(&entry.target.id);
            }
        }
        Some(entry)
    }

    pub(super) fn named(&self, id: &ApplicationId) -> impl Iterator<Item = &Entry> {
        let numbers = self.by_id.get(id).into_iter().flatten();
        numbers.filter_map(|number| self.by_number.get(number))
    }

    /// The names with this instance.
    pub(super) fn with_instance(&self, instance: &str) -> impl Iterator<Item = &ApplicationId> {
        let first = ApplicationId {
            instance: instance.into(),
            job: None,
        };
        let instance = Arc::clone(&first.instance);
        let from = self.by_id.range(first..).map(|(id, _)| id);
        from.take_while(move |id| id.instance == instance)
    }
}
