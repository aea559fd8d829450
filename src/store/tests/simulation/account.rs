//! What has come of each push, and what must have.

use super::super::*;
use super::plan::Trouble;
use super::world::World;

#[derive(Debug, Default)]
struct Life {
    kept: Option<Kept>,
    served: usize,
}

#[derive(Debug, Default)]
pub(super) struct Account {
    lives: BTreeMap<PushId, Life>,
    /// Acknowledged before [`World::with`] said under which id they were accepted.
    tally: Tally,
    pub(super) crashes: usize,
    pub(super) partitions: usize,
}

impl Account {
    pub(super) fn note(&mut self, effects: &Effects) {
        self.tally.add(&effects.tally);
        for (push, kept) in &effects.acknowledged {
            let life = self.lives.entry(push.clone()).or_default();
            assert_eq!(life.kept, None, "acknowledged twice");
            life.kept = Some(*kept);
        }
    }

    pub(super) fn accepted(&mut self, push: PushId) {
        self.lives.entry(push).or_default();
    }

    pub(super) fn served(&mut self, pushes: &[PushId]) {
        for push in pushes {
            self.lives.entry(push.clone()).or_default().served += 1;
        }
    }

    /// Pushes that were acknowledged as replicated and are not served yet.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &PushId> {
        let lives = self.lives.iter();
        lives
            .filter(|(_, life)| life.kept == Some(Kept::Replicated) && life.served == 0)
            .map(|(push, _)| push)
    }
}

impl World {
    /// Checks what must hold when everything has healed and nothing is held any more.
    pub(super) fn settle_up(&self) {
        let account = &self.account;
        let retains = !self.plan.limits.retention.is_zero();
        let lost: Vec<_> = account
            .lives
            .iter()
            .filter(|(_, life)| life.served == 0)
            .collect();
        let unfailing = account.crashes == 0;
        let broken_promise = lost.iter().filter(|(_, life)| {
            let promised =
                self.plan.trouble != Trouble::Chaos && life.kept == Some(Kept::Replicated);
            promised || unfailing
        });
        // Replicas of a push that expired may have had an owner each.
        assert!(
            broken_promise.count() <= account.tally.expired,
            "lost: {lost:?} {account:?}"
        );
        if unfailing {
            let mut lives = account.lives.values();
            assert!(lives.all(|life| life.kept.is_some()), "not acknowledged");
        }
        if !retains {
            let again = account
                .lives
                .values()
                .map(|life| life.served.saturating_sub(1));
            let again: usize = again.sum();
            let counted = account.tally.possible_duplicates;
            assert!(again <= counted, "{again} duplicates, {counted} counted");
        }
        if account.crashes + account.partitions == 0 {
            assert_eq!(account.tally.taken_over, 0);
        }
        for node in self.nodes.values() {
            let counts = node.store.counts(self.now());
            assert_eq!(counts, Counts::default(), "bytes are accounted for");
        }
    }
}
