//! What a push is on disk: its text in one record and its standing in another, which changes more often.
//!
//! Each record is a checksum and a protobuf message. As in `proto/`, a field is never given another number, type or
//! meaning, and a new one means, where it is absent, what was meant before there was one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use prost::Message;

use crate::cluster::calls;
use crate::nodes::NodeId;
use crate::store::{ConsumerName, Content, Ownership, StoredStanding};
use crate::tenant::Tenant;

/// Bytes of a node's name, or an identity's.
const MAX_NAME: usize = 256;
/// A push does not change hands this often. Leaves room for adding to it.
const MAX_TERM: u64 = 1 << 48;
/// No cluster runs for so many microseconds: the clock that follows the orders has to have room.
const MAX_ORDER: u64 = 1 << 60;
const CHECKSUM: usize = size_of::<u32>();

/// A record that is damaged, or of a release that this one does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::push) struct Unreadable;

/// What a push says, and who pushed it.
#[derive(Clone, PartialEq, Eq, Message)]
pub(in crate::push) struct TextRecord {
    /// A block of Snappy's raw format.
    #[prost(bytes = "bytes", tag = "1")]
    pub(in crate::push) snappy: Bytes,
    #[prost(string, optional, tag = "2")]
    identity: Option<String>,
    /// Of an application without an identity: 4 bytes of IPv4, or 16 of IPv6.
    #[prost(bytes = "vec", optional, tag = "3")]
    address: Option<Vec<u8>>,
}

/// How a push stands. Times are milliseconds since 1970, by this machine's clock.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct StandingRecord {
    #[prost(uint64, tag = "1")]
    order: u64,
    #[prost(uint64, tag = "2")]
    expires: u64,
    #[prost(uint64, tag = "3")]
    term: u64,
    #[prost(string, tag = "4")]
    owner: String,
    #[prost(uint64, tag = "5")]
    owner_generation: u64,
    /// For a push that has been served and is retained.
    #[prost(uint64, optional, tag = "6")]
    retained_until: Option<u64>,
    /// The consumers that have had it.
    #[prost(string, repeated, tag = "7")]
    had: Vec<String>,
}

/// A moment on the machine's clock in milliseconds.
pub(super) fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    let since = since.unwrap_or_default().as_millis();
    since.try_into().unwrap_or(u64::MAX)
}

/// The moment that comes so much later.
pub(super) fn millis_after(left: Duration, now: SystemTime) -> u64 {
    let left = left.as_millis().try_into().unwrap_or(u64::MAX);
    millis(now).saturating_add(left)
}

/// The time until that moment; zero if it is over.
pub(super) fn left_until(moment: u64, now: SystemTime) -> Duration {
    Duration::from_millis(moment.saturating_sub(millis(now)))
}

/// A record's bytes.
pub(super) fn encode(record: &impl Message) -> Vec<u8> {
    let mut bytes = vec![0; CHECKSUM];
    bytes.reserve_exact(record.encoded_len());
    // There is always room in a vector.
    let _ = record.encode(&mut bytes);
    let checksum = crc32fast::hash(&bytes[CHECKSUM..]);
    bytes[..CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// The record of these bytes.
pub(super) fn decode<R: Message + Default>(bytes: &[u8]) -> Result<R, Unreadable> {
    let (checksum, message) = bytes.split_first_chunk().ok_or(Unreadable)?;
    if crc32fast::hash(message) != u32::from_le_bytes(*checksum) {
        return Err(Unreadable);
    }
    R::decode(message).map_err(|_| Unreadable)
}

impl TextRecord {
    /// `None` if the text has 4 GiB or more, which [`super::super::MAX_DISK_TEXT`] rules out.
    pub(super) fn of(content: &Content) -> Option<Self> {
        let (identity, address) = match &content.pusher {
            Tenant::Identity(name) => (Some(name.to_string()), None),
            Tenant::Address(IpAddr::V4(address)) => (None, Some(address.octets().to_vec())),
            Tenant::Address(IpAddr::V6(address)) => (None, Some(address.octets().to_vec())),
            Tenant::Unknown => (None, None),
        };
        Some(Self {
            snappy: calls::pack(content.text.text())?,
            identity,
            address,
        })
    }

    pub(in crate::push) fn pusher(&self) -> Result<Tenant, Unreadable> {
        match (&self.identity, &self.address) {
            (Some(name), None) if !name.is_empty() && name.len() <= MAX_NAME => {
                Ok(Tenant::Identity(Arc::from(&name[..])))
            }
            (None, Some(address)) => {
                let v4 = <[u8; 4]>::try_from(&address[..]).map(|v4| Ipv4Addr::from(v4).into());
                let v6 = || <[u8; 16]>::try_from(&address[..]).map(|v6| Ipv6Addr::from(v6).into());
                let address = v4.or_else(|_| v6());
                address.map(Tenant::Address).map_err(|_| Unreadable)
            }
            (None, None) => Ok(Tenant::Unknown),
            (Some(_), _) => Err(Unreadable),
        }
    }
}

impl StandingRecord {
    pub(super) fn of(standing: &StoredStanding, now: SystemTime) -> Self {
        let owner = &standing.ownership.owner;
        Self {
            order: standing.order,
            expires: millis_after(standing.left, now),
            term: standing.ownership.term,
            owner: owner.name.to_string(),
            owner_generation: owner.generation,
            retained_until: standing.retained.map(|left| millis_after(left, now)),
            had: standing
                .had
                .iter()
                .map(|name| name.as_str().to_owned())
                .collect(),
        }
    }

    pub(super) fn standing(&self, now: SystemTime) -> Result<StoredStanding, Unreadable> {
        let named = !self.owner.is_empty() && self.owner.len() <= MAX_NAME;
        if !named || self.term > MAX_TERM || self.order > MAX_ORDER {
            return Err(Unreadable);
        }
        let had = self
            .had
            .iter()
            .map(|name| ConsumerName::new(name).ok_or(Unreadable));
        Ok(StoredStanding {
            order: self.order,
            left: left_until(self.expires, now),
            ownership: Ownership {
                term: self.term,
                owner: NodeId::new(&self.owner, self.owner_generation),
                // As a node that was away it is not the owner before it has taken the push over.
                lost_before: false,
            },
            had: had.collect::<Result<_, _>>()?,
            retained: self.retained_until.map(|until| left_until(until, now)),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn standings() -> impl Strategy<Value = StoredStanding> {
        let ownership = ("[a-z:0-9]{1,30}", any::<u64>(), 0..MAX_TERM);
        let times = (0..1u64 << 40, proptest::option::of(0..1u64 << 40));
        let had = proptest::collection::vec("[a-z0-9. ]{1,64}", 0..3);
        (0..MAX_ORDER, times, ownership, had).prop_map(|(order, (left, retained), owner, had)| {
            let (name, generation, term) = owner;
            StoredStanding {
                order,
                left: Duration::from_millis(left),
                ownership: Ownership {
                    term,
                    owner: NodeId::new(&name, generation),
                    lost_before: false,
                },
                had: had
                    .iter()
                    .filter_map(|name| ConsumerName::new(name))
                    .collect(),
                retained: retained.map(Duration::from_millis),
            }
        })
    }

    fn pushers() -> impl Strategy<Value = Tenant> {
        prop_oneof![
            Just(Tenant::Unknown),
            any::<IpAddr>().prop_map(Tenant::Address),
            "[a-z]{1,20}".prop_map(|name| Tenant::Identity(name.into())),
        ]
    }

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(standing in standings(), pusher in pushers(), value in any::<u32>()) {
            let bytes = encode(&StandingRecord::of(&standing, now()));
            let read = decode::<StandingRecord>(&bytes).unwrap();
            prop_assert_eq!(read.standing(now()).unwrap(), standing);

            let text = Bytes::from(format!("a {value}\n"));
            let text = prometheus_rsocket_exposition::Exposition::parse(text).unwrap();
            let content = Content { text: Arc::new(text), series: Vec::new(), pusher };
            let bytes = encode(&TextRecord::of(&content).unwrap());
            let read = decode::<TextRecord>(&bytes).unwrap();
            prop_assert_eq!(read.pusher().unwrap(), content.pusher);
            let text = calls::unpack(&read.snappy, 100).unwrap();
            prop_assert_eq!(&text[..], &content.text.text()[..]);
        }

        #[test]
        fn a_damaged_record_is_not_taken_for_another(standing in standings(), at in any::<prop::sample::Index>(), bit in 0..8u8) {
            let mut bytes = encode(&StandingRecord::of(&standing, now()));
            let at = at.index(bytes.len());
            bytes[at] ^= 1u8 << bit;
            prop_assert_eq!(decode::<StandingRecord>(&bytes), Err(Unreadable));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode::<StandingRecord>(&bytes).map(|record| record.standing(now()));
            let _ = decode::<TextRecord>(&bytes).map(|record| record.pusher());
        }
    }

    #[test]
    fn time_to_live_goes_on_while_the_node_is_down() {
        let standing = StoredStanding {
            order: 1,
            left: Duration::from_secs(60),
            ownership: Ownership {
                term: 0,
                owner: NodeId::new("a", 1),
                lost_before: false,
            },
            had: Vec::new(),
            retained: None,
        };
        let record = StandingRecord::of(&standing, now());
        let left = |seconds| {
            let later = now() + Duration::from_secs(seconds);
            record.standing(later).unwrap().left.as_secs()
        };
        assert_eq!([left(0), left(45), left(60), left(1000)], [60, 15, 0, 0]);
    }
}
