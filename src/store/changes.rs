//! Which pushes are to be written to disk.

use std::collections::BTreeMap;
use std::time::Instant;

use super::PushId;

/// What has become of a push.
#[derive(Debug, Clone, Copy)]
pub(super) enum Change {
    Entered,
    Altered,
    Ended { until: Instant },
    Removed,
}

/// The pushes that are not on disk as they are here, since the last effects. Without a disk nothing is noted.
#[derive(Debug, Default)]
pub(super) struct Changes {
    on: bool,
    changed: BTreeMap<PushId, Change>,
}

impl Changes {
    /// From now on.
    pub(super) fn begin(&mut self) {
        self.on = true;
    }

    pub(super) fn are_noted(&self) -> bool {
        self.on
    }

    /// Those noted so far.
    pub(super) fn take(&mut self) -> BTreeMap<PushId, Change> {
        std::mem::take(&mut self.changed)
    }

    pub(super) fn enter(&mut self, push: &PushId) {
        self.note(push, Change::Entered);
    }

    /// What the disk keeps of its standing has changed.
    pub(super) fn alter(&mut self, push: &PushId) {
        if !matches!(self.changed.get(push), Some(Change::Entered)) {
            self.note(push, Change::Altered);
        }
    }

    pub(super) fn end(&mut self, push: &PushId, until: Instant) {
        self.note(push, Change::Ended { until });
    }

    pub(super) fn remove(&mut self, push: &PushId) {
        self.note(push, Change::Removed);
    }

    fn note(&mut self, push: &PushId, change: Change) {
        if self.on {
            self.changed.insert(push.clone(), change);
        }
    }
}
