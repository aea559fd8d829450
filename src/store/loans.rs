//! Which pushes an owner has handed to which claim.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::{ClaimId, PushId};

/// Claims remembered; past it the one that is needed least long is forgotten.
const MAX: usize = 4096;

/// What one claim has been handed.
#[derive(Debug)]
pub(super) struct Loan {
    /// On a lease.
    pub(super) leased: BTreeSet<PushId>,
    /// Without one: to be served again, or to a consumer that is not remembered.
    pub(super) again: BTreeSet<PushId>,
    /// Nothing is handed to it any more: a claim that comes after its own end is late.
    pub(super) over: bool,
    until: Instant,
}

/// Claims, until their messages can no longer be under way.
#[derive(Debug, Default)]
pub(super) struct Loans(BTreeMap<ClaimId, Loan>);

impl Loans {
    pub(super) fn get(&self, claim: &ClaimId) -> Option<&Loan> {
        self.0.get(claim)
    }

    /// The loan of a claim, made if there is none, and remembered until then at least.
    pub(super) fn open(&mut self, claim: &ClaimId, until: Instant) -> &mut Loan {
        if self.0.len() >= MAX && !self.0.contains_key(claim) {
            let first = self.0.iter().min_by_key(|(_, loan)| loan.until);
            if let Some(first) = first.map(|(claim, _)| claim.clone()) {
                self.0.remove(&first);
            }
        }
        let loan = self.0.entry(claim.clone()).or_insert_with(|| Loan {
            leased: BTreeSet::new(),
            again: BTreeSet::new(),
            over: false,
            until,
        });
        loan.until = loan.until.max(until);
        loan
    }

    /// Forgets what is no longer needed.
    pub(super) fn forget(&mut self, now: Instant) {
        self.0.retain(|_, loan| loan.until > now);
    }
}
