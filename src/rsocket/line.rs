//! Where openings wait that must not get in the way of a scrape.
//!
//! The opener's threads take work in the order in which it comes. Strangers can send pushes by the ten thousand, each a
//! private RSA operation or tens of megabytes to read; a scrape behind them would be over before its turn. So what nobody's
//! deadline waits for goes to the threads only from here, a few at a time, first come first served, and a connection that
//! sends many waits for itself.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Pushes of one connection in the line or being opened, at a time: the second one is in line while the first is opened.
const IN_LINE: usize = 2;
/// The longest that anything waits for its turn, behind others of its own connection too. Nobody waits for an
/// acknowledgement for that long.
const PATIENCE: Duration = Duration::from_secs(30);

/// A line. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Line(Arc<Semaphore>);

/// One connection's access to the line. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Lane(Arc<Semaphore>);

/// Somebody's turn, until dropped.
pub(super) struct Turn {
    _place: OwnedSemaphorePermit,
    _own: Option<OwnedSemaphorePermit>,
}

impl Line {
    /// So many have their turn at a time.
    pub(super) fn new(at_a_time: usize) -> Self {
        Self(Arc::new(Semaphore::new(at_a_time)))
    }

    /// Waits for a turn; `None`: it did not come in time.
    pub(super) async fn turn(&self, lane: Option<&Lane>) -> Option<Turn> {
        let turn = async {
            let own = match lane {
                Some(Lane(own)) => Some(Arc::clone(own).acquire_owned().await.ok()?),
                None => None,
            };
            let place = Arc::clone(&self.0).acquire_owned().await.ok()?;
            Some(Turn {
                _place: place,
                _own: own,
            })
        };
        timeout(PATIENCE, turn).await.ok()?
    }
}

impl Default for Lane {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(IN_LINE)))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_connection_that_sends_many_waits_for_itself() {
        let line = Line::new(1);
        let (greedy, modest) = (Lane::default(), Lane::default());
        let first = line.turn(Some(&greedy)).await.unwrap();
        let mut second = Box::pin(line.turn(Some(&greedy)));
        let mut third = Box::pin(line.turn(Some(&greedy)));
        let mut others = Box::pin(line.turn(Some(&modest)));
        for waiting in [&mut second, &mut third, &mut others] {
            assert!(waiting.now_or_never().is_none());
        }
        drop(first);
        let second = second.now_or_never().unwrap();
        assert!((&mut third).now_or_never().is_none());
        drop(second);
        assert!((&mut third).now_or_never().is_none());
        let others = others.now_or_never().unwrap();
        assert!(others.is_some());
        drop(others);
        assert!(third.now_or_never().unwrap().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever() {
        let line = Line::new(1);
        let _first = line.turn(None).await.unwrap();
        assert!(line.turn(None).await.is_none());
    }
}
