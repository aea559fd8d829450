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
use std::fmt;
use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::task::{JoinError, spawn_blocking};
use tracing::error;

use super::ConnectionId;
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

/// Runs work in turn, off the async threads. Cheap to clone.
#[derive(Clone)]
pub(super) struct Turns(Arc<Mutex<State>>);

type Job = Box<dyn FnOnce() + Send>;

struct State {
    /// Threads that may be taken at the moment.
    free: usize,
    queue: Queue<Job>,
}

/// Takes work that nobody waits for any more out of the queue.
struct WaitingWork<'a> {
    turns: &'a Turns,
    place: Place,
}

impl Turns {
    /// So much is done at a time.
    pub(super) fn new(at_a_time: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            free: at_a_time,
            queue: Queue::default(),
        })))
    }

    /// Does the work for a text of so many bytes, as they travel, when its turn comes. Dropped, it is not begun, or learns
    /// it. `None`: it panicked, or the node is stopping.
    pub(super) async fn run<R: Send + 'static>(
        &self,
        flow: &Flow,
        bytes: usize,
        work: impl FnOnce(&Wanted) -> R + Send + 'static,
    ) -> Option<R> {
        let (done, result) = oneshot::channel();
        let (_asked, wanted) = Wanted::new();
        let job = move || {
            // Nobody waits for it if it was given up meanwhile.
            let _ = done.send(work(&wanted));
        };
        let cost = FIXED_COST.saturating_add(bytes as u64);
        let place = self.0.lock().queue.push(flow, cost, Box::new(job));
        let _waiting = WaitingWork { turns: self, place };
        self.begin();
        result.await.ok()
    }

    /// Begins what there are threads for.
    fn begin(&self) {
        let mut state = self.0.lock();
        while state.free > 0
            && let Some(job) = state.queue.pop()
        {
            state.free -= 1;
            let turns = self.clone();
            spawn_blocking(move || turns.work(job));
        }
    }

    /// Does one job after the other as long as there are any.
    fn work(&self, first: Job) {
        let mut next = Some(first);
        while let Some(job) = next {
            if catch_unwind(AssertUnwindSafe(job)).is_err() {
                error!("decrypting a payload panicked, which is a bug");
            }
            let mut state = self.0.lock();
            next = state.queue.pop();
            if next.is_none() {
                state.free += 1;
            }
        }
    }
}

impl fmt::Debug for Turns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turns").finish_non_exhaustive()
    }
}

impl Drop for WaitingWork<'_> {
    fn drop(&mut self) {
        let given_up = self.turns.0.lock().queue.remove(&self.place);
        drop(given_up);
    }
}

/// Whether somebody still waits for work that was begun.
#[derive(Debug)]
pub struct Wanted(Weak<()>);

impl Wanted {
    /// It is wanted until the first of these is dropped.
    pub(super) fn new() -> (Arc<()>, Self) {
        let asked = Arc::new(());
        let wanted = Self(Arc::downgrade(&asked));
        (asked, wanted)
    }

    /// Whether somebody waits.
    pub fn is_some(&self) -> bool {
        self.0.strong_count() > 0
    }
}

/// Does CPU work off the async threads at once. `None`: it panicked, or the node is stopping.
pub async fn run<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> Option<R> {
    let done = spawn_blocking(work).await;
    if done.as_ref().is_err_and(JoinError::is_panic) {
        error!("work off the async threads panicked, which is a bug");
    }
    done.ok()
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
    use std::sync::mpsc;

    use futures_util::FutureExt;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn flow(tenant: u8, connection: ConnectionId) -> Flow {
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

    /// Work that goes on until the gate is dropped.
    fn endless(gate: &Gate) -> impl FnOnce(&Wanted) + Send + 'static {
        let gate = Arc::clone(gate);
        move |_| {
            let _ = gate.lock().recv();
        }
    }

    type Gate = Arc<Mutex<mpsc::Receiver<()>>>;

    #[tokio::test]
    async fn so_much_is_done_at_a_time_and_what_was_given_up_is_not_begun() {
        let turns = Turns::new(2);
        let flow = flow(1, 0);
        let (go, gate) = mpsc::channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        let mut running = Vec::new();
        for _ in 0..2 {
            let mut work = Box::pin(turns.run(&flow, 0, endless(&gate)));
            assert!((&mut work).now_or_never().is_none());
            running.push(work);
        }
        let mut given_up = Box::pin(turns.run(&flow, 0, |_| assert_eq!(1, 2, "given up")));
        let mut waiting = Box::pin(turns.run(&flow, 0, |_| "done"));
        assert!((&mut given_up).now_or_never().is_none());
        assert!((&mut waiting).now_or_never().is_none());
        assert_eq!(turns.0.lock().queue.waiting.len(), 2);
        drop(given_up);
        assert_eq!(turns.0.lock().queue.waiting.len(), 1);
        drop(go);
        assert_eq!(waiting.await, Some("done"));
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_any_more_learns_it() {
        let turns = Turns::new(1);
        let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
        let flow = flow(1, 0);
        let mut work = Box::pin(turns.run(&flow, 0, move |wanted| {
            let _ = told.send("begun");
            while wanted.is_some() {
                std::thread::yield_now();
            }
            let _ = told.send("stopped");
        }));
        tokio::select! {
            _ = &mut work => unreachable!("it is wanted"),
            begun = heard.recv() => assert_eq!(begun, Some("begun")),
        }
        drop(work);
        assert_eq!(heard.recv().await, Some("stopped"));
    }

    #[tokio::test]
    async fn work_that_panics_costs_no_turn() {
        let turns = Turns::new(1);
        let flow = flow(1, 0);
        let panicked = turns.run(&flow, 0, |_| assert_eq!(1, 2)).await;
        assert_eq!(panicked, None);
        assert_eq!(turns.run(&flow, 0, |_| "done").await, Some("done"));
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
