//! Between what nodes mean, [`crate::store`]'s messages, and what travels, `proto/replication.proto`.
//!
//! Nothing of what travels is trusted: what lacks a part, or has one that no node of ours would send, is [`Invalid`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use tonic::Status;

use super::proto::{self, pusher::Who, standing::State};
use crate::nodes::NodeId;
use crate::store::{
    ClaimId, ConsumerName, Content, Entry, Handed, KnownConsumer, KnownConsumers, Over, Ownership,
    PushId, Standing,
};
use crate::tenant::Tenant;

/// Bytes of a node's name, or an identity's.
const MAX_NAME: usize = 256;
/// A push does not change hands this often. Leaves room for adding to it.
const MAX_TERM: u64 = 1 << 48;

/// A message that no node of ours would send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is missing or out of range")]
pub struct Invalid(pub(super) &'static str);

impl From<Invalid> for Status {
    fn from(invalid: Invalid) -> Self {
        Self::invalid_argument(invalid.to_string())
    }
}

/// The node that calls this one, `me`.
pub(super) fn caller(route: Option<proto::Route>, me: &NodeId) -> Result<NodeId, Status> {
    let route = route.ok_or(Invalid("a route"))?;
    let to: NodeId = need(route.to, "the node that is called")?;
    if to != *me {
        return Err(Status::failed_precondition("another node is here now"));
    }
    Ok(need(route.from, "the node that calls")?)
}

/// A part that must be there.
pub(super) fn need<T: TryInto<U, Error = Invalid>, U>(
    part: Option<T>,
    what: &'static str,
) -> Result<U, Invalid> {
    part.ok_or(Invalid(what))?.try_into()
}

/// All parts, or the first fault.
pub(super) fn each<T: TryInto<U, Error = Invalid>, U>(parts: Vec<T>) -> Result<Vec<U>, Invalid> {
    parts.into_iter().map(TryInto::try_into).collect()
}

/// All parts as they travel.
pub(super) fn all<'a, T: 'a, U: From<&'a T>>(parts: impl IntoIterator<Item = &'a T>) -> Vec<U> {
    parts.into_iter().map(Into::into).collect()
}

/// Whole milliseconds; what is longer than they can say is as good as no limit.
pub(super) fn millis(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(u64::MAX)
}

impl From<&NodeId> for proto::NodeId {
    fn from(id: &NodeId) -> Self {
        Self {
            name: id.name.to_string(),
            generation: id.generation,
        }
    }
}

impl TryFrom<proto::NodeId> for NodeId {
    type Error = Invalid;

    fn try_from(id: proto::NodeId) -> Result<Self, Invalid> {
        if id.name.is_empty() || id.name.len() > MAX_NAME {
            return Err(Invalid("a node's name"));
        }
        Ok(Self::new(&id.name, id.generation))
    }
}

impl From<&PushId> for proto::PushId {
    fn from(id: &PushId) -> Self {
        Self {
            acceptor: Some((&id.acceptor).into()),
            sequence: id.sequence,
        }
    }
}

impl TryFrom<proto::PushId> for PushId {
    type Error = Invalid;

    fn try_from(id: proto::PushId) -> Result<Self, Invalid> {
        Ok(Self {
            acceptor: need(id.acceptor, "the node of a push")?,
            sequence: id.sequence,
        })
    }
}

impl From<&ClaimId> for proto::ClaimId {
    fn from(id: &ClaimId) -> Self {
        Self {
            scraper: Some((&id.scraper).into()),
            sequence: id.sequence,
        }
    }
}

impl TryFrom<proto::ClaimId> for ClaimId {
    type Error = Invalid;

    fn try_from(id: proto::ClaimId) -> Result<Self, Invalid> {
        Ok(Self {
            scraper: need(id.scraper, "the node of a claim")?,
            sequence: id.sequence,
        })
    }
}

impl From<&Tenant> for proto::Pusher {
    fn from(pusher: &Tenant) -> Self {
        let who = match pusher {
            Tenant::Identity(name) => Some(Who::Identity(name.to_string())),
            Tenant::Address(IpAddr::V4(address)) => {
                Some(Who::Address(address.octets().to_vec().into()))
            }
            Tenant::Address(IpAddr::V6(address)) => {
                let network = (address.to_bits() >> 64) as u64;
                Some(Who::Address(network.to_be_bytes().to_vec().into()))
            }
            Tenant::Unknown => None,
        };
        Self { who }
    }
}

/// Who pushed.
pub(super) fn pusher(said: Option<proto::Pusher>) -> Result<Tenant, Invalid> {
    let address = match said.and_then(|said| said.who) {
        None => return Ok(Tenant::Unknown),
        Some(Who::Identity(name)) if !name.is_empty() && name.len() <= MAX_NAME => {
            return Ok(Tenant::Identity(name.into()));
        }
        Some(Who::Identity(_)) => return Err(Invalid("an identity's name")),
        Some(Who::Address(address)) => address,
    };
    if let Ok(octets) = <[u8; 4]>::try_from(&address[..]) {
        return Ok(Tenant::Address(Ipv4Addr::from(octets).into()));
    }
    let network: [u8; 8] = address[..]
        .try_into()
        .map_err(|_| Invalid("a pusher's address"))?;
    let network = u128::from(u64::from_be_bytes(network)) << 64;
    Ok(Tenant::Address(Ipv6Addr::from_bits(network).into()))
}

impl From<&Ownership> for proto::Ownership {
    fn from(ownership: &Ownership) -> Self {
        Self {
            term: ownership.term,
            owner: Some((&ownership.owner).into()),
            lost_before: ownership.lost_before,
        }
    }
}

impl TryFrom<proto::Ownership> for Ownership {
    type Error = Invalid;

    fn try_from(ownership: proto::Ownership) -> Result<Self, Invalid> {
        if ownership.term > MAX_TERM {
            return Err(Invalid("a term"));
        }
        Ok(Self {
            term: ownership.term,
            owner: need(ownership.owner, "an owner")?,
            lost_before: ownership.lost_before,
        })
    }
}

impl From<&Entry> for proto::Entry {
    fn from(entry: &Entry) -> Self {
        Self {
            ownership: Some((&entry.ownership).into()),
            holders: all(&entry.holders),
            retained_ms: entry.retained.map(millis),
            had: all(&entry.had),
        }
    }
}

impl TryFrom<proto::Entry> for Entry {
    type Error = Invalid;

    fn try_from(entry: proto::Entry) -> Result<Self, Invalid> {
        Ok(Self {
            ownership: need(entry.ownership, "an ownership")?,
            holders: each(entry.holders)?,
            had: each(entry.had)?,
            retained: entry.retained_ms.map(Duration::from_millis),
        })
    }
}

impl From<&(PushId, Entry)> for proto::PushEntry {
    fn from((push, entry): &(PushId, Entry)) -> Self {
        Self {
            push: Some(push.into()),
            entry: Some(entry.into()),
        }
    }
}

impl TryFrom<proto::PushEntry> for (PushId, Entry) {
    type Error = Invalid;

    fn try_from(pair: proto::PushEntry) -> Result<Self, Invalid> {
        Ok((need(pair.push, "a push")?, need(pair.entry, "an entry")?))
    }
}

impl From<&Standing> for proto::Standing {
    fn from(standing: &Standing) -> Self {
        let state = match standing {
            Standing::Held { .. } => State::Held,
            Standing::Gone => State::Gone,
            Standing::Unknown => State::Unknown,
            Standing::Full { .. } => State::Full,
        };
        let mut said = Self {
            state: state.into(),
            ..Self::default()
        };
        if let Standing::Held {
            ownership,
            had,
            retained,
        } = standing
        {
            said.had = all(had);
            said.ownership = Some(ownership.into());
            said.retained_ms = retained.map(millis);
        }
        said.share = matches!(standing, Standing::Full { share: true });
        said
    }
}

/// A standing; `None` for one of which this release does not know: as if it had not been said.
pub(super) fn standing(said: Option<proto::Standing>) -> Result<Option<Standing>, Invalid> {
    let said = said.ok_or(Invalid("a standing"))?;
    let standing = match State::try_from(said.state) {
        Ok(State::Held) => Standing::Held {
            ownership: need(said.ownership, "an ownership")?,
            had: each(said.had)?,
            retained: said.retained_ms.map(Duration::from_millis),
        },
        Ok(State::Gone) => Standing::Gone,
        Ok(State::Unknown) => Standing::Unknown,
        Ok(State::Full) => Standing::Full { share: said.share },
        Ok(State::Unspecified) | Err(_) => return Ok(None),
    };
    Ok(Some(standing))
}

impl From<&(PushId, Standing)> for proto::PushStanding {
    fn from((push, standing): &(PushId, Standing)) -> Self {
        Self {
            push: Some(push.into()),
            standing: Some(standing.into()),
        }
    }
}

/// Those standings that this release knows.
pub(super) fn standings(
    said: Vec<proto::PushStanding>,
) -> Result<Vec<(PushId, Standing)>, Invalid> {
    let mut known = Vec::with_capacity(said.len());
    for pair in said {
        let push = need(pair.push, "a push")?;
        if let Some(standing) = standing(pair.standing)? {
            known.push((push, standing));
        }
    }
    Ok(known)
}

impl From<&ConsumerName> for String {
    fn from(name: &ConsumerName) -> Self {
        name.as_str().to_owned()
    }
}

impl TryFrom<String> for ConsumerName {
    type Error = Invalid;

    fn try_from(name: String) -> Result<Self, Invalid> {
        Self::new(&name).ok_or(Invalid("a consumer's name"))
    }
}

/// What a node knows of consumers, as it travels.
pub(super) fn consumers(known: &KnownConsumers) -> proto::Consumers {
    let consumers = known.consumers.iter().map(|one| proto::Consumer {
        name: (&one.name).into(),
        interval_ms: one.interval.map(millis),
        silent_ms: millis(one.silent),
    });
    proto::Consumers {
        consumers: consumers.collect(),
        watched_ms: millis(known.watched),
    }
}

/// What another node knows of consumers.
pub(super) fn known(said: proto::Consumers) -> Result<KnownConsumers, Invalid> {
    let consumers = said.consumers.into_iter().map(|one| {
        Ok(KnownConsumer {
            name: one.name.try_into()?,
            interval: one.interval_ms.map(Duration::from_millis),
            silent: Duration::from_millis(one.silent_ms),
        })
    });
    Ok(KnownConsumers {
        consumers: consumers.collect::<Result<_, Invalid>>()?,
        watched: Duration::from_millis(said.watched_ms),
    })
}

impl From<(&ConsumerName, &Vec<PushId>)> for proto::Had {
    fn from((consumer, pushes): (&ConsumerName, &Vec<PushId>)) -> Self {
        Self {
            consumer: consumer.into(),
            pushes: all(pushes),
        }
    }
}

impl TryFrom<proto::Had> for (ConsumerName, Vec<PushId>) {
    type Error = Invalid;

    fn try_from(had: proto::Had) -> Result<Self, Invalid> {
        Ok((had.consumer.try_into()?, each(had.pushes)?))
    }
}

impl From<&Over> for proto::Over {
    fn from(over: &Over) -> Self {
        Self {
            served: all(&over.served),
            replaced: all(&over.replaced),
            had: over.had.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<proto::Over> for Over {
    type Error = Invalid;

    fn try_from(over: proto::Over) -> Result<Self, Invalid> {
        Ok(Self {
            had: each(over.had)?.into_iter().collect(),
            served: each(over.served)?,
            replaced: each(over.replaced)?,
        })
    }
}

/// A push handed to a scrape, all but its text.
pub(super) fn handed_without_text(handed: &Handed) -> proto::Handed {
    proto::Handed {
        push: Some((&handed.push).into()),
        text: None,
        left_ms: millis(handed.left),
        holders: all(&handed.holders),
        retained: handed.retained,
        pusher: None,
        order: handed.order,
        served_before: handed.served_before,
    }
}

/// A push handed to this node's scrape, with its text where one was sent.
pub(super) fn handed(
    said: proto::Handed,
    content: Option<Arc<Content>>,
) -> Result<Handed, Invalid> {
    Ok(Handed {
        push: need(said.push, "a push")?,
        content,
        left: Duration::from_millis(said.left_ms),
        holders: each(said.holders)?,
        retained: said.retained,
        served_before: said.served_before,
        order: said.order,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn node() -> NodeId {
        NodeId::new("a", 7)
    }

    #[test]
    fn what_an_older_or_newer_node_says_is_understood_as_far_as_it_is_known() {
        let newer = proto::Standing {
            state: 99,
            ..proto::Standing::default()
        };
        assert!(standing(Some(newer)).unwrap().is_none());
        assert!(
            standing(Some(proto::Standing::default()))
                .unwrap()
                .is_none()
        );
        let push = PushId {
            acceptor: node(),
            sequence: 1,
        };
        let known = proto::PushStanding::from(&(push, Standing::Gone));
        let unknown = proto::PushStanding {
            standing: Some(newer_standing()),
            ..known.clone()
        };
        assert_eq!(standings(vec![unknown, known]).unwrap().len(), 1);
    }

    fn newer_standing() -> proto::Standing {
        proto::Standing {
            state: 99,
            ..proto::Standing::default()
        }
    }

    #[test]
    fn a_field_that_this_release_does_not_know_is_skipped() {
        use prost::Message;
        let mut bytes = proto::NodeId::from(&node()).encode_to_vec();
        // Field 100, a varint.
        bytes.extend([0xa0, 0x06, 0x01]);
        let read = proto::NodeId::decode(&bytes[..]).unwrap();
        assert_eq!(NodeId::try_from(read), Ok(node()));
    }

    #[test]
    fn what_would_overflow_or_fill_memory_is_refused() {
        let ownership = |term, name: &str| proto::Ownership {
            term,
            owner: Some(proto::NodeId {
                name: name.into(),
                generation: 1,
            }),
            lost_before: false,
        };
        assert!(Ownership::try_from(ownership(1, "a")).is_ok());
        assert!(Ownership::try_from(ownership(u64::MAX, "a")).is_err());
        assert!(Ownership::try_from(ownership(1, "")).is_err());
        assert!(Ownership::try_from(ownership(1, &"a".repeat(MAX_NAME + 1))).is_err());
    }

    #[test]
    fn who_pushed_comes_through_and_an_older_node_says_nothing() {
        for who in [
            Tenant::Identity("payments".into()),
            Tenant::Address(Ipv4Addr::new(192, 0, 2, 1).into()),
            Tenant::Address(Ipv6Addr::new(0x2001, 0xdb8, 1, 2, 0, 0, 0, 0).into()),
            Tenant::Unknown,
        ] {
            assert_eq!(pusher(Some((&who).into())), Ok(who));
        }
        assert_eq!(pusher(None), Ok(Tenant::Unknown));
        for who in [
            Who::Identity(String::new()),
            Who::Identity("a".repeat(MAX_NAME + 1)),
            Who::Address(vec![1; 5].into()),
        ] {
            assert!(pusher(Some(proto::Pusher { who: Some(who) })).is_err());
        }
    }

    #[test]
    fn for_whom_there_is_no_room_comes_through() {
        for share in [false, true] {
            let said = proto::Standing::from(&Standing::Full { share });
            let read = standing(Some(said)).unwrap();
            assert!(matches!(read, Some(Standing::Full { share: read }) if read == share));
        }
    }

    proptest! {
        #[test]
        fn an_entry_comes_through_as_it_was(
            term in 0..=MAX_TERM,
            names in prop::collection::vec("[a-z]{1,9}", 0..5),
            generation: u64,
            retained in prop::option::of(0..=u64::MAX),
            lost_before: bool,
        ) {
            let had = ConsumerName::new("a").unwrap();
            let nodes: Vec<_> = names.iter().map(|name| NodeId::new(name, generation)).collect();
            let entry = Entry {
                ownership: Ownership { term, owner: node(), lost_before },
                holders: nodes.clone(),
                had: vec![had.clone()],
                retained: retained.map(Duration::from_millis),
            };
            let read = Entry::try_from(proto::Entry::from(&entry)).unwrap();
            prop_assert_eq!(read.ownership, entry.ownership);
            prop_assert_eq!(read.holders, nodes);
            prop_assert_eq!(read.had, [had]);
            prop_assert_eq!(read.retained, entry.retained);
        }
    }
}
