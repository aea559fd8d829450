//! How many pulls of single applications there are at a time.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::directory::ApplicationId;

/// Pulls under way at a time.
const MAX_PULLS: usize = 1024;
/// Requests that wait for an application to connect.
const MAX_WAITING: usize = 4096;
/// Requests for one application.
const MAX_OF_ONE: usize = 8;

/// The bounds of pulls. Who waits for an application that is on its way keeps no pull of another back.
pub(super) struct Places {
    pulls: Semaphore,
    waits: Semaphore,
    of: Mutex<HashMap<ApplicationId, usize>>,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            pulls: Semaphore::new(MAX_PULLS),
            waits: Semaphore::new(MAX_WAITING),
            of: Mutex::default(),
        }
    }
}

/// One request for an application, until dropped.
pub(super) struct Place<'a> {
    places: &'a Places,
    id: ApplicationId,
}

impl Places {
    /// For a request; `None` where there are too many for this application.
    pub(super) fn of(&self, id: &ApplicationId) -> Option<Place<'_>> {
        let mut of = self.of.lock();
        let taken = of.entry(id.clone()).or_default();
        if *taken >= MAX_OF_ONE {
            return None;
        }
        *taken += 1;
        Some(Place {
            places: self,
            id: id.clone(),
        })
    }

    /// For a pull.
    pub(super) fn pull(&self) -> Option<SemaphorePermit<'_>> {
        self.pulls.try_acquire().ok()
    }

    /// For waiting.
    pub(super) fn wait(&self) -> Option<SemaphorePermit<'_>> {
        self.waits.try_acquire().ok()
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut of = self.places.of.lock();
        if let Some(taken) = of.get_mut(&self.id) {
            *taken -= 1;
            if *taken == 0 {
                of.remove(&self.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_application_is_asked_for_by_so_many_at_a_time_and_others_are_not_kept_out() {
        let places = Places::default();
        let [one, other] = ["a", "b"].map(|name| ApplicationId::new(name, None).unwrap());
        let mut taken: Vec<_> = (0..MAX_OF_ONE).map(|_| places.of(&one).unwrap()).collect();
        assert!(places.of(&one).is_none());
        assert!(places.of(&other).is_some());
        taken.pop();
        assert!(places.of(&one).is_some());
        drop(taken);
        assert!(places.of.lock().is_empty());
    }
}
