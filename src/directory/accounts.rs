//! How much of a node's list each tenant takes up.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use crate::tenant::Tenant;

/// The bytes of a list, and who has them.
#[derive(Debug)]
pub(super) struct Accounts {
    max: usize,
    bytes: usize,
    of: BTreeMap<Tenant, Account>,
    /// What has ended, the longest ago first.
    ended: BTreeSet<(Instant, u64)>,
}

#[derive(Debug, Default)]
struct Account {
    bytes: usize,
    ended: BTreeSet<(Instant, u64)>,
}

/// Whether there is room.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Room {
    Free,
    /// Once this one, which has ended, is forgotten.
    Without(u64),
    None,
}

impl Accounts {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            bytes: 0,
            of: BTreeMap::new(),
            ended: BTreeSet::new(),
        }
    }

    /// A tenant may have as many bytes as are free for all others. What of its own has ended goes first, then where the
    /// list is full, what ended longest ago.
    pub(super) fn room(&self, tenant: &Tenant, cost: usize) -> Room {
        let free = self.max.saturating_sub(self.bytes);
        let account = self.of.get(tenant);
        let has = account.map_or(0, |account| account.bytes);
        if has + cost <= free {
            return Room::Free;
        }
        let own = account.and_then(|account| account.ended.first());
        let anybodys = self.ended.first().filter(|_| cost > free);
        match own.or(anybodys) {
            Some((_, number)) => Room::Without(*number),
            None => Room::None,
        }
    }

    pub(super) fn add(&mut self, tenant: Tenant, cost: usize) {
        self.bytes += cost;
        self.of.entry(tenant).or_default().bytes += cost;
    }

    pub(super) fn remove(&mut self, tenant: &Tenant, cost: usize) {
        self.bytes -= cost;
        if let Some(account) = self.of.get_mut(tenant) {
            account.bytes -= cost;
            if account.bytes == 0 {
                self.of.remove(tenant);
            }
        }
    }

    pub(super) fn end(&mut self, tenant: &Tenant, at: Instant, number: u64) {
        if let Some(account) = self.of.get_mut(tenant) {
            account.ended.insert((at, number));
            self.ended.insert((at, number));
        }
    }

    pub(super) fn forget_end(&mut self, tenant: &Tenant, at: Instant, number: u64) {
        self.ended.remove(&(at, number));
        if let Some(account) = self.of.get_mut(tenant) {
            account.ended.remove(&(at, number));
        }
    }

    /// The one that ended longest ago, if that was before `before`.
    pub(super) fn ended_before(&self, before: Instant) -> Option<u64> {
        let first = self.ended.first().filter(|(at, _)| *at <= before);
        first.map(|(_, number)| *number)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;

    fn tenant(last: u8) -> Tenant {
        Tenant::Address(Ipv4Addr::new(192, 0, 2, last).into())
    }

    #[test]
    fn one_tenant_takes_half_and_the_others_have_room() {
        let mut accounts = Accounts::new(100);
        for _ in 0..5 {
            assert_eq!(accounts.room(&tenant(1), 10), Room::Free);
            accounts.add(tenant(1), 10);
        }
        assert_eq!(accounts.room(&tenant(1), 10), Room::None);
        assert_eq!(accounts.room(&tenant(2), 10), Room::Free);
        accounts.remove(&tenant(1), 10);
        assert_eq!(accounts.room(&tenant(1), 10), Room::Free);
    }

    #[test]
    fn what_has_ended_makes_room_the_tenants_own_first() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut accounts = Accounts::new(100);
        for (number, (who, at)) in [(1, later), (2, now), (3, now)].into_iter().enumerate() {
            accounts.add(tenant(who), 30);
            if who != 3 {
                accounts.end(&tenant(who), at, number as u64);
            }
        }
        assert_eq!(accounts.room(&tenant(1), 10), Room::Without(0));
        assert_eq!(
            accounts.room(&tenant(3), 10),
            Room::None,
            "its share is used up"
        );
        assert_eq!(accounts.room(&tenant(4), 20), Room::Without(1));
        accounts.forget_end(&tenant(2), now, 1);
        accounts.remove(&tenant(2), 30);
        assert_eq!(accounts.room(&tenant(4), 20), Room::Free);
        assert_eq!(accounts.ended_before(now), None);
        assert_eq!(accounts.ended_before(later), Some(0));
    }
}
