//! Leases: how many requests may be made, and until when (section "Lease Semantics").

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::outbox::Transfer;
use crate::StreamId;

/// What the peer grants us, and our requests that wait for it.
#[derive(Debug)]
pub(super) struct LeaseIn {
    remaining: u32,
    expires: Instant,
    waiting: VecDeque<Transfer>,
}

impl LeaseIn {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            remaining: 0,
            expires: now,
            waiting: VecDeque::new(),
        }
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn wait(&mut self, transfer: Transfer) {
        self.waiting.push_back(transfer);
    }

    /// "The last received LEASE frame overrides all previous LEASE frame values."
    pub(super) fn grant(&mut self, requests: u32, ttl: Duration, now: Instant) {
        self.remaining = requests;
        self.expires = now + ttl;
    }

    /// When what is left of the lease ends.
    pub(super) fn expires(&self) -> Option<Instant> {
        (self.remaining > 0).then_some(self.expires)
    }

    pub(super) fn expire(&mut self, now: Instant) {
        if now >= self.expires {
            self.remaining = 0;
        }
    }

    /// The next request that may go.
    pub(super) fn next(&mut self) -> Option<Transfer> {
        if self.remaining == 0 {
            return None;
        }
        let transfer = self.waiting.pop_front()?;
        self.remaining -= 1;
        if self.waiting.is_empty() {
            self.waiting = VecDeque::new();
        }
        Some(transfer)
    }

    /// Whether `stream` was waiting; it no longer does.
    pub(super) fn withdraw(&mut self, stream: StreamId) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|transfer| transfer.stream() != stream);
        self.waiting.len() < before
    }
}

/// What we grant a peer that honours leases: as much as fits a frame, again and again. How many
/// requests it may make is bounded by [`Limits`](super::Limits), with a better answer.
#[derive(Debug)]
pub(super) struct LeaseOut {
    renew: Instant,
}

impl LeaseOut {
    pub(super) const REQUESTS: u32 = 0x7FFF_FFFF;
    pub(super) const TTL: Duration = Duration::from_secs(3600);

    pub(super) fn new(now: Instant) -> Self {
        Self {
            renew: now + Self::TTL / 2,
        }
    }

    /// Whether a new LEASE is due; then the next one is due half a TTL later.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let due = now >= self.renew;
        if due {
            *self = Self::new(now);
        }
        due
    }
}
