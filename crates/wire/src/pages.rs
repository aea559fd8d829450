//! Memory for the texts of one scrape.
//!
//! A hundred megabytes are needed for half a second, every few seconds. In the heap they leave holes that add up, most of
//! it kept between scrapes. In pages of their own they go back to the system at once, but page by page that costs as much
//! as the decompression. So texts that come one after the other share a block, which asks for huge pages and is freed
//! with the last text in it; but one is kept for the next text, because applications that are pulled one by one would
//! need a new one each.
//!
//! A text that stays would keep its whole block: what is held for longer does not belong here.

#![allow(unsafe_code)]

use std::cell::RefCell;
use std::slice;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

#[cfg(target_os = "linux")]
use memmap2::Advice;
use memmap2::{MmapMut, MmapRaw};

/// Two huge pages of x86-64 and of 4-kB-page ARM.
const BLOCK_BYTES: usize = 4 << 20;
/// Shorter ones are as well off in the heap.
const MIN_BYTES: usize = 32 << 10;
/// Longer ones would leave too much of a block unused.
const MAX_SHARED_BYTES: usize = BLOCK_BYTES / 4;

/// A block in which no text is any more, for the next one.
static SPARE: Mutex<Option<Arc<MmapRaw>>> = Mutex::new(None);

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
    let pages = MmapMut::map_anon(length).ok()?;
    // Only advice: without huge pages it costs more, and works.
    #[cfg(target_os = "linux")]
    let _ = pages.advise(Advice::HugePage);
    Some(Arc::new(pages.into()))
}

fn spare() -> MutexGuard<'static, Option<Arc<MmapRaw>>> {
    SPARE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Block {
    /// The spare one, else a new one.
    fn shared() -> Option<Arc<Self>> {
        let spare = spare().take();
        let pages = spare.or_else(|| map(BLOCK_BYTES))?;
        Some(Self::of(pages))
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
            let before = spare().replace(Arc::clone(&self.pages));
            drop(before);
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
    fn a_long_text_has_a_block_of_its_own_and_a_short_one_none() {
        let mut long = take(BLOCK_BYTES * 3 + 1).unwrap();
        assert_eq!(long.as_mut().len(), BLOCK_BYTES * 3 + 1);
        assert!(take(MIN_BYTES - 1).is_none());
    }
}
