//! How long to wait before the next attempt to connect; no clock, no socket.

use std::time::Duration;

use fastrand::Rng;

/// A connection that lived this long shows that the proxy is well: the delays begin anew.
pub(crate) const WELL_AFTER: Duration = Duration::from_secs(30);
/// The greatest delay after a connection that lived well: another proxy is there, or the same one soon again. Anything
/// below it, so that a thousand applications do not come back at the same instant.
const RETURN_WITHIN: Duration = Duration::from_millis(500);
/// How many attempts after a connection that lived well do not wait for the first backoff: the first one may lead to the
/// node that has just gone.
const RETURNS: u32 = 4;
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
    random: Rng,
    /// Attempts that failed, one behind the other, and how many of them waited for a backoff.
    failures: u32,
    backoffs: u32,
    /// Delays after connections that ended, since the last one that lived well.
    returns: u32,
    /// Whether one has lived well.
    lived_well: bool,
    hurries: u32,
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
            random: Rng::new(),
            failures: 0,
            backoffs: 0,
            returns: 0,
            lived_well: false,
            hurries: 0,
        }
    }

    /// After an attempt that failed: `None` when it was the last.
    pub(crate) fn failed(&mut self) -> Option<Duration> {
        self.failures = self.failures.saturating_add(1);
        if self.max_retries.is_some_and(|max| self.failures > max) {
            return None;
        }
        if self.lived_well && self.returns < RETURNS {
            return Some(self.next_return());
        }
        let delay = doubled(self.first, &mut self.backoffs, self.max);
        Some(lengthened(delay, &mut self.random))
    }

    /// An attempt succeeded: the key came.
    pub(crate) fn connected(&mut self) {
        self.failures = 0;
        self.backoffs = 0;
    }

    /// After a connection that ended: soon, but later and later while connections keep ending early.
    pub(crate) fn ended(&mut self, lived: Duration) -> Duration {
        if lived >= WELL_AFTER {
            self.lived_well = true;
            self.returns = 0;
        }
        self.next_return()
    }

    /// Whether a proxy that does not answer is to be given up soon: the client was well connected a moment ago.
    pub(crate) fn is_returning(&self) -> bool {
        self.lived_well && self.backoffs == 0
    }

    /// Instead of any of the above while a push waits, if shorter.
    pub(crate) fn hurried(&mut self) -> Duration {
        let delay = doubled(HURRIED_FIRST, &mut self.hurries, HURRIED_MAX);
        lengthened(delay, &mut self.random)
    }

    /// No push waits any more.
    pub(crate) fn calm(&mut self) {
        self.hurries = 0;
    }

    /// The first is anything up to its bound, the others double from there.
    fn next_return(&mut self) -> Duration {
        let first = RETURN_WITHIN.min(self.first);
        let Some(mut before) = self.returns.checked_sub(1) else {
            self.returns = 1;
            return first.mul_f64(self.random.f64());
        };
        let delay = doubled(first, &mut before, self.max);
        self.returns = self.returns.saturating_add(1);
        lengthened(delay, &mut self.random)
    }
}

/// Lengthens an interval by up to itself at random, so that a thousand applications do not move at the same instant.
pub(crate) fn spread(interval: Duration) -> Duration {
    lengthened(interval.min(LONGEST), &mut Rng::new())
}

fn lengthened(delay: Duration, random: &mut Rng) -> Duration {
    delay + delay.mul_f64(random.f64())
}

/// The next of the delays that double from `first` to `max`.
fn doubled(first: Duration, before: &mut u32, max: Duration) -> Duration {
    let times = 2_u32.saturating_pow(*before);
    *before = before.saturating_add(1);
    first.saturating_mul(times).min(max)
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
        assert!(schedule.ended(Duration::from_secs(1)) <= RETURN_WITHIN);
        for milliseconds in [500, 1000, 2000, 4000] {
            // The key came each time, which is no reason to come back sooner.
            schedule.connected();
            let delay = schedule.ended(Duration::from_secs(1));
            assert_about(delay, Duration::from_millis(milliseconds));
        }
        assert_about(schedule.failed().unwrap(), FIRST);
        assert!(schedule.ended(WELL_AFTER) <= RETURN_WITHIN);
    }

    #[test]
    fn attempts_that_fail_after_a_good_connection_come_soon_before_the_first_backoff() {
        let mut schedule = schedule(None);
        schedule.connected();
        assert!(!schedule.is_returning());
        assert!(schedule.ended(WELL_AFTER) <= RETURN_WITHIN);
        for milliseconds in [500, 1000, 2000] {
            assert!(schedule.is_returning());
            let delay = schedule.failed().unwrap();
            assert_about(delay, Duration::from_millis(milliseconds));
        }
        assert!(schedule.is_returning());
        assert_about(schedule.failed().unwrap(), FIRST);
        assert!(!schedule.is_returning());
        assert_about(schedule.failed().unwrap(), 2 * FIRST);
    }

    #[test]
    fn of_two_nodes_that_end_one_after_the_other_the_second_costs_no_backoff() {
        let mut schedule = schedule(None);
        schedule.connected();
        schedule.ended(WELL_AFTER);
        schedule.connected();
        assert_about(schedule.ended(Duration::from_secs(5)), RETURN_WITHIN);
        assert_about(schedule.failed().unwrap(), 2 * RETURN_WITHIN);
    }

    /// How many attempts 10,000 applications make in each tenth of a second after their node has ended, while nobody
    /// takes them.
    fn attempts(applications: u64, within: Duration) -> Vec<usize> {
        let mut attempts = vec![0; usize::try_from(within.as_millis() / 100).unwrap()];
        for application in 0..applications {
            let mut schedule = Schedule::new(FIRST, Duration::from_secs(600), None);
            schedule.random = Rng::with_seed(application);
            schedule.connected();
            let mut at = schedule.ended(WELL_AFTER);
            while at < within {
                attempts[usize::try_from(at.as_millis() / 100).unwrap()] += 1;
                at += schedule.failed().unwrap();
            }
        }
        attempts
    }

    #[test]
    fn ten_thousand_applications_that_lose_their_node_are_no_herd() {
        const APPLICATIONS: usize = 10_000;
        let attempts = attempts(APPLICATIONS as u64, Duration::from_secs(60));
        assert_eq!(attempts[..5].iter().sum::<usize>(), APPLICATIONS);
        // In the first half second each comes once, at any time of it, and at no time more of them come together.
        assert!(
            attempts
                .iter()
                .all(|share| *share < APPLICATIONS * 22 / 100)
        );
        let seconds: Vec<usize> = attempts
            .chunks(10)
            .map(|tenths| tenths.iter().sum())
            .collect();
        assert!(
            seconds[8..]
                .iter()
                .all(|share| *share < APPLICATIONS * 11 / 100),
            "{seconds:?}"
        );
        // Each makes four attempts before the first backoff.
        assert_eq!(seconds[..8].iter().sum::<usize>(), 4 * APPLICATIONS);
    }

    #[test]
    fn whatever_delays_are_chosen_the_proxy_is_not_hammered_and_the_clock_can_add_them() {
        let mut none = Schedule::new(Duration::ZERO, Duration::ZERO, None);
        assert_about(none.failed().unwrap(), SHORTEST);
        assert!(none.ended(Duration::ZERO) <= SHORTEST);
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
