//! Which of two pushes with a series in common was there first, and that it goes out first.

use super::super::*;
use super::world::World;

/// By then all nodes have heard of each other.
const SETTLED: u64 = 30_000;

/// For each push, the older ones with a series in common that are not over.
#[derive(Debug, Default)]
pub(super) struct Precedence {
    /// Acknowledged when the push came.
    older: BTreeMap<PushId, Vec<PushId>>,
    served: BTreeSet<(ConsumerName, PushId)>,
    /// For each claim, when it began: what was to go before what, as a node knew that held both.
    known: BTreeMap<ClaimId, Vec<(PushId, PushId)>>,
}

impl World {
    /// Takes note of what the push has to wait for.
    pub(super) fn note_precedence(&mut self, push: &PushId) {
        if !self.plan.in_order || self.clock < SETTLED {
            return;
        }
        let mine = &self.series[push];
        let others = self.series.iter().filter(|(other, series)| {
            let common = series.iter().any(|one| mine.contains(one));
            common && *other != push
        });
        let older = others.filter(|(other, _)| self.account.is_acknowledged(other));
        let older = older.map(|(other, _)| other.clone()).collect();
        self.precedence.older.insert(push.clone(), older);
    }

    /// Takes note of what holders know as a claim begins.
    pub(super) fn note_begun(&mut self, claim: &ClaimId, consumer: &ConsumerName) {
        let pairs = self.precedence.older.iter().flat_map(|(newer, older)| {
            let older = older.iter().map(move |older| (older, newer));
            older.filter(|(older, newer)| {
                let had = (consumer.clone(), (*older).clone());
                !self.precedence.served.contains(&had) && self.is_known(older, newer)
            })
        });
        let pairs = pairs
            .map(|(older, newer)| (older.clone(), newer.clone()))
            .collect();
        self.precedence.known.insert(claim.clone(), pairs);
    }

    fn is_known(&self, older: &PushId, newer: &PushId) -> bool {
        self.nodes.values().any(|node| {
            let ledger = &node.store.ledger;
            ledger.get(older).is_some() && ledger.get(newer).is_some()
        })
    }

    /// What was to go before a push that goes out has been served, or is over because it has been to all that count.
    pub(super) fn check_order(&mut self, claim: &ClaimId, chosen: &[PushId]) {
        let known = self.precedence.known.remove(claim).unwrap_or_default();
        let consumer = &self.consumers[claim];
        for (older, newer) in known {
            let had = (consumer.clone(), older.clone());
            let mut stores = self.nodes.values().map(|node| &node.store);
            let first = self.precedence.served.contains(&had)
                || stores.any(|store| store.ledger.is_over(&older));
            assert!(
                first || !chosen.contains(&newer),
                "{newer:?} goes out before {older:?}"
            );
        }
    }

    pub(super) fn note_served(&mut self, claim: &ClaimId, pushes: &[PushId]) {
        let consumer = &self.consumers[claim];
        let had = pushes.iter().map(|push| (consumer.clone(), push.clone()));
        self.precedence.served.extend(had);
    }
}
