//! Whose turn it is on a processor: fair between tenants, and between the connections of one tenant.
//!
//! To open a text takes CPU time. One that costs much waits for those that cost little, and a tenant that has many
//! waiting waits behind one that has few. So nobody's texts, however many and however long, keep another's from being
//! opened in time.
//!
//! This is self-clocked fair queueing (S. J. Golestani, INFOCOM 1994) with the costs known beforehand: what waits has a
//! finish time on a virtual clock, which is the time of its arrival plus its cost, times what its tenant and its
//! connection have waiting already. The least finish time goes next, and the clock is set to it. A newcomer never
//! finishes before that, so that nothing waits without end.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::registry::ConnectionId;
use crate::tenant::Tenant;

/// What a text costs beside its bytes, as bytes: a private RSA operation.
const FIXED_COST: u64 = 64 << 10;

/// Where work comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Flow {
    /// Who pays for it.
    pub tenant: Tenant,
    /// Which of the tenant's connections sent it.
    pub connection: ConnectionId,
}

/// Gives turns to those that wait. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Turns(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// Turns that can be given at the moment.
    free: usize,
    queue: Queue<oneshot::Sender<Turn>>,
}

/// A turn, until dropped.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Turns,
    /// Whether it is to be given back.
    given: bool,
}

/// Takes who does not wait any more out of the queue.
struct Waiting<'a> {
    turns: &'a Turns,
    place: Place,
}

impl Turns {
    /// So many have a turn at a time.
    pub(super) fn new(at_a_time: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            free: at_a_time,
            queue: Queue::default(),
        })))
    }

    /// Waits for a turn for a text of so many bytes, as they travel. Dropped, it waits no longer.
    pub(super) async fn turn(&self, flow: &Flow, bytes: usize) -> Option<Turn> {
        let cost = FIXED_COST.saturating_add(bytes as u64);
        let (grant, granted) = oneshot::channel();
        let place = self.lock().queue.push(flow, cost, grant);
        let _waiting = Waiting { turns: self, place };
        self.give();
        granted.await.ok()
    }

    /// Gives the turns that are free.
    fn give(&self) {
        let mut state = self.lock();
        while state.free > 0
            && let Some(next) = state.queue.pop()
        {
            let turn = Turn {
                turns: self.clone(),
                given: true,
            };
            match next.send(turn) {
                Ok(()) => state.free -= 1,
                // Gave up just now. Without this, the turn would be given back under the lock.
                Err(mut turn) => turn.given = false,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.given {
            self.turns.lock().free += 1;
            self.turns.give();
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.turns.lock().queue.remove(&self.place);
    }
}

/// Finish time, then order of arrival.
type Place = (u64, u64);

/// What waits, in the order in which it gets its turn.
#[derive(Debug)]
struct Queue<T> {
    waiting: BTreeMap<Place, (Flow, T)>,
    tenants: HashMap<Tenant, u64>,
    connections: HashMap<ConnectionId, u64>,
    clock: u64,
    arrivals: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            waiting: BTreeMap::new(),
            tenants: HashMap::new(),
            connections: HashMap::new(),
            clock: 0,
            arrivals: 0,
        }
    }
}

impl<T> Queue<T> {
    fn push(&mut self, flow: &Flow, cost: u64, item: T) -> Place {
        let of_tenant = one_more(&mut self.tenants, flow.tenant.clone());
        let of_connection = one_more(&mut self.connections, flow.connection);
        let cost = cost.saturating_mul(of_tenant).saturating_mul(of_connection);
        let place = (self.clock.saturating_add(cost), self.arrivals);
        self.arrivals += 1;
        self.waiting.insert(place, (flow.clone(), item));
        place
    }

    fn pop(&mut self) -> Option<T> {
        let place = *self.waiting.first_key_value()?.0;
        self.clock = place.0;
        self.remove(&place)
    }

    fn remove(&mut self, place: &Place) -> Option<T> {
        let (flow, item) = self.waiting.remove(place)?;
        one_less(&mut self.tenants, &flow.tenant);
        one_less(&mut self.connections, &flow.connection);
        if self.waiting.is_empty() {
            self.clock = 0;
        }
        Some(item)
    }
}

fn one_more<K: Eq + Hash>(counts: &mut HashMap<K, u64>, key: K) -> u64 {
    let count = counts.entry(key).or_default();
    *count += 1;
    *count
}

fn one_less<K: Eq + Hash>(counts: &mut HashMap<K, u64>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use futures_util::FutureExt;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    pub(super) fn flow(tenant: u8, connection: ConnectionId) -> Flow {
        let address = IpAddr::V4(Ipv4Addr::new(192, 0, 2, tenant));
        Flow {
            tenant: Tenant::Address(address),
            connection,
        }
    }

    fn order<T>(mut queue: Queue<T>) -> Vec<T> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn who_costs_little_is_not_kept_waiting_by_who_costs_much() {
        let mut queue = Queue::default();
        for connection in 0..100 {
            queue.push(&flow(1, connection), 64 << 20, "dear");
        }
        // At the same address, and at another.
        queue.push(&flow(1, 100), 100 << 10, "cheap");
        queue.push(&flow(2, 101), 100 << 10, "cheap");
        assert_eq!(order(queue)[..3], ["cheap", "cheap", "dear"]);
    }

    #[test]
    fn tenants_take_turns_however_many_connections_they_have() {
        let mut queue = Queue::default();
        for connection in 0..100 {
            queue.push(&flow(1, connection), 10, 1);
        }
        for connection in 100..103 {
            queue.push(&flow(2, connection), 10, 2);
        }
        assert_eq!(order(queue)[..6], [1, 2, 1, 2, 1, 2]);
    }

    #[test]
    fn a_connection_that_sends_many_waits_for_itself() {
        let mut queue = Queue::default();
        for number in 0..16 {
            queue.push(&flow(1, 0), 10, number);
        }
        queue.push(&flow(1, 1), 10, 100);
        let place = order(queue).iter().position(|&number| number == 100);
        assert_eq!(place, Some(4));
    }

    #[test]
    fn what_is_dear_gets_its_turn_while_others_go_on_coming() {
        let mut queue = Queue::default();
        queue.push(&flow(1, 0), 1000, "dear");
        let mut before = 0;
        loop {
            queue.push(&flow(2, 1), 10, "cheap");
            match queue.pop() {
                Some("dear") => break,
                _ => before += 1,
            }
        }
        assert_eq!(before, 99);
    }

    #[tokio::test]
    async fn so_many_have_a_turn_at_a_time_and_who_gives_up_takes_none() {
        let turns = Turns::new(2);
        let flow = flow(1, 0);
        let first = turns.turn(&flow, 0).await.unwrap();
        let _second = turns.turn(&flow, 0).await.unwrap();
        let mut third = Box::pin(turns.turn(&flow, 0));
        let mut fourth = Box::pin(turns.turn(&flow, 0));
        assert!((&mut third).now_or_never().is_none());
        assert!((&mut fourth).now_or_never().is_none());
        drop(third);
        drop(first);
        let fourth = fourth.now_or_never().unwrap();
        // Given, and never fetched.
        let mut fifth = Box::pin(turns.turn(&flow, 0));
        assert!((&mut fifth).now_or_never().is_none());
        drop(fourth);
        drop(fifth);
        assert!(turns.turn(&flow, 0).now_or_never().is_some());
    }

    proptest! {
        #[test]
        fn everything_gets_one_turn_or_is_taken_out(
            arrivals in vec((0..3_u8, 0..6_u64, 0..1000_u64, 0..4_u8), 0..60),
        ) {
            let mut queue = Queue::default();
            let mut there = Vec::new();
            for (number, (tenant, connection, cost, then)) in arrivals.into_iter().enumerate() {
                let place = queue.push(&flow(tenant, connection), cost, number);
                there.push((place, number));
                if then == 0 {
                    let popped = queue.pop();
                    prop_assert_eq!(popped, there.iter().min().map(|&(_, number)| number));
                    there.retain(|&(_, number)| Some(number) != popped);
                } else if then == 1 {
                    let (place, number) = there.swap_remove(there.len() / 2);
                    prop_assert_eq!(queue.remove(&place), Some(number));
                    prop_assert_eq!(queue.remove(&place), None);
                }
            }
            there.sort_unstable();
            while let Some(number) = queue.pop() {
                prop_assert_eq!(number, there.remove(0).1);
            }
            prop_assert!(there.is_empty() && queue.tenants.is_empty() && queue.connections.is_empty());
        }
    }
}
