//! The owner's side of a claim: each push to one claim at a time, on a lease.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use super::claim::Scrape;
use super::holders::Holding;
use super::ledger::{Held, State};
use super::selection::{Candidate, PushPart, Selection, SeriesMap, SeriesSet, select};
use super::{ClaimId, Handed, Kept, Lent, Over, PushId, Store};
use crate::nodes::NodeId;

/// Pushes in one answer to another node's claim: their names and holders have to fit into a message, too.
const MAX_HANDED: usize = 8192;
/// A claim is remembered for so many leases after its last message.
const REMEMBERED_LEASES: u32 = 3;

impl Store {
    /// Hands `claimant` what is due, and says what has to wait. Repeated, it hands out the same.
    pub(super) fn lend(&mut self, claimant: &NodeId, claim: &ClaimId, now: Instant) -> Lent {
        let known = self.loans.get(claim).is_some();
        let (deferred, waiting) = if known {
            (0, Vec::new())
        } else {
            self.lend_anew(claimant, claim, now)
        };
        let until = self.remembered(now);
        let loan = self.loans.open(claim, until);
        let pushes = loan.pushes.iter();
        let mut handed: Vec<_> = pushes
            .filter_map(|push| {
                let held = self.ledger.get_mut(push)?;
                held.renew(claim, now + self.replication.lease)
                    .then(|| hand(push, held, &self.me, claimant, now))
            })
            .collect();
        handed.sort_by(|a, b| (a.order, &a.push).cmp(&(b.order, &b.push)));
        Lent {
            handed,
            deferred,
            waiting,
        }
    }

    fn lend_anew(
        &mut self,
        claimant: &NodeId,
        claim: &ClaimId,
        now: Instant,
    ) -> (usize, Vec<PushId>) {
        let Selection {
            chosen,
            deferred,
            replaced,
            mut waiting,
            overtaking,
        } = self.select_due(now);
        waiting.truncate(MAX_HANDED);
        self.out.tally.possibly_out_of_order += overtaking;
        for push in &replaced {
            self.end_everywhere(push, now);
        }
        let affordable = self.affordable(chosen, claimant);
        for push in &affordable {
            self.mark_claimed(push, claim, now);
        }
        let until = self.remembered(now);
        self.loans.open(claim, until).pushes.extend(affordable);
        (deferred.len(), waiting)
    }

    fn select_due(&self, now: Instant) -> Selection {
        let mut candidates = Vec::new();
        let under_way = self.scrapes.values().flat_map(Scrape::fresh_series);
        let mut busy: SeriesSet = under_way.copied().collect();
        for (push, held) in self.ledger.iter() {
            let owned = held.ownership().owner == self.me;
            if owned && held.is_claimed(now) {
                busy.extend(&held.content.series);
                continue;
            }
            let patient = now + self.limits.ttl / 2 < held.expires;
            let part = match (owned, held.is_retained()) {
                (true, true) => PushPart::Retained,
                (true, false) => PushPart::Fresh { patient },
                (false, false) => PushPart::Elsewhere { patient },
                (false, true) => continue,
            };
            candidates.push(Candidate {
                push,
                order: held.order,
                series: &held.content.series,
                part,
            });
        }
        select(candidates, busy)
    }

    /// Keeps as many as one answer may carry: what is served again anyway must not crowd out what never was, nor a long
    /// text that has to wait the short ones.
    fn affordable(&self, mut chosen: Vec<PushId>, claimant: &NodeId) -> Vec<PushId> {
        chosen.sort_by_key(|push| self.ledger.get(push).is_some_and(Held::is_retained));
        if *claimant != self.me {
            chosen.truncate(MAX_HANDED);
        }
        let mut bytes = 0;
        chosen.retain(|push| {
            let held = self.ledger.get(push);
            let sent = held.filter(|held| !has_text(held, &self.me, claimant));
            let sent = sent.map_or(0, |held| held.content.text.text().len());
            let fits = bytes == 0 || bytes + sent <= self.replication.max_claim_bytes;
            bytes += if fits { sent } else { 0 };
            fits
        });
        chosen
    }

    fn mark_claimed(&mut self, push: &PushId, claim: &ClaimId, now: Instant) {
        let Some(held) = self.ledger.get_mut(push) else {
            return;
        };
        match held.state() {
            State::Retained { .. } => return,
            State::Pending => held.asked_since.clear(),
            // Its lease has run out; that claim may yet turn out to have been served.
            State::Claimed { .. } => self.out.tally.possible_duplicates += 1,
        }
        let claim = claim.clone();
        let until = now + self.replication.lease;
        self.ledger.set_state(push, State::Claimed { claim, until });
    }

    /// The claim goes on for `kept` and gives the others back.
    pub(super) fn renew_loan(&mut self, claim: &ClaimId, kept: &BTreeSet<PushId>, now: Instant) {
        if self.loans.get(claim).is_none_or(|loan| loan.over) {
            return;
        }
        let until = self.remembered(now);
        let loan = self.loans.open(claim, until);
        let ledger = &mut self.ledger;
        let lease = self.replication.lease;
        loan.pushes.retain(|push| {
            let wanted = kept.contains(push);
            if !wanted {
                ledger.give_back(push, claim);
            } else if let Some(held) = ledger.get_mut(push) {
                held.renew(claim, now + lease);
            }
            wanted
        });
    }

    /// The claim is over: what was served is ended, the others are given back.
    pub(super) fn close_loan(&mut self, claim: &ClaimId, over: &Over, now: Instant) {
        self.end_served(over, now);
        let until = self.remembered(now);
        let loan = self.loans.open(claim, until);
        loan.over = true;
        for push in std::mem::take(&mut loan.pushes) {
            self.ledger.give_back(&push, claim);
        }
    }

    /// Ends what a scrape has served or replaced, also what is not here yet.
    pub(super) fn end_served(&mut self, over: &Over, now: Instant) {
        self.out.tally.possibly_out_of_order += self.count_overtaken(&over.served, now);
        for push in &over.served {
            self.end_one_served(push, now);
        }
        for push in &over.replaced {
            self.end(push, now);
        }
    }

    /// Pushes of this node's that wait, or are in a response under way, while newer ones of other nodes with a series in
    /// common have been served.
    fn count_overtaken(&self, served: &[PushId], now: Instant) -> usize {
        let counts = self.ledger.counts();
        if counts.pending + counts.claimed == 0 {
            return 0;
        }
        let mut newest = SeriesMap::default();
        for held in served.iter().filter_map(|push| self.ledger.get(push)) {
            if held.ownership().owner != self.me && !held.is_retained() {
                let order = held.order;
                let series = held.content.series.iter();
                newest.extend(series.map(|series| (*series, order)));
            }
        }
        if newest.is_empty() {
            return 0;
        }
        let overtaken = self.ledger.iter().filter(|(_, held)| {
            let waits = held.ownership().owner == self.me && !held.is_retained();
            let since = if held.is_claimed(now) { 0 } else { held.order };
            let mut series = held.content.series.iter();
            waits && series.any(|series| newest.get(series) > Some(&since))
        });
        overtaken.count()
    }

    fn end_one_served(&mut self, push: &PushId, now: Instant) {
        let retains = !self.limits.retention.is_zero();
        let Some(held) = self.ledger.get_mut(push) else {
            // A replica on its way is not to be held; one that will be retained is, and its owner will say so.
            if !retains {
                self.end(push, now);
            }
            return;
        };
        if held.is_retained() {
            return;
        }
        // Who claimed it tells those that held it then. But this node must not leave before all know.
        let unaware = if self.members.am_draining() {
            held.holders.nodes().cloned().collect()
        } else {
            std::mem::take(&mut held.asked_since)
        };
        if retains {
            let until = now + self.limits.retention;
            self.ledger.set_state(push, State::Retained { until });
            self.acknowledge(push, Kept::Replicated);
        } else {
            self.end(push, now);
        }
        let served = Over {
            served: vec![push.clone()],
            replaced: Vec::new(),
        };
        self.relay(unaware, &served);
    }

    fn remembered(&self, now: Instant) -> Instant {
        now + self.replication.lease * REMEMBERED_LEASES
    }
}

fn has_text(held: &Held, me: &NodeId, claimant: &NodeId) -> bool {
    claimant == me || held.holders.get(claimant) == Some(&Holding::Confirmed)
}

fn hand(push: &PushId, held: &Held, me: &NodeId, claimant: &NodeId, now: Instant) -> Handed {
    Handed {
        push: push.clone(),
        content: (!has_text(held, me, claimant)).then(|| Arc::clone(&held.content)),
        left: held.expires.saturating_duration_since(now),
        holders: held.all_holders(me),
        retained: held.is_retained(),
        order: Some(held.order),
    }
}
