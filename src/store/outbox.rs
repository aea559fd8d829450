//! What other nodes must be told that scrapes have served: repeated until they have answered.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::members::Members;
use super::{ClaimId, Over, Request, Store};
use crate::nodes::NodeId;

/// Letters not yet answered; past it the oldest is given up.
const MAX: usize = 10_000;
/// Attempts for one letter, each after twice the time of the one before: two minutes with the default of a second.
const MAX_ATTEMPTS: u32 = 7;

#[derive(Debug)]
struct Letter {
    to: NodeId,
    request: Request,
    attempts: u32,
    next: Instant,
}

/// Letters not yet answered.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    letters: BTreeMap<u64, Letter>,
    next_ticket: u64,
}

impl Outbox {
    /// Files what came of pushes, of a claim's if one is given. Gives the call to make, and how many letters were given up
    /// for want of room.
    pub(super) fn post(
        &mut self,
        to: NodeId,
        claim: Option<ClaimId>,
        over: Over,
        next: Instant,
    ) -> (Request, usize) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let request = match claim {
            Some(claim) => Request::Close {
                ticket,
                claim,
                over,
            },
            None => Request::Served { ticket, over },
        };
        let letter = Letter {
            to,
            request: request.clone(),
            attempts: 1,
            next,
        };
        self.letters.insert(ticket, letter);
        let given_up = self.letters.len() > MAX;
        if given_up {
            self.letters.pop_first();
        }
        (request, usize::from(given_up))
    }

    /// The letter has been answered.
    pub(super) fn told(&mut self, ticket: u64) {
        self.letters.remove(&ticket);
    }

    /// The letters to send again now, and how many were given up.
    pub(super) fn due(
        &mut self,
        resend: Duration,
        now: Instant,
    ) -> (Vec<(NodeId, Request)>, usize) {
        let given_up = self.letters.extract_if(.., |_, letter| {
            letter.next <= now && letter.attempts >= MAX_ATTEMPTS
        });
        let given_up = given_up.count();
        let due = self
            .letters
            .values_mut()
            .filter(|letter| letter.next <= now);
        let due = due.map(|letter| {
            letter.next = now + resend * 2_u32.pow(letter.attempts);
            letter.attempts += 1;
            (letter.to.clone(), letter.request.clone())
        });
        (due.collect(), given_up)
    }

    /// Whether every live node has been told.
    pub(super) fn is_done(&self, members: &Members) -> bool {
        let mut letters = self.letters.values();
        !letters.any(|letter| members.is_alive(&letter.to))
    }
}

impl Store {
    /// Tells `to` what came of pushes, of a claim's if one is given, and again until it has answered.
    pub(super) fn post(&mut self, to: &NodeId, claim: Option<ClaimId>, over: Over, now: Instant) {
        let next = now + self.replication.resend;
        let (request, given_up) = self.outbox.post(to.clone(), claim, over, next);
        self.out.tally.untold += given_up;
        self.call(to, request);
    }

    /// Makes the calls again that have waited long enough for a reply.
    pub(super) fn resend(&mut self, now: Instant) {
        let (due, given_up) = self.outbox.due(self.replication.resend, now);
        self.out.tally.untold += given_up;
        self.out.calls.extend(due);
        if self.next_resend.is_none_or(|next| next <= now) {
            self.next_resend = Some(now + self.replication.resend);
            for (push, unaware) in std::mem::take(&mut self.handing) {
                self.tell_all(&unaware, &push);
                self.handing.insert(push, unaware);
            }
        }
    }
}
