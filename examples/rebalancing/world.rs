//! Nodes, the applications that are connected to them, the balancer between, and what each node hears of the others.
//!
//! A second at a time. The nodes' plans are the real ones; everything around them is made up.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use fastrand::Rng;
use prometheus_rsocket_proxy::rebalance::{Overview, Phase, Plan, Turn, View};

use crate::balancer::Balancer;
use crate::epoch::Epoch;
use crate::scenario::{Event, Scenario};

/// A node needs so long to start, and to drain.
const STARTING: u64 = 3;
const DRAINING: u64 = 20;
/// Every node knows by then that another comes or goes, and closes nothing for its sake yet.
const KNOWN: u64 = 15;
/// A count is never older than this.
const OLDEST: usize = 16;
/// After it was scraped a connection may be closed for so long.
const SCRAPED_LATELY: u64 = 10;
/// Attempts to find a connection that may be closed.
const ATTEMPTS: usize = 32;
const NEVER: u64 = u64::MAX;
/// The first connections and nodes are so old when it begins.
const FOUNDED: u64 = 3600;

pub(crate) struct Node {
    plan: Plan,
    overview: Overview,
    /// When each connection was opened.
    connections: Vec<u32>,
    /// Connections at the last seconds.
    history: [u32; OLDEST],
    opened: u64,
    /// When it starts, is active, drains, and is gone.
    life: [u64; 4],
    scrape_phase: u64,
}

impl Node {
    pub(crate) fn count(&self) -> usize {
        self.connections.len()
    }

    pub(crate) fn is_there(&self, at: u64) -> bool {
        self.life[1] <= at && at <= self.life[3]
    }

    fn is_active(&self, at: u64) -> bool {
        self.life[1] <= at && at < self.life[2]
    }

    fn is_moving(&self, at: u64) -> bool {
        (self.life[0] <= at && at < self.life[1]) || (self.life[2] <= at && at < self.life[3])
    }
}

pub(crate) struct World {
    pub(crate) scenario: Scenario,
    pub(crate) now: u64,
    pub(crate) nodes: Vec<Node>,
    /// From one event to the next.
    pub(crate) epochs: Vec<Epoch>,
    pub(crate) turns: Vec<(u64, usize, Turn)>,
    balancer: Balancer,
    rng: Rng,
    start: Instant,
    /// Where the applications were that connect again, by the seconds until they do.
    returning: VecDeque<Vec<usize>>,
    /// When the members or their states changed.
    changes: Vec<u64>,
}

impl World {
    pub(crate) fn new(scenario: Scenario) -> Self {
        let mut world = Self {
            now: 0,
            nodes: Vec::new(),
            epochs: vec![Epoch::default()],
            turns: Vec::new(),
            balancer: Balancer::new(scenario.policy),
            rng: Rng::with_seed(scenario.seed),
            start: Instant::now(),
            returning: VecDeque::from([Vec::new()]),
            changes: vec![0],
            scenario,
        };
        for _ in 0..world.scenario.nodes {
            world.start_node(0);
        }
        world.wake();
        for _ in 0..world.scenario.connections {
            world.connect(None);
        }
        world.now = FOUNDED;
        world.remember_all();
        world
    }

    /// Seconds since the beginning.
    pub(crate) fn elapsed(&self) -> u64 {
        self.now - FOUNDED
    }

    fn instant(&self, at: u64) -> Instant {
        self.start + Duration::from_secs(at)
    }

    pub(crate) fn active(&self) -> impl Iterator<Item = &Node> {
        self.balancer
            .targets()
            .iter()
            .map(|node| &self.nodes[*node])
    }

    pub(crate) fn is_over(&self) -> bool {
        self.elapsed() >= self.scenario.duration
    }

    /// Lets a second pass.
    pub(crate) fn second(&mut self) {
        self.now += 1;
        self.happen();
        self.wake();
        self.drain();
        for node in 0..self.nodes.len() {
            if self.nodes[node].is_active(self.now) {
                self.step(node);
            }
        }
        for home in self.returning.pop_front().unwrap_or_default() {
            self.connect(Some(home));
        }
        self.remember();
    }

    fn happen(&mut self) {
        let elapsed = self.elapsed();
        let events = self.scenario.events.clone();
        for (_, event) in events.iter().filter(|(at, _)| *at == elapsed) {
            match event {
                Event::Join(nodes) => (0..*nodes).for_each(|_| self.start_node(STARTING)),
                Event::Leave(nodes) => (0..*nodes).for_each(|_| self.stop_oldest()),
            }
        }
        if events.iter().any(|(at, _)| at + KNOWN == elapsed) {
            self.epochs.push(Epoch::default());
        }
    }

    fn start_node(&mut self, starting: u64) {
        self.nodes.push(Node {
            plan: Plan::new(self.scenario.settings.clone()),
            overview: Overview::new(0, std::iter::empty()),
            connections: Vec::new(),
            history: [0; OLDEST],
            opened: 0,
            life: [self.now, self.now + starting, NEVER, NEVER],
            scrape_phase: self.rng.u64(..60),
        });
        self.changes.extend([self.now, self.now + starting]);
        self.changes.sort_unstable();
    }

    fn stop_oldest(&mut self) {
        let Some(&node) = self.balancer.targets().iter().min() else {
            return;
        };
        let count = self.nodes[node].count();
        self.balancer.remove(node, count);
        self.nodes[node].life[2] = self.now;
        self.nodes[node].life[3] = self.now + DRAINING;
        self.changes.extend([self.now, self.now + DRAINING]);
        self.changes.sort_unstable();
    }

    /// The balancer learns who has become active.
    fn wake(&mut self) {
        for node in 0..self.nodes.len() {
            if self.nodes[node].life[1] == self.now {
                self.balancer.add(node, self.nodes[node].count());
            }
        }
    }

    fn drain(&mut self) {
        for node in 0..self.nodes.len() {
            let [.., drains, gone] = self.nodes[node].life;
            if drains <= self.now && self.now <= gone {
                let left = (gone - self.now + 1) as usize;
                for _ in 0..self.nodes[node].count().div_ceil(left) {
                    let any = self.rng.usize(..self.nodes[node].count());
                    self.disconnect(node, any);
                }
            }
        }
    }

    fn step(&mut self, node: usize) {
        let now = self.instant(self.now);
        if self.nodes[node].plan.looks(now) {
            self.nodes[node].overview = self.overview(node);
        }
        let view = View {
            overview: self.nodes[node].overview,
            settled_since: self.settled_since(node),
            opened: self.nodes[node].opened,
        };
        let step = self.nodes[node].plan.step(now, &view);
        if let Some(turn) = step.turn {
            self.turns.push((self.elapsed(), node, turn));
        }
        if step.close > 0 {
            self.note_before_closing();
            let closed = self.close(node, step.close);
            self.nodes[node].plan.closed(closed);
            self.note_closed(node, closed);
        }
    }

    fn epoch(&mut self) -> &mut Epoch {
        self.epochs.last_mut().expect("one from the beginning")
    }

    fn note_before_closing(&mut self) {
        let targets = self.balancer.targets().iter();
        let counts: Vec<_> = targets
            .map(|node| (*node, self.nodes[*node].count()))
            .collect();
        let at = self.elapsed();
        self.epoch().begin(at, counts);
    }

    fn note_closed(&mut self, node: usize, closed: usize) {
        let (at, count) = (self.elapsed(), self.nodes[node].count());
        self.epoch().closed(at, node, closed, count);
    }

    fn close(&mut self, node: usize, wanted: usize) -> usize {
        let mut closed = 0;
        for _ in 0..wanted {
            let found = (0..ATTEMPTS).find_map(|_| {
                let any = self.rng.usize(..self.nodes[node].count().max(1));
                self.may_close(node, any).then_some(any)
            });
            let Some(found) = found else { break };
            self.disconnect(node, found);
            closed += 1;
        }
        closed
    }

    fn may_close(&self, node: usize, connection: usize) -> bool {
        let Some(opened_at) = self.nodes[node].connections.get(connection) else {
            return false;
        };
        let opened_at = u64::from(*opened_at);
        let age = self.now - opened_at;
        let scraped = self.scenario.scrape_every.is_none_or(|every| {
            let since = (self.now + self.nodes[node].scrape_phase) % every;
            since < SCRAPED_LATELY.min(every / 2) && age > since
        });
        scraped && age >= self.scenario.settings.min_connection_age.as_secs()
    }

    fn disconnect(&mut self, node: usize, connection: usize) {
        let connections = &mut self.nodes[node].connections;
        let before = connections.len();
        connections.swap_remove(connection);
        self.balancer.note(node, before, before - 1);
        // The Java client is back within milliseconds, others take a second or two.
        let after = if self.rng.u8(..10) == 0 {
            self.rng.usize(1..3)
        } else {
            0
        };
        while self.returning.len() <= after {
            self.returning.push_back(Vec::new());
        }
        self.returning[after].push(node);
    }

    fn connect(&mut self, home: Option<usize>) {
        let node = self.balancer.choose(&mut self.rng, home);
        let before = self.nodes[node].count();
        self.nodes[node].connections.push(self.now as u32);
        self.nodes[node].opened += 1;
        self.balancer.note(node, before, before + 1);
    }

    /// What the nodes tell each other from now on.
    fn remember(&mut self) {
        let place = self.now as usize % OLDEST;
        for node in &mut self.nodes {
            node.history[place] = node.connections.len() as u32;
        }
    }

    fn remember_all(&mut self) {
        for node in &mut self.nodes {
            node.history = [node.connections.len() as u32; OLDEST];
        }
    }

    /// How much later than others a node learns that somebody came or went.
    fn lag(&self, node: usize) -> u64 {
        mix(self.scenario.seed, node as u64, 0) % (3 + self.scenario.gossip_late)
    }

    fn settled_since(&self, node: usize) -> Option<Instant> {
        let lag = self.lag(node);
        let known = self.now - lag;
        // Only those that came or went lately can be on the move.
        let moving = self
            .changes
            .iter()
            .rev()
            .take_while(|at| **at + DRAINING >= known);
        if moving.count() > 0 && self.nodes.iter().any(|node| node.is_moving(known)) {
            return None;
        }
        let changed = self.changes.iter().rev().find(|at| **at <= known)?;
        Some(self.instant(changed + lag))
    }

    fn overview(&self, me: usize) -> Overview {
        let known = self.now - self.lag(me);
        let others = self
            .nodes
            .iter()
            .enumerate()
            .filter(|(node, other)| *node != me && other.is_active(known));
        let counts = others.map(|(node, other)| other.history[self.age(me, node)] as usize);
        Overview::new(self.nodes[me].count(), counts)
    }

    /// The place in the history of what `me` knows of `other`.
    fn age(&self, me: usize, other: usize) -> usize {
        let dice = mix(self.scenario.seed ^ self.now, me as u64, other as u64);
        let mut age = self.scenario.gossip_late + dice % 3;
        if (dice >> 8) % 100 < self.scenario.gossip_lost {
            age += 1 + (dice >> 16) % 10;
        }
        let age = age.clamp(1, OLDEST as u64 - 1);
        (self.now - age) as usize % OLDEST
    }

    /// Whether no node has anything to close.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.active()
            .all(|node| node.plan.phase() == Phase::Balanced)
    }

    /// Times that a node yielded.
    pub(crate) fn yields(&self) -> u64 {
        self.nodes.iter().map(|node| node.plan.tally().yields).sum()
    }
}

/// A number that nothing can be told by.
fn mix(a: u64, b: u64, c: u64) -> u64 {
    let mut x = a
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(b.wrapping_mul(0xbf58_476d_1ce4_e5b9))
        .wrapping_add(c.wrapping_mul(0x94d0_49bb_1331_11eb));
    x ^= x >> 31;
    x = x.wrapping_mul(0xd6e8_feb8_6659_fd93);
    x ^ (x >> 32)
}
