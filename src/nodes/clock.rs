//! A time of the cluster's own, by which what different nodes took has one order everywhere: pushes, connections.

use std::time::Instant;

/// Microseconds that pass as on this node's clock, and are never behind what another node has said.
///
/// It begins at zero with the node, and has nothing to do with the time of day: the clocks of nodes are not compared. Nodes
/// that have heard of each other are apart by no more than a message takes, and whatever a node takes after it has heard of
/// something is later than that.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    reading: u64,
    read_at: Option<Instant>,
}

impl Clock {
    /// The time now.
    pub(crate) fn read(&mut self, now: Instant) -> u64 {
        let passed = self.read_at.map(|at| now.saturating_duration_since(at));
        let passed = passed.unwrap_or_default().as_micros();
        let passed = u64::try_from(passed).unwrap_or(u64::MAX);
        self.reading = self.reading.saturating_add(passed);
        self.read_at = self.read_at.max(Some(now));
        self.reading
    }

    /// A time for what is taken now: later than every one before.
    pub(crate) fn stamp(&mut self, now: Instant) -> u64 {
        self.reading = self.read(now).saturating_add(1);
        self.reading
    }

    /// Takes note of what another node said.
    pub(crate) fn hear(&mut self, reading: u64, now: Instant) {
        self.reading = self.read(now).max(reading);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_passes_with_time_never_stands_still_for_two_and_follows_the_one_ahead() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut clock = Clock::default();
        assert_eq!([clock.stamp(now), clock.stamp(now)], [1, 2]);
        assert_eq!(clock.read(later), 1_000_002);
        clock.hear(5_000_000, later);
        clock.hear(7, later);
        assert_eq!(clock.stamp(later), 5_000_001);
        clock.hear(u64::MAX, later);
        assert_eq!(clock.stamp(later), u64::MAX);
    }
}
