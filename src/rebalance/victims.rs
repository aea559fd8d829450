//! Which connections are closed.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use rand::seq::IteratorRandom;
use tokio::time::Instant;

use crate::rsocket::{Cause, Handle, PullTiming, Retirement};

/// Up to so many, at random, of those that nobody is going to miss.
pub(super) fn choose(
    handles: &[Arc<Handle>],
    wanted: usize,
    min_age: Duration,
    now: Instant,
    rng: &mut impl Rng,
) -> Vec<Arc<Handle>> {
    let fit = handles.iter().filter(|handle| {
        !handle.is_retiring() && is_fit(handle.age(now), handle.timing(), min_age, now)
    });
    fit.cloned().sample(rng, wanted)
}

/// Whether a connection is old enough, and its application is back before it is pulled again. One that was never pulled in
/// all that time is not scraped at all.
fn is_fit(age: Duration, timing: Option<PullTiming>, min_age: Duration, now: Instant) -> bool {
    age >= min_age && timing.is_none_or(|timing| timing.pauses(now))
}

/// Closes it as soon as nothing is under way. Whether nobody else had asked for that.
pub(super) fn close(handle: &Handle, now: Instant) -> bool {
    handle.retire(Retirement {
        cause: Cause::Rebalance,
        linger: Duration::ZERO,
        by: now,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_closed_when_it_is_old_enough_and_has_just_been_scraped_or_never_is() {
        let (start, min_age) = (Instant::now(), Duration::from_secs(60));
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut scraped = PullTiming::new(at(45));
        scraped.pull_ended(at(60));
        for (now, timing, fit) in [
            (59, None, false),
            (60, None, true),
            (66, Some(scraped), true),
            (70, Some(scraped), false),
        ] {
            let now = at(now);
            let found = is_fit(now - start, timing, min_age, now);
            assert_eq!(found, fit, "{:?}", now - start);
        }
        scraped = PullTiming::new(at(55));
        assert!(!is_fit(at(57) - start, Some(scraped), min_age, at(57)));
    }
}
