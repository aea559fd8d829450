//! What is remembered of pushes whose life is over, so that no late message gives them another.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::PushId;

/// Pushes remembered; past it those whose own time would be over first are forgotten. A forgotten one may come back to
/// life by a message that was under way all that time, and be served twice.
const MAX: usize = 100_000;

/// Pushes whose life is over.
#[derive(Debug, Default)]
pub(super) struct Tombstones {
    until: BTreeMap<PushId, Instant>,
    by_time: BTreeSet<(Instant, PushId)>,
}

impl Tombstones {
    /// Remembers `push` until then.
    pub(super) fn put(&mut self, push: PushId, until: Instant) {
        if let Some(before) = self.until.insert(push.clone(), until) {
            self.by_time.remove(&(before, push.clone()));
        }
        self.by_time.insert((until, push));
        if self.until.len() > MAX {
            self.forget_first();
        }
    }

    /// Whether `push`'s life is known to be over.
    pub(super) fn contains(&self, push: &PushId) -> bool {
        self.until.contains_key(push)
    }

    /// Forgets what is no longer needed.
    pub(super) fn forget(&mut self, now: Instant) {
        while self.by_time.first().is_some_and(|(until, _)| *until <= now) {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some((_, push)) = self.by_time.pop_first() {
            self.until.remove(&push);
        }
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.until.len()
    }
}

#[cfg(test)]
mod tests {
    use crate::nodes::NodeId;
    use std::time::Duration;

    use super::*;

    #[test]
    fn no_more_are_kept_than_may_be_and_the_oldest_go_first() {
        let now = Instant::now();
        let push = |sequence| PushId {
            acceptor: NodeId::new("a", 1),
            sequence,
        };
        let mut tombstones = Tombstones::default();
        for sequence in 0..=MAX as u64 {
            let until = now + Duration::from_millis(sequence);
            tombstones.put(push(sequence), until);
            tombstones.put(push(sequence), until);
        }
        assert_eq!(tombstones.len(), MAX);
        assert!(!tombstones.contains(&push(0)));
        assert!(tombstones.contains(&push(1)));
        tombstones.forget(now + Duration::from_secs(1000));
        assert_eq!(tombstones.len(), 0);
        assert!(tombstones.by_time.is_empty());
    }
}
