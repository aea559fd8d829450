//! A rate limit: a bucket of tokens, as in exporter-toolkit.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// `burst` requests at once, and one more in every `interval`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    pub(crate) interval: Duration,
    pub(crate) burst: u32,
}

impl Rate {
    /// So many in a second, and as many at once; `None` for none, which is no limit.
    pub(crate) fn per_second(number: u32) -> Option<Self> {
        (number > 0).then(|| Self {
            interval: Duration::from_secs(1) / number,
            burst: number,
        })
    }
}

/// Requests that are answered at a [`Rate`], all together.
#[derive(Debug)]
pub struct Bucket {
    pub(crate) rate: Rate,
    made_at: Instant,
    /// When all tokens are back, from `made_at`.
    full_after: Mutex<Duration>,
}

impl Bucket {
    pub(crate) fn new(rate: Rate) -> Self {
        Self {
            rate,
            made_at: Instant::now(),
            full_after: Mutex::default(),
        }
    }

    /// Takes a token, if there is one.
    pub(crate) fn take(&self) -> bool {
        let Rate { interval, burst } = self.rate;
        let now = self.made_at.elapsed();
        let mut full_after = self.full_after.lock();
        let missing = full_after.saturating_sub(now).saturating_add(interval);
        if missing > interval.saturating_mul(burst) {
            return false;
        }
        *full_after = now.saturating_add(missing);
        true
    }

    /// Whether all tokens are back.
    fn is_full(&self) -> bool {
        *self.full_after.lock() <= self.made_at.elapsed()
    }
}

/// A bucket for each of those that ask.
#[derive(Debug)]
pub(crate) struct Buckets<K> {
    rate: Rate,
    max: usize,
    of: Mutex<HashMap<K, Bucket>>,
}

impl<K: Eq + Hash> Buckets<K> {
    /// Each may ask at this rate. Buckets of no more than `max` are kept.
    pub(crate) fn new(rate: Rate, max: usize) -> Self {
        Self {
            rate,
            max,
            of: Mutex::default(),
        }
    }

    /// Takes a token of the bucket of `key`, if there is one. Where there is no room for one more bucket, the full ones
    /// are forgotten; if none is full, a newcomer gets no token.
    pub(crate) fn take(&self, key: K) -> bool {
        let mut of = self.of.lock();
        if of.len() >= self.max && !of.contains_key(&key) {
            of.retain(|_, bucket| !bucket.is_full());
            if of.len() >= self.max {
                return false;
            }
        }
        let bucket = of.entry(key).or_insert_with(|| Bucket::new(self.rate));
        bucket.take()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn taken(bucket: &Bucket) -> usize {
        (0..10).take_while(|_| bucket.take()).count()
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_answered_and_then_one_an_interval() {
        let bucket = Bucket::new(Rate {
            interval: SECOND,
            burst: 3,
        });
        assert_eq!(taken(&bucket), 3);
        advance(SECOND / 2).await;
        assert_eq!(taken(&bucket), 0);
        advance(SECOND / 2).await;
        assert_eq!(taken(&bucket), 1);
        advance(60 * SECOND).await;
        assert_eq!(taken(&bucket), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn each_has_a_bucket_of_its_own_and_so_many_are_kept() {
        let rate = Rate {
            interval: SECOND,
            burst: 1,
        };
        let buckets = Buckets::new(rate, 2);
        assert!(buckets.take("a") && buckets.take("b"));
        assert!(!buckets.take("a"), "its token is taken");
        assert!(!buckets.take("c"), "there is no room");
        advance(SECOND).await;
        assert!(buckets.take("c") && buckets.take("a"));
        assert_eq!(buckets.of.lock().len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_burst_nobody_is_answered() {
        let bucket = Bucket::new(Rate {
            interval: SECOND,
            burst: 0,
        });
        advance(60 * SECOND).await;
        assert_eq!(taken(&bucket), 0);
    }
}
