//! Who scrapes pushes: each of them is to get each push once.
//!
//! A consumer *counts* from its second scrape on, until it has been silent for three of its intervals. A push waits for
//! those that count. All nodes see all claims, and tell each other what they know of consumers, so that each comes to the
//! same.

use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes of a consumer's name.
pub const MAX_NAME: usize = 64;
/// Consumers remembered. At the bound the longest silent of those that do not count is forgotten, else the longest silent
/// of those that have missed a scrape. Where there is none of these either, the newcomer is not remembered: it is served,
/// and takes nothing.
pub(super) const MAX_CONSUMERS: usize = 16;
/// Gaps between scrapes of which the longest is the interval: a Prometheus that scrapes three nodes every minute makes gaps
/// of 1 s, 1 s, and 58 s.
const MAX_GAPS: usize = 8;
/// So many intervals of silence end a consumer's counting.
const MISSED_INTERVALS: u32 = 3;
/// A consumer counts for so long after a scrape at least.
const LEAST_PATIENCE: Duration = Duration::from_secs(60);
/// What another node says may be about the scrape whose claim is on its way here for so long.
const TRAVEL: Duration = Duration::from_secs(10);
/// What was silent for so long is forgotten, if no push can be left that it has had.
const LONG_SILENCE: Duration = Duration::from_secs(3600);

/// What a consumer is called: 1 to 64 bytes without control characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConsumerName(Arc<str>);

impl ConsumerName {
    /// `None` if `name` is not one.
    pub fn new(name: &str) -> Option<Self> {
        let fits = (1..=MAX_NAME).contains(&name.len());
        (fits && !name.contains(char::is_control)).then(|| Self(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a node knows of consumers, as it tells others.
#[derive(Debug, Clone, Default)]
pub struct KnownConsumers {
    /// Each of them.
    pub consumers: Vec<KnownConsumer>,
    /// For how long scrapes have been seen.
    pub watched: Duration,
}

/// What a node knows of one consumer.
#[derive(Debug, Clone)]
pub struct KnownConsumer {
    /// Which.
    pub name: ConsumerName,
    /// The longest of its last gaps; `None` of one that has been seen once.
    pub interval: Option<Duration>,
    /// Time since its last scrape.
    pub silent: Duration,
}

/// A consumer, as people are told.
#[derive(Debug, Clone)]
pub struct ConsumerStatus {
    /// Which.
    pub name: ConsumerName,
    /// The longest of its last gaps; `None` of one that has been seen once.
    pub interval: Option<Duration>,
    /// When its last scrape began.
    pub last: Instant,
    /// Whether pushes wait for it.
    pub counts: bool,
    /// Pushes owned here that it has not had.
    pub waiting: usize,
}

/// How many consumers are in which state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ConsumerCounts {
    /// Scraped once so far.
    pub new: usize,
    /// Pushes wait for them.
    pub counting: usize,
    /// Counted before, and have been silent for too long.
    pub stopped: usize,
}

/// The place of a consumer in the table of this node. Other nodes have others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot(u8);

/// Some of the consumers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Slots(u16);

impl Slots {
    pub(super) fn of(slot: Slot) -> Self {
        let mut slots = Self::default();
        slots.insert(slot);
        slots
    }

    pub(super) fn contains(self, slot: Slot) -> bool {
        self.0 & (1 << slot.0) != 0
    }

    pub(super) fn insert(&mut self, slot: Slot) {
        self.0 |= 1 << slot.0;
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    pub(super) fn with(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    pub(super) fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    pub(super) fn and(self, others: Self) -> Self {
        Self(self.0 & others.0)
    }
}

/// Which consumers decide whether a push is over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Deciders {
    /// Those that count.
    pub(super) counting: Slots,
    /// Those that count, or counted before.
    pub(super) counted: Slots,
    /// Scrapes have been seen for long enough to know who there is.
    pub(super) complete: bool,
}

#[derive(Debug)]
struct Consumer {
    name: ConsumerName,
    last: Instant,
    /// When a claim of its came here: what others say may be later.
    seen: Option<Instant>,
    /// The last ones, in a ring.
    gaps: Vec<Duration>,
    next_gap: usize,
    /// Its last gap was one in which it had stopped counting.
    was_away: bool,
    /// What another node says is its interval: of use until enough gaps have been seen here.
    told: Option<Duration>,
}

impl Consumer {
    fn interval(&self) -> Option<Duration> {
        let own = self.gaps.iter().max().copied();
        let told = self.told.filter(|_| self.gaps.len() < MAX_GAPS);
        own.max(told)
    }

    /// How long it may be silent before it no longer counts.
    fn patience(&self, ttl: Duration) -> Option<Duration> {
        let interval = self.interval()?;
        Some((interval * MISSED_INTERVALS).max(LEAST_PATIENCE).min(ttl))
    }

    fn counts(&self, ttl: Duration, now: Instant) -> bool {
        let patience = self.patience(ttl);
        patience.is_some_and(|patience| now < self.last + patience)
    }

    /// Whether it should have scraped by now, and has not.
    fn is_overdue(&self, now: Instant) -> bool {
        let interval = self.interval();
        interval.is_none_or(|interval| now > self.last + 2 * interval)
    }

    /// Time between the scrape before and one of now; `None` where that may be the same.
    fn gap(&self, now: Instant) -> Option<Duration> {
        let seen = self.seen.filter(|seen| self.last <= *seen + TRAVEL);
        let since_last = now.saturating_duration_since(self.last);
        match seen {
            Some(seen) => Some(now.saturating_duration_since(seen)),
            None => Some(since_last).filter(|gap| *gap > TRAVEL),
        }
    }

    fn scrapes(&mut self, ttl: Duration, now: Instant) {
        let gap = self.gap(now);
        self.last = self.last.max(now);
        self.seen = Some(now);
        let Some(gap) = gap else {
            return;
        };
        // A restart of Prometheus is no interval. A second such gap is one: its configuration has changed.
        let is_away = self.patience(ttl).is_some_and(|patience| gap > patience);
        if is_away && !self.was_away {
            self.was_away = true;
            return;
        }
        self.was_away = is_away;
        let gap = gap.min(ttl);
        match self.gaps.get_mut(self.next_gap) {
            Some(oldest) => *oldest = gap,
            None => self.gaps.push(gap),
        }
        self.next_gap = (self.next_gap + 1) % MAX_GAPS;
    }
}

/// The consumers that this node knows.
#[derive(Debug)]
pub(super) struct Consumers {
    slots: [Option<Consumer>; MAX_CONSUMERS],
    ttl: Duration,
    /// Since when scrapes have been seen.
    since: Option<Instant>,
}

impl Consumers {
    /// None; pushes live for `ttl`.
    pub(super) fn new(ttl: Duration) -> Self {
        Self {
            slots: Default::default(),
            ttl,
            since: None,
        }
    }

    /// A consumer scrapes. Gives its slot if it is remembered, and the consumer that was forgotten for it.
    pub(super) fn scrapes(
        &mut self,
        name: &ConsumerName,
        now: Instant,
    ) -> (Option<Slot>, Option<(Slot, ConsumerName)>) {
        self.since.get_or_insert(now);
        let ttl = self.ttl;
        if let Some(slot) = self.slot(name) {
            if let Some(consumer) = self.get_mut(slot) {
                consumer.scrapes(ttl, now);
            }
            return (Some(slot), None);
        }
        let room = self.room(|one| !one.counts(ttl, now));
        let room = room.or_else(|| self.oldest(|one| one.is_overdue(now)));
        let forgotten = room.and_then(|slot| self.put(slot, name, None, now));
        if let Some(consumer) = room.and_then(|slot| self.get_mut(slot)) {
            consumer.seen = Some(now);
        }
        (room, forgotten)
    }

    /// Takes over what another node knows. Gives the consumers that were forgotten for others.
    pub(super) fn hear(
        &mut self,
        known: &KnownConsumers,
        now: Instant,
    ) -> Vec<(Slot, ConsumerName)> {
        if !known.consumers.is_empty() {
            let since = now.checked_sub(known.watched).unwrap_or(now);
            self.since = Some(self.since.map_or(since, |own| own.min(since)));
        }
        let known = known.consumers.iter().take(MAX_CONSUMERS);
        known.filter_map(|one| self.hear_of(one, now)).collect()
    }

    fn hear_of(&mut self, known: &KnownConsumer, now: Instant) -> Option<(Slot, ConsumerName)> {
        let ttl = self.ttl;
        let last = now.checked_sub(known.silent).unwrap_or(now);
        let interval = known.interval.map(|interval| interval.min(ttl));
        if let Some(consumer) = self.slot(&known.name).and_then(|slot| self.get_mut(slot)) {
            consumer.last = consumer.last.max(last);
            consumer.told = consumer.told.max(interval);
            return None;
        }
        if known.silent > LONG_SILENCE {
            return None;
        }
        let counted = interval.is_some();
        let room = self.room(|one| !one.counts(ttl, now) && (counted || one.last < last))?;
        self.put(room, &known.name, interval, last)
    }

    /// The slot of a consumer that has had a push, as another node says; `None` if it is not known here and there is no
    /// room.
    pub(super) fn slot_or_new(&mut self, name: &ConsumerName, now: Instant) -> Option<Slot> {
        let known = self.slot(name);
        known.or_else(|| {
            let free = self.free()?;
            self.put(free, name, None, now);
            Some(free)
        })
    }

    /// The slot of a consumer that is remembered.
    pub(super) fn slot(&self, name: &ConsumerName) -> Option<Slot> {
        let mut all = self.iter();
        all.find(|(_, consumer)| consumer.name == *name)
            .map(|(slot, _)| slot)
    }

    /// The names of some.
    pub(super) fn names(&self, slots: Slots) -> Vec<ConsumerName> {
        let some = self.iter().filter(|(slot, _)| slots.contains(*slot));
        some.map(|(_, consumer)| consumer.name.clone()).collect()
    }

    /// All that are remembered.
    pub(super) fn all(&self) -> Slots {
        self.those(|_| true)
    }

    /// Who decides now whether a push is over, where scrapes are to have been seen for `watch`.
    pub(super) fn deciders(&self, watch: Duration, now: Instant) -> Deciders {
        Deciders {
            counting: self.those(|one| one.counts(self.ttl, now)),
            counted: self.those(|one| one.interval().is_some()),
            complete: self.since.is_some_and(|since| now >= since + watch),
        }
    }

    /// What other nodes are told. How long a consumer has been silent is told of scrapes that were seen here: what comes
    /// from others is late by its travel, and would be later each time that it is passed on.
    pub(super) fn known(&self, now: Instant) -> KnownConsumers {
        let consumers = self.iter().map(|(_, consumer)| KnownConsumer {
            name: consumer.name.clone(),
            interval: consumer.interval(),
            silent: now.saturating_duration_since(consumer.seen.unwrap_or(consumer.last)),
        });
        let watched = self.since.map(|since| now.saturating_duration_since(since));
        KnownConsumers {
            consumers: consumers.collect(),
            watched: watched.unwrap_or_default(),
        }
    }

    /// What people are told. `waiting`: how many pushes each has not had.
    pub(super) fn status(
        &self,
        waiting: impl Fn(Slot) -> usize,
        now: Instant,
    ) -> Vec<ConsumerStatus> {
        let status = self.iter().map(|(slot, consumer)| ConsumerStatus {
            name: consumer.name.clone(),
            interval: consumer.interval(),
            last: consumer.last,
            counts: consumer.counts(self.ttl, now),
            waiting: waiting(slot),
        });
        let mut status: Vec<_> = status.collect();
        status.sort_by(|a, b| a.name.cmp(&b.name));
        status
    }

    /// How many are in which state.
    pub(super) fn counts(&self, now: Instant) -> ConsumerCounts {
        let mut counts = ConsumerCounts::default();
        for (_, consumer) in self.iter() {
            *match consumer.interval() {
                None => &mut counts.new,
                Some(_) if consumer.counts(self.ttl, now) => &mut counts.counting,
                Some(_) => &mut counts.stopped,
            } += 1;
        }
        counts
    }

    /// Forgets those that were silent for longer than any push lives. Gives their slots.
    pub(super) fn forget(&mut self, kept: Duration, now: Instant) -> Slots {
        let silence = LONG_SILENCE.max(kept);
        let silent = self.those(|one| now > one.last + silence);
        for (number, slot) in (0..).zip(&mut self.slots) {
            if silent.contains(Slot(number)) {
                *slot = None;
            }
        }
        silent
    }

    fn those(&self, are: impl Fn(&Consumer) -> bool) -> Slots {
        let mut slots = Slots::default();
        for (slot, _) in self.iter().filter(|(_, consumer)| are(consumer)) {
            slots.insert(slot);
        }
        slots
    }

    fn iter(&self) -> impl Iterator<Item = (Slot, &Consumer)> {
        let slots = (0..).map(Slot).zip(&self.slots);
        slots.filter_map(|(slot, consumer)| Some((slot, consumer.as_ref()?)))
    }

    fn get_mut(&mut self, slot: Slot) -> Option<&mut Consumer> {
        self.slots.get_mut(usize::from(slot.0))?.as_mut()
    }

    fn free(&self) -> Option<Slot> {
        let mut slots = (0..).map(Slot).zip(&self.slots);
        slots
            .find(|(_, consumer)| consumer.is_none())
            .map(|(slot, _)| slot)
    }

    /// A free slot, or that of the longest silent of those that `may` be forgotten.
    fn room(&self, may: impl Fn(&Consumer) -> bool) -> Option<Slot> {
        self.free().or_else(|| self.oldest(may))
    }

    fn oldest(&self, may: impl Fn(&Consumer) -> bool) -> Option<Slot> {
        let may = self.iter().filter(|(_, consumer)| may(consumer));
        let oldest = may.min_by_key(|(_, consumer)| consumer.last);
        oldest.map(|(slot, _)| slot)
    }

    /// Puts a consumer into a slot, and gives the one that was there.
    fn put(
        &mut self,
        slot: Slot,
        name: &ConsumerName,
        told: Option<Duration>,
        last: Instant,
    ) -> Option<(Slot, ConsumerName)> {
        let place = self.slots.get_mut(usize::from(slot.0))?;
        let before = place.replace(Consumer {
            name: name.clone(),
            last,
            seen: None,
            gaps: Vec::new(),
            next_gap: 0,
            was_away: false,
            told,
        });
        before.map(|before| (slot, before.name))
    }
}
