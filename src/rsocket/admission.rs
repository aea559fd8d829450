//! How many connections there may be: in all, from one address, and of one identity.
//!
//! Nobody is refused by accepting and closing at once: a Java client would be back within milliseconds, for ever. Past the
//! total, the listeners stop accepting: one connection each is left unanswered, the others wait in the kernel's backlog.
//! Past the limit of an address or an identity, its next connection is left unanswered until an earlier one ends, or
//! patience does; it counts towards the total meanwhile.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// The longest that a connection past a limit is left unanswered before it is closed.
pub(super) const MAX_UNANSWERED: Duration = Duration::from_secs(60);

/// Gives out places for connections.
#[derive(Debug)]
pub(super) struct Admission {
    places: Arc<Semaphore>,
    /// Zero: no limit.
    pub(super) max_per_address: usize,
    pub(super) addresses: Arc<Shares<IpAddr>>,
    pub(super) identities: Arc<Shares<Arc<str>>>,
}

impl Admission {
    pub(super) fn new(max: usize, max_per_address: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(max)),
            max_per_address,
            addresses: Arc::default(),
            identities: Arc::default(),
        }
    }

    /// Waits for a place among all connections; to be had before the next one is accepted.
    pub(super) async fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).acquire_owned().await.ok()
    }
}

/// How many places each has.
#[derive(Debug)]
pub(super) struct Shares<K> {
    taken: Mutex<HashMap<K, usize>>,
    freed: Notify,
}

impl<K> Default for Shares<K> {
    fn default() -> Self {
        Self {
            taken: Mutex::default(),
            freed: Notify::new(),
        }
    }
}

impl<K: Clone + Eq + Hash> Shares<K> {
    /// Waits for one of `max` places; zero: there is no limit, and nothing is counted.
    pub(super) async fn place_of(self: &Arc<Self>, key: &K, max: usize) -> Place<K> {
        loop {
            let freed = self.freed.notified();
            if let Some(place) = self.take(key, max) {
                return place;
            }
            freed.await;
        }
    }

    /// One of `max` places, if one is free.
    pub(super) fn take(self: &Arc<Self>, key: &K, max: usize) -> Option<Place<K>> {
        if max == 0 {
            return Some(Place { counted: None });
        }
        let mut taken = self.lock();
        let count = taken.entry(key.clone()).or_default();
        if *count >= max {
            return None;
        }
        *count += 1;
        Some(Place {
            counted: Some((Arc::clone(self), key.clone())),
        })
    }

    fn free(&self, key: &K) {
        let mut taken = self.lock();
        if let Some(count) = taken.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                taken.remove(key);
            }
        }
        drop(taken);
        self.freed.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among the connections of an address or an identity; dropped, it is free again.
#[derive(Debug)]
pub(super) struct Place<K: Clone + Eq + Hash> {
    counted: Option<(Arc<Shares<K>>, K)>,
}

impl<K: Clone + Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        if let Some((shares, key)) = &self.counted {
            shares.free(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn an_address_waits_for_its_own_places_and_nobody_elses() {
        let addresses = Arc::new(Shares::default());
        let first = IpAddr::from(Ipv4Addr::new(10, 0, 0, 1));
        let second = IpAddr::from(Ipv4Addr::new(10, 0, 0, 2));
        let place = addresses.place_of(&first, 1).await;
        let mut waiting = Box::pin(addresses.place_of(&first, 1));
        assert!(waiting.as_mut().now_or_never().is_none());
        assert!(addresses.take(&first, 1).is_none());
        assert!(addresses.place_of(&second, 1).now_or_never().is_some());
        drop(place);
        assert!(waiting.now_or_never().is_some());
    }

    #[test]
    fn what_nobody_holds_any_more_is_forgotten() {
        let identities = Arc::new(Shares::<Arc<str>>::default());
        let places: Vec<_> = (0..3).map(|_| identities.take(&"a".into(), 3)).collect();
        assert!(places.iter().all(Option::is_some));
        drop(places);
        assert!(identities.lock().is_empty());
    }

    #[tokio::test]
    async fn the_total_holds_across_addresses() {
        let admission = Admission::new(1, 0);
        let place = admission.place().await;
        assert!(admission.place().now_or_never().is_none());
        drop(place);
        assert!(admission.place().now_or_never().is_some());
    }
}
