//! Any interleaving of what nodes, applications, Prometheis and the network may do.

use std::collections::{BTreeSet, HashSet};

use proptest::prelude::*;
use proptest::sample::Index;

use super::nodes::Nodes;
use super::*;
use crate::nodes::{NodeId, NodeState};

const NODES: u64 = 3;

#[derive(Debug, Clone)]
enum Step {
    Push(u64, Vec<u64>),
    Begin(u64),
    Choose(Index),
    Commit(Index),
    Release(Index),
    Deliver(Index),
    Duplicate(Index),
    Tick,
    /// Longer than a lease, with nobody renewing in between.
    Sleep,
    Lose(Index),
    Kill(u64),
    Drain(u64),
}

fn orderly() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..NODES, prop::collection::vec(0..5_u64, 1..3)).prop_map(|(at, series)| Step::Push(at, series)),
        2 => (0..NODES).prop_map(Step::Begin),
        2 => any::<Index>().prop_map(Step::Choose),
        2 => any::<Index>().prop_map(Step::Commit),
        1 => any::<Index>().prop_map(Step::Release),
        20 => any::<Index>().prop_map(Step::Deliver),
        2 => any::<Index>().prop_map(Step::Duplicate),
        2 => Just(Step::Tick),
    ]
}

fn disorderly() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => orderly(),
        2 => any::<Index>().prop_map(Step::Lose),
        1 => Just(Step::Sleep),
        1 => (0..NODES).prop_map(Step::Kill),
        1 => (0..NODES).prop_map(Step::Drain),
    ]
}

struct Run {
    nodes: Nodes,
    view: View,
    pushed: BTreeMap<PushId, Vec<u64>>,
    open: Vec<ClaimId>,
    chosen: BTreeMap<ClaimId, Vec<PushId>>,
    served: Vec<PushId>,
    killed: bool,
}

fn one_of(chosen: &BTreeMap<ClaimId, Vec<PushId>>, at: Index) -> ClaimId {
    let claim = chosen.keys().nth(at.index(chosen.len()));
    claim.unwrap().clone()
}

impl Run {
    fn new() -> Self {
        let unexpiring = Limits {
            ttl: Duration::from_secs(3600),
            ..limits()
        };
        Self {
            nodes: Nodes::new(NODES, &unexpiring, &Replication::default()),
            view: view(&(0..NODES).collect::<Vec<_>>()),
            pushed: BTreeMap::new(),
            open: Vec::new(),
            chosen: BTreeMap::new(),
            served: Vec::new(),
            killed: false,
        }
    }

    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        let nodes = &mut self.nodes;
        let mail =
            |at: Index, nodes: &Nodes| (!nodes.mail.is_empty()).then(|| at.index(nodes.mail.len()));
        match step {
            Step::Push(at, series) if nodes.stores.contains_key(&node(at)) => {
                let push = nodes.push(&node(at), &series).unwrap();
                self.pushed.insert(push, series);
            }
            Step::Begin(at) if nodes.stores.contains_key(&node(at)) => {
                self.open.push(nodes.begin(&node(at)));
            }
            Step::Choose(at) if !self.open.is_empty() => {
                let claim = self.open.swap_remove(at.index(self.open.len()));
                self.choose(claim)?;
            }
            Step::Commit(at) if !self.chosen.is_empty() => {
                let claim = one_of(&self.chosen, at);
                self.served.extend(self.chosen.remove(&claim).unwrap());
                nodes.commit(&claim);
            }
            Step::Release(at) if !self.chosen.is_empty() => {
                let claim = one_of(&self.chosen, at);
                self.chosen.remove(&claim);
                nodes.release(&claim);
            }
            Step::Deliver(at) => {
                if let Some(mail) = mail(at, nodes).and_then(|at| nodes.mail.swap_remove_back(at)) {
                    nodes.deliver(mail);
                }
            }
            Step::Duplicate(at) => {
                if let Some(mail) = mail(at, nodes).and_then(|at| nodes.mail.get(at).cloned()) {
                    nodes.deliver(mail);
                }
            }
            Step::Lose(at) => {
                if let Some(mail) = mail(at, nodes).and_then(|at| nodes.mail.swap_remove_back(at)) {
                    nodes.lose(mail);
                }
            }
            Step::Tick => {
                nodes.now += Duration::from_millis(50);
                nodes.tick();
            }
            Step::Sleep => {
                nodes.now += Duration::from_secs(11);
                nodes.tick();
            }
            Step::Kill(at) if !self.killed => {
                self.killed = true;
                self.kill(&node(at));
            }
            Step::Drain(at) if self.view.contains_key(&node(at)) => {
                self.view.insert(node(at), NodeState::Draining);
                nodes.see(&self.view);
            }
            _ => {}
        }
        Ok(())
    }

    fn choose(&mut self, claim: ClaimId) -> Result<(), TestCaseError> {
        if let Some(claimed) = self.nodes.choose(&claim) {
            let mut series = HashSet::new();
            for push in &claimed.pushes {
                for one in self.pushed[push].iter().collect::<BTreeSet<_>>() {
                    prop_assert!(series.insert(*one), "a series twice in one response");
                }
            }
            self.chosen.insert(claim, claimed.pushes);
        }
        Ok(())
    }

    fn kill(&mut self, victim: &NodeId) {
        self.nodes.stores.remove(victim);
        self.open.retain(|claim| claim.scraper != *victim);
        self.chosen.retain(|claim, _| claim.scraper != *victim);
        self.view.remove(victim);
        self.nodes.see(&self.view);
    }

    /// Everything under way arrives, open scrapes break off, and scrapes of all nodes take the rest.
    fn finish(&mut self) -> Result<(), TestCaseError> {
        for claim in self
            .open
            .drain(..)
            .chain(std::mem::take(&mut self.chosen).into_keys())
        {
            self.nodes.release(&claim);
        }
        self.nodes.talk();
        for _ in 0..400 {
            if self.nodes.held() == 0 {
                return Ok(());
            }
            self.nodes.wait(Duration::from_millis(100));
            for id in self.nodes.stores.keys().cloned().collect::<Vec<_>>() {
                let served = self.nodes.scrape(&id);
                self.served.extend(served);
            }
        }
        prop_assert!(false, "pushes stay");
        Ok(())
    }

    fn times_served(&self, push: &PushId) -> usize {
        self.served.iter().filter(|served| *served == push).count()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// However messages are delayed, repeated and reordered: with no death, no partition and no lease that runs out, each
    /// push is served exactly once.
    #[test]
    fn without_failures_each_push_is_served_exactly_once(steps in prop::collection::vec(orderly(), 0..150)) {
        let mut run = Run::new();
        for step in steps {
            run.step(step)?;
        }
        run.finish()?;
        for push in run.pushed.keys() {
            prop_assert_eq!(run.times_served(push), 1);
            prop_assert_eq!(run.nodes.acknowledged.get(push), Some(&Kept::Replicated));
        }
        prop_assert_eq!(run.nodes.tally.possible_duplicates, 0);
        prop_assert_eq!(run.nodes.tally.expired, 0);
    }

    /// With lost messages, leases that run out, nodes that leave and one that dies: what was acknowledged as replicated is
    /// served, and what is served twice has been counted.
    #[test]
    fn what_was_acknowledged_as_replicated_outlives_a_node(steps in prop::collection::vec(disorderly(), 0..150)) {
        let mut run = Run::new();
        for step in steps {
            run.step(step)?;
        }
        run.finish()?;
        let mut again = 0;
        for push in run.pushed.keys() {
            let times = run.times_served(push);
            let kept = run.nodes.acknowledged.get(push);
            prop_assert!(times > 0 || kept != Some(&Kept::Replicated), "{:?} lost", push);
            again += times.saturating_sub(1);
        }
        prop_assert!(again <= run.nodes.tally.possible_duplicates);
    }
}
