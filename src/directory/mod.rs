//! Which applications the cluster has, by name, and which node each is connected to.
//!
//! Plain data: no lock, no clock, no socket. The owner of a [`Directory`] passes in the time and what came from other
//! nodes. [`SharedDirectory`] puts it behind a lock, for the connections, which say who they are, and for the flow
//! [`targets`](crate::targets), which finds applications.
//!
//! # Lists
//!
//! Each node owns the list of what is connected to it, and of what was lately. Each change of it has a sequence number.
//! Another node asks for all that came after the number that it has ([`Asked`], [`Changes`]); where that does not say
//! what was removed since, it is told the whole list, in pieces. An answer that is late or repeated answers another
//! question than the one that is open, and is dropped. So a copy is what the list was at some moment, and once nothing
//! changes, what the list is.
//!
//! A node that is no member any more tells nothing: what was connected to it is lost since then, or where it had said that
//! it leaves, moved. Its list is kept as it was: should it be back, as after a partition, it is asked for what has changed.
//! A node that was started again is another one. For a node that joins later, or that knew less, one of the others takes
//! over what it knows of applications that are to linger: the first of them in order at once, another only what is still
//! missing then.
//!
//! # Which is the application
//!
//! Several entries may have one name. Those with one identity belong together: of two that are connected the newer is the
//! application, because the usual reason is a connection that died unnoticed. By another identity a name is not taken
//! over: it belongs to those who have held it without a break for longest ([`Entry::claimed`]). Times are of the
//! cluster's own clock, so every node that knows the same entries comes to the same result.
//!
//! # Bounds
//!
//! | what | at the bound |
//! |---|---|
//! | bytes of an entry, of a list, of one tenant's entries | what has ended is forgotten, else the application is not listed, and counted |
//! | removals remembered for others | a node that has not heard of them is told the whole list |
//! | bytes of an answer | the rest follows with the next |
//! | bytes of a reason | it is cut |
//! | lists of nodes that are gone | that of the one gone longest is forgotten |

mod accounts;
mod application;
mod copy;
mod entry;
mod known;
mod log;
mod own;
mod shared;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

pub use application::{About, Application, ApplicationId, End, Named, Outcome, State, Target};
pub use entry::{Ended, Entry};
pub use shared::SharedDirectory;

use self::copy::Copy;
use self::known::Known;
use self::own::Own;
use crate::nodes::{Clock, NodeId, NodeState};

/// Bytes of this node's list.
const MAX_BYTES: usize = 64 << 20;
/// Bytes of an entry.
const MAX_ENTRY: usize = 8 << 10;
/// Bytes of entries in one answer.
const MAX_PAGE: usize = 1 << 20;
/// Lists of nodes that are gone.
const MAX_GONE: usize = 64;
/// What has ended is shown for this long, if it does not linger for longer.
const REMEMBERED: Duration = Duration::from_secs(600);
/// A clock that was behind by more was that of a node that had not heard of the others: microseconds.
const BEHIND: u64 = 1_000_000;
/// What a node that is gone had, others than the first take over after this.
const ADOPTED_WITHIN: Duration = Duration::from_secs(3);
/// A member that has said nothing for so long may have other applications than it has told.
const SILENT: Duration = Duration::from_secs(10);
/// How long after somebody asked for the targets they are in use.
const IN_USE: Duration = Duration::from_secs(600);

/// What a node knows of another's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Asked {
    /// Every removal up to this sequence number.
    pub known: u64,
    /// Every change up to this one.
    pub after: u64,
}

/// What has changed in a list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// The cluster's own time where the list is.
    pub clock: u64,
    /// Somebody asked that node for the targets lately.
    pub in_use: bool,
    /// The whole list begins here.
    pub from_start: bool,
    /// There is more.
    pub more: bool,
    /// What is known with this: [`Asked::known`].
    pub known: u64,
    /// And [`Asked::after`].
    pub through: u64,
    /// As they are now.
    pub entries: Vec<Entry>,
    /// Entries that are no more, by number.
    pub removed: Vec<u64>,
}

/// Where an application is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Connected to this node.
    Here {
        /// How.
        connection: u64,
    },
    /// Connected to another node.
    There {
        /// Which one.
        node: NodeId,
        /// Its entry there.
        number: u64,
    },
    /// It was connected.
    Ended(Ended),
    /// Nobody knows it.
    Unknown,
}

/// Why not every application is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// This node has not said lately what is connected to it.
    Silent(NodeId),
    /// This node is of a release that knows no targets.
    OlderRelease(NodeId),
}

/// How many applications there are, as one node knows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Connected, and the only or newest ones of their names.
    pub connected: usize,
    /// Connected, and another is the application.
    pub superseded: usize,
    /// Gone without a goodbye, and still targets.
    pub lost: usize,
    /// Sent to another node, and not there yet.
    pub moved: usize,
    /// What has happened at this node.
    pub tally: Tally,
}

/// Numbers of what has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Applications that were not listed for want of room.
    pub refused: u64,
    /// Applications that were gone, forgotten for want of room.
    pub forgotten: u64,
}

/// The applications of a cluster, as one of its nodes knows them.
#[derive(Debug)]
pub struct Directory {
    me: NodeId,
    linger: Duration,
    clock: Clock,
    own: Own,
    copies: BTreeMap<NodeId, Copy>,
    /// Of the nodes that live, this one is the first in order.
    is_first: bool,
    /// When somebody last asked this node for the targets.
    asked: Option<Instant>,
    /// Counts what may change an answer.
    revision: u64,
}

impl Directory {
    /// That of the node `me`, with no application and no other node. What is gone without a goodbye stays for `linger`.
    pub fn new(me: NodeId, linger: Duration) -> Self {
        Self::with_room(me, linger, MAX_BYTES)
    }

    fn with_room(me: NodeId, linger: Duration, max_bytes: usize) -> Self {
        Self {
            me,
            linger,
            clock: Clock::default(),
            own: Own::new(max_bytes),
            copies: BTreeMap::new(),
            is_first: true,
            asked: None,
            revision: 0,
        }
    }

    /// Changes with everything that may change an answer.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// What a connection of this node speaks for, from now on; what it spoke for before and does no more has left.
    pub fn connected(&mut self, connection: u64, targets: Vec<Target>, now: Instant) {
        let Self {
            own, copies, clock, ..
        } = self;
        let linger = self.linger;
        own.connected(connection, targets, now, |own, target| {
            let stamp = clock.stamp(now);
            let lists = copies.values().map(|copy| &copy.entries);
            let lists = lists.chain(std::iter::once(&own.entries));
            let others = lists.flat_map(|entries| entries.named(&target.id));
            let others = others.filter(|entry| entry.is_one_with(target));
            let holding = others.filter(|entry| entry.holds(now, linger));
            let claimed = holding.map(|entry| entry.claimed).min();
            (stamp, claimed.unwrap_or(stamp).min(stamp))
        });
        self.revision += 1;
    }

    /// How a pull of an application went that is connected to this node.
    pub fn pulled(&mut self, connection: u64, id: &ApplicationId, outcome: Outcome) {
        if self.own.pulled(connection, id, outcome) {
            self.revision += 1;
        }
    }

    /// A connection of this node is no more.
    pub fn ended(&mut self, connection: u64, end: End, reason: &Arc<str>, now: Instant) {
        self.own.ended(connection, end, reason, now);
        self.revision += 1;
    }

    /// The other members of the cluster that are heard.
    pub fn members(&mut self, alive: &BTreeMap<NodeId, NodeState>, now: Instant) {
        for (node, copy) in &mut self.copies {
            if copy.gone.is_none() && !alive.contains_key(node) {
                copy.is_gone(now);
            }
        }
        for (node, state) in alive.iter().filter(|(node, _)| **node != self.me) {
            let copy = self.copies.entry(node.clone());
            copy.or_insert_with(|| Copy::new(*state)).is_alive(*state);
        }
        let mut others = alive.keys().filter(|node| **node != self.me);
        self.is_first = others.all(|node| self.me < *node);
        self.forget_gone(now);
        self.adopt(now);
        self.revision += 1;
    }

    /// Takes over what nodes that are gone had, and no other has.
    fn adopt(&mut self, now: Instant) {
        let patience = match self.is_first {
            true => Duration::ZERO,
            false => ADOPTED_WITHIN,
        };
        let mut found = Vec::new();
        for (node, copy) in &self.copies {
            let gone = copy.gone.filter(|gone| {
                let ago = now.saturating_duration_since(gone.at);
                ago >= patience && ago < self.linger
            });
            let known = copy.entries.iter().map(|entry| Known { node, entry, gone });
            let lacking = known.filter(|known| gone.is_some() && self.is_lacking(known, now));
            found.extend(lacking.filter_map(|known| Some((known.adopted(), known.ended()?))));
        }
        self.revision += found.len() as u64;
        for (entry, ended) in found {
            self.own.adopt(entry, ended);
        }
    }

    /// Whether no node that lives says as much of the application as this entry does.
    fn is_lacking(&self, known: &Known<'_>, now: Instant) -> bool {
        let holds = known.holds(now, self.linger);
        let others = self.named(&known.entry.target.id);
        let others = others
            .filter(|other| other.gone.is_none() && other.entry.is_one_with(&known.entry.target));
        let (mut is_newest, mut claims_first, mut is_held) = (true, true, false);
        for other in others {
            let other_holds = other.holds(now, self.linger);
            is_held |= other_holds;
            is_newest &= other.entry.stamp < known.entry.stamp;
            claims_first &= !other_holds || other.entry.claimed > known.entry.claimed;
        }
        match holds {
            true => is_newest || claims_first,
            // A goodbye says that an earlier connection is not to be waited for.
            false => is_newest && is_held,
        }
    }

    fn forget_gone(&mut self, now: Instant) {
        let kept = self.linger.max(REMEMBERED);
        let gone = |copy: &Copy| copy.gone.map(|gone| gone.at);
        self.copies
            .retain(|_, copy| gone(copy).is_none_or(|at| now.saturating_duration_since(at) < kept));
        while self.copies.values().filter_map(gone).count() > MAX_GONE {
            let all = self.copies.iter();
            let longest = all
                .filter_map(|(node, copy)| Some((gone(copy)?, node)))
                .min();
            let Some(node) = longest.map(|(_, node)| node.clone()) else {
                return;
            };
            self.copies.remove(&node);
        }
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Instant) {
        self.forget_gone(now);
        self.adopt(now);
        let kept = self.linger.max(REMEMBERED);
        if let Some(before) = now.checked_sub(kept)
            && self.own.forget_ended(before)
        {
            self.revision += 1;
        }
    }

    /// Whether a node that asks has anything new to learn.
    pub fn has_news(&self, asked: &Asked) -> bool {
        self.own.has_news(asked)
    }

    /// Answers another node; `clock` is the cluster's own time there.
    pub fn changes_since(&mut self, asked: &Asked, clock: u64, now: Instant) -> Changes {
        self.hear(clock, now);
        Changes {
            clock: self.clock.read(now),
            in_use: self.is_asked(now),
            ..self.own.changes_since(asked)
        }
    }

    /// What to ask another node, and the cluster's own time here; `None` where it is no member.
    pub fn question(&mut self, node: &NodeId, now: Instant) -> Option<(Asked, u64)> {
        let copy = self.copies.get(node).filter(|copy| copy.gone.is_none())?;
        Some((copy.asked(), self.clock.read(now)))
    }

    /// Takes what a node answered.
    pub fn answered(&mut self, node: &NodeId, asked: &Asked, changes: &Changes, now: Instant) {
        self.hear(changes.clock, now);
        let linger = self.linger;
        let Some(copy) = self.copies.get_mut(node) else {
            return;
        };
        let was_whole = copy.heard().is_some();
        copy.is_of_older_release = false;
        if !copy.take(asked, changes, now) {
            return;
        }
        for entry in changes
            .entries
            .iter()
            .filter(|entry| entry.holds(now, linger))
        {
            self.own.inherit(&entry.target, entry.claimed);
        }
        if !was_whole
            || changes.from_start
            || !changes.entries.is_empty()
            || !changes.removed.is_empty()
        {
            self.revision += 1;
        }
    }

    /// A node has answered that it knows no directory. Whether that is news.
    pub fn knows_none(&mut self, node: &NodeId) -> bool {
        let Some(copy) = self.copies.get_mut(node) else {
            return false;
        };
        let is_news = !copy.is_of_older_release;
        copy.is_of_older_release = true;
        self.revision += 1;
        is_news
    }

    fn hear(&mut self, clock: u64, now: Instant) {
        let behind = clock.saturating_sub(self.clock.read(now));
        self.clock.hear(clock, now);
        if behind > BEHIND {
            self.own.shift(behind);
            self.revision += 1;
        }
    }

    /// Somebody asks for the targets.
    pub fn ask(&mut self, now: Instant) {
        self.asked = Some(now);
    }

    fn is_asked(&self, now: Instant) -> bool {
        self.asked
            .is_some_and(|at| now.saturating_duration_since(at) < IN_USE)
    }

    /// Whether anybody has asked for the targets lately, at any node.
    pub fn in_use(&self, now: Instant) -> bool {
        self.is_asked(now) || self.copies.values().any(|copy| copy.is_asked)
    }

    /// The first live member that has not said lately what is connected to it.
    pub fn missing(&self, now: Instant) -> Option<Missing> {
        let mut alive = self.copies.iter().filter(|(_, copy)| copy.gone.is_none());
        alive.find_map(|(node, copy)| {
            if copy.is_of_older_release {
                return Some(Missing::OlderRelease(node.clone()));
            }
            let heard = copy.heard();
            let silent = heard.is_none_or(|at| now.saturating_duration_since(at) >= SILENT);
            silent.then(|| Missing::Silent(node.clone()))
        })
    }

    /// Where an application is.
    pub fn find(&self, id: &ApplicationId, now: Instant) -> Place {
        let Some(chosen) = known::chosen(self.named(id), now, self.linger) else {
            return Place::Unknown;
        };
        if let Some(ended) = chosen.ended() {
            return Place::Ended(ended);
        }
        let number = chosen.entry.number;
        if *chosen.node != self.me {
            return Place::There {
                node: chosen.node.clone(),
                number,
            };
        }
        match self.own.speaker(number) {
            Some(connection) => Place::Here { connection },
            None => Place::Unknown,
        }
    }

    /// The applications with this instance that are targets; where none is, those that were.
    pub fn with_instance(&self, instance: &str, now: Instant) -> Vec<ApplicationId> {
        let lists = self.lists().map(|(_, entries, _)| entries);
        let mut ids: Vec<_> = lists
            .flat_map(|entries| entries.with_instance(instance))
            .cloned()
            .collect();
        ids.sort();
        ids.dedup();
        let is_target = |id: &ApplicationId| {
            let chosen = known::chosen(self.named(id), now, self.linger);
            chosen.is_some_and(|chosen| chosen.holds(now, self.linger))
        };
        let targets: Vec<_> = ids.iter().filter(|id| is_target(id)).cloned().collect();
        if targets.is_empty() { ids } else { targets }
    }

    /// Every application that is known, in the order of their names: those that are gone and those that are superseded
    /// among them. `wall` is the time of day.
    pub fn applications(&self, now: Instant, wall: SystemTime) -> Vec<Application> {
        let shown = self.shown(now).into_iter();
        shown
            .map(|(known, superseded)| known.application(superseded, now, wall))
            .collect()
    }

    /// Those of [`Self::applications`] that are targets.
    pub fn targets(&self, now: Instant, wall: SystemTime) -> Vec<Application> {
        let mut all = self.applications(now, wall);
        all.retain(|application| application.is_listed(wall, self.linger));
        all
    }

    /// How many there are.
    pub fn counts(&self, now: Instant) -> Counts {
        let mut counts = Counts {
            tally: self.own.tally,
            ..Counts::default()
        };
        for (known, is_superseded) in self.shown(now) {
            match known.end().map(|(end, _)| end) {
                None if is_superseded => counts.superseded += 1,
                None => counts.connected += 1,
                Some(End::Lost) if known.holds(now, self.linger) => counts.lost += 1,
                Some(End::Moved) if known.holds(now, self.linger) => counts.moved += 1,
                Some(_) => {}
            }
        }
        counts
    }

    /// What is connected, and of each other name what was last; whether another is the application.
    fn shown(&self, now: Instant) -> Vec<(Known<'_>, bool)> {
        let lists = self.lists();
        let mut all: Vec<_> = lists
            .flat_map(|(node, entries, gone)| {
                let by_name = entries.by_name();
                by_name.map(move |entry| Known { node, entry, gone })
            })
            .collect();
        // Each list is in order already, which makes it cheap.
        all.sort_by(|a, b| a.place().cmp(&b.place()));
        let mut shown = Vec::with_capacity(all.len());
        for named in all.chunk_by(|a, b| a.entry.target.id == b.entry.target.id) {
            if let [only] = named {
                shown.push((*only, false));
                continue;
            }
            let chosen = known::chosen(named.iter().copied(), now, self.linger);
            for known in named {
                let is_chosen = chosen == Some(*known);
                if is_chosen || known.end().is_none() {
                    shown.push((*known, !is_chosen));
                }
            }
        }
        shown
    }

    fn named(&self, id: &ApplicationId) -> impl Iterator<Item = Known<'_>> {
        self.lists().flat_map(move |(node, entries, gone)| {
            let named = entries.named(id);
            named.map(move |entry| Known { node, entry, gone })
        })
    }

    fn lists(&self) -> impl Iterator<Item = (&NodeId, &entry::Entries, Option<copy::Gone>)> {
        let copies = self.copies.iter();
        let copies = copies.map(|(node, copy)| (node, &copy.entries, copy.gone));
        std::iter::once((&self.me, &self.own.entries, None)).chain(copies)
    }
}
