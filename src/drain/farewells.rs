//! When each connection of a node that leaves is to end: a pure function of their number and the time there is.
//!
//! An application that leaves right after a scrape is back at another node before the next one. So the first two thirds
//! of the time wait for scrapes, and the connections that have answered one end shortly after it: not in the same
//! moment, so that neither the balancer nor the other nodes have to take all of them at once. Those that nobody scraped
//! end in the last third, evenly spread over it.

use std::time::Duration;

use tokio::time::Instant;

use crate::rsocket::{Cause, Retirement};

/// Connections that end in a second after a scrape, where there is time for so few.
const LEISURELY: f64 = 200.0;

/// Plans the end of many connections.
#[derive(Debug, Clone, Copy)]
pub(super) struct Farewells {
    /// Those without a scrape end from here on,
    last_resort: Instant,
    /// for so long.
    spread: Duration,
    /// Those with a scrape end within this after it.
    linger: Duration,
}

impl Farewells {
    /// For so many connections, from `now` until `end`. Where no scrape is to be expected, none is waited for.
    pub(super) fn new(connections: usize, scraped: bool, now: Instant, end: Instant) -> Self {
        let window = end.saturating_duration_since(now);
        let patience = if scraped {
            window * 2 / 3
        } else {
            Duration::ZERO
        };
        let leisurely = Duration::from_secs_f64(connections as f64 / LEISURELY);
        Self {
            last_resort: now + patience,
            spread: window - patience,
            linger: leisurely.min(window / 3),
        }
    }

    /// The end of the one at this place of the line, which goes from 0 to 1.
    pub(super) fn at(&self, place: f64) -> Retirement {
        Retirement {
            cause: Cause::Drain,
            linger: self.linger.mul_f64(place),
            by: self.last_resort + self.spread.mul_f64(place),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(30);

    fn line(connections: usize, scraped: bool) -> (Instant, Vec<Retirement>) {
        let now = Instant::now();
        let farewells = Farewells::new(connections, scraped, now, now + WINDOW);
        let places = (0..connections).map(|place| place as f64 / connections as f64);
        (now, places.map(|place| farewells.at(place)).collect())
    }

    #[test]
    fn nobody_ends_before_there_was_time_for_a_scrape_and_all_do_before_the_end() {
        for connections in [1, 100, 10_000] {
            let (now, ends) = line(connections, true);
            for end in ends {
                assert!(end.by >= now + WINDOW * 2 / 3, "{end:?}");
                assert!(end.by <= now + WINDOW, "{end:?}");
            }
        }
    }

    #[test]
    fn where_nobody_scrapes_they_are_spread_evenly_over_the_whole_time() {
        let (now, ends) = line(3000, false);
        for second in 0..30 {
            let from = now + Duration::from_secs(second);
            let within =
                |end: &&Retirement| end.by >= from && end.by < from + Duration::from_secs(1);
            let number = ends.iter().filter(within).count();
            assert!((99..=101).contains(&number), "{number} in second {second}");
        }
    }

    #[test]
    fn after_a_scrape_they_do_not_end_in_the_same_moment() {
        let (_, ends) = line(1000, true);
        for second in 0..5 {
            let from = Duration::from_secs(second);
            let within = |end: &&Retirement| {
                end.linger.checked_sub(from) < Some(Duration::from_secs(1)) && end.linger >= from
            };
            let number = ends.iter().filter(within).count();
            assert!((199..=201).contains(&number), "{number} in second {second}");
        }
    }

    #[test]
    fn however_many_there_are_a_scrape_in_time_moves_all_of_them() {
        let (_, ends) = line(100_000, true);
        assert!(ends.iter().all(|end| end.linger <= WINDOW / 3));
    }

    #[test]
    fn without_time_they_end_at_once() {
        let now = Instant::now();
        let end = Farewells::new(10, true, now, now).at(0.9);
        assert_eq!((end.linger, end.by), (Duration::ZERO, now));
    }
}
