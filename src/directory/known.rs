//! Entries as one node knows them, and which of several with one name is the application.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::copy::Gone;
use super::entry::lingers;
use super::{Application, ApplicationId, End, Ended, Entry, State};
use crate::nodes::NodeId;

/// An entry, and what is known of its node.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known<'a> {
    pub(super) node: &'a NodeId,
    pub(super) entry: &'a Entry,
    pub(super) gone: Option<Gone>,
}

impl PartialEq for Known<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.node == other.node && self.entry.number == other.entry.number
    }
}

impl<'a> Known<'a> {
    /// How and when it ended, with its node if need be.
    pub(super) fn end(&self) -> Option<(End, Instant)> {
        let own = self.entry.ended.as_ref().map(|ended| (ended.end, ended.at));
        let with_node = self.gone.map(|gone| {
            let end = match self.entry.is_named_by_address() {
                true => End::Left,
                false => gone.end,
            };
            (end, gone.at)
        });
        own.or(with_node)
    }

    /// The same with the reason.
    pub(super) fn ended(&self) -> Option<Ended> {
        let (end, at) = self.end()?;
        let own = self.entry.ended.as_ref();
        let reason = own.map(|ended| Arc::clone(&ended.reason));
        let reason = reason.unwrap_or_else(|| match end {
            End::Moved => format!("node {} shut down", self.at()).into(),
            End::Lost | End::Left => format!("node {} is not heard any more", self.at()).into(),
        });
        Some(Ended { end, at, reason })
    }

    /// Whether the application is a target, if this is the application.
    pub(super) fn holds(&self, now: Instant, linger: Duration) -> bool {
        self.end()
            .is_none_or(|(end, at)| lingers(end, at, now, linger))
    }

    /// As another node tells it once its own is gone.
    pub(super) fn adopted(&self) -> Entry {
        Entry {
            at: Some(self.at().clone()),
            ..self.entry.clone()
        }
    }

    /// The order of lists.
    pub(super) fn place(&self) -> (&'a ApplicationId, u64, &'a NodeId, u64) {
        let age = u64::MAX - self.entry.stamp;
        (&self.entry.target.id, age, self.node, self.entry.number)
    }

    /// The newest of those that are connected, else of all. Of one connection, its own node knows best.
    fn weight(&self) -> (bool, u64, bool, bool, &'a NodeId, u64) {
        let Entry { stamp, number, .. } = *self.entry;
        let connected = self.end().is_none();
        let is_own = self.entry.at.is_none();
        (
            connected,
            stamp,
            self.gone.is_none(),
            is_own,
            self.node,
            number,
        )
    }

    /// The node that it is or was connected to.
    fn at(&self) -> &'a NodeId {
        self.entry.at.as_ref().unwrap_or(self.node)
    }

    pub(super) fn application(
        &self,
        superseded: bool,
        now: Instant,
        wall: SystemTime,
    ) -> Application {
        let Entry { target, last, .. } = self.entry;
        Application {
            id: target.id.clone(),
            about: target.about.clone(),
            node: self.at().clone(),
            state: match self.ended() {
                None => State::Connected,
                Some(Ended { end, at, reason }) => State::Ended {
                    end,
                    at: wall
                        .checked_sub(now.saturating_duration_since(at))
                        .unwrap_or(wall),
                    reason,
                },
            },
            superseded,
            last: last.clone(),
        }
    }
}

/// Those of one identity.
struct Group<'a> {
    newest: Known<'a>,
    /// The oldest claim among those that hold the name.
    claimed: Option<u64>,
}

/// Of entries with one name the one that is the application, or was: the newest of those with the identity that holds the
/// name.
pub(super) fn chosen<'a>(
    named: impl IntoIterator<Item = Known<'a>>,
    now: Instant,
    linger: Duration,
) -> Option<Known<'a>> {
    let mut groups: BTreeMap<Option<&str>, Group<'a>> = BTreeMap::new();
    for known in named {
        let identity = known.entry.target.about.identity.as_deref();
        let claimed = known.holds(now, linger).then_some(known.entry.claimed);
        let group = groups.entry(identity).or_insert(Group {
            newest: known,
            claimed,
        });
        if group.newest.weight() < known.weight() {
            group.newest = known;
        }
        group.claimed = group.claimed.into_iter().chain(claimed).min();
    }
    let holding = groups.values();
    let holding = holding.filter(|group| group.newest.holds(now, linger));
    let holder = holding.min_by_key(|group| group.claimed);
    let last = groups.values().max_by_key(|group| group.newest.weight());
    holder.or(last).map(|group| group.newest)
}
