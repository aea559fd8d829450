//! Time, the network, and what applications and Prometheis do.

use super::super::disk::Disk;
use super::super::nodes::{Mail, Word};
use super::super::*;
use super::account::Account;
use super::order::Precedence;
use super::plan::{Plan, Scraped, Trouble};
use super::restarts::Shelved;
use crate::nodes::{NodeId, NodeState};

const TICK: u64 = 200;
/// A scrape waits no longer than this for what peers lend.
const GATHERING: u64 = 3_000;
/// An answer is waited for no longer.
const CALL_WITHIN: u64 = 5_000;

#[derive(Debug)]
pub(super) enum Event {
    Deliver(Mail),
    /// A node no longer waits for another's answer to its call to hold a push.
    GiveUp(NodeId, NodeId, PushId),
    Tick(NodeId),
    Push,
    /// Of the Prometheus with this number.
    Scrape(usize),
    /// Somebody looks at what is pushed.
    Look,
    /// Chooses if all have answered or this is the time to stop waiting.
    Choose(ClaimId, u64),
    /// The response is over: whole, or broken off.
    End(ClaimId, bool),
    /// One node notices what has become of another.
    Notice(NodeId, NodeId),
    Trouble,
    Heal,
    Start,
    /// A node's disk syncs.
    Sync(NodeId),
    /// A node that was down starts with its disk.
    Restart(Shelved),
    /// A node is in service from now on.
    Activate(NodeId),
}

pub(super) struct SimulatedNode {
    pub(super) store: Store,
    pub(super) disk: Option<Disk>,
    pub(super) state: NodeState,
    pub(super) view: View,
    /// A node that leaves and may not after this is stopped.
    pub(super) leaves_by: Option<u64>,
}

pub(super) struct World {
    pub(super) plan: Plan,
    start: Instant,
    pub(super) clock: u64,
    events: BTreeMap<(u64, u64), Event>,
    order: u64,
    pub(super) nodes: BTreeMap<NodeId, SimulatedNode>,
    pub(super) next_node: u64,
    /// Nodes that will come back with their disks.
    pub(super) down: usize,
    /// Nodes on the far side of the partition.
    pub(super) apart: BTreeSet<NodeId>,
    pub(super) account: Account,
    pub(super) series: BTreeMap<PushId, Vec<u64>>,
    pub(super) precedence: Precedence,
    /// Who scrapes with which claim.
    pub(super) consumers: BTreeMap<ClaimId, ConsumerName>,
    pub(super) responses: BTreeMap<ClaimId, Vec<PushId>>,
    looks: usize,
}

impl World {
    pub(super) fn new(plan: Plan) -> Self {
        let mut world = Self {
            start: Instant::now(),
            clock: 0,
            events: BTreeMap::new(),
            order: 0,
            nodes: BTreeMap::new(),
            next_node: 0,
            down: 0,
            apart: BTreeSet::new(),
            account: Account::default(),
            series: BTreeMap::new(),
            precedence: Precedence::default(),
            consumers: BTreeMap::new(),
            responses: BTreeMap::new(),
            looks: 0,
            plan,
        };
        for _ in 0..world.plan.nodes {
            world.start_node();
        }
        world.after(0, Event::Push);
        for number in 0..world.plan.consumers.len() {
            world.after(world.plan.consumers[number].from, Event::Scrape(number));
        }
        world.after(world.plan.look_every, Event::Look);
        if world.plan.trouble != Trouble::None {
            world.after(5_000, Event::Trouble);
        }
        world
    }

    pub(super) fn now(&self) -> Instant {
        self.start + Duration::from_millis(self.clock)
    }

    pub(super) fn after(&mut self, time: u64, event: Event) {
        self.order += 1;
        self.events.insert((self.clock + time, self.order), event);
    }

    /// Until everything has healed and every push has come to its end.
    pub(super) fn run(&mut self) {
        let end = self.plan.duration + 400_000;
        while let Some(((time, _), event)) = self.events.pop_first() {
            self.clock = time;
            assert!(time < end, "pushes stay: {:?}", self.held());
            if self.is_quiet() && !self.is_held() {
                return;
            }
            self.happen(event);
        }
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.clock > self.plan.duration + 30_000
    }

    fn is_held(&self) -> bool {
        let mut nodes = self.nodes.values();
        let busy = self.down > 0 || !self.responses.is_empty();
        busy || nodes.any(|node| node.store.ledger.iter().next().is_some())
    }

    fn held(&self) -> Vec<String> {
        let nodes = self.nodes.iter();
        let held = nodes.flat_map(|(id, node)| {
            let pushes = node.store.ledger.iter();
            pushes.map(move |(push, held)| format!("{id:?} {push:?} {held:?}"))
        });
        held.take(5).collect()
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Deliver(mail) => self.deliver(mail),
            Event::GiveUp(caller, by, push) => {
                let now = self.now();
                if let Some(node) = self.nodes.get_mut(&caller) {
                    node.store.unreplicated(&by, &push, now);
                }
            }
            Event::Tick(id) => self.tick(&id),
            Event::Push => self.push(),
            Event::Scrape(number) => self.scrape(number),
            Event::Look => self.look(),
            Event::Choose(claim, deadline) => self.choose(claim, deadline),
            Event::End(claim, whole) => self.end(&claim, whole),
            Event::Notice(observer, subject) => self.notice(&observer, &subject),
            Event::Trouble => self.trouble(),
            Event::Heal => self.heal(),
            Event::Start => {
                self.start_node();
            }
            Event::Sync(id) => self.sync(&id),
            Event::Restart(shelved) => self.restart(shelved),
            Event::Activate(id) => self.activate(&id),
        }
    }

    /// Lets a node do something and carries out what comes of it.
    pub(super) fn with<T>(
        &mut self,
        id: &NodeId,
        act: impl FnOnce(&mut Store, Instant) -> (T, Effects),
    ) -> Option<T> {
        let now = self.now();
        let (result, effects) = act(&mut self.nodes.get_mut(id)?.store, now);
        self.account.note(&effects);
        self.write(id, effects.writes);
        for (to, request) in effects.calls {
            if let Request::Replicate(replica) = &request {
                let push = replica.push.clone();
                self.after(CALL_WITHIN, Event::GiveUp(id.clone(), to.clone(), push));
            }
            self.send(&Mail {
                from: id.clone(),
                to,
                word: Word::Call(request),
            });
        }
        Some(result)
    }

    fn send(&mut self, mail: &Mail) {
        let healed = self.is_quiet();
        let draw = |rng: &mut fastrand::Rng, of: u64| !healed && rng.u64(0..1000) < of;
        let copies = 1 + u64::from(draw(&mut self.plan.rng, self.plan.repeated));
        for _ in 0..copies {
            if draw(&mut self.plan.rng, self.plan.lost) {
                continue;
            }
            let longest = if draw(&mut self.plan.rng, self.plan.late) {
                8_000
            } else {
                40
            };
            let delay = self.plan.rng.u64(1..longest);
            self.after(delay, Event::Deliver(mail.clone()));
        }
    }

    pub(super) fn reaches(&self, a: &NodeId, b: &NodeId) -> bool {
        self.apart.contains(a) == self.apart.contains(b)
    }

    fn deliver(&mut self, mail: Mail) {
        let Mail { from, to, word } = mail;
        if !self.reaches(&from, &to) {
            return;
        }
        match word {
            Word::Call(request) => {
                let reply = self.with(&to, |store, now| store.serve(&from, request, now));
                if let Some(reply) = reply {
                    self.send(&Mail {
                        from: to,
                        to: from,
                        word: Word::Answer(reply),
                    });
                }
            }
            Word::Answer(reply) => {
                self.with(&to, |store, now| ((), store.answered(&from, reply, now)));
            }
        }
    }

    fn tick(&mut self, id: &NodeId) {
        if self.with(id, |store, now| ((), store.tick(now))).is_some() {
            let bytes = self.nodes[id].store.counts().bytes;
            assert!(bytes <= self.plan.limits.max_bytes);
            self.after(TICK, Event::Tick(id.clone()));
            self.leave_if_due(id);
        }
    }

    fn any_node(&mut self) -> Option<NodeId> {
        if self.nodes.is_empty() {
            return None;
        }
        let at = self.plan.rng.usize(0..self.nodes.len());
        self.nodes.keys().nth(at).cloned()
    }

    fn push(&mut self) {
        if self.clock > self.plan.duration {
            return;
        }
        let next = self.plan.rng.u64(1..2 * self.plan.push_every);
        self.after(next, Event::Push);
        let Some(id) = self.any_node() else {
            return;
        };
        let number = self.plan.rng.usize(1..3);
        let mut series: Vec<_> = (0..number)
            .map(|_| self.plan.rng.u64(0..self.plan.series))
            .collect();
        series.sort_unstable();
        series.dedup();
        let text = content(&series);
        let accepted = self.with(&id, |store, now| match store.accept(text, now) {
            Ok((push, effects)) => (Some(push), effects),
            Err(_) => (None, Effects::default()),
        });
        if let Some(push) = accepted.flatten() {
            self.series.insert(push.clone(), series);
            self.note_precedence(&push);
            self.account.accepted(push, self.clock);
        }
    }

    fn scrape(&mut self, number: usize) {
        // At the end any node may be scraped, lest the one that is has left.
        let healed = self.is_quiet();
        let scraper = self.plan.consumers[number].clone();
        let next = if healed { 1_000 } else { scraper.every };
        let next = next + self.plan.rng.u64(0..500);
        self.after(next, Event::Scrape(number));
        if scraper.silent.contains(&self.clock) {
            return;
        }
        let scraped = match scraper.scraped {
            Scraped::One if !healed => self.nodes.keys().next().cloned().into_iter().collect(),
            Scraped::All => self.nodes.keys().cloned().collect(),
            Scraped::One | Scraped::Any => Vec::from_iter(self.any_node()),
        };
        for id in scraped {
            self.begin(&id, &consumer(&format!("prometheus-{number}")));
        }
    }

    fn look(&mut self) {
        if self.clock > self.plan.duration {
            return;
        }
        self.after(self.plan.look_every, Event::Look);
        self.looks += 1;
        let name = consumer(&format!("curl-{}", self.looks));
        if let Some(id) = self.any_node() {
            self.begin(&id, &name);
        }
    }

    fn begin(&mut self, id: &NodeId, consumer: &ConsumerName) {
        if let Some(claim) = self.with(id, |store, now| store.begin(consumer, now)) {
            self.consumers.insert(claim.clone(), consumer.clone());
            self.note_begun(&claim, consumer);
            let deadline = self.clock + GATHERING;
            self.after(20, Event::Choose(claim, deadline));
        }
    }

    fn choose(&mut self, claim: ClaimId, deadline: u64) {
        let Some(node) = self.nodes.get(&claim.scraper) else {
            return;
        };
        if node.store.awaited(&claim).next().is_some() && self.clock < deadline {
            self.after(20, Event::Choose(claim, deadline));
            return;
        }
        let claimed = self.with(&claim.scraper, |store, now| {
            store.choose(&claim, now).expect("an open claim")
        });
        let Some(claimed) = claimed else {
            return;
        };
        self.check_series(&claimed.pushes);
        self.check_order(&claim, &claimed.pushes);
        self.responses.insert(claim.clone(), claimed.pushes);
        let rng = &mut self.plan.rng;
        let (length, whole) = match rng.u8(0..20) {
            _ if self.clock > self.plan.duration => (100, true),
            0 => (rng.u64(1_000..30_000), rng.bool()),
            1..3 => (rng.u64(10..500), false),
            _ => (rng.u64(10..500), true),
        };
        self.after(length, Event::End(claim, whole));
    }

    fn check_series(&self, pushes: &[PushId]) {
        let mut series: Vec<_> = pushes.iter().flat_map(|push| &self.series[push]).collect();
        let all = series.len();
        series.sort_unstable();
        series.dedup();
        assert_eq!(series.len(), all, "a series twice in one response");
    }

    fn end(&mut self, claim: &ClaimId, whole: bool) {
        let Some(pushes) = self.responses.remove(claim) else {
            return;
        };
        if whole {
            self.note_served(claim, &pushes);
            self.account.served(&self.consumers[claim], &pushes);
            self.with(&claim.scraper, |store, now| store.commit(claim, now));
        } else {
            self.with(&claim.scraper, |store, now| ((), store.release(claim, now)));
        }
    }
}
