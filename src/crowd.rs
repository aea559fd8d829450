//! Connections that are of no use yet: the one that has waited the longest makes room where there is none.
//!
//! Whoever means well is through within milliseconds; whoever opens connections and leaves them so is as old as can be.
//! Nobody has to go within [`GRACE`], as thousands that come back at once take their time.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::seldom::Seldom;

/// How long everybody may take.
pub(crate) const GRACE: Duration = Duration::from_secs(1);
/// After a failed accept, so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// After a failed accept for which one had to go: until its descriptor is free.
const ROOM_PAUSE: Duration = Duration::from_millis(1);

/// Connections that wait, oldest first.
#[derive(Debug)]
pub(crate) struct Crowd {
    max: usize,
    waiting: Mutex<Waiting>,
    left: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    /// When they came, and what ends them.
    oldest_first: BTreeMap<u64, (Instant, CancellationToken)>,
}

impl Waiting {
    fn make_room(&mut self, now: Instant) -> bool {
        let oldest = self.oldest_first.first_entry();
        let Some(oldest) = oldest.filter(|oldest| oldest.get().0 + GRACE <= now) else {
            return false;
        };
        let (_, end) = oldest.remove();
        end.cancel();
        true
    }
}

impl Crowd {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            max,
            waiting: Mutex::default(),
            left: Notify::new(),
        })
    }

    /// Waits until there is room for one more. Whether another one had to go for that.
    pub(crate) async fn room(&self) -> bool {
        loop {
            let left = self.left.notified();
            let patience = {
                let mut waiting = self.lock();
                if waiting.oldest_first.len() < self.max {
                    return false;
                }
                if waiting.make_room(Instant::now()) {
                    return true;
                }
                let oldest = waiting.oldest_first.values().next();
                oldest.map_or_else(Instant::now, |(since, _)| *since + GRACE)
            };
            tokio::select! {
                () = left => {}
                () = sleep_until(patience) => {}
            }
        }
    }

    /// Takes a connection in, until what is returned is dropped; `end` is cancelled where it has to go.
    pub(crate) fn join(self: &Arc<Self>, end: CancellationToken) -> Newcomer {
        Newcomer {
            crowd: Arc::clone(self),
            id: self.add(end),
        }
    }

    /// Ends the one that has waited the longest, if that is for longer than [`GRACE`]. Whether there was one.
    pub(crate) fn make_room(&self) -> bool {
        self.lock().make_room(Instant::now())
    }

    fn add(&self, end: CancellationToken) -> u64 {
        let mut waiting = self.lock();
        let id = waiting.next;
        waiting.next += 1;
        waiting.oldest_first.insert(id, (Instant::now(), end));
        id
    }

    fn remove(&self, id: u64) -> Option<CancellationToken> {
        let removed = self.lock().oldest_first.remove(&id);
        self.left.notify_waiters();
        removed.map(|(_, end)| end)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for a `place` that those in `crowds` take up, too: they make room for it, the first crowd before the second. With
/// it, how many had to go.
pub(crate) async fn place<P>(crowds: &[&Crowd], place: impl Future<Output = P>) -> (P, usize) {
    let mut place = std::pin::pin!(place);
    let mut gone = 0;
    let mut patience = Duration::ZERO;
    loop {
        if let Ok(place) = timeout(patience, &mut place).await {
            return (place, gone);
        }
        gone += usize::from(crowds.iter().any(|crowd| crowd.make_room()));
        patience = GRACE;
    }
}

/// After a failed accept of `listener`, before the next: where there are no descriptors left, one of those in `crowds` has to
/// go, the first crowd before the second. How many had to.
pub(crate) async fn unaccepted(
    error: &io::Error,
    listener: &'static str,
    crowds: &[&Crowd],
) -> usize {
    static SAID: Seldom = Seldom::new(1);
    if let Some(left_out) = SAID.due() {
        warn!(%error, listener, left_out, "no connection could be accepted");
    }
    let code = error.raw_os_error().map(Errno::from_raw);
    let full = matches!(code, Some(Errno::EMFILE | Errno::ENFILE));
    let gone = full && crowds.iter().any(|crowd| crowd.make_room());
    sleep(if gone { ROOM_PAUSE } else { ACCEPT_PAUSE }).await;
    usize::from(gone)
}

/// A connection that waits; dropped, it waits no more.
#[derive(Debug)]
pub(crate) struct Newcomer {
    crowd: Arc<Crowd>,
    id: u64,
}

impl Newcomer {
    /// Waits among others from now on, and is the youngest of them. One that had to go already stays gone.
    pub(crate) fn join(&mut self, crowd: &Arc<Crowd>) {
        if let Some(end) = self.crowd.remove(self.id) {
            self.id = crowd.add(end);
            self.crowd = Arc::clone(crowd);
        }
    }
}

impl Drop for Newcomer {
    fn drop(&mut self) {
        self.crowd.remove(self.id);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::sync::Semaphore;
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_one_that_has_waited_the_longest_makes_room() {
        let crowd = Crowd::new(2);
        let ends = [(); 3].map(|()| CancellationToken::new());
        assert!(!crowd.room().await);
        let first = crowd.join(ends[0].clone());
        let _second = crowd.join(ends[1].clone());
        assert!(crowd.room().now_or_never().is_none(), "within the grace");
        // It has asked meanwhile.
        drop(first);
        assert!(!crowd.room().await);
        let _third = crowd.join(ends[2].clone());
        assert!(crowd.room().await, "after the grace");
        let ended = ends.each_ref().map(CancellationToken::is_cancelled);
        assert_eq!(ended, [false, true, false]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_leaves_lets_the_next_in_at_once() {
        let crowd = Crowd::new(1);
        let first = crowd.join(CancellationToken::new());
        let mut room = Box::pin(crowd.room());
        assert!(room.as_mut().now_or_never().is_none());
        drop(first);
        assert_eq!(room.now_or_never(), Some(false));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_gives_its_place_to_who_comes() {
        let crowd = Crowd::new(usize::MAX);
        let places = Arc::new(Semaphore::new(1));
        let (place, gone) = super::place(&[&crowd], Arc::clone(&places).acquire_owned()).await;
        assert_eq!(gone, 0);
        let end = CancellationToken::new();
        let newcomer = crowd.join(end.clone());
        let held = tokio::spawn(async move {
            end.cancelled().await;
            drop((newcomer, place));
        });
        advance(GRACE).await;
        let (place, gone) = super::place(&[&crowd], Arc::clone(&places).acquire_owned()).await;
        assert_eq!((place.is_ok(), gone), (true, 1));
        held.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn where_there_are_no_descriptors_left_who_waits_makes_room() {
        let crowd = Crowd::new(usize::MAX);
        let end = CancellationToken::new();
        let _newcomer = crowd.join(end.clone());
        advance(GRACE).await;
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        assert_eq!(unaccepted(&reset, "web", &[&crowd]).await, 0);
        let full = io::Error::from(Errno::EMFILE);
        assert_eq!(unaccepted(&full, "web", &[&crowd]).await, 1);
        assert!(end.is_cancelled());
        assert_eq!(unaccepted(&full, "web", &[&crowd]).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_joins_another_crowd_makes_room_in_the_first_and_is_the_youngest_of_the_second() {
        let (first, second) = (Crowd::new(1), Crowd::new(usize::MAX));
        let ends = [(); 2].map(|()| CancellationToken::new());
        let mut moving = first.join(ends[0].clone());
        advance(GRACE).await;
        let _staying = second.join(ends[1].clone());
        moving.join(&second);
        assert!(!first.room().await);
        assert!(!second.make_room(), "both are new there");
        advance(GRACE).await;
        assert!(second.make_room());
        assert!(ends[1].is_cancelled() && !ends[0].is_cancelled());
        assert!(second.make_room() && ends[0].is_cancelled());
        moving.join(&first);
        assert!(!first.make_room(), "who had to go stays gone");
    }
}
