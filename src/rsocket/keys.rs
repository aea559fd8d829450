//! The node's keys: one pair for all connections, made in the background, replaced now and then.
//!
//! A client seals to the last key it received. A new key goes to every connection the moment it is made, so that an
//! earlier one is needed only for what was under way, or for a client that comes back with a push sealed before: the
//! last [`KEPT`] keys open pushes, and each answer opens with the very key that its request announced.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prometheus_rsocket_wire::Envelopes;
use prometheus_rsocket_wire::envelope::plaintext::PLAINTEXT;
use prometheus_rsocket_wire::key::{KeyError, KeyPair};
use tokio::sync::watch;
use tracing::{error, info};

/// Keys held: the current one and the two before. With the daily rotation an earlier key opens for one to two days more.
const KEPT: usize = 3;
/// Texts come as they are.
const PLAIN: Envelopes = Envelopes {
    version1: false,
    version2: false,
};
/// Making a key fails only where the system gives no randomness; it is tried again after this.
const RETRY: Duration = Duration::from_secs(1);

/// What a client is told to seal with.
#[derive(Debug, Clone)]
pub enum Key {
    /// Seal to this pair's public half.
    Pair(Arc<KeyPair>),
    /// Send the text as it is.
    Plaintext,
}

impl Key {
    /// The data of the key payload.
    pub fn announcement(&self) -> Bytes {
        match self {
            Self::Pair(pair) => pair.spki_der(),
            Self::Plaintext => Bytes::from_static(PLAINTEXT),
        }
    }
}

/// The keys, newest first; none until the first is made. Cheap to clone.
pub type Keys = Arc<[Key]>;

/// Makes and replaces the keys.
#[derive(Debug)]
pub struct KeyRing {
    keys: watch::Sender<Keys>,
    envelopes: Envelopes,
    rotation: Duration,
}

impl KeyRing {
    /// A ring that is empty until [`KeyRing::run`] has made the first key, or that says `plaintext` from the beginning
    /// where no envelope is opened.
    pub fn new(envelopes: Envelopes, rotation: Duration) -> Self {
        let first: Keys = if envelopes == PLAIN {
            Arc::new([Key::Plaintext])
        } else {
            Arc::new([])
        };
        Self {
            keys: watch::Sender::new(first),
            envelopes,
            rotation,
        }
    }

    /// The envelope versions that its keys open.
    pub fn envelopes(&self) -> Envelopes {
        self.envelopes
    }

    /// Whether the first key is still being made.
    pub fn is_empty(&self) -> bool {
        self.keys.borrow().is_empty()
    }

    /// The keys of the moment, and word of each change.
    pub fn subscribe(&self) -> watch::Receiver<Keys> {
        self.keys.subscribe()
    }

    /// Makes a key now and another one after each rotation period, until the process ends.
    pub async fn run(&self) {
        if self.envelopes == PLAIN {
            return std::future::pending().await;
        }
        loop {
            match make().await {
                Ok(pair) => {
                    self.add(pair);
                    tokio::time::sleep(self.rotation).await;
                }
                Err(error) => {
                    error!(%error, "cannot make a key, trying again");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    fn add(&self, pair: KeyPair) {
        self.keys.send_modify(|keys| {
            if !keys.is_empty() {
                info!("replaced the key that applications encrypt to");
            }
            let newest = Key::Pair(Arc::new(pair));
            *keys = std::iter::once(newest)
                .chain(keys.iter().cloned())
                .take(KEPT)
                .collect();
        });
    }
}

/// Off the async threads: it takes up to 200 ms of CPU.
async fn make() -> Result<KeyPair, KeyError> {
    tokio::task::spawn_blocking(KeyPair::generate)
        .await
        .unwrap_or(Err(KeyError::Generation))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: Envelopes = Envelopes {
        version1: true,
        version2: true,
    };

    #[tokio::test(start_paused = true)]
    async fn a_rotation_adds_a_key_and_forgets_the_oldest() {
        let ring = Arc::new(KeyRing::new(BOTH, Duration::from_secs(3600)));
        let mut keys = ring.subscribe();
        assert!(keys.borrow_and_update().is_empty());
        let running = tokio::spawn({
            let ring = Arc::clone(&ring);
            async move { ring.run().await }
        });
        let mut first = None;
        for made in 1..=4 {
            keys.changed().await.unwrap();
            let seen = keys.borrow_and_update().clone();
            assert_eq!(seen.len(), made.min(KEPT));
            first.get_or_insert_with(|| seen[0].announcement());
        }
        let kept: Vec<_> = keys.borrow().iter().map(Key::announcement).collect();
        assert!(!kept.contains(&first.unwrap()));
        running.abort();
    }

    #[test]
    fn plaintext_is_announced_from_the_beginning() {
        let ring = KeyRing::new(PLAIN, Duration::from_secs(1));
        assert_eq!(ring.subscribe().borrow()[0].announcement(), "plaintext");
    }
}
