//! What leaves for the proxy, in the best envelope that both ends know.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use prometheus_rsocket_wire::envelope::plaintext::PLAINTEXT;
use prometheus_rsocket_wire::envelope::version2::{Purpose, Sealer};
use prometheus_rsocket_wire::envelope::{SealError, plaintext, version1};
use prometheus_rsocket_wire::key::{KeyError, PublicKey};
use prometheus_rsocket_wire::{Announcement, Payload};

/// Why nothing can be sealed for this proxy.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoSeal {
    #[error("the proxy sent a key that cannot be used: {0}")]
    Key(#[from] KeyError),
    #[error("the proxy opens no envelope of version 2, and less is forbidden")]
    Downgrade,
}

/// What one connection seals with.
#[derive(Debug)]
pub(crate) struct Sealing {
    forbid_downgrade: bool,
    key: Option<Key>,
    /// One for the whole connection: it never uses a nonce twice.
    sealer: Option<Arc<Sealer>>,
}

#[derive(Debug, Clone)]
enum Key {
    Public(PublicKey),
    Plaintext,
}

impl Sealing {
    /// Nothing to seal with before the first key.
    pub(crate) fn new(forbid_downgrade: bool) -> Self {
        Self {
            forbid_downgrade,
            key: None,
            sealer: None,
        }
    }

    /// Takes the proxy's key, and gives what it said beside it.
    pub(crate) fn take(&mut self, payload: &Payload) -> Result<Announcement, NoSeal> {
        let metadata = payload.metadata.as_deref().unwrap_or_default();
        let announcement = Announcement::decode(metadata).unwrap_or_default();
        let key = if payload.data == PLAINTEXT {
            Key::Plaintext
        } else {
            Key::Public(PublicKey::from_spki_der(&payload.data)?)
        };
        let version2 = announcement.envelopes.version2 && matches!(key, Key::Public(_));
        let connection = announcement.connection.filter(|_| version2);
        if self.forbid_downgrade && connection.is_none() {
            return Err(NoSeal::Downgrade);
        }
        self.key = Some(key);
        match connection {
            Some(connection) => {
                let sealer = || Arc::new(Sealer::new(connection));
                self.sealer.get_or_insert_with(sealer);
            }
            None => self.sealer = None,
        }
        Ok(announcement)
    }

    /// For the answer to the pull that this was announced with.
    pub(crate) fn for_answer(&self, announcement: &Announcement) -> Option<Seal> {
        self.seal(announcement.pull.map(|pull| Purpose::Answer { pull }))
    }

    /// For a push; `None` before the first key.
    pub(crate) fn for_push(&self) -> Option<Seal> {
        self.seal(Some(Purpose::Push))
    }

    fn seal(&self, purpose: Option<Purpose>) -> Option<Seal> {
        Some(match (self.key.clone()?, self.sealer.clone(), purpose) {
            (Key::Public(key), Some(sealer), Some(purpose)) => Seal::Version2(key, sealer, purpose),
            // A pull without a number cannot be answered in version 2.
            _ if self.forbid_downgrade => return None,
            (Key::Public(key), ..) => Seal::Version1(key),
            (Key::Plaintext, ..) => Seal::Plaintext,
        })
    }
}

/// Seals one text.
#[derive(Debug)]
pub(crate) enum Seal {
    Plaintext,
    Version1(PublicKey),
    Version2(PublicKey, Arc<Sealer>, Purpose),
}

impl Seal {
    /// CPU work, not for an async thread.
    pub(crate) fn seal(self, text: Bytes) -> Result<Payload, SealError> {
        let sealed = match self {
            Self::Plaintext => plaintext::seal(text),
            Self::Version1(key) => version1::seal(&text, &key)?,
            Self::Version2(key, sealer, purpose) => {
                sealer.seal(&text, &key, purpose, Instant::now())?
            }
        };
        Ok(sealed.into())
    }
}
