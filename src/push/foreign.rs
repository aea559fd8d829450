//! Pushes that are sealed to a key of another node: the application moved between key and push. All other nodes are
//! asked to unwrap it.
//!
//! Anybody can bring that about with bytes that no key unwraps, and it costs every other node. So what is sent to them
//! is no longer than a wrapped key, and they are asked so often and no more.

use std::time::Duration;

use prometheus_rsocket_wire::envelope::OpenError;
use tokio::sync::{Semaphore, SemaphorePermit};
use zeroize::Zeroizing;

use super::Pushes;
use crate::limits::rate::{Bucket, Rate};
use crate::rsocket::{OpenFailure, Opened, Sealed};

/// Look-ups at a time; more are refused.
const MAX_LOOKUPS: usize = 16;
/// Each costs every other node as many RSA operations as it has keys, 0.7 ms: at this rate, 1.5 % of a core for each
/// node that asks. Those who need one are few, even among thousands of applications that move to other nodes at once:
/// the new node's key follows SETUP, and who has it seals to it.
const RATE: Rate = Rate {
    interval: Duration::from_millis(50),
    burst: 1000,
};

/// How often other nodes are asked.
pub(super) struct Lookups {
    places: Semaphore,
    bucket: Bucket,
}

impl Lookups {
    pub(super) fn new() -> Self {
        Self {
            places: Semaphore::new(MAX_LOOKUPS),
            bucket: Bucket::new(RATE),
        }
    }

    /// Whether they may be asked now; for as long as what is returned is held.
    fn begin(&self) -> Option<SemaphorePermit<'_>> {
        let place = self.places.try_acquire().ok()?;
        self.bucket.take().then_some(place)
    }
}

impl Pushes {
    /// Opens a push and does `then` with it, with the help of the node to whose key it is sealed if it is not this one's.
    pub(super) async fn open<R: Send + 'static>(
        &self,
        sealed: Sealed,
        then: impl FnOnce(Opened) -> R + Clone + Send + 'static,
    ) -> Result<R, OpenFailure> {
        let keys = self.keys.subscribe().borrow().clone();
        let wrapped = sealed.wrapped_key().filter(|_| self.peers.can_open());
        let Some(wrapped) = wrapped.cloned() else {
            return self.opener.open(sealed, &keys, then).await;
        };
        match self.opener.open(sealed.clone(), &keys, then.clone()).await {
            Err(wrong @ OpenFailure::Envelope(OpenError::WrongKey)) => {
                let Some(_place) = self.lookups.begin() else {
                    self.count_lookup("refused");
                    return Err(wrong);
                };
                let secret = self.peers.open(&wrapped).await;
                let Some(secret) = secret.and_then(|secret| secret.as_slice().try_into().ok())
                else {
                    self.count_lookup("unknown");
                    return Err(wrong);
                };
                self.count_lookup("found");
                let secret = Zeroizing::new(secret);
                self.opener.open_with(secret, sealed, then).await
            }
            opened => opened,
        }
    }

    fn count_lookup(&self, outcome: &'static str) {
        let lookups = &self.metrics.copies.key_lookups;
        lookups.with_label_values(&[outcome]).inc();
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    /// How many of very many look-ups, one after the other, are made.
    fn made(lookups: &Lookups) -> u32 {
        (0..10_000)
            .map(|_| u32::from(lookups.begin().is_some()))
            .sum()
    }

    #[tokio::test(start_paused = true)]
    async fn other_nodes_are_asked_for_many_keys_at_once_and_then_for_twenty_in_a_second() {
        let lookups = Lookups::new();
        assert_eq!(made(&lookups), RATE.burst);
        advance(Duration::from_secs(1)).await;
        assert_eq!(made(&lookups), 20);
    }

    #[tokio::test(start_paused = true)]
    async fn what_finds_no_place_is_not_counted_among_them() {
        let lookups = Lookups::new();
        let held: Vec<_> = (0..MAX_LOOKUPS).filter_map(|_| lookups.begin()).collect();
        assert_eq!(held.len(), MAX_LOOKUPS);
        assert_eq!(made(&lookups), 0);
        drop(held);
        assert_eq!(made(&lookups) as usize, RATE.burst as usize - MAX_LOOKUPS);
    }
}
