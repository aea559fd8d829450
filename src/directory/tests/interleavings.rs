//! Any interleaving of what applications, nodes and the network may do.

use std::collections::BTreeSet;

use super::*;

const NODES: u64 = 3;
const APPLICATIONS: usize = 6;
const RUNS: u64 = 2_000;
const STEPS: usize = 200;
/// A call that takes longer is given up.
const CALL: Duration = Duration::from_secs(6);

/// A question to a node and what came of it.
struct Call {
    from: u64,
    to: NodeId,
    asked: Asked,
    clock: u64,
    sent: Instant,
    answer: Option<Changes>,
}

/// An application, and where it is connected.
struct App {
    target: Target,
    /// Node, connection, and since when.
    at: Option<(u64, u64, Instant)>,
}

struct World {
    random: fastrand::Rng,
    now: Instant,
    /// Dead ones have none.
    nodes: BTreeMap<u64, Directory>,
    generations: BTreeMap<u64, u64>,
    draining: BTreeSet<u64>,
    /// Pairs that do not hear each other.
    cut: BTreeSet<(u64, u64)>,
    views: BTreeMap<u64, BTreeMap<NodeId, NodeState>>,
    apps: Vec<App>,
    calls: Vec<Call>,
    next: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let identities = [None, None, Some("x"), Some("y")];
        let app = |number: usize| App {
            // Two of each name, some of another identity.
            target: target(
                &format!("app-{}", number / 2),
                identities[(number * 3 + seed as usize) % identities.len()],
            ),
            at: None,
        };
        let mut world = Self {
            random: fastrand::Rng::with_seed(seed),
            now: Instant::now(),
            nodes: BTreeMap::new(),
            generations: BTreeMap::new(),
            draining: BTreeSet::new(),
            cut: BTreeSet::new(),
            views: BTreeMap::new(),
            apps: (0..APPLICATIONS).map(app).collect(),
            calls: Vec::new(),
            next: 0,
        };
        for node in 0..NODES {
            world.start(node);
        }
        world
    }

    fn id(&self, node: u64) -> NodeId {
        let generation = self.generations.get(&node).copied().unwrap_or_default();
        NodeId::new(&format!("node-{node}"), generation)
    }

    fn start(&mut self, node: u64) {
        *self.generations.entry(node).or_default() += 1;
        self.draining.remove(&node);
        let directory = Directory::new(self.id(node), LINGER);
        self.nodes.insert(node, directory);
        self.notice(node);
    }

    fn kill(&mut self, node: u64) {
        self.nodes.remove(&node);
        for app in &mut self.apps {
            app.at.take_if(|(at, ..)| *at == node);
        }
    }

    fn hear_each_other(&self, one: u64, other: u64) -> bool {
        !self.cut.contains(&(one.min(other), one.max(other)))
    }

    /// The gossip of a node comes to what it can hear.
    fn notice(&mut self, node: u64) {
        let others = self.nodes.keys().copied().filter(|other| *other != node);
        let heard = others.filter(|other| self.hear_each_other(node, *other));
        let view: BTreeMap<_, _> = heard
            .map(|other| {
                let state = match self.draining.contains(&other) {
                    true => NodeState::Draining,
                    false => NodeState::Active,
                };
                (self.id(other), state)
            })
            .collect();
        let now = self.now;
        if let Some(directory) = self.nodes.get_mut(&node) {
            directory.members(&view, now);
            self.views.insert(node, view);
        }
    }

    fn connect(&mut self, app: usize, node: u64) {
        let Some(directory) = self.nodes.get_mut(&node) else {
            return;
        };
        if self.apps[app].at.is_some() {
            return;
        }
        self.next += 1;
        directory.connected(self.next, vec![self.apps[app].target.clone()], self.now);
        self.apps[app].at = Some((node, self.next, self.now));
    }

    fn end(&mut self, app: usize, end: End) {
        let Some((node, connection, _)) = self.apps[app].at.take() else {
            return;
        };
        if let Some(directory) = self.nodes.get_mut(&node) {
            directory.ended(connection, end, &"why".into(), self.now);
        }
    }

    /// A connection that is dead at the application's end, and not yet at the node's.
    fn vanish(&mut self, app: usize) -> Option<(u64, u64)> {
        let (node, connection, _) = self.apps[app].at.take()?;
        Some((node, connection))
    }

    fn ask(&mut self, from: u64, to: u64) {
        let now = self.now;
        let to = self.id(to);
        let Some(directory) = self.nodes.get_mut(&from) else {
            return;
        };
        if let Some((asked, clock)) = directory.question(&to, now) {
            self.calls.push(Call {
                from,
                to,
                asked,
                clock,
                sent: now,
                answer: None,
            });
        }
    }

    /// A call arrives, or its answer does; it may do so again, or get lost.
    fn carry(&mut self) {
        if self.calls.is_empty() {
            return;
        }
        let place = self.random.usize(..self.calls.len());
        let mut call = self.calls.swap_remove(place);
        let now = self.now;
        let lost = self.random.u8(..10) == 0 || now - call.sent > CALL;
        if lost {
            return;
        }
        let again = self.random.u8(..10) == 0;
        match &call.answer {
            None => {
                let (asked, clock) = (call.asked, call.clock);
                let mut nodes = self.nodes.values_mut();
                let Some(there) = nodes.find(|node| node.me == call.to) else {
                    return;
                };
                call.answer = Some(there.changes_since(&asked, clock, now));
                self.calls.push(call);
            }
            Some(changes) => {
                if let Some(here) = self.nodes.get_mut(&call.from) {
                    here.answered(&call.to, &call.asked, changes, now);
                }
                if again {
                    self.calls.push(call);
                }
            }
        }
    }

    fn step(&mut self, vanished: &mut Vec<(u64, u64)>) {
        let app = self.random.usize(..APPLICATIONS);
        let node = self.random.u64(..NODES);
        let other = (node + self.random.u64(1..NODES)) % NODES;
        match self.random.u8(..100) {
            0..12 => self.connect(app, node),
            12..15 => self.end(app, End::Lost),
            15..18 => self.end(app, End::Moved),
            18..20 => self.end(app, End::Left),
            20..22 => vanished.extend(self.vanish(app)),
            22..24 => {
                if let Some((node, connection)) = vanished.pop()
                    && let Some(directory) = self.nodes.get_mut(&node)
                {
                    directory.ended(connection, End::Lost, &"silent".into(), self.now);
                }
            }
            24..25 => self.kill(node),
            25..28 => {
                if !self.nodes.contains_key(&node) {
                    self.start(node);
                }
            }
            28..29 => drop(self.draining.insert(node)),
            29..30 => drop(self.cut.insert((node.min(other), node.max(other)))),
            30..32 => self.cut.clear(),
            32..40 => self.notice(node),
            40..60 => self.ask(node, other),
            60..92 => self.carry(),
            92..99 => self.now += Duration::from_millis(self.random.u64(..1_000)),
            _ => self.now += seconds(self.random.u64(..20)),
        }
        let now = self.now;
        for directory in self.nodes.values_mut() {
            directory.tick(now);
        }
    }

    /// Nothing goes wrong any more, and everybody has told everybody everything.
    fn settle(&mut self) {
        self.cut.clear();
        self.draining.clear();
        self.calls.clear();
        for node in 0..NODES {
            self.notice(node);
        }
        for round in 0..8 {
            // Half-way, those take something over who waited for the first.
            if round == 4 {
                self.now += ADOPTED_WITHIN;
                let now = self.now;
                self.nodes.values_mut().for_each(|node| node.tick(now));
            }
            for (from, to) in (0..NODES).flat_map(|from| (0..NODES).map(move |to| (from, to))) {
                let now = self.now;
                let node = self.id(to);
                let here = self.nodes.get_mut(&from);
                let Some((asked, clock)) = here.and_then(|here| here.question(&node, now)) else {
                    continue;
                };
                let Some(there) = self.nodes.get_mut(&to) else {
                    continue;
                };
                let changes = there.changes_since(&asked, clock, now);
                if let Some(here) = self.nodes.get_mut(&from) {
                    here.answered(&node, &asked, &changes, now);
                }
            }
        }
    }

    /// A node that says it knows all lists what has been connected for longer than a call may take to say so, and what is
    /// connected to itself in any case.
    fn check(&self, seed: u64) {
        for (number, directory) in &self.nodes {
            let listed = listed(directory, self.now);
            let sure = directory.missing(self.now).is_none();
            for app in &self.apps {
                let Some((node, _, since)) = app.at else {
                    continue;
                };
                let told = sure && self.now - since > SILENT + CALL;
                let told = told && self.views[number].contains_key(&self.id(node));
                if node == *number || told {
                    let name = &app.target.id;
                    assert!(listed.contains(name), "{seed}: {name} is not at {number}");
                }
            }
        }
    }
}

fn listed(directory: &Directory, now: Instant) -> BTreeSet<ApplicationId> {
    let all = directory.targets(now, SystemTime::now()).into_iter();
    all.map(|application| application.id).collect()
}

#[test]
fn every_node_comes_to_the_same_list_and_none_is_shorter_than_what_is_alive() {
    for seed in 0..RUNS {
        let mut world = World::new(seed);
        let mut vanished = Vec::new();
        for _ in 0..STEPS {
            world.step(&mut vanished);
            world.check(seed);
        }
        world.settle();
        let now = world.now;
        let lists: BTreeSet<_> = world.nodes.values().map(|node| said(node, now)).collect();
        assert!(lists.len() <= 1, "{seed}: {lists:#?}");
        // Once nobody lingers, the list is what is connected, as far as the nodes can tell.
        for (node, connection) in vanished {
            if let Some(directory) = world.nodes.get_mut(&node) {
                directory.ended(connection, End::Lost, &"silent".into(), now);
            }
        }
        world.now += LINGER + seconds(1);
        world.settle();
        let alive = world.apps.iter().filter(|app| app.at.is_some());
        let alive: BTreeSet<_> = alive.map(|app| app.target.id.clone()).collect();
        for directory in world.nodes.values() {
            assert_eq!(listed(directory, world.now), alive, "{seed}");
            assert!(
                said(directory, world.now)
                    .iter()
                    .all(|line| line.contains(" connected "))
            );
        }
    }
}
