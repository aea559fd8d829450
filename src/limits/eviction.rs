//! Connections that serve nothing yet, or at the moment: where there is no room, the oldest of them is evicted.
//!
//! An ordinary client is through within milliseconds; one that opens connections and leaves them so has the oldest. None is
//! evicted within [`GRACE`], as thousands that come back at once take their time.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::limits::log_limit::LogLimit;

/// No connection is evicted earlier.
pub(crate) const GRACE: Duration = Duration::from_secs(1);
/// After a failed accept, so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// After a failed accept for which one had to go: until its descriptor is free.
const ROOM_PAUSE: Duration = Duration::from_millis(1);

/// Connections that may be evicted, oldest first.
#[derive(Debug)]
pub(crate) struct EvictionQueue {
    max: usize,
    members: Mutex<Members>,
    left: Notify,
}

#[derive(Debug, Default)]
struct Members {
    next: u64,
    /// When they came, and what ends them.
    oldest_first: BTreeMap<u64, (Instant, CancellationToken)>,
}

impl Members {
    fn evict(&mut self, now: Instant) -> bool {
        let oldest = self.oldest_first.first_entry();
        let Some(oldest) = oldest.filter(|oldest| oldest.get().0 + GRACE <= now) else {
            return false;
        };
        let (_, end) = oldest.remove();
        end.cancel();
        true
    }
}

impl EvictionQueue {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            max,
            members: Mutex::default(),
            left: Notify::new(),
        })
    }

    /// Waits until there is room for one more. Whether another one was evicted for it.
    pub(crate) async fn room(&self) -> bool {
        loop {
            let left = self.left.notified();
            let patience = {
                let mut members = self.members.lock();
                if members.oldest_first.len() < self.max {
                    return false;
                }
                if members.evict(Instant::now()) {
                    return true;
                }
                let oldest = members.oldest_first.values().next();
                oldest.map_or_else(Instant::now, |(since, _)| *since + GRACE)
            };
            tokio::select! {
                () = left => {}
                () = sleep_until(patience) => {}
            }
        }
    }

    /// Adds a connection, until what is returned is dropped; `end` is cancelled when it is evicted.
    pub(crate) fn join(self: &Arc<Self>, end: CancellationToken) -> Evictable {
        Evictable {
            queue: Arc::clone(self),
            id: self.add(end),
        }
    }

    /// Evicts the oldest, if it is older than [`GRACE`]. Whether it was.
    pub(crate) fn evict(&self) -> bool {
        self.members.lock().evict(Instant::now())
    }

    fn add(&self, end: CancellationToken) -> u64 {
        let mut members = self.members.lock();
        let id = members.next;
        members.next += 1;
        members.oldest_first.insert(id, (Instant::now(), end));
        id
    }

    fn remove(&self, id: u64) -> Option<CancellationToken> {
        let removed = self.members.lock().oldest_first.remove(&id);
        self.left.notify_waiters();
        removed.map(|(_, end)| end)
    }
}

/// Waits for a `place` that those in `queues` take up, too: some are evicted for it, from the first queue before the second.
/// With it, how many were.
pub(crate) async fn place<P>(
    queues: &[&EvictionQueue],
    place: impl Future<Output = P>,
) -> (P, usize) {
    let mut place = std::pin::pin!(place);
    let mut evicted = 0;
    let mut patience = Duration::ZERO;
    loop {
        if let Ok(place) = timeout(patience, &mut place).await {
            return (place, evicted);
        }
        evicted += usize::from(queues.iter().any(|queue| queue.evict()));
        patience = GRACE;
    }
}

/// After a failed accept of `listener`, before the next: where there are no descriptors left, one of those in `queues` is
/// evicted, from the first queue before the second. How many were.
pub(crate) async fn after_failed_accept(
    error: &io::Error,
    listener: &'static str,
    queues: &[&EvictionQueue],
) -> usize {
    static LOG_LIMIT: LogLimit = LogLimit::new(1);
    if let Some(suppressed) = LOG_LIMIT.due() {
        warn!(%error, listener, suppressed, "cannot accept connections");
    }
    let code = error.raw_os_error().map(Errno::from_raw);
    let full = matches!(code, Some(Errno::EMFILE | Errno::ENFILE));
    let evicted = full && queues.iter().any(|queue| queue.evict());
    sleep(if evicted { ROOM_PAUSE } else { ACCEPT_PAUSE }).await;
    usize::from(evicted)
}

/// A connection in an [`EvictionQueue`]; dropped, it leaves it.
#[derive(Debug)]
pub(crate) struct Evictable {
    queue: Arc<EvictionQueue>,
    id: u64,
}

impl Evictable {
    /// Moves it to another queue, where it is the youngest. One that was evicted stays so.
    pub(crate) fn move_to(&mut self, queue: &Arc<EvictionQueue>) {
        if let Some(end) = self.queue.remove(self.id) {
            self.id = queue.add(end);
            self.queue = Arc::clone(queue);
        }
    }
}

impl Drop for Evictable {
    fn drop(&mut self) {
        self.queue.remove(self.id);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::sync::Semaphore;
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_oldest_is_evicted() {
        let queue = EvictionQueue::new(2);
        let ends = [(); 3].map(|()| CancellationToken::new());
        assert!(!queue.room().await);
        let first = queue.join(ends[0].clone());
        let _second = queue.join(ends[1].clone());
        assert!(queue.room().now_or_never().is_none(), "within the grace");
        // It has asked meanwhile.
        drop(first);
        assert!(!queue.room().await);
        let _third = queue.join(ends[2].clone());
        assert!(queue.room().await, "after the grace");
        let ended = ends.each_ref().map(CancellationToken::is_cancelled);
        assert_eq!(ended, [false, true, false]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_leaves_makes_room_at_once() {
        let queue = EvictionQueue::new(1);
        let first = queue.join(CancellationToken::new());
        let mut room = Box::pin(queue.room());
        assert!(room.as_mut().now_or_never().is_none());
        drop(first);
        assert_eq!(room.now_or_never(), Some(false));
    }

    #[tokio::test(start_paused = true)]
    async fn one_is_evicted_for_a_place() {
        let queue = EvictionQueue::new(usize::MAX);
        let places = Arc::new(Semaphore::new(1));
        let (place, evicted) = super::place(&[&queue], Arc::clone(&places).acquire_owned()).await;
        assert_eq!(evicted, 0);
        let end = CancellationToken::new();
        let evictable = queue.join(end.clone());
        let held = tokio::spawn(async move {
            end.cancelled().await;
            drop((evictable, place));
        });
        advance(GRACE).await;
        let (place, evicted) = super::place(&[&queue], Arc::clone(&places).acquire_owned()).await;
        assert_eq!((place.is_ok(), evicted), (true, 1));
        held.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn one_is_evicted_where_there_are_no_descriptors_left() {
        let queue = EvictionQueue::new(usize::MAX);
        let end = CancellationToken::new();
        let _newcomer = queue.join(end.clone());
        advance(GRACE).await;
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        assert_eq!(after_failed_accept(&reset, "web", &[&queue]).await, 0);
        let full = io::Error::from(Errno::EMFILE);
        assert_eq!(after_failed_accept(&full, "web", &[&queue]).await, 1);
        assert!(end.is_cancelled());
        assert_eq!(after_failed_accept(&full, "web", &[&queue]).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_moves_makes_room_in_the_first_queue_and_is_the_youngest_of_the_second() {
        let (first, second) = (EvictionQueue::new(1), EvictionQueue::new(usize::MAX));
        let ends = [(); 2].map(|()| CancellationToken::new());
        let mut moving = first.join(ends[0].clone());
        advance(GRACE).await;
        let _staying = second.join(ends[1].clone());
        moving.move_to(&second);
        assert!(!first.room().await);
        assert!(!second.evict(), "both are within the grace");
        advance(GRACE).await;
        assert!(second.evict());
        assert!(ends[1].is_cancelled() && !ends[0].is_cancelled());
        assert!(second.evict() && ends[0].is_cancelled());
        moving.move_to(&first);
        assert!(!first.evict(), "one that was evicted stays so");
    }
}
