//! How many connections there may be: in all, from one address, and of one identity.
//!
//! No connection is accepted and closed immediately: a Java client would reconnect in a tight loop. At the total, the
//! listeners stop accepting: one connection each gets no answer, the others wait in the kernel's backlog. At the limit of
//! an address or an identity, its next connection gets no answer until an earlier one ends, or for
//! [`MAX_UNANSWERED`]; it counts towards the total meanwhile.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
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

    /// Waits for a place among all connections; taken before the next one is accepted.
    pub(super) async fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).acquire_owned().await.ok()
    }
}

/// How many places each has.
#[derive(Debug)]
pub(crate) struct Shares<K>(Mutex<HashMap<K, Share>>);

/// What one has; it is forgotten with its last connection, of those that wait too.
#[derive(Debug, Default)]
struct Share {
    taken: usize,
    waiting: usize,
    /// For the one that has waited the longest.
    freed: Arc<Notify>,
}

impl<K> Default for Shares<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Clone + Eq + Hash> Shares<K> {
    /// Waits for one of `max` places; zero: there is no limit.
    pub(super) async fn place_of(self: &Arc<Self>, key: &K, max: usize) -> Place<K> {
        let waiting = self.wait(key);
        loop {
            if let Some(place) = self.take(key, max) {
                return place;
            }
            waiting.freed.notified().await;
        }
    }

    /// One of `max` places, if one is free; zero: there is no limit.
    pub(crate) fn take(self: &Arc<Self>, key: &K, max: usize) -> Option<Place<K>> {
        let mut shares = self.0.lock();
        let share = shares.entry(key.clone()).or_default();
        if max > 0 && share.taken >= max {
            return None;
        }
        share.taken += 1;
        Some(Place {
            shares: Arc::clone(self),
            key: key.clone(),
        })
    }

    fn wait(self: &Arc<Self>, key: &K) -> Wait<K> {
        let mut shares = self.0.lock();
        let share = shares.entry(key.clone()).or_default();
        share.waiting += 1;
        Wait {
            freed: Arc::clone(&share.freed),
            shares: Arc::clone(self),
            key: key.clone(),
        }
    }

    /// Changes what one has, and forgets it where that is nothing.
    fn change(&self, key: &K, change: impl FnOnce(&mut Share)) {
        let mut shares = self.0.lock();
        if let Some(share) = shares.get_mut(key) {
            change(share);
            if share.taken == 0 && share.waiting == 0 {
                shares.remove(key);
            }
        }
    }
}

/// A place among the connections of an address or an identity; dropped, it is free again.
#[derive(Debug)]
pub(crate) struct Place<K: Clone + Eq + Hash> {
    shares: Arc<Shares<K>>,
    key: K,
}

impl<K: Clone + Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        self.shares.change(&self.key, |share| {
            share.taken -= 1;
            share.freed.notify_one();
        });
    }
}

/// One that waits for a place.
struct Wait<K: Clone + Eq + Hash> {
    freed: Arc<Notify>,
    shares: Arc<Shares<K>>,
    key: K,
}

impl<K: Clone + Eq + Hash> Drop for Wait<K> {
    fn drop(&mut self) {
        self.shares.change(&self.key, |share| share.waiting -= 1);
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
        assert!(addresses.0.lock().is_empty());
    }

    #[tokio::test]
    async fn a_place_that_is_free_goes_to_who_has_waited_the_longest_and_waits_still() {
        let addresses = Arc::new(Shares::default());
        let places = [1, 2].map(|_| addresses.take(&(), 2));
        let [mut first, mut second, mut third] =
            [(); 3].map(|()| Box::pin(addresses.place_of(&(), 2)));
        for waiting in [&mut first, &mut second, &mut third] {
            assert!(waiting.as_mut().now_or_never().is_none());
        }
        drop((first, places));
        let second = second.now_or_never();
        assert!(second.is_some());
        assert!(third.now_or_never().is_some());
    }

    #[test]
    fn what_nobody_holds_any_more_is_forgotten() {
        let identities = Arc::new(Shares::<Arc<str>>::default());
        let places: Vec<_> = (0..3).map(|_| identities.take(&"a".into(), 3)).collect();
        assert!(places.iter().all(Option::is_some));
        drop(places);
        assert!(identities.0.lock().is_empty());
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
