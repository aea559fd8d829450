//! How a connection that works is let go: kindly, so that no pull, no push and no scrape is lost by it.
//!
//! A flow that wants a connection gone asks its [`Handle`](super::Handle) for that. The connection answers and takes what
//! comes as before, and ends, with a CONNECTION_CLOSE that says why, when the application is needed least: right after it
//! has answered a pull, so that it is back at another node before the next scrape, or where no pull comes, at a given
//! instant. Never while a pull is under way, or a push is being received or taken: but who is to go at once has a while for
//! that and no longer ([`Cause::patience`]), as it might never end.

use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// How long a connection whose time is over waits for a moment in which it is not pulled. Then it is pulled no more.
const OVERDUE: Duration = Duration::from_secs(1);

/// Why a node lets go of a connection that works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The node leaves.
    Drain,
    /// Other nodes have fewer connections.
    Rebalance,
    /// The credentials of its application were revoked.
    Revoked,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 3] = [Self::Drain, Self::Rebalance, Self::Revoked];

    /// The word in metrics and log.
    pub fn label(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Rebalance => "rebalance",
            Self::Revoked => "revoked",
        }
    }

    /// How long a connection that is to go at once may take to finish what it has begun.
    pub(super) fn patience(self) -> Duration {
        match self {
            // Less than a drain keeps back for closing connections: what comes after that needs its time, too.
            Self::Drain => Duration::from_secs(1),
            Self::Rebalance | Self::Revoked => Duration::from_secs(5),
        }
    }

    /// What the application is told, and the status page says.
    pub(super) fn message(self) -> &'static str {
        match self {
            Self::Drain => "the proxy is shutting down",
            Self::Rebalance => "other proxies have fewer connections",
            Self::Revoked => "the credentials of this application were revoked",
        }
    }
}

/// When and why a connection is to end.
#[derive(Debug, Clone, Copy)]
pub struct Retirement {
    /// Why.
    pub cause: Cause,
    /// How long it stays after the first pull that it answers from now on. Different for each where many connections end
    /// after one scrape: they would all connect again in the same moment.
    pub linger: Duration,
    /// It ends then, whether or not a pull came; where a pull or a push is under way, after that.
    pub by: Instant,
}

/// A connection's retirement under way.
#[derive(Debug)]
pub(super) struct Retiring {
    pub(super) cause: Cause,
    linger: Duration,
    end: Pin<Box<Sleep>>,
}

impl Retiring {
    pub(super) fn new(retirement: &Retirement) -> Self {
        Self {
            cause: retirement.cause,
            linger: retirement.linger,
            end: Box::pin(sleep_until(retirement.by)),
        }
    }

    /// Without waiting for another pull.
    pub(super) fn at_once(cause: Cause) -> Self {
        Self::new(&Retirement {
            cause,
            linger: Duration::ZERO,
            by: Instant::now(),
        })
    }

    /// A pull has been answered.
    pub(super) fn answered(&mut self) {
        let end = Instant::now() + self.linger;
        if end < self.end.deadline() {
            self.end.as_mut().reset(end);
        }
    }

    /// Whether its time is over for so long that what is under way has to be the last: an application that answers for many
    /// is pulled all the time.
    pub(super) fn is_overdue(&self) -> bool {
        Instant::now() >= self.end.deadline() + OVERDUE
    }

    /// Waits until the connection is to end, with the cause.
    pub(super) async fn due(retiring: &mut Option<Self>) -> Cause {
        match retiring {
            Some(retiring) => {
                retiring.end.as_mut().await;
                retiring.cause
            }
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::sync::Arc;

    use clap::Parser;
    use futures_util::FutureExt;
    use prometheus_rsocket_wire::connection::Connection;
    use prometheus_rsocket_wire::memory::Memory;
    use prometheus_rsocket_wire::session::{CloseReason, Event, Limits, SetupOptions};
    use prometheus_rsocket_wire::transport::tcp::Tcp;
    use prometheus_rsocket_wire::{ErrorCode, Payload, Session, StreamId};
    use tokio::io::{DuplexStream, duplex};
    use tokio::sync::{Semaphore, watch};
    use tokio::task::JoinHandle;
    use tokio::time::{sleep, timeout};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::directory::SharedDirectory;
    use crate::identity::{Table, Terms};
    use crate::metrics::OwnMetrics;
    use crate::nodes::NodeId;
    use crate::rsocket::connection::run;
    use crate::rsocket::entry::Arrival;
    use crate::rsocket::{
        Answer, Applications, Handle, KeyRing, Metrics, PullError, PushOutcome, PushSink, Registry,
        Sealed, Settings, Shared, Transport,
    };

    const SECOND: Duration = Duration::from_secs(1);
    const HOUR: Duration = Duration::from_secs(3600);
    const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    /// Holds a push once it is given a permit.
    struct Gate(Arc<Semaphore>);

    impl PushSink for Gate {
        fn push(&self, _: Sealed, _: SocketAddr) -> PushOutcome {
            let gate = Arc::clone(&self.0);
            Box::pin(async move {
                gate.acquire().await.expect("a gate").forget();
                Ok(())
            })
        }
    }

    /// A connection on a pipe: both of its ends.
    struct Pair {
        leaving: CancellationToken,
        registry: Arc<Registry>,
        metrics: Arc<Metrics>,
        handle: Arc<Handle>,
        app: Connection<Tcp<DuplexStream>>,
        /// Pushes that may be held.
        gate: Arc<Semaphore>,
        _node: JoinHandle<()>,
    }

    fn applications(gate: &Arc<Semaphore>) -> Applications {
        let metrics = Arc::new(Metrics::register(&OwnMetrics::new().unwrap()).unwrap());
        let settings = Settings::parse_from([
            "",
            "--rsocket.envelope=plaintext",
            "--rsocket.setup-timeout=1h",
            "--rsocket.max-frame=1MiB",
        ]);
        let everybody = Table::of_everybody(Terms::default());
        let shared = Shared {
            registry: Arc::new(Registry::new(metrics.active_connections.clone(), 100)),
            keys: Arc::new(KeyRing::new(settings.envelopes(), HOUR)),
            pushes: Arc::new(Gate(Arc::clone(gate))),
            identities: watch::channel(Arc::new(everybody)).1,
            memory: Memory::new(1 << 20, HOUR),
            metrics,
            directory: Arc::new(SharedDirectory::new(NodeId::new("me", 1), HOUR)),
            name_by: ["instance".to_owned()].into(),
        };
        Applications::new(&settings, 1 << 20, None, shared, CancellationToken::new())
    }

    impl Pair {
        async fn new() -> Self {
            let gate = Arc::new(Semaphore::new(0));
            let apps = applications(&gate);
            let (registry, metrics) = (Arc::clone(&apps.registry), Arc::clone(&apps.metrics));
            let leaving = apps.leaving.clone();
            let (ours, theirs) = duplex(1 << 16);
            let now = Instant::now().into_std();
            let accepting = Session::accepting(apps.limits, now);
            let node = Box::new(Connection::new(accepting, Tcp::new(ours, 1 << 20)));
            let arrival = Arrival {
                peer: NOWHERE,
                transport: Transport::Tcp,
                certificate: Vec::new(),
                due: Instant::now() + HOUR,
                evictable: apps.handshakes.join(CancellationToken::new()),
            };
            let node = tokio::spawn(async move { run(node, arrival, &apps).await });
            let limits = Limits {
                fragment_size: Some(64),
                ..Limits::default()
            };
            let connecting = Session::connecting(SetupOptions::default(), limits, now);
            let connecting = connecting.expect("a valid SETUP");
            let mut app = Connection::new(connecting, Tcp::new(theirs, 1 << 20));
            assert!(matches!(app.next().await, Event::FireAndForget { .. }));
            let handle = registry.snapshot().pop().expect("a connection");
            Self {
                leaving,
                registry,
                metrics,
                handle,
                app,
                gate,
                _node: node,
            }
        }

        fn retire(&self, linger: Duration, by: Duration) -> bool {
            self.handle.retire(Retirement {
                cause: Cause::Rebalance,
                linger,
                by: Instant::now() + by,
            })
        }

        fn pull(&self) -> JoinHandle<Result<Arc<Answer>, PullError>> {
            let handle = Arc::clone(&self.handle);
            tokio::spawn(async move { handle.pull(None, Instant::now() + HOUR).await })
        }

        /// The application learns of a pull.
        async fn asked(&mut self) -> StreamId {
            match self.app.next().await {
                Event::Request { stream, .. } => stream,
                other => panic!("expected a pull, got {other:?}"),
            }
        }

        fn answer(&mut self, stream: StreamId) {
            let answer = Some(Payload::of_data("up 1\n"));
            self.app.session().respond(stream, answer);
        }

        /// A pull, from the question to the answer.
        async fn scrape(&mut self) {
            let pull = self.pull();
            let stream = self.asked().await;
            self.answer(stream);
            self.stays(Duration::from_millis(1)).await;
            pull.await.expect("no panic").expect("an answer");
        }

        fn push(&mut self, bytes: usize) -> StreamId {
            let payload = Payload::of_data(vec![b'#'; bytes]);
            self.app.session().request_response(payload).expect("room")
        }

        /// The connection stays for so long, and nothing else happens.
        async fn stays(&mut self, time: Duration) {
            let event = timeout(time, self.app.next()).await;
            assert!(event.is_err(), "{event:?}");
        }

        /// The node leaves, and with it the connection ends.
        async fn is_let_go(&mut self) {
            let event = self.app.next().await;
            assert!(
                matches!(&event, Event::Closed(CloseReason::PeerError { code, .. })
                    if *code == ErrorCode::CONNECTION_CLOSE),
                "{event:?}"
            );
        }

        /// The connection ends after so long.
        async fn ends_after(mut self, time: Duration) {
            let started = Instant::now();
            let event = self.app.next().await;
            let Event::Closed(CloseReason::PeerError { code, message }) = event else {
                panic!("expected the end, got {event:?}");
            };
            assert_eq!(code, ErrorCode::CONNECTION_CLOSE);
            assert_eq!(message, Cause::Rebalance.message());
            let late = started.elapsed().saturating_sub(time);
            assert!(started.elapsed() >= time && late < SECOND, "{late:?} late");
            assert!(self.handle.has_left());
            assert_eq!(self.registry.left()[0].reason, message);
            let retired = &self.metrics.connections_retired;
            assert_eq!(retired.with_label_values(&["rebalance"]).get(), 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_retired_connection_answers_one_more_pull() {
        let mut pair = Pair::new().await;
        pair.retire(Duration::ZERO, HOUR);
        pair.stays(10 * SECOND).await;
        let pull = pair.pull();
        let stream = pair.asked().await;
        pair.answer(stream);
        pair.ends_after(Duration::ZERO).await;
        pull.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_pull_it_ends_at_its_time() {
        let pair = Pair::new().await;
        pair.retire(Duration::ZERO, 10 * SECOND);
        pair.ends_after(10 * SECOND).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_pull_under_way_is_answered_first_even_past_its_time() {
        let mut pair = Pair::new().await;
        let pull = pair.pull();
        let stream = pair.asked().await;
        pair.retire(Duration::ZERO, SECOND);
        pair.stays(10 * SECOND).await;
        pair.answer(stream);
        pair.ends_after(Duration::ZERO).await;
        pull.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_pull_that_is_given_up_ends_it_past_its_time_only() {
        let mut pair = Pair::new().await;
        pair.retire(Duration::ZERO, 10 * SECOND);
        let pull = pair.pull();
        pair.asked().await;
        sleep(SECOND).await;
        pull.abort();
        assert!(matches!(
            pair.app.next().await,
            Event::RequestCancelled { .. }
        ));
        pair.ends_after(9 * SECOND).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_push_is_acknowledged_first_even_past_its_time() {
        let mut pair = Pair::new().await;
        pair.retire(Duration::ZERO, 10 * SECOND);
        let push = pair.push(1);
        pair.stays(20 * SECOND).await;
        pair.gate.add_permits(1);
        let event = pair.app.next().await;
        assert!(
            matches!(event, Event::Response { stream, result: Ok(_) } if stream == push),
            "{event:?}"
        );
        pair.ends_after(Duration::ZERO).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_push_that_comes_together_with_the_answer_is_acknowledged() {
        let mut pair = Pair::new().await;
        pair.retire(Duration::ZERO, HOUR);
        pair.gate.add_permits(1);
        let pull = pair.pull();
        let stream = pair.asked().await;
        pair.answer(stream);
        // In fragments.
        let push = pair.push(1000);
        let event = pair.app.next().await;
        assert!(
            matches!(event, Event::Response { stream, result: Ok(_) } if stream == push),
            "{event:?}"
        );
        pair.ends_after(Duration::ZERO).await;
        pull.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_leaves_finishes_pushes_and_reads_no_further_ones() {
        let mut pair = Pair::new().await;
        let push = pair.push(1);
        pair.stays(Duration::from_millis(1)).await;
        pair.leaving.cancel();
        pair.stays(2 * Cause::Drain.patience()).await;
        pair.push(1000);
        pair.stays(Duration::from_millis(1)).await;
        pair.gate.add_permits(1);
        let event = pair.app.next().await;
        assert!(
            matches!(event, Event::Response { stream, result: Ok(_) } if stream == push),
            "{event:?}"
        );
        pair.is_let_go().await;
    }

    /// Held so, a drain once had no time left to hand over what had come last.
    #[tokio::test(start_paused = true)]
    async fn a_node_that_leaves_does_not_wait_for_the_rest_of_a_push() {
        let mut pair = Pair::new().await;
        pair.push(500_000);
        // As much of it as the pipe takes at once.
        assert!(pair.app.next().now_or_never().is_none());
        sleep(Duration::from_millis(1)).await;
        pair.leaving.cancel();
        sleep(2 * Cause::Drain.patience()).await;
        pair.is_let_go().await;
    }

    #[tokio::test(start_paused = true)]
    async fn it_lingers_after_the_first_answer_and_no_longer_for_a_second() {
        let mut pair = Pair::new().await;
        pair.retire(5 * SECOND, HOUR);
        pair.scrape().await;
        pair.stays(3 * SECOND).await;
        pair.scrape().await;
        pair.ends_after(Duration::from_millis(1900)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn lingering_ends_with_its_time() {
        let mut pair = Pair::new().await;
        pair.retire(HOUR, 5 * SECOND);
        pair.scrape().await;
        pair.ends_after(Duration::from_millis(4900)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_again_changes_nothing() {
        let mut pair = Pair::new().await;
        assert!(pair.retire(Duration::ZERO, 10 * SECOND));
        assert!(!pair.retire(Duration::ZERO, Duration::ZERO));
        pair.stays(9 * SECOND).await;
        assert!(!pair.retire(Duration::ZERO, HOUR));
        pair.ends_after(SECOND).await;
    }
}
