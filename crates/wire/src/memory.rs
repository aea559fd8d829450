//! What many connections hold of payloads that cannot be used yet, bounded in sum.
//!
//! A peer may send as slowly as it likes, and whatever it has sent has to be kept. Bounded for each
//! connection alone, thousands of them could hold more than there is. So all share one [`Memory`]:
//! where it is exceeded, the connection goes which has held something unfinished for the longest.
//! An ordinary peer is done within milliseconds, so it is not one of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

/// What a connection may hold without being counted, so that the ordinary costs nothing.
const FREE: usize = 16 << 10;

/// Memory which connections share.
#[derive(Debug)]
pub struct Memory {
    max: usize,
    timeout: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Bytes of payloads which are whole.
    whole: usize,
    /// Bytes of all that is not.
    unfinished: usize,
    next: u64,
    oldest_first: BTreeMap<u64, Holder>,
}

/// A connection with something unfinished.
#[derive(Debug)]
struct Holder {
    bytes: usize,
    waker: Option<Waker>,
}

impl State {
    /// Takes the bytes of those away which have held theirs the longest, until `max` is kept. They
    /// learn it the next time they look.
    fn evict(&mut self, max: usize) {
        while self.whole + self.unfinished > max {
            let Some((_, holder)) = self.oldest_first.pop_first() else {
                return;
            };
            self.unfinished -= holder.bytes;
            if let Some(waker) = holder.waker {
                waker.wake();
            }
        }
    }
}

impl Memory {
    /// At most `max` bytes at a time, and nothing is unfinished for longer than `timeout`.
    #[must_use]
    pub fn new(max: usize, timeout: Duration) -> Arc<Self> {
        Arc::new(Self {
            max,
            timeout,
            state: Mutex::default(),
        })
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        let state = self.lock();
        state.whole + state.unfinished
    }

    /// Counts a payload which is whole until the reservation is dropped, or `None` where there is no
    /// memory for it, even with all that is unfinished gone.
    pub fn reserve(self: &Arc<Self>, bytes: usize) -> Option<Reservation> {
        let mut state = self.lock();
        if state.whole.saturating_add(bytes) > self.max {
            return None;
        }
        state.whole += bytes;
        state.evict(self.max);
        Some(Reservation {
            memory: Arc::clone(self),
            bytes,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes which are counted until it is dropped.
#[derive(Debug)]
pub struct Reservation {
    memory: Arc<Memory>,
    bytes: usize,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.memory.lock().whole -= self.bytes;
    }
}

/// What one connection holds unfinished.
#[derive(Debug)]
pub struct Share {
    memory: Arc<Memory>,
    /// Its place among the holders, and since when; `None`: it holds next to nothing.
    held: Option<(u64, Instant)>,
}

impl Share {
    /// It holds nothing yet.
    #[must_use]
    pub fn new(memory: Arc<Memory>) -> Self {
        Self { memory, held: None }
    }

    /// Counts so many bytes from now on. `waker` is woken where the connection has to go; `false`:
    /// that is now.
    pub fn hold(&mut self, bytes: usize, waker: &Waker, now: Instant) -> bool {
        if self.held.is_none() && bytes <= FREE {
            return true;
        }
        let mut state = self.memory.lock();
        let (id, since) = self.held.take().unwrap_or_else(|| {
            let id = state.next;
            state.next += 1;
            let holder = Holder {
                bytes: 0,
                waker: None,
            };
            state.oldest_first.insert(id, holder);
            (id, now)
        });
        let Some(holder) = state.oldest_first.get_mut(&id) else {
            return false;
        };
        let before = std::mem::replace(&mut holder.bytes, bytes);
        let late = now >= since + self.memory.timeout;
        if bytes <= FREE || late {
            state.oldest_first.remove(&id);
            state.unfinished -= before;
            return !late || bytes <= FREE;
        }
        if !holder
            .waker
            .as_ref()
            .is_some_and(|known| known.will_wake(waker))
        {
            holder.waker = Some(waker.clone());
        }
        state.unfinished = state.unfinished + bytes - before;
        state.evict(self.memory.max);
        let stays = state.oldest_first.contains_key(&id);
        drop(state);
        if stays {
            self.held = Some((id, since));
        }
        stays
    }

    /// When what it holds has been unfinished for too long.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.held.map(|(_, since)| since + self.memory.timeout)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if let Some((id, _)) = self.held {
            let mut state = self.memory.lock();
            if let Some(holder) = state.oldest_first.remove(&id) {
                state.unfinished -= holder.bytes;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn hold(share: &mut Share, bytes: usize, now: Instant) -> bool {
        share.hold(bytes, Waker::noop(), now)
    }

    #[test]
    fn who_holds_something_for_longest_goes() {
        let memory = Memory::new(100_000, 60 * SECOND);
        let now = Instant::now();
        let [mut first, mut second, mut third] = [(); 3].map(|()| Share::new(Arc::clone(&memory)));
        assert!(hold(&mut first, 40_000, now));
        assert!(hold(&mut second, 40_000, now));
        assert_eq!(memory.bytes(), 80_000);
        assert!(hold(&mut third, 40_000, now));
        assert_eq!(memory.bytes(), 80_000);
        assert!(!hold(&mut first, 40_000, now));
        assert!(hold(&mut second, 50_000, now));
        // What is done makes room.
        assert!(hold(&mut second, 0, now));
        assert_eq!(memory.bytes(), 40_000);
        drop(third);
        assert_eq!(memory.bytes(), 0);
    }

    #[test]
    fn one_alone_cannot_hold_more_than_there_is() {
        let memory = Memory::new(100_000, 60 * SECOND);
        let mut share = Share::new(Arc::clone(&memory));
        assert!(!hold(&mut share, 100_001, Instant::now()));
        assert_eq!(memory.bytes(), 0);
    }

    #[test]
    fn what_stays_unfinished_is_given_up() {
        let memory = Memory::new(100_000, 60 * SECOND);
        let mut share = Share::new(Arc::clone(&memory));
        let now = Instant::now();
        assert!(hold(&mut share, 20_000, now));
        assert_eq!(share.deadline(), Some(now + 60 * SECOND));
        assert!(hold(&mut share, 20_001, now + 59 * SECOND));
        // It had been done in between.
        assert!(hold(&mut share, 1, now + 59 * SECOND));
        assert!(hold(&mut share, 20_000, now + 60 * SECOND));
        assert!(!hold(&mut share, 20_000, now + 120 * SECOND));
        assert_eq!((memory.bytes(), share.deadline()), (0, None));
    }

    #[test]
    fn what_is_whole_takes_the_place_of_what_is_not_and_is_not_taken_away() {
        let memory = Memory::new(100_000, 60 * SECOND);
        let now = Instant::now();
        let mut share = Share::new(Arc::clone(&memory));
        assert!(hold(&mut share, 60_000, now));
        let whole = memory.reserve(60_000);
        assert!(whole.is_some());
        assert!(memory.reserve(60_000).is_none());
        assert!(!hold(&mut share, 60_000, now));
        assert_eq!(memory.bytes(), 60_000);
        drop(whole);
        assert_eq!(memory.bytes(), 0);
    }

    proptest! {
        #[test]
        fn the_sum_is_kept_whatever_connections_do(
            steps in proptest::collection::vec((0_usize..8, 0_usize..60_000, any::<bool>()), 0..200),
        ) {
            let memory = Memory::new(100_000, 60 * SECOND);
            let now = Instant::now();
            let mut shares: Vec<_> = (0..8).map(|_| Share::new(Arc::clone(&memory))).collect();
            let mut reservations = Vec::new();
            for (at, bytes, whole) in steps {
                if whole {
                    reservations.extend(memory.reserve(bytes));
                } else if !hold(&mut shares[at], bytes, now) {
                    shares[at] = Share::new(Arc::clone(&memory));
                }
                if bytes % 7 == 0 {
                    reservations.pop();
                }
                prop_assert!(memory.bytes() <= 100_000);
            }
            drop((shares, reservations));
            prop_assert_eq!(memory.bytes(), 0);
        }
    }
}
