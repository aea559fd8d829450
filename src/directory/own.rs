//! What is connected to this node, and what was lately: the list that it tells the others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use super::accounts::{Accounts, Room};
use super::entry::{Ended, Entries, Entry};
use super::log::{Change, Log};
use super::{ApplicationId, Asked, Changes, End, MAX_PAGE, Outcome, Tally, Target};
use crate::tenant::Tenant;

/// Bytes of a reason that travel.
const MAX_REASON: usize = 200;

/// This node's list.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) entries: Entries,
    log: Log,
    accounts: Accounts,
    next: u64,
    /// The connected ones.
    connections: BTreeMap<u64, BTreeMap<ApplicationId, u64>>,
    /// The connection of each of them.
    speakers: BTreeMap<u64, u64>,
    pub(super) tally: Tally,
}

impl Own {
    /// Of at most so many bytes.
    pub(super) fn new(max_bytes: usize) -> Self {
        Self {
            entries: Entries::default(),
            log: Log::default(),
            accounts: Accounts::new(max_bytes),
            next: 0,
            connections: BTreeMap::new(),
            speakers: BTreeMap::new(),
            tally: Tally::default(),
        }
    }

    /// The connection that speaks for an entry.
    pub(super) fn speaker(&self, number: u64) -> Option<u64> {
        self.speakers.get(&number).copied()
    }

    /// The connection speaks for these and no others. `arrive` says since when a new one is, and has been claimed.
    pub(super) fn connected(
        &mut self,
        connection: u64,
        targets: Vec<Target>,
        now: Instant,
        mut arrive: impl FnMut(&Self, &Target) -> (u64, u64),
    ) {
        let mut before = self.connections.remove(&connection).unwrap_or_default();
        let mut after = BTreeMap::new();
        let mut new = Vec::new();
        let mut seen = BTreeSet::new();
        for target in targets {
            if !seen.insert(target.id.clone()) {
                continue;
            }
            let known = before.remove(&target.id);
            let known = known.filter(|number| self.renew(*number, &target));
            match known {
                Some(number) => {
                    after.insert(target.id, number);
                }
                None => new.push(target),
            }
        }
        self.connections.insert(connection, after);
        for number in before.into_values() {
            self.drop_target(number, now);
        }
        for target in new {
            let (stamp, claimed) = arrive(self, &target);
            self.add(connection, target, stamp, claimed);
        }
        self.connections.retain(|_, targets| !targets.is_empty());
    }

    /// Takes over what is told anew of an entry. Not where it is another's now, who has another claim.
    fn renew(&mut self, number: u64, target: &Target) -> bool {
        let Some(entry) = self.entries.get(number) else {
            return false;
        };
        if !entry.is_one_with(target) {
            self.forget(number);
            return false;
        }
        if entry.target.about == target.about {
            return true;
        }
        let renewed = Entry {
            target: target.clone(),
            ..entry.clone()
        };
        let more = renewed.cost().saturating_sub(entry.cost());
        let room = more == 0 || self.accounts.room(&tenant(entry), more) == Room::Free;
        if !room || !renewed.fits() {
            self.tally.refused += 1;
            return true;
        }
        self.uncount(number);
        self.count(&renewed);
        self.entries.put(renewed);
        self.log.put(number);
        true
    }

    fn add(&mut self, connection: u64, target: Target, stamp: u64, claimed: u64) {
        let before = self.entries.named(&target.id);
        let before = before.filter(|entry| entry.ended.is_some() && entry.is_one_with(&target));
        let before: Vec<_> = before.map(|entry| entry.number).collect();
        for number in before {
            self.forget(number);
        }
        let entry = Entry {
            number: self.next,
            target,
            at: None,
            stamp,
            claimed,
            ended: None,
            last: None,
        };
        if !self.make_room(&entry) {
            self.tally.refused += 1;
            return;
        }
        self.next += 1;
        let targets = self.connections.entry(connection).or_default();
        targets.insert(entry.target.id.clone(), entry.number);
        self.speakers.insert(entry.number, connection);
        self.count(&entry);
        self.log.put(entry.number);
        self.entries.put(entry);
    }

    /// Tells others, from now on, of what has ended with its node.
    pub(super) fn adopt(&mut self, entry: Entry, ended: Ended) {
        let at = ended.at;
        let entry = Entry {
            number: self.next,
            ended: Some(ended),
            ..entry
        };
        if !self.make_room(&entry) {
            self.tally.forgotten += 1;
            return;
        }
        self.next += 1;
        self.count(&entry);
        self.accounts.end(&tenant(&entry), at, entry.number);
        self.log.put(entry.number);
        self.entries.put(entry);
    }

    fn make_room(&mut self, entry: &Entry) -> bool {
        let (tenant, cost) = (tenant(entry), entry.cost());
        if !entry.fits() {
            return false;
        }
        loop {
            match self.accounts.room(&tenant, cost) {
                Room::Free => return true,
                Room::Without(number) => {
                    self.tally.forgotten += 1;
                    self.forget(number);
                }
                Room::None => return false,
            }
        }
    }

    /// Whether that is news.
    pub(super) fn pulled(
        &mut self,
        connection: u64,
        id: &ApplicationId,
        mut outcome: Outcome,
    ) -> bool {
        let number = self
            .connections
            .get(&connection)
            .and_then(|all| all.get(id));
        let Some(entry) = number.and_then(|number| self.entries.get_mut(*number)) else {
            return false;
        };
        outcome.reason = bounded(&outcome.reason);
        if entry.last.as_ref() == Some(&outcome) {
            return false;
        }
        entry.last = Some(outcome);
        self.log.put(entry.number);
        true
    }

    pub(super) fn ended(&mut self, connection: u64, end: End, reason: &Arc<str>, now: Instant) {
        let targets = self.connections.remove(&connection).unwrap_or_default();
        let reason = bounded(reason);
        for number in targets.into_values() {
            self.end(number, end, &reason, now);
        }
    }

    /// A connection speaks for others now. A name that was but an address says nothing once there is a better one.
    fn drop_target(&mut self, number: u64, now: Instant) {
        match self.entries.get(number) {
            Some(entry) if entry.is_named_by_address() => self.forget(number),
            _ => self.end(number, End::Left, &"no longer a target".into(), now),
        }
    }

    fn end(&mut self, number: u64, end: End, reason: &Arc<str>, now: Instant) {
        self.speakers.remove(&number);
        let Some(entry) = self.entries.get_mut(number) else {
            return;
        };
        let end = match entry.is_named_by_address() {
            true => End::Left,
            false => end,
        };
        entry.ended = Some(Ended {
            end,
            at: now,
            reason: Arc::clone(reason),
        });
        self.accounts.end(&tenant(entry), now, number);
        self.log.put(number);
    }

    /// Forgets what ended before `before`.
    pub(super) fn forget_ended(&mut self, before: Instant) -> bool {
        let mut any = false;
        while let Some(number) = self.accounts.ended_before(before) {
            self.forget(number);
            any = true;
        }
        any
    }

    fn forget(&mut self, number: u64) {
        self.uncount(number);
        self.speakers.remove(&number);
        if self.entries.remove(number).is_some() {
            self.log.remove(number);
        }
    }

    fn count(&mut self, entry: &Entry) {
        self.accounts.add(tenant(entry), entry.cost());
    }

    fn uncount(&mut self, number: u64) {
        if let Some(entry) = self.entries.get(number) {
            let tenant = tenant(entry);
            self.accounts.remove(&tenant, entry.cost());
            if let Some(ended) = &entry.ended {
                self.accounts.forget_end(&tenant, ended.at, number);
            }
        }
    }

    /// Its name was held since `claimed`, as another node knows.
    pub(super) fn inherit(&mut self, target: &Target, claimed: u64) {
        let heirs = self.entries.named(&target.id).filter(|entry| {
            entry.ended.is_none() && entry.is_one_with(target) && entry.claimed > claimed
        });
        let heirs: Vec<_> = heirs.map(|entry| entry.number).collect();
        for number in heirs {
            if let Some(entry) = self.entries.get_mut(number) {
                entry.claimed = claimed;
                self.log.put(number);
            }
        }
    }

    /// The clock by which entries are stamped was behind by so much.
    pub(super) fn shift(&mut self, by: u64) {
        for number in self.entries.numbers() {
            let own = self.entries.get_mut(number);
            if let Some(entry) = own.filter(|entry| entry.at.is_none()) {
                entry.stamp = entry.stamp.saturating_add(by);
                entry.claimed = entry.claimed.saturating_add(by);
                self.log.put(number);
            }
        }
    }

    /// Whether there is anything to tell a node that knows so much.
    pub(super) fn has_news(&self, asked: &Asked) -> bool {
        !self.log.reaches_back_to(asked.known) || asked.after != self.log.sequence()
    }

    /// What a node is to be told that knows so much: the whole list, where that is not enough to tell it what changed.
    pub(super) fn changes_since(&self, asked: &Asked) -> Changes {
        let sequence = self.log.sequence();
        let knows = self.log.reaches_back_to(asked.known) && asked.after <= sequence;
        let after = if knows { asked.after } else { 0 };
        let mut changes = Changes {
            from_start: after == 0,
            through: sequence,
            known: sequence,
            ..Changes::default()
        };
        let mut bytes = 0;
        for (at, change) in self.log.after(after) {
            if bytes > MAX_PAGE {
                changes.more = true;
                if after > 0 {
                    changes.known = asked.known;
                }
                break;
            }
            changes.through = at;
            match change {
                Change::Put(number) => {
                    if let Some(entry) = self.entries.get(number) {
                        bytes += entry.cost();
                        changes.entries.push(entry.clone());
                    }
                }
                Change::Removed(number) => {
                    bytes += size_of::<u64>();
                    changes.removed.push(number);
                }
            }
        }
        if !changes.more {
            changes.through = sequence;
        }
        changes
    }
}

fn tenant(entry: &Entry) -> Tenant {
    let about = &entry.target.about;
    Tenant::of(about.identity.as_ref(), about.peer)
}

/// As much of a reason as travels.
pub(super) fn bounded(reason: &Arc<str>) -> Arc<str> {
    if reason.len() <= MAX_REASON {
        return Arc::clone(reason);
    }
    reason[..reason.floor_char_boundary(MAX_REASON)].into()
}
