//! What strangers can bring about at will is not logged each time.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long a round lasts.
const ROUND: Duration = Duration::from_secs(10);

/// Lets something be logged so often in a round, and remembers how often it was not.
#[derive(Debug)]
pub(crate) struct Seldom {
    most: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// When the round began.
    began: Option<Instant>,
    logged: u64,
    left_out: u64,
}

impl Seldom {
    /// To be logged `most` times in ten seconds.
    pub(crate) const fn new(most: u64) -> Self {
        Self {
            most,
            state: Mutex::new(State {
                began: None,
                logged: 0,
                left_out: 0,
            }),
        }
    }

    /// How often it was left out since it was logged last, if it is to be logged again.
    pub(crate) fn due(&self) -> Option<u64> {
        let now = Instant::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.began.is_none_or(|began| now >= began + ROUND) {
            state.began = Some(now);
            state.logged = 0;
        }
        if state.logged >= self.most {
            state.left_out += 1;
            return None;
        }
        state.logged += 1;
        Some(std::mem::take(&mut state.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_was_left_out_is_counted() {
        let seldom = Seldom::new(2);
        let due = || [(); 4].map(|()| seldom.due());
        assert_eq!(due(), [Some(0), Some(0), None, None]);
        tokio::time::advance(ROUND).await;
        assert_eq!(due(), [Some(2), Some(0), None, None]);
        tokio::time::advance(ROUND).await;
        assert_eq!(seldom.due(), Some(2));
    }
}
