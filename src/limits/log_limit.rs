//! Limits log lines that anyone can cause.

use std::num::NonZeroU64;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// How long a round lasts.
const ROUND: Duration = Duration::from_secs(10);

/// Lines that were not logged since the last one; `None`: not any, and a line has no such field.
pub(crate) type Suppressed = Option<NonZeroU64>;

/// Lets a line be logged so often in a round, and counts how often it was not.
#[derive(Debug)]
pub(crate) struct LogLimit {
    most: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// When the round began.
    began: Option<Instant>,
    logged: u64,
    suppressed: u64,
}

impl LogLimit {
    /// To be logged `most` times in ten seconds.
    pub(crate) const fn new(most: u64) -> Self {
        Self {
            most,
            state: Mutex::new(State {
                began: None,
                logged: 0,
                suppressed: 0,
            }),
        }
    }

    /// Whether the line is to be logged now, and how many were suppressed before it.
    pub(crate) fn due(&self) -> Option<Suppressed> {
        let now = Instant::now();
        let mut state = self.state.lock();
        if state.began.is_none_or(|began| now >= began + ROUND) {
            state.began = Some(now);
            state.logged = 0;
        }
        if state.logged >= self.most {
            state.suppressed += 1;
            return None;
        }
        state.logged += 1;
        Some(NonZeroU64::new(std::mem::take(&mut state.suppressed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_was_suppressed_is_counted() {
        let limit = LogLimit::new(2);
        let due = || [(); 4].map(|()| limit.due());
        assert_eq!(due(), [Some(None), Some(None), None, None]);
        tokio::time::advance(ROUND).await;
        assert_eq!(due(), [Some(NonZeroU64::new(2)), Some(None), None, None]);
        tokio::time::advance(ROUND).await;
        assert_eq!(limit.due(), Some(NonZeroU64::new(2)));
    }
}
