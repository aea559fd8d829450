//! What is kept back of a scrape's time for its response.
//!
//! Merging, compressing, carrying and reading a response takes time that grows with its text: a few milliseconds, or a
//! second for some hundred megabytes. A pull that is waited for until less than that is left costs not one application's
//! samples but everybody's, since Prometheus throws away what has not come whole. So the time is learnt from the responses
//! before.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// How long the longest response of late took, each one that was shorter making it count for an eighth less.
#[derive(Debug, Clone, Copy, Default)]
struct Recent(Duration);

impl Recent {
    fn note(&mut self, took: Duration) {
        self.0 = took.max(self.0 * 7 / 8);
    }

    /// Half as much again as that, at least `least`, at most half of `timeout`.
    fn reserve(self, least: Duration, timeout: Duration) -> Duration {
        least.max(self.0 * 3 / 2).min(timeout / 2)
    }
}

/// Learns how much has to be kept back.
#[derive(Debug, Default)]
pub struct Reserve(Mutex<Recent>);

impl Reserve {
    /// What is to be kept back of `timeout`: at least `least`, at most half.
    pub fn of(&self, timeout: Duration, least: Duration) -> Duration {
        let recent = *self.0.lock();
        recent.reserve(least, timeout)
    }

    /// From now on there is nothing left to be waited for but the response, which the scraper gives up at `end`.
    pub(super) fn response(self: &Arc<Self>, end: Instant) -> Response {
        Response {
            reserve: Arc::clone(self),
            since: Instant::now(),
            end,
        }
    }
}

/// A response that is made and handed over, or given up, until dropped. One that was given up counts too: it took longer
/// than there was.
#[derive(Debug)]
pub(super) struct Response {
    reserve: Arc<Reserve>,
    since: Instant,
    end: Instant,
}

impl Drop for Response {
    fn drop(&mut self) {
        let took = Instant::now().min(self.end) - self.since;
        self.reserve.0.lock().note(took);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const LEAST: Duration = Duration::from_millis(500);

    #[test]
    fn a_long_response_makes_the_next_ones_begin_earlier_and_is_forgotten_in_time() {
        let mut recent = Recent::default();
        let reserve = |recent: Recent| recent.reserve(LEAST, 10 * SECOND);
        assert_eq!(reserve(recent), LEAST);
        recent.note(2 * SECOND);
        recent.note(Duration::ZERO);
        assert_eq!(reserve(recent), 3 * SECOND * 7 / 8);
        for _ in 0..20 {
            recent.note(SECOND / 10);
        }
        assert_eq!(reserve(recent), LEAST);
    }

    #[test]
    fn half_of_the_time_is_always_left_for_pulls() {
        let mut recent = Recent::default();
        assert_eq!(recent.reserve(LEAST, SECOND / 2), SECOND / 4);
        recent.note(1000 * SECOND);
        assert_eq!(recent.reserve(LEAST, 10 * SECOND), 5 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_is_late_counts_until_it_would_have_given_up() {
        let reserve = Arc::new(Reserve::default());
        let response = reserve.response(Instant::now() + 2 * SECOND);
        tokio::time::advance(1000 * SECOND).await;
        drop(response);
        assert_eq!(reserve.of(10 * SECOND, LEAST), 3 * SECOND);
        drop(reserve.response(Instant::now() - SECOND));
        assert_eq!(reserve.of(10 * SECOND, LEAST), 3 * SECOND * 7 / 8);
    }
}
