//! How long to wait before the next attempt to connect; no clock, no socket.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

/// A connection that lived this long shows that the proxy is well: the delays begin anew.
pub(crate) const WELL_AFTER: Duration = Duration::from_secs(30);
/// The greatest delay after a connection that lived well: the proxy is still there, or another one is. Random below
/// it, so that a thousand applications do not come back at the same instant.
const RETURN_WITHIN: Duration = Duration::from_millis(500);
/// The shortest of the delays that the application chooses: the proxy is not to be hammered.
const SHORTEST: Duration = Duration::from_millis(100);
/// The longest: a clock can add it to any time.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// The delays while a push waits for a connection: the application is about to end.
const HURRIED_FIRST: Duration = Duration::from_millis(100);
const HURRIED_MAX: Duration = Duration::from_secs(1);

/// The delays of one client.
#[derive(Debug)]
pub(crate) struct Schedule {
    first: Duration,
    max: Duration,
    max_retries: Option<u32>,
    /// Attempts that failed, one behind the other.
    failures: u32,
    failing: ExponentialBackoff,
    ending: ExponentialBackoff,
    hurried: ExponentialBackoff,
}

impl Schedule {
    /// Delays that double from `first` to `max`, both within bounds, and `first` no longer than `max`.
    pub(crate) fn new(first: Duration, max: Duration, max_retries: Option<u32>) -> Self {
        let max = max.clamp(SHORTEST, LONGEST);
        let first = first.clamp(SHORTEST, max);
        Self {
            first,
            max,
            max_retries,
            failures: 0,
            failing: delays(first, max),
            ending: returns(first, max),
            hurried: delays(HURRIED_FIRST, HURRIED_MAX),
        }
    }

    /// After an attempt that failed: `None` when it was the last.
    pub(crate) fn failed(&mut self) -> Option<Duration> {
        self.failures = self.failures.saturating_add(1);
        if self.max_retries.is_some_and(|max| self.failures > max) {
            return None;
        }
        self.failing.next()
    }

    /// An attempt succeeded: the key came.
    pub(crate) fn connected(&mut self) {
        self.failures = 0;
        self.failing = delays(self.first, self.max);
    }

    /// After a connection that ended: soon, but later and later while connections keep ending early.
    pub(crate) fn ended(&mut self, lived: Duration) -> Duration {
        if lived >= WELL_AFTER {
            self.ending = returns(self.first, self.max);
        }
        self.ending.next().unwrap_or(self.max)
    }

    /// Instead of any of the above while a push waits, if shorter.
    pub(crate) fn hurried(&mut self) -> Duration {
        self.hurried.next().unwrap_or(HURRIED_MAX)
    }

    /// No push waits any more.
    pub(crate) fn calm(&mut self) {
        self.hurried = delays(HURRIED_FIRST, HURRIED_MAX);
    }
}

/// Lengthens an interval by up to itself at random, so that a thousand applications do not move at the same instant.
pub(crate) fn spread(interval: Duration) -> Duration {
    let interval = interval.min(LONGEST);
    delays(interval, interval).next().unwrap_or(interval)
}

/// Doubles from `first` to `max`, each lengthened by up to itself at random.
fn delays(first: Duration, max: Duration) -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(first)
        .with_max_delay(max)
        .with_factor(2.0)
        .without_max_times()
        .with_jitter()
        .build()
}

fn returns(first: Duration, max: Duration) -> ExponentialBackoff {
    delays(RETURN_WITHIN.min(first) / 2, max)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_secs(10);
    const MAX: Duration = Duration::from_secs(60);

    fn schedule(max_retries: Option<u32>) -> Schedule {
        Schedule::new(FIRST, MAX, max_retries)
    }

    /// Between the delay and twice the delay.
    fn assert_about(actual: Duration, expected: Duration) {
        assert!((expected..=expected * 2).contains(&actual), "{actual:?}");
    }

    #[test]
    fn failed_attempts_wait_longer_and_longer_up_to_the_greatest_delay() {
        let mut schedule = schedule(None);
        for seconds in [10, 20, 40, 60, 60] {
            assert_about(schedule.failed().unwrap(), Duration::from_secs(seconds));
        }
        schedule.connected();
        assert_about(schedule.failed().unwrap(), FIRST);
    }

    #[test]
    fn the_attempt_after_the_last_retry_is_not_made_and_success_counts_anew() {
        let mut schedule = schedule(Some(1));
        assert!(schedule.failed().is_some());
        schedule.connected();
        assert!(schedule.failed().is_some());
        assert_eq!(schedule.failed(), None);
    }

    #[test]
    fn the_first_return_is_soon_and_a_proxy_that_keeps_closing_is_not_hammered() {
        let mut schedule = schedule(None);
        for milliseconds in [250, 500, 1000, 2000] {
            let delay = schedule.ended(Duration::from_secs(1));
            assert_about(delay, Duration::from_millis(milliseconds));
            // The key came each time, which is no reason to come back sooner.
            schedule.connected();
        }
        assert!(schedule.ended(WELL_AFTER) <= RETURN_WITHIN);
    }

    #[test]
    fn whatever_delays_are_chosen_the_proxy_is_not_hammered_and_the_clock_can_add_them() {
        let mut none = Schedule::new(Duration::ZERO, Duration::ZERO, None);
        assert_about(none.failed().unwrap(), SHORTEST);
        assert_about(none.ended(Duration::ZERO), SHORTEST / 2);
        let mut reversed = Schedule::new(MAX, FIRST, None);
        assert_about(reversed.failed().unwrap(), FIRST);
        let mut endless = Schedule::new(Duration::MAX, Duration::MAX, None);
        assert_about(endless.failed().unwrap(), LONGEST);
        assert_about(spread(Duration::MAX), LONGEST);
    }

    #[test]
    fn a_push_that_waits_shortens_every_delay() {
        let mut schedule = schedule(None);
        for milliseconds in [100, 200, 400, 800, 1000, 1000] {
            assert_about(schedule.hurried(), Duration::from_millis(milliseconds));
        }
        schedule.calm();
        assert_about(schedule.hurried(), HURRIED_FIRST);
    }
}
