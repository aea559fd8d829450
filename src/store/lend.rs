//! The owner's side of a claim: each push to one claim of a consumer at a time, on a lease.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use super::claim::Scrape;
use super::holders::Holding;
use super::ledger::{Held, Lease, Taker};
use super::selection::{Candidate, PushPart, Selection, SeriesSet, select};
use super::{ClaimId, ConsumerName, Handed, Lent, Over, PushId, Store};
use crate::nodes::NodeId;

/// Pushes in one answer to another node's claim: their names and holders have to fit into a message, too.
const MAX_HANDED: usize = 8192;
/// A claim is remembered for so many leases after its last message.
const REMEMBERED_LEASES: u32 = 3;

impl Store {
    /// Hands `claimant` what is due to `consumer`, and says what has to wait. Repeated, it hands out the same. `None`: a node
    /// of an older release does not say who scrapes it.
    pub(super) fn lend(
        &mut self,
        claimant: &NodeId,
        claim: &ClaimId,
        consumer: Option<&ConsumerName>,
        now: Instant,
    ) -> Lent {
        let known = self.loans.get(claim).is_some();
        if let (false, Some(consumer)) = (known, consumer) {
            self.note_scrape(consumer, now);
        }
        let taker = self.taker(consumer);
        let (deferred, mut waiting) = if known {
            // The answer before may come after this one.
            (0, self.select_due(consumer, taker, now).waiting)
        } else {
            self.lend_anew(claimant, claim, (consumer, taker), now)
        };
        waiting.truncate(MAX_HANDED);
        let until = self.remembered(now);
        let loan = self.loans.open(claim, until);
        let leased = loan.leased.iter().filter(|push| {
            let held = self.ledger.get_mut(push);
            held.is_some_and(|held| held.renew(claim, now + self.replication.lease))
        });
        let handed = Vec::from_iter(leased.chain(&loan.again));
        let mut handed: Vec<_> = handed
            .into_iter()
            .filter_map(|push| {
                let held = self.ledger.get(push)?;
                Some(hand(push, held, taker, (&self.me, claimant), now))
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
        (consumer, taker): (Option<&ConsumerName>, Taker),
        now: Instant,
    ) -> (usize, Vec<PushId>) {
        let Selection {
            chosen,
            deferred,
            replaced,
            waiting,
            overtaking,
        } = self.select_due(consumer, taker, now);
        self.out.tally.possibly_out_of_order += overtaking;
        for push in &replaced {
            if self.ledger.get(push).is_some_and(Held::is_over) {
                self.end_everywhere(push, now);
            }
        }
        let affordable = self.affordable(chosen, taker, claimant);
        let (again, leased): (Vec<_>, Vec<_>) = affordable.into_iter().partition(|push| {
            let held = self.ledger.get(push);
            taker == Taker::Unremembered || held.is_none_or(|held| held.is_had_by(taker))
        });
        for push in &leased {
            let lease = Lease {
                claim: claim.clone(),
                taker,
                until: now + self.replication.lease,
            };
            // Claims whose leases have run out may yet turn out to have been served.
            self.out.tally.possible_duplicates += self.ledger.lease(push, lease);
        }
        let until = self.remembered(now);
        let loan = self.loans.open(claim, until);
        loan.leased.extend(leased);
        loan.again.extend(again);
        (deferred.len(), waiting)
    }

    fn select_due(&self, consumer: Option<&ConsumerName>, taker: Taker, now: Instant) -> Selection {
        let mut candidates = Vec::new();
        let scrapes = self.scrapes.values();
        let of_consumer = scrapes.filter(|scrape| consumer.is_none_or(|one| scrape.is_of(one)));
        let mut busy: SeriesSet = of_consumer
            .flat_map(Scrape::fresh_series)
            .copied()
            .collect();
        for (push, held) in self.ledger.iter() {
            let owned = held.ownership().owner == self.me;
            let had = held.is_had_by(taker);
            let withheld = held.is_claimed_from(taker, now) || self.doubts.concern(push);
            if owned && !had && withheld {
                busy.extend(&held.content.series);
                continue;
            }
            let patient = now + self.limits.ttl / 2 < held.expires;
            let part = match (owned, had) {
                (true, true) if held.is_kept(now) => PushPart::Retained,
                (_, true) => continue,
                (true, false) => PushPart::Fresh { patient },
                (false, false) => PushPart::Elsewhere { patient },
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
    fn affordable(&self, mut chosen: Vec<PushId>, taker: Taker, claimant: &NodeId) -> Vec<PushId> {
        chosen.sort_by_key(|push| {
            let held = self.ledger.get(push);
            held.is_some_and(|held| held.is_had_by(taker))
        });
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

    /// The claim goes on for `kept` and gives the others back.
    pub(super) fn renew_loan(&mut self, claim: &ClaimId, kept: &BTreeSet<PushId>, now: Instant) {
        if self.loans.get(claim).is_none_or(|loan| loan.over) {
            return;
        }
        let until = self.remembered(now);
        let loan = self.loans.open(claim, until);
        let ledger = &mut self.ledger;
        let lease = self.replication.lease;
        loan.leased.retain(|push| {
            let wanted = kept.contains(push);
            if !wanted {
                ledger.give_back(push, claim);
            } else if let Some(held) = ledger.get_mut(push) {
                held.renew(claim, now + lease);
            }
            wanted
        });
        loan.again.retain(|push| kept.contains(push));
    }

    /// The claim is over: what was served is noted, the others are given back.
    pub(super) fn close_loan(&mut self, claim: &ClaimId, mut over: Over, now: Instant) {
        // What a newer push replaced for this consumer, others may not have had.
        over.replaced
            .retain(|push| self.ledger.get(push).is_some_and(Held::is_over));
        self.note_over(&over, now);
        let until = self.remembered(now);
        let loan = self.loans.open(claim, until);
        loan.over = true;
        loan.again.clear();
        for push in std::mem::take(&mut loan.leased) {
            self.ledger.give_back(&push, claim);
        }
    }

    fn remembered(&self, now: Instant) -> Instant {
        now + self.replication.lease * REMEMBERED_LEASES
    }
}

fn has_text(held: &Held, me: &NodeId, claimant: &NodeId) -> bool {
    claimant == me || held.holders.get(claimant) == Some(&Holding::Confirmed)
}

fn hand(
    push: &PushId,
    held: &Held,
    taker: Taker,
    (me, claimant): (&NodeId, &NodeId),
    now: Instant,
) -> Handed {
    Handed {
        push: push.clone(),
        content: (!has_text(held, me, claimant)).then(|| Arc::clone(&held.content)),
        left: held.expires.saturating_duration_since(now),
        holders: held.all_holders(me),
        retained: held.is_had_by(taker),
        served_before: held.is_served(),
        order: Some(held.order),
    }
}
