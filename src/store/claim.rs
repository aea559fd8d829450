//! The claimant's side of a claim: gathering what every node lends, choosing what goes out, and saying what came of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use super::selection::{Candidate, PushPart, SeriesSet, select, take_all};
use super::{ClaimId, ConsumerName, Content, Effects, Handed, Lent, Over, PushId, Request, Store};
use crate::nodes::NodeId;

/// A claim is renewed after this part of its lease, so that two renewals may be lost.
const RENEWALS_PER_LEASE: u32 = 3;

/// What one scrape is to serve.
#[derive(Debug)]
pub struct Claimed {
    /// The pushes, oldest first; no two have a series in common.
    pub pushes: Vec<PushId>,
    /// What those say that the consumer has not had before, oldest first.
    pub texts: Vec<Arc<Content>>,
    /// What those say that the consumer has had and that are retained, oldest first.
    pub again: Vec<Arc<Content>>,
    /// Times that a push waits for the next scrape because a series of its own is in this one already.
    pub deferred: usize,
}

/// What a scrape has brought to its consumer that it had not had before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Delivered {
    /// All of it.
    pub pushes: usize,
    /// Of these, what no consumer had had before.
    pub first: usize,
}

#[derive(Debug)]
struct Taken {
    content: Arc<Content>,
    order: u64,
    /// The consumer has had it before.
    retained: bool,
    /// Some consumer has had it before.
    served_before: bool,
    /// A node of an older release lent it, for which it is over once anybody has had it.
    of_older: bool,
    /// Who lent it, and who else holds it.
    tell: BTreeSet<NodeId>,
}

/// A claim of this node's, from its beginning to its end.
#[derive(Debug)]
pub(super) struct Scrape {
    consumer: ConsumerName,
    unanswered: BTreeSet<NodeId>,
    /// Who lent, and what.
    lenders: BTreeMap<NodeId, BTreeSet<PushId>>,
    taken: BTreeMap<PushId, Taken>,
    /// What is not to go out yet, as one of the nodes said.
    waiting: BTreeSet<PushId>,
    replaced: Vec<PushId>,
    deferred: usize,
    /// What goes out is settled; whatever comes now is given back.
    chosen: bool,
    renew_at: Instant,
}

impl Scrape {
    /// Whether `consumer` scrapes.
    pub(super) fn is_of(&self, consumer: &ConsumerName) -> bool {
        self.consumer == *consumer
    }

    /// What is still wanted of that which `lender` lent.
    fn kept_of(&self, lender: &NodeId) -> BTreeSet<PushId> {
        let lent = self.lenders.get(lender).into_iter().flatten();
        let kept = lent.filter(|push| self.taken.contains_key(push));
        kept.cloned().collect()
    }

    /// The series that the response brings for the first time.
    pub(super) fn fresh_series(&self) -> impl Iterator<Item = &u64> {
        let fresh = self.taken.values().filter(|taken| !taken.retained);
        fresh.flat_map(|taken| &taken.content.series)
    }

    /// Who is to be told of its end.
    fn concerned(&self) -> BTreeSet<NodeId> {
        let lenders = self.lenders.keys();
        lenders.chain(&self.unanswered).cloned().collect()
    }

    /// What comes of it when the response has been served, of that which `concerns` somebody.
    fn over_for(&self, concerns: impl Fn(&Taken) -> bool) -> Over {
        let served = self.taken.iter();
        let served = served.filter(|(_, taken)| !taken.retained && concerns(taken));
        let (served, had): (Vec<_>, Vec<_>) = served.partition(|(_, taken)| taken.of_older);
        let pushes =
            |of: Vec<(&PushId, &Taken)>| Vec::from_iter(of.iter().map(|one| one.0.clone()));
        let mut over = Over {
            had: BTreeMap::new(),
            served: pushes(served),
            replaced: self.replaced.clone(),
        };
        if !had.is_empty() {
            over.had.insert(self.consumer.clone(), pushes(had));
        }
        over
    }
}

impl Store {
    /// Begins a claim for `consumer`: takes what this node owns and asks every peer for what that one owns.
    ///
    /// The claim is to be ended by [`Store::commit`] or [`Store::release`]; how many there are at a time is up to the
    /// caller. Once the replies have come, or it takes too long, [`Store::choose`] says what goes out.
    pub fn begin(&mut self, consumer: &ConsumerName, now: Instant) -> (ClaimId, Effects) {
        self.note_step(now);
        let claim = ClaimId {
            scraper: self.me.clone(),
            sequence: self.next_claim,
        };
        self.next_claim += 1;
        let peers: BTreeSet<_> = self.members.peers().cloned().collect();
        let clock = self.clock.read(now);
        let me = self.me.clone();
        let scrape = Scrape {
            consumer: consumer.clone(),
            unanswered: peers.clone(),
            lenders: BTreeMap::new(),
            taken: BTreeMap::new(),
            waiting: BTreeSet::new(),
            replaced: Vec::new(),
            deferred: 0,
            chosen: false,
            renew_at: self.next_renewal(now),
        };
        self.scrapes.insert(claim.clone(), scrape);
        let lent = self.lend(&me, &claim, Some(consumer), now);
        let known = self.consumers.known(now);
        for peer in &peers {
            let request = Request::Claim {
                claim: claim.clone(),
                clock,
                consumer: Some(consumer.clone()),
                known: known.clone(),
            };
            self.call(peer, request);
        }
        self.take(&me, &claim, lent, false, now);
        (claim, self.effects(now))
    }

    /// The live peers that have not answered the claim yet.
    pub fn awaited(&self, claim: &ClaimId) -> impl Iterator<Item = &NodeId> {
        let scrape = self.scrapes.get(claim);
        let unanswered = scrape.into_iter().flat_map(|scrape| &scrape.unanswered);
        unanswered.filter(|node| self.members.knows(node))
    }

    /// Takes what a node has lent, which may be of an older release.
    pub(super) fn take(
        &mut self,
        from: &NodeId,
        claim: &ClaimId,
        lent: Lent,
        is_older: bool,
        now: Instant,
    ) {
        let Lent {
            handed,
            deferred,
            waiting,
        } = lent;
        let handed = self.placed(handed, now);
        let Some(scrape) = self.scrapes.get_mut(claim) else {
            // The claim's end, which went to every peer that had not answered, is on its way or there already.
            return;
        };
        if scrape.unanswered.remove(from) || *from == self.me {
            scrape.deferred += deferred;
        }
        scrape.waiting.extend(waiting);
        if handed.is_empty() {
            return;
        }
        let lender = scrape.lenders.entry(from.clone()).or_default();
        lender.extend(handed.iter().map(|(_, handed)| handed.push.clone()));
        if scrape.chosen {
            let kept = scrape.kept_of(from);
            self.renew_at(from, claim, kept, now);
            return;
        }
        for (order, handed) in handed {
            let own = self.ledger.get(&handed.push);
            let own = own.map(|held| Arc::clone(&held.content));
            let content = own.or(handed.content);
            let over = self.ledger.is_over(&handed.push);
            let Some(content) = content.filter(|_| !over) else {
                continue;
            };
            let taken = scrape.taken.entry(handed.push).or_insert_with(|| Taken {
                content,
                order,
                retained: handed.retained,
                served_before: handed.served_before,
                of_older: is_older,
                tell: BTreeSet::new(),
            });
            taken.retained &= handed.retained;
            taken.served_before |= handed.served_before;
            taken.of_older |= is_older;
            taken.tell.insert(from.clone());
            taken.tell.extend(handed.holders);
        }
    }

    fn placed(&mut self, handed: Vec<Handed>, now: Instant) -> Vec<(u64, Handed)> {
        let handed = handed.into_iter();
        let placed = handed.map(|handed| (self.order(handed.order, handed.left, now), handed));
        placed.collect()
    }

    /// Says what goes out, and gives the rest back. `None` if there is no such claim.
    pub fn choose(&mut self, claim: &ClaimId, now: Instant) -> Option<(Claimed, Effects)> {
        let scrape = self.scrapes.get_mut(claim)?;
        let candidates = scrape.taken.iter().map(|(push, taken)| Candidate {
            push,
            order: taken.order,
            series: &taken.content.series,
            part: match taken.retained {
                true => PushPart::Retained,
                false if scrape.waiting.contains(push) => PushPart::Waiting,
                // The node that lent it knows what it waits for.
                false => PushPart::Fresh { patient: false },
            },
        });
        // Where nobody else lends, or knows better, what was lent has been chosen among the same.
        let alone = scrape.lenders.keys().all(|lender| *lender == self.me);
        let selection = if alone && scrape.waiting.is_empty() {
            take_all(candidates.collect())
        } else {
            select(candidates.collect(), SeriesSet::default())
        };
        for push in selection.deferred.iter().chain(&selection.replaced) {
            scrape.taken.remove(push);
        }
        scrape.chosen = true;
        scrape.deferred += selection.deferred.len();
        scrape.replaced = selection.replaced;
        let chosen = selection.chosen.iter();
        let taken = chosen.filter_map(|push| scrape.taken.get(push));
        let (again, texts): (Vec<_>, Vec<_>) = taken.partition(|taken| taken.retained);
        let texts_of = |taken: Vec<&Taken>| {
            let taken = taken.iter();
            taken.map(|taken| Arc::clone(&taken.content)).collect()
        };
        let claimed = Claimed {
            texts: texts_of(texts),
            again: texts_of(again),
            pushes: selection.chosen,
            deferred: scrape.deferred,
        };
        self.renew_scrape(claim, now);
        Some((claimed, self.effects(now)))
    }

    /// The response has been handed over whole: the consumer has had its pushes.
    pub fn commit(&mut self, claim: &ClaimId, now: Instant) -> (Delivered, Effects) {
        if !self.scrapes.get(claim).is_some_and(|scrape| scrape.chosen) {
            return (Delivered::default(), self.release(claim, now));
        }
        let mut delivered = Delivered::default();
        if let Some(scrape) = self.scrapes.remove(claim) {
            let taken = scrape.taken.values();
            let told: BTreeSet<_> = taken.flat_map(|taken| &taken.tell).cloned().collect();
            for node in &told | &scrape.concerned() {
                let over = scrape.over_for(|taken| taken.tell.contains(&node));
                self.close(&node, claim, over, now);
            }
            for taken in scrape.taken.values().filter(|taken| !taken.retained) {
                delivered.pushes += 1;
                delivered.first += usize::from(!taken.served_before);
            }
            // Whatever this node has served it will not serve again, even if another one should lend it by mistake.
            self.close_loan(claim, scrape.over_for(|_| true), now);
        }
        (delivered, self.effects(now))
    }

    /// The response broke off: the next scrape gets its pushes.
    pub fn release(&mut self, claim: &ClaimId, now: Instant) -> Effects {
        if let Some(scrape) = self.scrapes.remove(claim) {
            for node in scrape.concerned() {
                self.close(&node, claim, Over::default(), now);
            }
            self.close_loan(claim, Over::default(), now);
        }
        self.effects(now)
    }

    fn close(&mut self, node: &NodeId, claim: &ClaimId, over: Over, now: Instant) {
        if *node != self.me {
            self.post(node, Some(claim.clone()), over, now);
        }
    }

    /// Renews the claims that are under way.
    pub(super) fn renew_scrapes(&mut self, now: Instant) {
        let scrapes = self.scrapes.iter();
        let due: Vec<_> = scrapes
            .filter(|(_, scrape)| scrape.renew_at <= now)
            .map(|(claim, _)| claim.clone())
            .collect();
        for claim in due {
            self.renew_scrape(&claim, now);
        }
    }

    fn renew_scrape(&mut self, claim: &ClaimId, now: Instant) {
        let next = self.next_renewal(now);
        if let Some(scrape) = self.scrapes.get_mut(claim) {
            scrape.renew_at = next;
            let lenders = scrape.lenders.keys();
            let kept = lenders.map(|lender| (lender.clone(), scrape.kept_of(lender)));
            for (node, kept) in Vec::from_iter(kept) {
                self.renew_at(&node, claim, kept, now);
            }
        }
    }

    fn renew_at(&mut self, node: &NodeId, claim: &ClaimId, kept: BTreeSet<PushId>, now: Instant) {
        if *node == self.me {
            self.renew_loan(claim, &kept, now);
            return;
        }
        let renew = Request::Renew {
            claim: claim.clone(),
            kept: kept.into_iter().collect(),
        };
        self.call(node, renew);
    }

    fn next_renewal(&self, now: Instant) -> Instant {
        now + self.replication.lease / RENEWALS_PER_LEASE
    }
}
