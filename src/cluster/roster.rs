//! Who is alive: made of what the gossip hears, without a socket or a clock.
//!
//! The gossip's own failure detector declares a node dead after so many of the intervals at which it used to hear of it,
//! and these shrink as the cluster grows: with twenty nodes it would take half a second. Here it is a fixed time, so that
//! a busy machine is not taken for a dead one. The gossip's detector only decides whom it talks to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::members::{Member, Presence, Profile};
use crate::nodes::{NodeId, NodeState};

/// A node that is not heard for this long is dead.
pub const DEAD_AFTER: Duration = Duration::from_secs(2);
/// A dead node is forgotten after this.
pub const FORGET_AFTER: Duration = Duration::from_secs(120);

/// When two looks are further apart, it was this node that slept: nobody else is blamed for it.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// Nodes taken note of; more are ignored. Far beyond what one gossip message can describe.
pub(super) const MAX_NODES: usize = 1000;
/// Longer names are nobody's: a host's name has up to 255 characters, and the port follows.
const MAX_NAME: usize = 261;

/// One gossiping instance: a node has another after each start of its gossip.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Instance {
    /// The node's name.
    pub(super) name: Arc<str>,
    /// Greater after each start.
    pub(super) number: u64,
    /// Where it gossips.
    pub(super) gossip_address: SocketAddr,
}

/// What the gossip knows of an instance.
#[derive(Debug, Clone)]
pub(super) struct Sighting {
    pub(super) instance: Instance,
    /// Grows as long as it lives.
    pub(super) heartbeat: u64,
    /// What it tells, once that has come.
    pub(super) profile: Option<Profile>,
}

/// What happened to a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// It is new.
    Joined(Member),
    /// It was dead, and is heard again.
    Returned(Member),
    /// It drained, and is heard no more.
    Left(Member),
    /// It is heard no more, and had not said that it would leave.
    Died(Member),
    /// It has been dead for long.
    Forgotten(Member),
}

#[derive(Debug)]
struct Track {
    heartbeat: u64,
    profile: Option<Profile>,
    /// When the heartbeat last grew; `None` before it did: news of the dead travels, too.
    heard_at: Option<Instant>,
    seen_at: Instant,
}

/// The members, and what is known of them.
#[derive(Debug)]
pub(super) struct Roster {
    me: NodeId,
    tracks: BTreeMap<Instance, Track>,
    members: BTreeMap<NodeId, Member>,
    observed_at: Option<Instant>,
}

impl Roster {
    /// Nobody but this node.
    pub(super) fn new(me: NodeId) -> Self {
        Self {
            me,
            tracks: BTreeMap::new(),
            members: BTreeMap::new(),
            observed_at: None,
        }
    }

    /// The members, by name.
    pub(super) fn members(&self) -> Vec<Member> {
        self.members.values().cloned().collect()
    }

    /// Takes in what the gossip knows now.
    pub(super) fn observe(
        &mut self,
        now: Instant,
        sightings: impl IntoIterator<Item = Sighting>,
    ) -> Vec<Change> {
        self.excuse_own_pause(now);
        for sighting in sightings {
            self.hear(now, sighting);
        }
        self.tracks.retain(|_, track| match track.heard_at {
            Some(heard_at) => now.duration_since(heard_at) < DEAD_AFTER + FORGET_AFTER,
            None => now.duration_since(track.seen_at) < DEAD_AFTER,
        });
        let current = self.current(now);
        let changes = changes(&self.members, &current);
        self.members = current;
        changes
    }

    fn excuse_own_pause(&mut self, now: Instant) {
        let pause = self
            .observed_at
            .replace(now)
            .map_or(Duration::ZERO, |before| now.duration_since(before));
        let excused = pause.saturating_sub(LONGEST_PAUSE);
        for track in self.tracks.values_mut() {
            track.heard_at = track.heard_at.map(|at| at + excused);
        }
    }

    fn hear(&mut self, now: Instant, sighting: Sighting) {
        let name = &sighting.instance.name;
        let printable = name.bytes().all(|byte| byte.is_ascii_graphic());
        if name.len() > MAX_NAME || !printable {
            return;
        }
        if let Some(track) = self.tracks.get_mut(&sighting.instance) {
            if sighting.heartbeat > track.heartbeat {
                track.heartbeat = sighting.heartbeat;
                track.heard_at = Some(now);
            }
            track.seen_at = now;
            track.profile = sighting.profile.or(track.profile.take());
        } else if self.tracks.len() < MAX_NODES {
            let track = Track {
                heartbeat: sighting.heartbeat,
                profile: sighting.profile,
                heard_at: None,
                seen_at: now,
            };
            self.tracks.insert(sighting.instance, track);
        }
    }

    /// The members as the tracks have them: of several instances of one life, the one heard last speaks.
    fn current(&self, now: Instant) -> BTreeMap<NodeId, Member> {
        let mut heard: BTreeMap<NodeId, (Instant, SocketAddr, &Profile)> = BTreeMap::new();
        for (instance, track) in &self.tracks {
            let (Some(profile), Some(heard_at)) = (&track.profile, track.heard_at) else {
                continue;
            };
            let id = NodeId {
                name: Arc::clone(&instance.name),
                generation: profile.generation,
            };
            let entry = (heard_at, instance.gossip_address, profile);
            heard
                .entry(id)
                .and_modify(|other| {
                    if other.0 <= heard_at {
                        *other = entry;
                    }
                })
                .or_insert(entry);
        }
        let alive = |(heard_at, ..): &(Instant, _, _)| now.duration_since(*heard_at) < DEAD_AFTER;
        let living = heard
            .iter()
            .filter_map(|(id, entry)| alive(entry).then_some(id))
            .chain([&self.me])
            .collect::<BTreeSet<_>>();
        let successor_lives = |id: &NodeId| {
            living
                .iter()
                .any(|other| other.name == id.name && other.generation > id.generation)
        };
        heard
            .iter()
            .filter(|(id, entry)| {
                let leaving = entry.2.state == NodeState::Draining;
                alive(entry) || !(leaving || successor_lives(id))
            })
            .map(|(id, entry)| (id.clone(), self.member(id, entry, alive(entry), now)))
            .collect()
    }

    fn member(
        &self,
        id: &NodeId,
        &(_, gossip_address, profile): &(Instant, SocketAddr, &Profile),
        alive: bool,
        now: Instant,
    ) -> Member {
        let before = self.members.get(id).map(|member| member.presence);
        let presence = match (before, alive) {
            (Some(presence @ Presence::Alive { .. }), true)
            | (Some(presence @ Presence::Dead { .. }), false) => presence,
            (_, true) => Presence::Alive { since: now },
            (_, false) => Presence::Dead { since: now },
        };
        Member {
            id: id.clone(),
            gossip_address,
            profile: profile.clone(),
            presence,
        }
    }
}

fn changes(before: &BTreeMap<NodeId, Member>, now: &BTreeMap<NodeId, Member>) -> Vec<Change> {
    let gone = before
        .values()
        .filter(|member| !now.contains_key(&member.id))
        .filter_map(|member| match (member.is_alive(), member.profile.state) {
            (true, NodeState::Draining) => Some(Change::Left(member.clone())),
            (true, _) => Some(Change::Died(member.clone())),
            (false, _) if now.keys().any(|id| id.name == member.id.name) => None,
            (false, _) => Some(Change::Forgotten(member.clone())),
        });
    let changed = now.values().filter_map(|member| {
        let was_alive = before.get(&member.id).map(Member::is_alive);
        match (was_alive, member.is_alive()) {
            (None, true) => Some(Change::Joined(member.clone())),
            (Some(false), true) => Some(Change::Returned(member.clone())),
            (Some(true), false) => Some(Change::Died(member.clone())),
            (None | Some(false), false) | (Some(true), true) => None,
        }
    });
    gone.chain(changed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::members::Load;

    /// One node, as its peer hears it.
    struct Node {
        number: u64,
        heartbeat: u64,
        profile: Profile,
    }

    impl Node {
        fn new(generation: u64) -> Self {
            Self {
                number: generation,
                heartbeat: 1,
                profile: Profile {
                    generation,
                    http_address: "10.0.0.1:8080".parse().unwrap(),
                    grpc_address: "10.0.0.1:7947".parse().unwrap(),
                    version: "1.0.0".into(),
                    state: NodeState::Active,
                    load: Load::default(),
                },
            }
        }

        fn silent(&self) -> Sighting {
            Sighting {
                instance: Instance {
                    name: "a:8080".into(),
                    number: self.number,
                    gossip_address: "10.0.0.1:7946".parse().unwrap(),
                },
                heartbeat: self.heartbeat,
                profile: Some(self.profile.clone()),
            }
        }

        fn beat(&mut self) -> Sighting {
            self.heartbeat += 1;
            self.silent()
        }
    }

    /// A peer, and its time.
    struct Peer {
        roster: Roster,
        now: Instant,
    }

    impl Peer {
        fn new() -> Self {
            Self {
                roster: Roster::new(NodeId {
                    name: "me:8080".into(),
                    generation: 10,
                }),
                now: Instant::now(),
            }
        }

        fn observe<const N: usize>(&mut self, sightings: [Sighting; N]) -> Vec<&'static str> {
            self.now += Duration::from_millis(200);
            let changes = self.roster.observe(self.now, sightings);
            changes.iter().map(word).collect()
        }

        /// What happens while nothing new is heard.
        fn wait(&mut self, time: Duration, sighting: &Sighting) -> Vec<&'static str> {
            let rounds = time.as_millis() / 200;
            (0..rounds)
                .flat_map(|_| self.observe([sighting.clone()]))
                .collect()
        }

        fn states(&self) -> Vec<&'static str> {
            let members = self.roster.members();
            members.iter().map(Member::state_name).collect()
        }
    }

    fn word(change: &Change) -> &'static str {
        match change {
            Change::Joined(_) => "joined",
            Change::Returned(_) => "returned",
            Change::Left(_) => "left",
            Change::Died(_) => "died",
            Change::Forgotten(_) => "forgotten",
        }
    }

    #[test]
    fn a_node_joins_dies_returns_and_dies_and_is_forgotten() {
        let (mut peer, mut node) = (Peer::new(), Node::new(1));
        assert!(peer.observe([node.beat()]).is_empty(), "hearsay");
        assert_eq!(peer.observe([node.beat()]), ["joined"]);
        let silence = node.silent();
        assert!(
            peer.wait(DEAD_AFTER - Duration::from_millis(200), &silence)
                .is_empty()
        );
        assert_eq!(peer.observe([silence]), ["died"]);
        assert_eq!(peer.states(), ["dead"]);
        assert_eq!(peer.observe([node.beat()]), ["returned"]);
        assert_eq!(peer.wait(DEAD_AFTER, &node.silent()), ["died"]);
        assert_eq!(peer.wait(FORGET_AFTER, &node.silent()), ["forgotten"]);
        assert!(peer.wait(FORGET_AFTER, &node.silent()).is_empty());
        assert!(peer.states().is_empty());
    }

    #[test]
    fn news_of_a_node_that_died_before_makes_no_member() {
        let (mut peer, node) = (Peer::new(), Node::new(1));
        assert!(peer.wait(FORGET_AFTER * 2, &node.silent()).is_empty());
        assert!(peer.states().is_empty());
    }

    #[test]
    fn a_node_that_drains_leaves_and_does_not_die() {
        let (mut peer, mut node) = (Peer::new(), Node::new(1));
        peer.observe([node.beat()]);
        peer.observe([node.beat()]);
        node.profile.state = NodeState::Draining;
        assert!(peer.observe([node.beat()]).is_empty());
        assert_eq!(peer.states(), ["draining"]);
        assert_eq!(peer.wait(DEAD_AFTER, &node.silent()), ["left"]);
        assert!(peer.states().is_empty());
    }

    #[test]
    fn a_node_that_was_restarted_replaces_its_former_self() {
        let (mut peer, mut old, mut new) = (Peer::new(), Node::new(1), Node::new(2));
        peer.observe([old.beat()]);
        peer.observe([old.beat()]);
        let silence = old.silent();
        peer.observe([silence.clone(), new.beat()]);
        assert_eq!(peer.observe([silence.clone(), new.beat()]), ["joined"]);
        let mut changes = Vec::new();
        for _ in 0..20 {
            changes.extend(peer.observe([silence.clone(), new.beat()]));
        }
        assert_eq!(changes, ["died"]);
        assert_eq!(peer.states(), ["active"]);
        assert_eq!(peer.roster.members()[0].id.generation, 2);
    }

    #[test]
    fn a_gossip_that_was_started_again_is_the_same_member() {
        let (mut peer, mut node) = (Peer::new(), Node::new(1));
        peer.observe([node.beat()]);
        peer.observe([node.beat()]);
        let silence = node.silent();
        node.number += 1;
        for _ in 0..20 {
            assert!(peer.observe([silence.clone(), node.beat()]).is_empty());
        }
        assert_eq!(peer.states(), ["active"]);
    }

    #[test]
    fn this_nodes_own_former_self_is_not_kept() {
        let (mut peer, mut node) = (Peer::new(), Node::new(9));
        let mut beat = || {
            let mut sighting = node.beat();
            sighting.instance.name = "me:8080".into();
            sighting
        };
        peer.observe([beat()]);
        peer.observe([beat()]);
        peer.wait(DEAD_AFTER, &beat());
        peer.observe([]);
        assert!(peer.states().is_empty());
    }

    #[test]
    fn nobody_dies_of_the_observers_own_pause() {
        let (mut peer, mut node) = (Peer::new(), Node::new(1));
        peer.observe([node.beat()]);
        peer.observe([node.beat()]);
        peer.now += Duration::from_secs(60);
        assert!(peer.observe([node.silent()]).is_empty());
        assert!(peer.observe([node.beat()]).is_empty());
    }

    #[test]
    fn a_node_without_values_yet_is_no_member() {
        let (mut peer, mut node) = (Peer::new(), Node::new(1));
        for _ in 0..3 {
            let mut sighting = node.beat();
            sighting.profile = None;
            assert!(peer.observe([sighting]).is_empty());
        }
        assert_eq!(peer.observe([node.beat()]), ["joined"]);
    }

    #[test]
    fn names_that_nobody_has_and_nodes_past_the_bound_are_ignored() {
        let (mut peer, mut node) = (Peer::new(), Node::new(1));
        for round in 0..2 {
            let sightings = (0..2 * MAX_NODES).map(|number| {
                let mut sighting = node.silent();
                sighting.heartbeat += round;
                sighting.instance.name = format!("node-{number}").into();
                sighting
            });
            peer.now += Duration::from_millis(200);
            peer.roster.observe(peer.now, sightings.collect::<Vec<_>>());
        }
        assert_eq!(peer.roster.members().len(), MAX_NODES);
        let mut peer = Peer::new();
        for name in ["two\nlines", &"n".repeat(262)] {
            let mut sighting = node.beat();
            sighting.instance.name = name.into();
            peer.observe([sighting.clone()]);
            sighting.heartbeat += 1;
            assert!(peer.observe([sighting]).is_empty());
        }
    }
}
