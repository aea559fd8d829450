//! The client's end of the envelopes: reads what the proxy announces, and seals in what both ends know.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::envelope::plaintext::PLAINTEXT;
use crate::envelope::version2::{Purpose, Sealer};
use crate::envelope::{SealError, plaintext, version1};
use crate::key::{KeyError, PublicKey};
use crate::{Announcement, Payload};

/// Which envelope a client uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Choice {
    /// The best that the proxy opens.
    #[default]
    Best,
    /// The Java client's, or plain text where the proxy asks for it.
    Version1,
    /// Version 2 or none.
    Version2,
}

/// Why nothing can be sealed for this proxy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoSeal {
    /// The proxy's key is none.
    #[error("the proxy sent a key that cannot be used: {0}")]
    Key(#[from] KeyError),
    /// The proxy opens less than was chosen.
    #[error("the proxy does not support envelope version 2, and a downgrade is forbidden")]
    Downgrade,
}

/// What one connection seals with.
#[derive(Debug)]
pub struct Sealing {
    choice: Choice,
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
    pub fn new(choice: Choice) -> Self {
        Self {
            choice,
            key: None,
            sealer: None,
        }
    }

    /// Takes a key payload, and gives what the proxy said beside its key.
    pub fn take(&mut self, payload: &Payload) -> Result<Announcement, NoSeal> {
        let metadata = payload.metadata.as_deref().unwrap_or_default();
        let announcement = Announcement::decode(metadata).unwrap_or_default();
        let key = if payload.data == PLAINTEXT {
            Key::Plaintext
        } else {
            Key::Public(PublicKey::from_spki_der(&payload.data)?)
        };
        let version2 = announcement.envelopes.version2
            && matches!(key, Key::Public(_))
            && self.choice != Choice::Version1;
        let connection = announcement.connection.filter(|_| version2);
        if self.choice == Choice::Version2 && connection.is_none() {
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
    pub fn for_answer(&self, announcement: &Announcement) -> Option<Seal> {
        self.seal(announcement.pull.map(|pull| Purpose::Answer { pull }))
    }

    /// For a push; `None` before the first key.
    pub fn for_push(&self) -> Option<Seal> {
        self.seal(Some(Purpose::Push))
    }

    fn seal(&self, purpose: Option<Purpose>) -> Option<Seal> {
        Some(match (self.key.clone()?, self.sealer.clone(), purpose) {
            (Key::Public(key), Some(sealer), Some(purpose)) => Seal::Version2(key, sealer, purpose),
            // A pull without a number cannot be answered in version 2.
            _ if self.choice == Choice::Version2 => return None,
            (Key::Public(key), ..) => Seal::Version1(key),
            (Key::Plaintext, ..) => Seal::Plaintext,
        })
    }
}

/// Seals one text.
#[derive(Debug)]
pub enum Seal {
    /// Leaves it as it is.
    Plaintext,
    /// As the Java client does.
    Version1(PublicKey),
    /// For its purpose on its connection.
    Version2(PublicKey, Arc<Sealer>, Purpose),
}

impl Seal {
    /// The text in its envelope. CPU work, not for an async thread.
    pub fn seal(self, text: Bytes) -> Result<Payload, SealError> {
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
