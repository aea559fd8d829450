//! Keeps a client connected: goes through the proxies, and when all fail or the connection ends, begins again after a
//! delay.

use std::collections::VecDeque;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, info, warn};

use crate::Address;
use crate::attempt::{Attempt, Stage};
use crate::connection::Running;
use crate::diagnosis;
use crate::failure::Failure;
use crate::link::Order;
use crate::metrics::Reason;
use crate::schedule::{Schedule, WELL_AFTER, spread};
use crate::socket::{self, Sockets};
use crate::state::State;

/// For the key to come, where there is another proxy or address to try. Where there is none the client waits: a proxy past
/// its limits leaves connections unanswered for a while.
const KEY_WITHIN: Duration = Duration::from_secs(10);
/// For an attempt at one address by a client that was well connected a moment ago, also where there is no other: a balancer
/// may have led it to the node that has gone, and will lead it elsewhere.
const RETURN_WITHIN: Duration = Duration::from_secs(5);

/// For one of several proxies to take the connection and send its key, while a push waits: its deadline is near.
const PUSH_WAITS: Duration = Duration::from_secs(2);

/// Without an answer for so long, a port is asked whether it is one for another scheme.
const DIAGNOSIS_AFTER: Duration = Duration::from_secs(1);

/// What keeps a client connected.
pub(crate) struct Reconnect {
    pub(crate) state: Arc<State>,
    pub(crate) proxies: Vec<Address>,
    pub(crate) sockets: Sockets,
    pub(crate) schedule: Schedule,
    /// How often the earlier proxies are tried while connected to a later one.
    pub(crate) prefer_first: Option<Duration>,
}

/// A connection whose key has come.
struct Connected {
    running: Running,
    /// Which of the proxies it leads to.
    proxy: usize,
    since: Instant,
}

/// What has become of a connection.
struct Ended {
    proxy: usize,
    lived: Duration,
    why: Option<Reason>,
}

impl Reconnect {
    /// Runs until the last attempt that is allowed has failed.
    pub(crate) async fn run(mut self) {
        let mut first = 0;
        let mut due = Instant::now();
        loop {
            let begin = Instant::now();
            due = match self.round(first).await {
                Ok(connected) => {
                    self.schedule.connected();
                    self.state.lasting_failures.send_replace(0);
                    self.state.counters.connects.increment();
                    let Ended { proxy, lived, why } = self.stay(connected).await;
                    self.state.set_link(None);
                    // One that ends connections early, or is silent, is not the first to be asked again.
                    let is_well = lived >= WELL_AFTER && why != Some(Reason::Silent);
                    first = if is_well { proxy } else { proxy + 1 };
                    Instant::now() + self.schedule.ended(lived)
                }
                // A push has hurried it: else a few pushes would use up, in seconds, the retries that were meant for
                // hours.
                Err(AllFailed) if begin < due => due,
                Err(AllFailed) => match self.schedule.failed() {
                    Some(delay) => Instant::now() + delay,
                    None => return warn!("gave up connecting to the proxy"),
                },
            };
            debug!(delay = ?due.saturating_duration_since(Instant::now()), "connecting again after a delay");
            self.pause(due).await;
            self.state.counters.retries.increment();
        }
    }

    /// Tries every proxy once, beginning with this one.
    async fn round(&self, first: usize) -> Result<Connected, AllFailed> {
        let count = self.proxies.len();
        let mut all_lasting = true;
        for proxy in (first..first + count).map(|proxy| proxy % count) {
            match self.attempt(proxy).await {
                Ok(connected) => return Ok(connected),
                Err(failure) => {
                    all_lasting &= failure.is_lasting;
                    self.failed(proxy, &failure);
                }
            }
        }
        let failures = &self.state.lasting_failures;
        failures.send_modify(|failures| *failures = if all_lasting { *failures + 1 } else { 0 });
        Err(AllFailed)
    }

    /// Comes when a push has waited too long for one attempt.
    async fn impatience(&self) {
        let mut pushes = self.state.pushes.subscribe();
        // The state outlives this, and the sender with it.
        let _ = pushes.wait_for(|waiting| *waiting > 0).await;
        sleep(PUSH_WAITS).await;
    }

    /// Makes a connection to this proxy, at whichever of its addresses.
    async fn attempt(&self, proxy: usize) -> Result<Connected, Failure> {
        let Some(address) = self.proxies.get(proxy) else {
            return Err(Failure::new(Reason::Network, "no such proxy"));
        };
        self.state.attempting(address, Stage::LookUp);
        let candidates = socket::resolve(&self.sockets, address).await?;
        let running = self.attempt_at(address, candidates).await?;
        info!(proxy = %address, "connected to the proxy");
        Ok(Connected {
            running,
            proxy,
            since: Instant::now(),
        })
    }

    async fn attempt_at(
        &self,
        address: &Address,
        mut candidates: VecDeque<SocketAddr>,
    ) -> Result<Running, Failure> {
        loop {
            let several = self.proxies.len() > 1 || candidates.len() > 1;
            let returning = self.schedule.is_returning();
            let attempted = tokio::select! {
                attempted = self.keyed(address, &mut candidates) => attempted,
                failure = self.diagnosed(address) => Err(failure),
                () = sleep(RETURN_WITHIN), if returning => Err(no_key(())),
                () = self.impatience(), if several => {
                    Err(Failure::new(Reason::Timeout, "took too long for a waiting push"))
                }
            };
            match attempted {
                Ok(running) => return Ok(running),
                // The other addresses would refuse the same credentials.
                Err(failure) if candidates.is_empty() || failure.reason == Reason::Credentials => {
                    return Err(failure);
                }
                Err(failure) => debug!(proxy = %address, %failure, "trying another address"),
            }
        }
    }

    /// Makes a connection to one of these addresses, up to the arrival of its key.
    async fn keyed(
        &self,
        address: &Address,
        candidates: &mut VecDeque<SocketAddr>,
    ) -> Result<Running, Failure> {
        let connecting = socket::connect(&self.sockets, address, candidates, &self.state);
        let mut running = connecting.await?;
        self.state.attempting(address, Stage::Key);
        let keyed = &mut running.keyed;
        let keyed = if self.proxies.len() > 1 || !candidates.is_empty() {
            timeout(KEY_WITHIN, keyed).await.map_err(no_key)?
        } else {
            keyed.await
        };
        if keyed.is_err() {
            let ended = running.task.await.ok().flatten();
            return Err(ended.unwrap_or_else(|| Failure::new(Reason::Closed, "ended at once")));
        }
        Ok(running)
    }

    /// Comes when an attempt has been without an answer for a while, and the port turns out to be one for another scheme.
    /// Not once a proxy has been connected to: then the addresses are right.
    async fn diagnosed(&self, address: &Address) -> Failure {
        if self.state.counters.has_connected() {
            return pending().await;
        }
        sleep(DIAGNOSIS_AFTER).await;
        let attempt = self.state.attempt.borrow().clone();
        let diagnosis = match attempt {
            Some(Attempt { stage, .. }) => {
                diagnosis::other_scheme(&self.sockets, address, stage).await
            }
            None => None,
        };
        match diagnosis {
            Some(failure) => failure,
            None => pending().await,
        }
    }

    /// Serves until the connection, or one that has replaced it, ends.
    async fn stay(&self, mut connected: Connected) -> Ended {
        self.state.set_link(Some(connected.running.link.clone()));
        loop {
            tokio::select! {
                ended = &mut connected.running.task => {
                    let failure = ended.ok().flatten();
                    if let Some(failure) = &failure {
                        self.failed(connected.proxy, failure);
                    }
                    return Ended {
                        proxy: connected.proxy,
                        lived: connected.since.elapsed(),
                        why: failure.map(|failure| failure.reason),
                    };
                }
                earlier = self.earlier(connected.proxy) => {
                    self.state.set_link(Some(earlier.running.link.clone()));
                    self.state.counters.connects.increment();
                    let replaced = std::mem::replace(&mut connected, earlier);
                    // It may have ended in this very moment.
                    let _ = replaced.running.link.order(Order::Retire).await;
                }
            }
        }
    }

    /// Tries the proxies before this one again and again.
    async fn earlier(&self, proxy: usize) -> Connected {
        let Some(interval) = self.prefer_first.filter(|_| proxy > 0) else {
            return pending().await;
        };
        loop {
            sleep(spread(interval)).await;
            for earlier in 0..proxy {
                match self.attempt(earlier).await {
                    Ok(connected) => return connected,
                    Err(failure) => debug!(%failure, "the preferred proxy cannot be reached yet"),
                }
            }
        }
    }

    fn failed(&self, proxy: usize, failure: &Failure) {
        let Some(proxy) = self.proxies.get(proxy) else {
            return;
        };
        info!(%proxy, error = %failure, "not connected to the proxy");
        self.state.counters.connection_error(failure.reason);
        self.state
            .failure
            .send_replace(format!("{proxy}: {failure}"));
    }

    /// Waits until the next attempt is due, but not for long while a push waits.
    async fn pause(&mut self, due: Instant) {
        let begin = Instant::now();
        let mut pushes = self.state.pushes.subscribe();
        let mut hurried = None;
        loop {
            let waiting = *pushes.borrow_and_update() > 0;
            let until = if waiting {
                due.min(begin + *hurried.get_or_insert_with(|| self.schedule.hurried()))
            } else {
                self.schedule.calm();
                due
            };
            tokio::select! {
                () = sleep_until(until) => return,
                _ = pushes.changed() => {}
            }
        }
    }
}

/// None of the proxies could be reached.
struct AllFailed;

fn no_key<E>(_: E) -> Failure {
    Failure::new(Reason::NoKey, "no key came in time")
}

#[cfg(test)]
mod tests {
    use prometheus_rsocket_wire::envelope::plaintext::PLAINTEXT;
    use prometheus_rsocket_wire::session::Limits;
    use prometheus_rsocket_wire::transport::tcp::Tcp;
    use prometheus_rsocket_wire::{Connection, ErrorCode, Event, Payload, Session};
    use tokio::net::TcpListener;

    use super::*;
    use crate::Client;

    /// What a node does with a connection.
    #[derive(Clone, Copy)]
    enum Node {
        Silent,
        Refusing,
        Good,
    }

    async fn listen(node: Node) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let session = Session::accepting(Limits::default(), Instant::now().into_std());
            let mut connection = Connection::new(session, Tcp::new(stream, 1 << 24));
            loop {
                match (connection.next().await, node) {
                    (Event::Setup(_), Node::Refusing) => {
                        connection.session().close(ErrorCode::REJECTED_SETUP, "no");
                    }
                    (Event::Setup(_), Node::Good) => {
                        let key = Payload::of_data(PLAINTEXT);
                        connection.session().fire_and_forget(key).unwrap();
                    }
                    (Event::Closed(_), _) => return connection.finish().await,
                    _ => {}
                }
            }
        });
        address
    }

    /// An attempt at a name that has these nodes' addresses: whether it succeeds, and how long it takes.
    async fn attempt<const N: usize>(
        nodes: [Node; N],
        push: bool,
    ) -> (Result<(), Failure>, Duration) {
        let mut candidates = VecDeque::new();
        for node in nodes {
            candidates.push_back(listen(node).await);
        }
        let builder = Client::builder(|| "").proxy(Address::default());
        let state = Arc::new(builder.state(Arc::default()));
        state.pushes.send_replace(usize::from(push));
        let begin = Instant::now();
        let attempted = builder
            .reconnect(state)
            .attempt_at(&Address::default(), candidates)
            .await;
        (attempted.map(drop), begin.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_gives_no_key_keeps_nobody_from_the_others_of_its_name() {
        let (made, took) = attempt([Node::Silent, Node::Good], false).await;
        made.unwrap();
        assert!((KEY_WITHIN..KEY_WITHIN * 2).contains(&took), "{took:?}");
        let (made, took) = attempt([Node::Silent, Node::Good], true).await;
        made.unwrap();
        assert!((PUSH_WAITS..KEY_WITHIN).contains(&took), "{took:?}");
    }

    #[tokio::test]
    async fn credentials_that_one_address_refuses_are_not_shown_to_the_others() {
        let (made, _) = attempt([Node::Refusing, Node::Good], false).await;
        assert_eq!(made.unwrap_err().reason, Reason::Credentials);
    }
}
