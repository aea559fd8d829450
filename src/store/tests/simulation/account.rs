//! What has come of each push, and what must have.

use super::super::*;
use super::plan::{Plan, Trouble};
use super::world::World;

/// By then a Prometheus counts that began to scrape, however late its scrapes reach some nodes, and scrapes have been seen
/// for long enough.
const SETTLED: u64 = 60_000;

#[derive(Debug, Default)]
struct Life {
    accepted: u64,
    kept: Option<Kept>,
    refused: bool,
    served: BTreeMap<ConsumerName, usize>,
}

#[derive(Debug, Default)]
pub(super) struct Account {
    lives: BTreeMap<PushId, Life>,
    tally: Tally,
    /// Consumers forgotten for others: they may get pushes again.
    forgotten: usize,
    pub(super) crashes: usize,
    pub(super) partitions: usize,
}

impl Account {
    pub(super) fn note(&mut self, effects: &Effects) {
        self.tally.add(&effects.tally);
        self.forgotten += effects.forgotten.len();
        for (push, kept) in &effects.acknowledged {
            let life = self.lives.entry(push.clone()).or_default();
            assert_eq!(life.kept, None, "acknowledged twice");
            assert!(!life.refused, "refused and acknowledged");
            life.kept = Some(*kept);
        }
        for push in &effects.refused {
            let life = self.lives.entry(push.clone()).or_default();
            assert_eq!(life.kept, None, "acknowledged and refused");
            life.refused = true;
        }
    }

    pub(super) fn accepted(&mut self, push: PushId, at: u64) {
        self.lives.entry(push).or_default().accepted = at;
    }

    pub(super) fn served(&mut self, consumer: &ConsumerName, pushes: &[PushId]) {
        for push in pushes {
            let life = self.lives.entry(push.clone()).or_default();
            *life.served.entry(consumer.clone()).or_default() += 1;
        }
    }

    /// A node that starts again finds so many of its pushes over.
    pub(super) fn expired_while_down(&mut self, pushes: usize) {
        self.tally.expired += pushes;
    }

    /// Whether it has been acknowledged.
    pub(super) fn is_acknowledged(&self, push: &PushId) -> bool {
        self.lives.get(push).is_some_and(|life| life.kept.is_some())
    }

    /// Pushes that were acknowledged as replicated, for which some Prometheus may wait yet.
    pub(super) fn replicated(&self) -> impl Iterator<Item = &PushId> {
        let lives = self.lives.iter();
        lives
            .filter(|(_, life)| life.kept == Some(Kept::Replicated))
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
                durable,
                ..
            } = &node.store;
            assert!(durable.is_idle());
            assert!(unacknowledged.is_empty() && queued.is_empty());
            assert!(unsettled.is_empty() && handing.is_empty());
            let counts = node.store.counts();
            assert_eq!(counts, Counts::default(), "bytes are accounted for");
            assert!(node.store.ledger.accounts().are_closed());
        }
    }
}

impl Account {
    /// Without crashes everything that was accepted is served to each Prometheus that is there; with one at a time,
    /// everything that was acknowledged as replicated; if it did not expire, and the Prometheus was not silent for long.
    fn check_losses(&self, plan: &Plan) {
        let failed = self.crashes > 0;
        let is_due = |life: &Life| match plan.trouble {
            // Also what is not replicated.
            Trouble::Power => life.kept.is_some(),
            _ if !failed => !life.refused,
            Trouble::Chaos => false,
            _ => life.kept == Some(Kept::Replicated),
        };
        let kept = self.lives.iter().filter(|(_, life)| is_due(life));
        let kept: Vec<_> = kept.collect();
        let Tally {
            expired, missed, ..
        } = self.tally;
        let unserved = kept.iter().filter(|(_, life)| !life.is_served(plan));
        let lost = unserved.count();
        assert!(lost <= expired + missed, "{lost} lost, {expired} expired");
        let mut lacking = Vec::new();
        for (number, scraper) in plan.consumers.iter().enumerate() {
            let name = consumer(&format!("prometheus-{number}"));
            let since = scraper.from + SETTLED;
            let until = scraper.silent.start;
            let times = since..until;
            let due = kept
                .iter()
                .filter(|(_, life)| times.contains(&life.accepted));
            let lacks = due.filter(|(_, life)| !life.served.contains_key(&name));
            lacking.extend(lacks.map(|(push, life)| (name.clone(), *push, life.accepted)));
        }
        let gone = plan
            .consumers
            .iter()
            .filter(|one| one.silent.start < u64::MAX);
        let allowed = expired * plan.consumers.len() + missed;
        assert!(
            lacking.len() <= allowed,
            "{lacking:?} lacking, {expired} expired, {missed} missed, {gone} silent",
            gone = gone.clone().count(),
        );
        if gone.count() == 0 && self.crashes + self.partitions == 0 && plan.has_long_ttl() {
            assert_eq!(missed, 0, "a Prometheus that scraped missed pushes");
        }
        let mut lives = self.lives.values();
        assert!(
            failed || lives.all(|life| life.kept.is_some() || life.refused),
            "a push is not acknowledged"
        );
    }

    fn check_duplicates(&self, plan: &Plan) {
        let counted = self.tally.possible_duplicates;
        if plan.limits.retention.is_zero() {
            let times = self.lives.values().flat_map(|life| life.served.values());
            let again: usize = times.map(|times| times - 1).sum();
            assert!(again <= counted, "{again} served again, {counted} counted");
        }
        // A node that leaves may not have heard yet that a push is its own. Who takes it over cannot know that.
        let unknown = self.forgotten + self.tally.taken_over;
        if self.crashes + self.partitions + unknown == 0 && plan.clean {
            assert_eq!(
                counted, 0,
                "nothing went wrong, all the same pushes may be served twice"
            );
        }
    }
}

impl Life {
    /// Whether a Prometheus has had it, not just somebody who looked once.
    fn is_served(&self, plan: &Plan) -> bool {
        let mut numbers = 0..plan.consumers.len();
        numbers.any(|number| {
            let name = consumer(&format!("prometheus-{number}"));
            self.served.contains_key(&name)
        })
    }
}
