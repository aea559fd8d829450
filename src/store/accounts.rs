//! What each pusher has in the store, so that none takes the room of the others.

use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasherDefault;
use std::time::{Duration, Instant};

use super::selection::HashedAlready;
use super::{Content, Refusal};
use crate::tenant::Tenant;

/// Pushes of one pusher that wait with one series in common; one more is refused. A scrape takes one of them, so the last
/// waits for so many scrapes: 25 minutes where one comes every 15 s.
pub const MAX_WAITING: u32 = 100;
/// Bytes for each series of a push that waits: a place in [`Account::waiting`], which is half to seven eighths full.
pub(super) const SERIES_BYTES: usize = 16;
/// Pushers whose refusals are remembered; past it those of the one refused longest ago are forgotten.
const MAX_REFUSED: usize = 64;
/// How long after the last one the refusals of a pusher are remembered.
const LATELY: Duration = Duration::from_secs(900);

/// What one pusher has in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holdings {
    /// Who.
    pub pusher: Tenant,
    /// Bytes of its pushes, as [`super::Counts::bytes`] counts.
    pub bytes: usize,
    /// Its pushes, replicas included.
    pub pushes: usize,
    /// What this node refused it lately.
    pub refused: Option<Refusals>,
}

/// Pushes of one pusher that this node refused, none of them more than 15 minutes after the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusals {
    /// For want of room: [`Refusal::Full`].
    pub full: u64,
    /// [`Refusal::Share`].
    pub share: u64,
    /// [`Refusal::Backlog`].
    pub backlog: u64,
    /// When the last one was.
    pub last: Instant,
}

impl Refusals {
    fn of(&mut self, refusal: Refusal) -> &mut u64 {
        match refusal {
            Refusal::Full => &mut self.full,
            Refusal::Share => &mut self.share,
            Refusal::Backlog => &mut self.backlog,
        }
    }
}

#[derive(Debug, Default)]
struct Account {
    bytes: usize,
    pushes: usize,
    /// How many pushes that wait have a series. Half of its hash is enough: where two series share it, they share the
    /// bound, too.
    waiting: HashMap<u32, u32, BuildHasherDefault<HashedAlready>>,
}

fn half(series: u64) -> u32 {
    series as u32
}

/// The accounts of all who have pushes here.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    open: BTreeMap<Tenant, Account>,
    refused: BTreeMap<Tenant, Refusals>,
}

impl Accounts {
    /// Bytes that a pusher has here.
    pub(super) fn bytes(&self, pusher: &Tenant) -> usize {
        self.open.get(pusher).map_or(0, |account| account.bytes)
    }

    /// Whether [`MAX_WAITING`] pushes wait with one of these series.
    pub(super) fn is_behind(&self, content: &Content) -> bool {
        self.open.get(&content.pusher).is_some_and(|account| {
            let mut series = content.series.iter();
            series.any(|series| account.waiting.get(&half(*series)) >= Some(&MAX_WAITING))
        })
    }

    /// A push that waits for a scrape has come.
    pub(super) fn enter(&mut self, content: &Content, bytes: usize) {
        let account = self.open.entry(content.pusher.clone()).or_default();
        account.bytes += bytes;
        account.pushes += 1;
        for series in &content.series {
            *account.waiting.entry(half(*series)).or_default() += 1;
        }
    }

    /// A push does not wait any more: it was served, or goes.
    pub(super) fn stop_waiting(&mut self, content: &Content) {
        let Some(account) = self.open.get_mut(&content.pusher) else {
            return;
        };
        for series in &content.series {
            let series = half(*series);
            match account.waiting.get_mut(&series) {
                Some(pushes) if *pushes > 1 => *pushes -= 1,
                _ => {
                    account.waiting.remove(&series);
                }
            }
        }
        if account.waiting.capacity() > 4 * (account.waiting.len() + 8) {
            account.waiting.shrink_to_fit();
        }
    }

    /// A push that does not wait any more is gone.
    pub(super) fn leave(&mut self, content: &Content, bytes: usize) {
        if let Some(account) = self.open.get_mut(&content.pusher) {
            account.bytes -= bytes;
            account.pushes -= 1;
            if account.pushes == 0 {
                self.open.remove(&content.pusher);
            }
        }
    }

    /// Takes note of a refusal.
    pub(super) fn refuse(&mut self, pusher: &Tenant, refusal: Refusal, now: Instant) {
        if self.refused.len() >= MAX_REFUSED && !self.refused.contains_key(pusher) {
            let first = self.refused.iter().min_by_key(|(_, refused)| refused.last);
            if let Some(first) = first.map(|(pusher, _)| pusher.clone()) {
                self.refused.remove(&first);
            }
        }
        let refused = self.refused.entry(pusher.clone()).or_insert(Refusals {
            full: 0,
            share: 0,
            backlog: 0,
            last: now,
        });
        *refused.of(refusal) += 1;
        refused.last = now;
    }

    /// Forgets refusals of long ago.
    pub(super) fn forget(&mut self, now: Instant) {
        self.refused
            .retain(|_, refused| now < refused.last + LATELY);
    }

    /// The `most` who have the most bytes, and as many of those refused last.
    pub(super) fn greatest(&self, most: usize) -> Vec<Holdings> {
        let mut greatest: Vec<_> = self.open.iter().collect();
        let by_bytes = |(pusher, account): &(&Tenant, &Account)| {
            (std::cmp::Reverse(account.bytes), (*pusher).clone())
        };
        if greatest.len() > most {
            greatest.select_nth_unstable_by_key(most, by_bytes);
            greatest.truncate(most);
        }
        let mut refused: Vec<_> = self.refused.iter().collect();
        refused.sort_by_key(|(_, refused)| std::cmp::Reverse(refused.last));
        refused.truncate(most);
        let pushers = greatest.into_iter().map(|(pusher, _)| pusher);
        let mut pushers: Vec<_> = pushers
            .chain(refused.into_iter().map(|(pusher, _)| pusher))
            .collect();
        pushers.sort_unstable();
        pushers.dedup();
        let mut holdings: Vec<_> = pushers
            .into_iter()
            .map(|pusher| self.holdings(pusher))
            .collect();
        holdings.sort_by_key(|holdings| std::cmp::Reverse(holdings.bytes));
        holdings
    }

    fn holdings(&self, pusher: &Tenant) -> Holdings {
        let account = self.open.get(pusher);
        Holdings {
            pusher: pusher.clone(),
            bytes: account.map_or(0, |account| account.bytes),
            pushes: account.map_or(0, |account| account.pushes),
            refused: self.refused.get(pusher).copied(),
        }
    }

    /// Whether nobody has anything here.
    #[cfg(test)]
    pub(super) fn are_closed(&self) -> bool {
        self.open.is_empty()
    }
}
