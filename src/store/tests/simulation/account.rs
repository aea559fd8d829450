//! What has come of each push, and what must have.

use super::super::*;
use super::plan::{Plan, Trouble};
use super::world::World;

#[derive(Debug, Default)]
struct Life {
    kept: Option<Kept>,
    served: usize,
}

#[derive(Debug, Default)]
pub(super) struct Account {
    lives: BTreeMap<PushId, Life>,
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

    /// Whether it has been acknowledged.
    pub(super) fn is_acknowledged(&self, push: &PushId) -> bool {
        self.lives.get(push).is_some_and(|life| life.kept.is_some())
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
        self.account.check_losses(&self.plan);
        self.account.check_duplicates(&self.plan);
        for node in self.nodes.values() {
            let Store {
                unacknowledged,
                unsettled,
                queued,
                handing,
                ..
            } = &node.store;
            assert!(unacknowledged.is_empty() && queued.is_empty());
            assert!(unsettled.is_empty() && handing.is_empty());
            let counts = node.store.counts();
            assert_eq!(counts, Counts::default(), "bytes are accounted for");
            assert!(node.store.ledger.accounts().are_closed());
        }
    }
}

impl Account {
    /// Without crashes everything that was accepted is served; with one at a time, everything that was acknowledged as
    /// replicated; if it did not expire.
    fn check_losses(&self, plan: &Plan) {
        let failed = self.crashes > 0;
        let replicated = plan.trouble != Trouble::Chaos;
        let unserved = self.lives.iter().filter(|(_, life)| life.served == 0);
        let lost: Vec<_> = unserved
            .filter(|(_, life)| !failed || (replicated && life.kept == Some(Kept::Replicated)))
            .collect();
        let expired = self.tally.expired;
        assert!(lost.len() <= expired, "{lost:?} lost, {expired} expired");
        let mut lives = self.lives.values();
        assert!(
            failed || lives.all(|life| life.kept.is_some()),
            "a push is not acknowledged"
        );
    }

    fn check_duplicates(&self, plan: &Plan) {
        let counted = self.tally.possible_duplicates;
        if plan.limits.retention.is_zero() {
            let lives = self.lives.values();
            let again: usize = lives.map(|life| life.served.saturating_sub(1)).sum();
            assert!(again <= counted, "{again} served again, {counted} counted");
        }
        if self.crashes + self.partitions == 0 && plan.clean {
            assert_eq!(
                counted, 0,
                "nothing went wrong, all the same pushes may be served twice"
            );
        }
    }
}
