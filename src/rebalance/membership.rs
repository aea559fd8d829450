//! Whether the cluster stays as it is.

use std::time::Instant;

use crate::cluster::{Member, Members};
use crate::nodes::{NodeId, NodeState};

/// Follows who is in the cluster and what they are doing.
#[derive(Debug, Default)]
pub struct Membership {
    seen: Option<Seen>,
}

#[derive(Debug)]
struct Seen {
    own: NodeState,
    others: Vec<(NodeId, NodeState)>,
    since: Instant,
}

impl Membership {
    /// Takes in the members of the moment, and this node's own state.
    ///
    /// Since when they have been what they are; `None` while somebody starts or leaves. The dead do not count, but that
    /// somebody died does.
    pub fn settled_since(
        &mut self,
        now: Instant,
        own: NodeState,
        members: &Members,
    ) -> Option<Instant> {
        let same = self
            .seen
            .as_ref()
            .filter(|seen| seen.own == own && members.alive().map(kept).eq(seen.kept()));
        let since = same.map_or(now, |seen| seen.since);
        if same.is_none() {
            let others = members.alive().map(kept);
            let others = others.map(|(id, state)| (id.clone(), state)).collect();
            self.seen = Some(Seen { own, others, since });
        }
        let mut states = members.alive().map(|member| member.profile.state);
        (own == NodeState::Active && states.all(|state| state == NodeState::Active))
            .then_some(since)
    }
}

impl Seen {
    fn kept(&self) -> impl Iterator<Item = (&NodeId, NodeState)> {
        self.others.iter().map(|(id, state)| (id, *state))
    }
}

fn kept(member: &Member) -> (&NodeId, NodeState) {
    (&member.id, member.profile.state)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cluster::{Load, Me, Presence, Profile};

    fn member(name: &str, state: NodeState, now: Instant) -> Member {
        let address = "127.0.0.1:1".parse().unwrap();
        Member {
            id: NodeId {
                name: name.into(),
                generation: 1,
            },
            gossip_address: address,
            profile: Profile {
                generation: 1,
                http_address: address,
                grpc_address: address,
                version: "1".into(),
                state,
                load: Load::default(),
            },
            presence: Presence::Alive { since: now },
        }
    }

    fn members(others: Vec<Member>) -> Members {
        let me = Me {
            id: NodeId {
                name: "me".into(),
                generation: 1,
            },
            http_address: "127.0.0.1:1".parse().unwrap(),
            peering: None,
        };
        Members { me, others }
    }

    #[test]
    fn counts_may_change_and_the_dead_be_forgotten_while_a_cluster_is_settled() {
        let (mut membership, start) = (Membership::default(), Instant::now());
        let later = |seconds| start + Duration::from_secs(seconds);
        let mut a = member("a", NodeState::Active, start);
        let mut b = member("b", NodeState::Active, start);
        let mut settled = |now, others: &[&Member]| {
            let others = others.iter().copied().cloned().collect();
            membership.settled_since(now, NodeState::Active, &members(others))
        };
        assert_eq!(settled(start, &[&a, &b]), Some(start));
        a.profile.load.connections = 7;
        assert_eq!(settled(later(1), &[&a, &b]), Some(start));
        b.presence = Presence::Dead { since: later(2) };
        assert_eq!(settled(later(2), &[&a, &b]), Some(later(2)));
        assert_eq!(settled(later(3), &[&a]), Some(later(2)));
    }

    #[test]
    fn nothing_is_settled_while_a_node_starts_or_leaves() {
        let (mut membership, now) = (Membership::default(), Instant::now());
        for state in [NodeState::Starting, NodeState::Draining] {
            let moving = members(vec![member("a", state, now)]);
            assert_eq!(
                membership.settled_since(now, NodeState::Active, &moving),
                None
            );
            let alone = members(Vec::new());
            assert_eq!(membership.settled_since(now, state, &alone), None);
        }
        let later = now + Duration::from_secs(1);
        let settled = members(vec![member("a", NodeState::Active, now)]);
        let since = membership.settled_since(later, NodeState::Active, &settled);
        assert_eq!(since, Some(later));
    }
}
