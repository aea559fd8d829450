//! The memory of one answer, shared by its targets so that none with a long text keeps the others' out.
//!
//! Half of it is divided among the targets: each can have its share of that whatever the others do. What a text takes
//! beyond its share comes out of the other half, while there is some.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What all texts of one answer may have.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    /// Bytes that each target can have.
    share: usize,
    /// A permit for each byte that is not divided.
    rest: Arc<Semaphore>,
}

impl Budget {
    /// Of `bytes`, for so many targets.
    pub(super) fn new(bytes: usize, targets: usize) -> Self {
        let share = bytes / 2 / targets.max(1);
        let rest = bytes.saturating_sub(share.saturating_mul(targets));
        Self {
            share,
            rest: Arc::new(Semaphore::new(rest.min(Semaphore::MAX_PERMITS))),
        }
    }

    /// What one target holds: nothing yet.
    pub(super) fn hold(&self) -> HeldBytes {
        HeldBytes {
            budget: self.clone(),
            bytes: 0,
            beyond: None,
        }
    }
}

/// There is no memory left for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its text does not fit into --scrape.max-answer with the others")]
pub(super) struct Full;

/// What one target holds, until it is dropped.
#[derive(Debug)]
pub(super) struct HeldBytes {
    budget: Budget,
    bytes: usize,
    beyond: Option<OwnedSemaphorePermit>,
}

impl HeldBytes {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes so many bytes more.
    pub(super) fn take(&mut self, bytes: usize) -> Result<(), Full> {
        let held = self.bytes.saturating_add(bytes);
        let has = self
            .beyond
            .as_ref()
            .map_or(0, OwnedSemaphorePermit::num_permits);
        let missing = held.saturating_sub(self.budget.share).saturating_sub(has);
        if missing > 0 {
            let permits = u32::try_from(missing).map_err(|_| Full)?;
            let rest = Arc::clone(&self.budget.rest);
            let more = rest.try_acquire_many_owned(permits).map_err(|_| Full)?;
            match &mut self.beyond {
                Some(beyond) => beyond.merge(more),
                None => self.beyond = Some(more),
            }
        }
        self.bytes = held;
        Ok(())
    }

    /// Holds no more than so many bytes.
    pub(super) fn shrink(&mut self, bytes: usize) {
        self.bytes = self.bytes.min(bytes);
        let beyond = self.bytes.saturating_sub(self.budget.share);
        if let Some(permit) = &mut self.beyond {
            drop(permit.split(permit.num_permits().saturating_sub(beyond)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_target_can_have_it_all() {
        let mut held = Budget::new(1000, 1).hold();
        held.take(600).unwrap();
        held.take(400).unwrap();
        assert_eq!(held.take(1), Err(Full));
        assert_eq!(held.bytes(), 1000);
    }

    #[test]
    fn a_long_text_leaves_every_other_target_its_share() {
        let budget = Budget::new(1000, 5);
        let mut long = budget.hold();
        long.take(600).unwrap();
        assert_eq!(long.take(1), Err(Full));
        let mut others: Vec<HeldBytes> = (0..4).map(|_| budget.hold()).collect();
        for other in &mut others {
            other.take(100).unwrap();
            assert_eq!(other.take(1), Err(Full));
        }
        long.shrink(500);
        others[0].take(100).unwrap();
        assert_eq!(others[1].take(1), Err(Full));
        drop(long);
        others[1].take(400).unwrap();
        assert_eq!(others[1].take(1), Err(Full));
    }
}
