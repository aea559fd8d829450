//! When a connection is pulled, and so when it is needed least.

use std::time::Duration;

use tokio::time::Instant;

/// Pulls that end closer to each other are those of scrapes that overlap: one scrape.
const SAME_SCRAPE: Duration = Duration::from_secs(1);
/// A pause is shorter than this, however seldom pulls come.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A pause after the first pull, when nobody knows yet how often they come.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// When no pull came for this long, nobody scrapes any more.
const OVER_AFTER: Duration = Duration::from_secs(120);

/// When the pulls of a connection came last, also where several scrapers take turns.
#[derive(Debug, Clone, Copy)]
pub struct PullTiming {
    last: Instant,
    /// The two latest: two scrapers come at a short distance and at a long one, in turn.
    gaps: [Option<Duration>; 2],
}

impl PullTiming {
    /// After the first pull has ended.
    pub fn new(now: Instant) -> Self {
        Self {
            last: now,
            gaps: [None; 2],
        }
    }

    /// A further pull has ended.
    pub fn pull_ended(&mut self, now: Instant) {
        let gap = now - self.last;
        if gap >= SAME_SCRAPE {
            self.gaps = [Some(gap), self.gaps[0]];
        }
        self.last = now;
    }

    /// Whether the last pull ended so lately that an application whose connection ends now is back before the next one;
    /// or so long ago that no next one is to be expected.
    pub fn pauses(&self, now: Instant) -> bool {
        let since = now - self.last;
        let shortest = self.gaps.iter().flatten().min();
        let pause = shortest.map_or(FIRST_PAUSE, |gap| (*gap / 2).min(LONGEST_PAUSE));
        since < pause || since >= OVER_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses(beats: &[u64], now: u64) -> bool {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut timing = PullTiming::new(at(beats[0]));
        for beat in &beats[1..] {
            timing.pull_ended(at(*beat));
        }
        timing.pauses(at(now))
    }

    #[test]
    fn a_pause_is_the_first_half_of_the_time_between_two_pulls() {
        for (now, expected) in [(30, true), (37, true), (38, false), (44, false)] {
            assert_eq!(pauses(&[0, 15, 30], now), expected, "{now}");
        }
        assert!(pauses(&[0, 60], 69) && !pauses(&[0, 60], 70));
    }

    #[test]
    fn two_scrapers_leave_the_shorter_pause() {
        let beats = [0, 3, 15, 18, 30];
        assert!(pauses(&beats, 31) && !pauses(&beats, 32));
        assert!(pauses(&[0, 15, 15, 30, 30], 37));
    }

    #[test]
    fn nobody_is_waited_for_who_stopped_scraping() {
        assert!(!pauses(&[0, 15], 134) && pauses(&[0, 15], 135));
        assert!(pauses(&[0], 4) && !pauses(&[0], 5));
    }
}
