//! What the proxy says beside its key: the metadata of the key payload, which Java clients ignore.
//!
//! ```text
//! "PRP" 0x01, then items: type (1 byte), length (1 byte), value
//!   1  envelopes   a byte for each envelope version that the proxy opens
//!   2  connection  16 random bytes that name this connection
//!   3  pull        8 bytes, a number that names this request; in a requestResponse only
//!   4  timeout     4 bytes, milliseconds until the answer must be there; in a requestResponse only
//!   5  target      1 to 255 bytes of UTF-8, the instance whose text is wanted; in a requestResponse only
//!   6  job         1 to 255 bytes of UTF-8, the job of that instance
//! ```
//!
//! Numbers are big-endian. Items of unknown types are skipped, so that later proxies can say more; of a type that
//! stands twice the first counts.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use crate::description::{TargetName, is_name};

/// What an announcement begins with; the last byte is the version of its layout.
const MAGIC: &[u8] = b"PRP\x01";

const ENVELOPES: u8 = 1;
const CONNECTION: u8 = 2;
const PULL: u8 = 3;
const TIMEOUT: u8 = 4;
const TARGET: u8 = 5;
const JOB: u8 = 6;

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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Announcement {
    /// What it opens; none where texts are to be sent in plain.
    pub envelopes: Envelopes,
    /// This connection's name, which version 2 binds to.
    pub connection: Option<ConnectionToken>,
    /// This request's name, which an answer in version 2 binds to.
    pub pull: Option<u64>,
    /// How long the proxy waits for the answer.
    pub timeout: Option<Duration>,
    /// Which of the targets that the application described is meant; without it all are. One whose parts are no
    /// [names](is_name) is not sent.
    pub target: Option<TargetName>,
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
        if let Some(TargetName { instance, job }) = &self.target
            && [Some(instance), job.as_ref()]
                .into_iter()
                .flatten()
                .all(|name| is_name(name))
        {
            put(&mut metadata, TARGET, instance.as_bytes());
            if let Some(job) = job {
                put(&mut metadata, JOB, job.as_bytes());
            }
        }
        metadata.freeze()
    }

    /// Reads a key payload's metadata; `None` where it is something else, or damaged.
    pub fn decode(metadata: &[u8]) -> Option<Self> {
        let mut rest = metadata.strip_prefix(MAGIC)?;
        let mut announcement = Self::default();
        let mut versions: Option<&[u8]> = None;
        let mut instance: Option<String> = None;
        let mut job: Option<String> = None;
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
                TARGET => instance = instance.or_else(|| name(value)),
                JOB => job = job.or_else(|| name(value)),
                _ => {}
            }
        }
        let versions = versions.unwrap_or_default();
        announcement.envelopes = Envelopes {
            version1: versions.contains(&1),
            version2: versions.contains(&2),
        };
        announcement.target = instance.map(|instance| TargetName { instance, job });
        rest.is_empty().then_some(announcement)
    }
}

/// What is no name is passed over, as an item of an unknown type is: older clients did so.
fn name(value: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(value).ok()?;
    is_name(name).then(|| name.to_owned())
}

fn put(metadata: &mut BytesMut, kind: u8, value: &[u8]) {
    // Values are short: of fixed lengths, or names.
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
            target: Some(target("web-1", Some("shop"))),
        }
    }

    fn target(instance: &str, job: Option<&str>) -> TargetName {
        let (instance, job) = (instance.to_owned(), job.map(str::to_owned));
        TargetName { instance, job }
    }

    fn asking_for(target: TargetName) -> Announcement {
        Announcement {
            target: Some(target),
            ..full()
        }
    }

    #[test]
    fn what_was_announced_is_read() {
        let longest = "x".repeat(255);
        for announcement in [
            Announcement::default(),
            full(),
            asking_for(target("é", None)),
            asking_for(target(&longest, Some(&longest))),
        ] {
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
    fn a_target_that_cannot_be_read_is_passed_over_as_older_clients_do() {
        let plain = Announcement::default();
        let items: [&[u8]; 5] = [
            &[TARGET, 0],
            &[TARGET, 1, 0xFF],
            &[TARGET, 1, b'\n'],
            &[JOB, 1, b'a'],
            &[TARGET, 0, JOB, 1, b'a'],
        ];
        for item in items {
            let metadata = [&plain.encode(), item].concat();
            assert_eq!(Announcement::decode(&metadata), Some(plain.clone()));
        }
        for unfit in [
            target("", None),
            target("a", Some("")),
            target(&"x".repeat(256), None),
        ] {
            let read = Announcement::decode(&asking_for(unfit).encode()).unwrap();
            assert_eq!(read.target, None);
        }
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
