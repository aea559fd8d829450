//! Signs of life: our KEEPALIVE frames, and how long a silent peer is believed in.

use std::time::{Duration, Instant};

use super::Limits;

/// Both sides send KEEPALIVE frames that ask for an answer, as the Java client and proxy do.
#[derive(Debug)]
pub(super) struct Liveness {
    interval: Duration,
    lifetime: Duration,
    last_received: Instant,
    next_keepalive: Instant,
    /// Since when the peer has not read what waits for it.
    blocked_since: Option<Instant>,
    /// When the peer, which has been silent since, is no longer believed in, although its lifetime is not over.
    probed_until: Option<Instant>,
}

/// What the clock says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Tick {
    Nothing,
    KeepaliveDue,
    PeerDead,
}

impl Liveness {
    pub(super) fn new(interval: Duration, lifetime: Duration, now: Instant) -> Self {
        Self {
            interval,
            lifetime,
            last_received: now,
            next_keepalive: now + interval,
            blocked_since: None,
            probed_until: None,
        }
    }

    /// With the times of the peer's SETUP, kept within what the peer may ask of us. The lifetime
    /// leaves room for at least one unanswered KEEPALIVE.
    pub(super) fn announced(
        interval: Duration,
        lifetime: Duration,
        limits: &Limits,
        now: Instant,
    ) -> Self {
        let longest = limits.max_lifetime.max(Duration::from_millis(2));
        let shortest = limits.min_keepalive.min(longest / 2);
        let interval = interval.clamp(shortest, longest / 2);
        Self::new(interval, lifetime.clamp(interval * 2, longest), now)
    }

    pub(super) fn lifetime(&self) -> Duration {
        self.lifetime
    }

    pub(super) fn received(&mut self, now: Instant) {
        self.last_received = self.last_received.max(now);
        self.probed_until = None;
    }

    /// The peer is asked for a sign of life now, and is to give one until then.
    pub(super) fn probe(&mut self, until: Instant) {
        let until = self.probed_until.map_or(until, |known| known.min(until));
        self.probed_until = Some(until);
    }

    pub(super) fn sending(&mut self, blocked: bool, progressed: bool, now: Instant) {
        self.blocked_since = match self.blocked_since {
            _ if !blocked => None,
            Some(since) if !progressed => Some(since),
            _ => Some(now),
        };
    }

    pub(super) fn next_timeout(&self) -> Instant {
        self.next_keepalive.min(self.end_of_life())
    }

    fn end_of_life(&self) -> Instant {
        let blocked_since = self.blocked_since.unwrap_or(self.last_received);
        let usual = self.last_received.min(blocked_since) + self.lifetime;
        self.probed_until.map_or(usual, |until| until.min(usual))
    }

    pub(super) fn tick(&mut self, now: Instant) -> Tick {
        if now >= self.end_of_life() {
            return Tick::PeerDead;
        }
        if now >= self.next_keepalive {
            self.next_keepalive = now + self.interval;
            return Tick::KeepaliveDue;
        }
        Tick::Nothing
    }
}
