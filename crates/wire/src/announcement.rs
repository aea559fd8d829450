//! What the proxy says beside its key: the metadata of the key payload, which Java clients ignore.
//!
//! ```text
//! "PRP" 0x01, then items: type (1 byte), length (1 byte), value
//!   1  envelopes   a byte for each envelope version that the proxy opens
//!   2  connection  16 random bytes that name this connection
//!   3  pull        8 bytes, a number that names this request; in a requestResponse only
//!   4  timeout     4 bytes, milliseconds until the answer must be there; in a requestResponse only
//! ```
//!
//! Numbers are big-endian. Items of unknown types are skipped, so that later proxies can say more; of a type that
//! stands twice the first counts.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

/// What an announcement begins with; the last byte is the version of its layout.
const MAGIC: &[u8] = b"PRP\x01";

const ENVELOPES: u8 = 1;
const CONNECTION: u8 = 2;
const PULL: u8 = 3;
const TIMEOUT: u8 = 4;

/// Names a connection: random, chosen by the proxy, never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnectionToken([u8; 16]);

impl ConnectionToken {
    /// A new one.
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// One that was made elsewhere.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// The envelope versions that a proxy opens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Envelopes {
    /// [`crate::envelope::version1`].
    pub version1: bool,
    /// [`crate::envelope::version2`].
    pub version2: bool,
}

/// What the proxy says beside its key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Announcement {
    /// What it opens; none where texts are to be sent in plain.
    pub envelopes: Envelopes,
    /// This connection's name, which version 2 binds to.
    pub connection: Option<ConnectionToken>,
    /// This request's name, which an answer in version 2 binds to.
    pub pull: Option<u64>,
    /// How long the proxy waits for the answer.
    pub timeout: Option<Duration>,
}

impl Announcement {
    /// The metadata.
    pub fn encode(&self) -> Bytes {
        let mut metadata = BytesMut::with_capacity(64);
        metadata.put_slice(MAGIC);
        let versions = [(self.envelopes.version1, 1), (self.envelopes.version2, 2)];
        let versions: Vec<u8> = versions
            .into_iter()
            .filter_map(|(opens, version)| opens.then_some(version))
            .collect();
        put(&mut metadata, ENVELOPES, &versions);
        if let Some(connection) = self.connection {
            put(&mut metadata, CONNECTION, connection.as_bytes());
        }
        if let Some(pull) = self.pull {
            put(&mut metadata, PULL, &pull.to_be_bytes());
        }
        if let Some(timeout) = self.timeout {
            let milliseconds = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
            put(&mut metadata, TIMEOUT, &milliseconds.to_be_bytes());
        }
        metadata.freeze()
    }

    /// Reads a key payload's metadata; `None` where it is something else, or damaged.
    pub fn decode(metadata: &[u8]) -> Option<Self> {
        let mut rest = metadata.strip_prefix(MAGIC)?;
        let mut announcement = Self::default();
        let mut versions: Option<&[u8]> = None;
        while let [kind, length, after @ ..] = rest {
            let (value, after) = after.split_at_checked(usize::from(*length))?;
            rest = after;
            match *kind {
                ENVELOPES => drop(versions.get_or_insert(value)),
                CONNECTION => {
                    let token = ConnectionToken(value.try_into().ok()?);
                    announcement.connection.get_or_insert(token);
                }
                PULL => {
                    let pull = u64::from_be_bytes(value.try_into().ok()?);
                    announcement.pull.get_or_insert(pull);
                }
                TIMEOUT => {
                    let milliseconds = u32::from_be_bytes(value.try_into().ok()?);
                    let timeout = Duration::from_millis(milliseconds.into());
                    announcement.timeout.get_or_insert(timeout);
                }
                _ => {}
            }
        }
        let versions = versions.unwrap_or_default();
        announcement.envelopes = Envelopes {
            version1: versions.contains(&1),
            version2: versions.contains(&2),
        };
        rest.is_empty().then_some(announcement)
    }
}

fn put(metadata: &mut BytesMut, kind: u8, value: &[u8]) {
    // Values are of fixed, short lengths.
    let length = u8::try_from(value.len()).unwrap_or(u8::MAX);
    metadata.put_slice(&[kind, length]);
    metadata.put_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Announcement {
        Announcement {
            envelopes: Envelopes {
                version1: true,
                version2: true,
            },
            connection: Some(ConnectionToken([7; 16])),
            pull: Some(3),
            timeout: Some(Duration::from_millis(9500)),
        }
    }

    #[test]
    fn what_was_announced_is_read() {
        for announcement in [Announcement::default(), full()] {
            let read = Announcement::decode(&announcement.encode());
            assert_eq!(read, Some(announcement));
        }
    }

    #[test]
    fn an_item_of_a_later_version_is_skipped() {
        let mut metadata = full().encode().to_vec();
        metadata.extend([200, 3, 1, 2, 3]);
        assert_eq!(Announcement::decode(&metadata), Some(full()));
    }

    #[test]
    fn anything_else_is_no_announcement() {
        let whole = full().encode();
        let first_item = MAGIC.len() + 4;
        for length in 0..whole.len() {
            if let Some(read) = Announcement::decode(&whole[..length]) {
                // Cut between two items it is a shorter one.
                assert!(length == MAGIC.len() || length >= first_item);
                assert_ne!(read, full());
            }
        }
        assert_eq!(Announcement::decode(b"application/json"), None);
        assert_eq!(Announcement::decode(b"PRP\x02"), None);
        assert_eq!(Announcement::decode(b"PRP\x01\x02\x01\x00"), None);
    }
}
