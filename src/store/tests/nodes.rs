//! Several stores and what is under way between them.

use std::collections::VecDeque;

use super::*;
use crate::nodes::{NodeId, NodeState};

/// A request or a reply under way.
#[derive(Debug, Clone)]
pub(super) enum Word {
    Call(Request),
    Answer(Reply),
}

#[derive(Debug, Clone)]
pub(super) struct Mail {
    pub(super) from: NodeId,
    pub(super) to: NodeId,
    pub(super) word: Word,
}

/// Several nodes that see each other, and the time.
pub(super) struct Nodes {
    pub(super) stores: BTreeMap<NodeId, Store>,
    pub(super) mail: VecDeque<Mail>,
    pub(super) now: Instant,
    pub(super) acknowledged: BTreeMap<PushId, Kept>,
    pub(super) forgotten: Vec<ConsumerName>,
    pub(super) tally: Tally,
}

impl Nodes {
    pub(super) fn new(number: u64, limits: &Limits, replication: &Replication) -> Self {
        let all = view(&(0..number).collect::<Vec<_>>());
        let stores = all
            .keys()
            .map(|id| {
                let store = known_store(id.clone(), limits.clone(), replication.clone());
                (id.clone(), store)
            })
            .collect();
        let mut nodes = Self {
            stores,
            mail: VecDeque::new(),
            now: Instant::now(),
            acknowledged: BTreeMap::new(),
            forgotten: Vec::new(),
            tally: Tally::default(),
        };
        nodes.see(&all);
        nodes
    }

    /// Lets every node in `view` see it.
    pub(super) fn see(&mut self, view: &View) {
        let now = self.now;
        for id in view.keys() {
            self.with(id, |store| store.members(view.clone(), now));
        }
    }

    pub(super) fn with(&mut self, id: &NodeId, act: impl FnOnce(&mut Store) -> Effects) {
        if let Some(store) = self.stores.get_mut(id) {
            let effects = act(store);
            self.carry_out(id, effects);
        }
    }

    pub(super) fn carry_out(&mut self, from: &NodeId, effects: Effects) {
        self.tally.add(&effects.tally);
        self.acknowledged.extend(effects.acknowledged);
        self.forgotten.extend(effects.forgotten);
        for (to, request) in effects.calls {
            self.mail.push_back(Mail {
                from: from.clone(),
                to,
                word: Word::Call(request),
            });
        }
    }

    /// Brings one message to where it goes, unless nobody is there.
    pub(super) fn deliver(&mut self, mail: Mail) {
        let now = self.now;
        let Some(store) = self.stores.get_mut(&mail.to) else {
            self.lose(mail);
            return;
        };
        let effects = match mail.word {
            Word::Call(request) => {
                let (reply, effects) = store.serve(&mail.from, request, now);
                self.mail.push_back(Mail {
                    from: mail.to.clone(),
                    to: mail.from,
                    word: Word::Answer(reply),
                });
                effects
            }
            Word::Answer(reply) => store.answered(&mail.from, reply, now),
        };
        self.carry_out(&mail.to, effects);
    }

    /// Loses a message. A node whose call to hold a push is not answered is told so, as in the program.
    pub(super) fn lose(&mut self, mail: Mail) {
        let Mail { from, to, word } = mail;
        let (caller, by, push) = match word {
            Word::Call(Request::Replicate(replica)) => (from, to, replica.push),
            Word::Answer(Reply::Replicate(push, _)) => (to, from, push),
            _ => return,
        };
        if let Some(store) = self.stores.get_mut(&caller) {
            store.unreplicated(&by, &push, self.now);
        }
    }

    pub(super) fn lose_all(&mut self) {
        for mail in std::mem::take(&mut self.mail) {
            self.lose(mail);
        }
    }

    /// Calls to hold a push that are under way.
    pub(super) fn replicas_sent(&self) -> Vec<(NodeId, PushId)> {
        let sent = self.mail.iter().filter_map(|mail| match &mail.word {
            Word::Call(Request::Replicate(replica)) => {
                Some((mail.to.clone(), replica.push.clone()))
            }
            _ => None,
        });
        sent.collect()
    }

    /// Adds a node, seen by all in that state.
    pub(super) fn join(&mut self, number: u64, state: NodeState) {
        let replication = Replication::default();
        let store = known_store(node(number), limits(), replication);
        self.stores.insert(node(number), store);
        let stores = self.stores.keys();
        let mut view: View = stores.map(|id| (id.clone(), NodeState::Active)).collect();
        view.insert(node(number), state);
        self.see(&view);
    }

    /// Delivers everything, with what comes of it.
    pub(super) fn talk(&mut self) {
        while let Some(mail) = self.mail.pop_front() {
            self.deliver(mail);
        }
    }

    /// Lets time pass, with everything delivered at once.
    pub(super) fn wait(&mut self, time: Duration) {
        let step = Duration::from_millis(500);
        let until = self.now + time;
        while self.now < until {
            self.now += step.min(until - self.now);
            self.tick();
            self.talk();
        }
    }

    pub(super) fn tick(&mut self) {
        let now = self.now;
        for id in self.stores.keys().cloned().collect::<Vec<_>>() {
            self.with(&id, |store| store.tick(now));
        }
    }

    pub(super) fn push(&mut self, at: &NodeId, series: &[u64]) -> Result<PushId, Refusal> {
        let store = self.stores.get_mut(at).expect("a live node");
        let (push, effects) = store.accept(content(series), self.now)?;
        self.carry_out(at, effects);
        Ok(push)
    }

    pub(super) fn begin(&mut self, at: &NodeId) -> ClaimId {
        self.begin_as(at, prometheus().as_str())
    }

    pub(super) fn begin_as(&mut self, at: &NodeId, name: &str) -> ClaimId {
        let store = self.stores.get_mut(at).expect("a live node");
        let (claim, effects) = store.begin(&consumer(name), self.now);
        self.carry_out(at, effects);
        claim
    }

    pub(super) fn choose(&mut self, claim: &ClaimId) -> Option<Claimed> {
        let store = self.stores.get_mut(&claim.scraper)?;
        let (claimed, effects) = store.choose(claim, self.now)?;
        self.carry_out(&claim.scraper, effects);
        Some(claimed)
    }

    pub(super) fn commit(&mut self, claim: &ClaimId) {
        let now = self.now;
        self.with(&claim.scraper, |store| store.commit(claim, now).1);
    }

    pub(super) fn release(&mut self, claim: &ClaimId) {
        let now = self.now;
        self.with(&claim.scraper, |store| store.release(claim, now));
    }

    /// A claim to which everybody has answered, and what it got.
    pub(super) fn claim(&mut self, at: &NodeId) -> (ClaimId, Claimed) {
        self.claim_as(at, prometheus().as_str())
    }

    pub(super) fn claim_as(&mut self, at: &NodeId, name: &str) -> (ClaimId, Claimed) {
        let claim = self.begin_as(at, name);
        self.talk();
        let claimed = self.choose(&claim).expect("an open claim");
        (claim, claimed)
    }

    /// A whole scrape, with everything delivered at once.
    pub(super) fn scrape(&mut self, at: &NodeId) -> Vec<PushId> {
        self.scrape_as(at, prometheus().as_str())
    }

    pub(super) fn scrape_as(&mut self, at: &NodeId, name: &str) -> Vec<PushId> {
        let (claim, claimed) = self.claim_as(at, name);
        self.commit(&claim);
        self.talk();
        claimed.pushes
    }

    /// Pushes held anywhere.
    pub(super) fn held(&self) -> usize {
        self.stores
            .values()
            .map(|store| store.ledger.iter().count())
            .sum()
    }

    pub(super) fn holders(&self, push: &PushId) -> Vec<NodeId> {
        let stores = self.stores.iter();
        stores
            .filter(|(_, store)| store.ledger.get(push).is_some())
            .map(|(id, _)| id.clone())
            .collect()
    }

    pub(super) fn owner(&self, push: &PushId) -> Vec<NodeId> {
        let stores = self.stores.iter();
        stores
            .filter(|(_, store)| store.owns(push))
            .map(|(id, _)| id.clone())
            .collect()
    }
}

impl Tally {
    pub(super) fn add(&mut self, other: &Self) {
        let Self {
            expired,
            missed,
            taken_over,
            handed_over,
            possible_duplicates,
            possibly_out_of_order,
            refused,
            untold,
        } = other;
        self.expired += expired;
        self.missed += missed;
        self.taken_over += taken_over;
        self.handed_over += handed_over;
        self.possible_duplicates += possible_duplicates;
        self.possibly_out_of_order += possibly_out_of_order;
        self.refused += refused;
        self.untold += untold;
    }
}
