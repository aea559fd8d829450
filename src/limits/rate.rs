//! A rate limit: a bucket of tokens, as in exporter-toolkit.

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
    async fn without_a_burst_nobody_is_answered() {
        let bucket = Bucket::new(Rate {
            interval: SECOND,
            burst: 0,
        });
        advance(60 * SECOND).await;
        assert_eq!(taken(&bucket), 0);
    }
}
