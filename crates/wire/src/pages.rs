//! Memory for the texts of one scrape.
//!
//! A hundred megabytes are needed for half a second, every few seconds. In the heap they leave holes that add up. In
//! pages of their own they could go back to the system at once, but new pages cost more than what is written to them. So
//! texts that come one after the other share a block, and a block without texts is kept for the next scrape. One that
//! was not needed for [`KEEP`] goes back to the system when another becomes free.
//!
//! A text that stays would keep its whole block: what is held for longer does not belong here.

#![allow(unsafe_code)]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::slice;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use memmap2::{MmapMut, MmapRaw};

const BLOCK_BYTES: usize = 4 << 20;
/// Shorter ones are as well off in the heap.
const MIN_BYTES: usize = 32 << 10;
/// Longer ones would leave too much of a block unused.
const MAX_SHARED_BYTES: usize = BLOCK_BYTES / 4;

/// As long as the longest usual scrape interval.
const KEEP: Duration = Duration::from_secs(60);

/// The pages of blocks without texts, and since when they are that. The last one is used first, so that those which are
/// not needed are the first ones.
static SPARE: Mutex<VecDeque<(Arc<MmapRaw>, Instant)>> = Mutex::new(VecDeque::new());

thread_local! {
    /// Where this thread's next text goes, if there is room and another text still keeps the block.
    static CURRENT: RefCell<Weak<Block>> = RefCell::default();
}

#[derive(Debug)]
struct Block {
    pages: Arc<MmapRaw>,
    used: AtomicUsize,
}

/// Pages of zeros; `None` where the system gives none.
fn map(length: usize) -> Option<Arc<MmapRaw>> {
    Some(Arc::new(MmapMut::map_anon(length).ok()?.into()))
}

fn spare() -> MutexGuard<'static, VecDeque<(Arc<MmapRaw>, Instant)>> {
    SPARE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps `pages`, and gives back to the system what was kept for too long.
fn put_aside(spare: &mut VecDeque<(Arc<MmapRaw>, Instant)>, pages: Arc<MmapRaw>, now: Instant) {
    spare.push_back((pages, now));
    let long = |(_, since): &(_, Instant)| now.saturating_duration_since(*since) > KEEP;
    while spare.front().is_some_and(long) {
        spare.pop_front();
    }
}

impl Block {
    /// A spare one, else a new one.
    fn shared() -> Option<Arc<Self>> {
        let spare = spare().pop_back();
        let pages = spare.map(|(pages, _)| pages);
        Some(Self::of(pages.or_else(|| map(BLOCK_BYTES))?))
    }

    fn of(pages: Arc<MmapRaw>) -> Arc<Self> {
        Arc::new(Self {
            pages,
            used: AtomicUsize::new(0),
        })
    }

    fn take(self: Arc<Self>, length: usize) -> Option<Room> {
        let after = |used: usize| {
            used.checked_add(length)
                .filter(|end| *end <= self.pages.len())
        };
        let start = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, after)
            .ok()?;
        Some(Room {
            block: self,
            start,
            length,
        })
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if self.pages.len() == BLOCK_BYTES {
            put_aside(&mut spare(), Arc::clone(&self.pages), Instant::now());
        }
    }
}

/// A piece of a block, and nobody else's. What was in it before may stand there.
#[derive(Debug)]
pub(crate) struct Room {
    block: Arc<Block>,
    start: usize,
    length: usize,
}

/// Memory for a text of this many bytes; `None` where it belongs into the heap, or the system gives no pages.
pub(crate) fn take(length: usize) -> Option<Room> {
    if length < MIN_BYTES {
        return None;
    }
    if length > MAX_SHARED_BYTES {
        return Block::of(map(length)?).take(length);
    }
    CURRENT.with_borrow_mut(|current| {
        let shared = current.upgrade().and_then(|block| block.take(length));
        shared.or_else(|| {
            let block = Block::shared()?;
            *current = Arc::downgrade(&block);
            block.take(length)
        })
    })
}

impl AsMut<[u8]> for Room {
    fn as_mut(&mut self) -> &mut [u8] {
        // SAFETY: `start` and `length` lie within the block's pages, which live as long as `self`. `used` only grows, so
        // that no other room overlaps this one; a room is not cloned, and `self` is borrowed mutably.
        unsafe {
            slice::from_raw_parts_mut(self.block.pages.as_mut_ptr().add(self.start), self.length)
        }
    }
}

impl AsRef<[u8]> for Room {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: as above; nobody writes while `self` is borrowed.
        unsafe { slice::from_raw_parts(self.block.pages.as_ptr().add(self.start), self.length) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_do_not_overlap_and_outlive_each_other() {
        let mut rooms: Vec<_> = (0..200_u8)
            .map(|number| {
                let mut room = take(MIN_BYTES + usize::from(number)).unwrap();
                room.as_mut().fill(number);
                room
            })
            .collect();
        // Every other one goes, and with some their block.
        let mut number = 0_u8;
        rooms.retain(|_| {
            number += 1;
            number.is_multiple_of(2)
        });
        for (room, number) in rooms.iter().zip((1..200).step_by(2)) {
            assert!(room.as_ref().iter().all(|byte| *byte == number));
        }
    }

    #[test]
    fn a_block_goes_with_its_last_room() {
        let first = take(MIN_BYTES).unwrap();
        let second = take(MIN_BYTES).unwrap();
        let block = Arc::downgrade(&first.block);
        assert!(Arc::ptr_eq(&first.block, &second.block));
        drop(first);
        assert!(block.upgrade().is_some());
        drop(second);
        assert!(block.upgrade().is_none());
        assert!(take(MIN_BYTES).is_some());
    }

    #[test]
    fn a_block_that_was_not_needed_for_a_while_goes_back_to_the_system() {
        let mut spare = VecDeque::new();
        let start = Instant::now();
        let block = || map(BLOCK_BYTES).unwrap();
        for second in [0, 1, 2] {
            put_aside(&mut spare, block(), start + Duration::from_secs(second));
        }
        let used = spare.pop_back().unwrap().0;
        put_aside(&mut spare, used, start + KEEP);
        assert_eq!(spare.len(), 3);
        let used = spare.pop_back().unwrap().0;
        put_aside(&mut spare, used, start + KEEP + Duration::from_secs(2));
        assert_eq!(spare.len(), 1);
    }

    #[test]
    fn a_long_text_has_a_block_of_its_own_and_a_short_one_none() {
        let mut long = take(BLOCK_BYTES * 3 + 1).unwrap();
        assert_eq!(long.as_mut().len(), BLOCK_BYTES * 3 + 1);
        assert!(take(MIN_BYTES - 1).is_none());
    }
}
