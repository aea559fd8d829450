//! What strangers can cause as often as they like is not logged each time.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long a round lasts.
const ROUND: Duration = Duration::from_secs(10);

/// Lets something be logged so often in a round, and remembers how often it was not.
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

/// How often something was not logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Suppressed(u64);

impl Suppressed {
    /// For the log: `None`, and so no field, where it was logged each time.
    pub(crate) fn count(self) -> Option<u64> {
        (self.0 > 0).then_some(self.0)
    }
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

    /// `Some` if it is to be logged now: with how often it was not since the last time.
    pub(crate) fn due(&self) -> Option<Suppressed> {
        let now = Instant::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.began.is_none_or(|began| now >= began + ROUND) {
            state.began = Some(now);
            state.logged = 0;
        }
        if state.logged >= self.most {
            state.suppressed += 1;
            return None;
        }
        state.logged += 1;
        Some(Suppressed(std::mem::take(&mut state.suppressed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_was_not_logged_is_counted() {
        let limit = LogLimit::new(2);
        let due = || [(); 4].map(|()| limit.due().map(Suppressed::count));
        assert_eq!(due(), [Some(None), Some(None), None, None]);
        tokio::time::advance(ROUND).await;
        assert_eq!(due(), [Some(Some(2)), Some(None), None, None]);
        tokio::time::advance(ROUND).await;
        assert_eq!(limit.due(), Some(Suppressed(2)));
    }
}
