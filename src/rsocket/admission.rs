//! How many connections there may be, in all and from one address.
//!
//! Nobody is refused by accepting and closing at once: a Java client would be back within milliseconds, for ever. Past the
//! total, the listeners stop accepting: one connection each is left unanswered, the others wait in the kernel's backlog.
//! Past the limit of an address, its next connection is left unanswered until an earlier one ends, or the listener's
//! patience does; it counts towards the total meanwhile.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// Gives out places for connections.
#[derive(Debug)]
pub(super) struct Admission {
    places: Arc<Semaphore>,
    addresses: Arc<Addresses>,
}

#[derive(Debug)]
struct Addresses {
    /// Zero: no limit.
    max: usize,
    taken: Mutex<HashMap<IpAddr, usize>>,
    freed: Notify,
}

impl Admission {
    pub(super) fn new(max: usize, max_per_address: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(max)),
            addresses: Arc::new(Addresses {
                max: max_per_address,
                taken: Mutex::default(),
                freed: Notify::new(),
            }),
        }
    }

    /// Waits for a place among all connections; to be had before the next one is accepted.
    pub(super) async fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).acquire_owned().await.ok()
    }

    /// Waits for a place among the connections of `address`.
    pub(super) async fn place_of(&self, address: IpAddr) -> AddressPlace {
        loop {
            let freed = self.addresses.freed.notified();
            if let Some(place) = AddressPlace::take(&self.addresses, address) {
                return place;
            }
            freed.await;
        }
    }
}

/// A place among the connections of one address; dropped, it is free again.
#[derive(Debug)]
pub(super) struct AddressPlace {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl AddressPlace {
    fn take(addresses: &Arc<Addresses>, address: IpAddr) -> Option<Self> {
        if addresses.max > 0 {
            let mut taken = addresses
                .taken
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let count = taken.entry(address).or_default();
            if *count >= addresses.max {
                return None;
            }
            *count += 1;
        }
        Some(Self {
            addresses: Arc::clone(addresses),
            address,
        })
    }
}

impl Drop for AddressPlace {
    fn drop(&mut self) {
        if self.addresses.max == 0 {
            return;
        }
        let mut taken = self
            .addresses
            .taken
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.address);
            }
        }
        drop(taken);
        self.addresses.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn an_address_waits_for_its_own_places_and_nobody_elses() {
        let admission = Admission::new(10, 1);
        let first = IpAddr::from(Ipv4Addr::new(10, 0, 0, 1));
        let second = IpAddr::from(Ipv4Addr::new(10, 0, 0, 2));
        let place = admission.place_of(first).await;
        let mut waiting = Box::pin(admission.place_of(first));
        assert!(waiting.as_mut().now_or_never().is_none());
        assert!(admission.place_of(second).now_or_never().is_some());
        drop(place);
        assert!(waiting.now_or_never().is_some());
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
