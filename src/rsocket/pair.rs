//! For tests: a node and an application on a pipe.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use clap::Parser;
use prometheus_rsocket_wire::connection::Connection;
use prometheus_rsocket_wire::description::{MIME, TargetName};
use prometheus_rsocket_wire::memory::Memory;
use prometheus_rsocket_wire::session::{CloseReason, Event, Limits, SetupOptions};
use prometheus_rsocket_wire::transport::tcp::Tcp;
use prometheus_rsocket_wire::{Announcement, ErrorCode, Payload, Session, StreamId};
use tokio::io::{DuplexStream, duplex};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::connection::run;
use super::entry::Arrival;
use super::{
    Answer, Applications, Cause, Handle, KeyRing, Metrics, PullError, PushOutcome, PushSink,
    Registry, Retirement, Sealed, Settings, Shared, Transport,
};
use crate::directory::{ApplicationId, SharedDirectory, State};
use crate::identity::{Table, Terms};
use crate::metrics::OwnMetrics;
use crate::nodes::NodeId;

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const HOUR: Duration = Duration::from_secs(3600);
const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

pub(super) type PullResult = Result<Arc<Answer>, PullError>;

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
pub(super) struct Pair {
    pub(super) leaving: CancellationToken,
    pub(super) registry: Arc<Registry>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) handle: Arc<Handle>,
    pub(super) app: Connection<Tcp<DuplexStream>>,
    /// Pushes that may be held.
    pub(super) gate: Arc<Semaphore>,
    pub(super) directory: Arc<SharedDirectory>,
    _node: JoinHandle<()>,
}

pub(super) fn applications(gate: &Arc<Semaphore>) -> Applications {
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

/// A connection that has come.
pub(super) fn arrival(apps: &Applications) -> Arrival {
    Arrival {
        peer: NOWHERE,
        transport: Transport::Tcp,
        certificate: Vec::new(),
        due: Instant::now() + HOUR,
        evictable: apps.handshakes.join(CancellationToken::new()),
    }
}

impl Pair {
    pub(super) async fn new() -> Self {
        Self::with(SetupOptions::default()).await
    }

    /// Of an application that says what it is.
    pub(super) async fn described(json: &str) -> Self {
        let setup = SetupOptions {
            data_mime: MIME.to_owned(),
            payload: Payload::of_data(json.to_owned()),
            ..SetupOptions::default()
        };
        Self::with(setup).await
    }

    async fn with(setup: SetupOptions) -> Self {
        let gate = Arc::new(Semaphore::new(0));
        let apps = applications(&gate);
        let (registry, metrics) = (Arc::clone(&apps.registry), Arc::clone(&apps.metrics));
        let (leaving, directory) = (apps.leaving.clone(), Arc::clone(&apps.directory));
        let (ours, theirs) = duplex(1 << 16);
        let now = Instant::now().into_std();
        let accepting = Session::accepting(apps.limits, now);
        let node = Box::new(Connection::new(accepting, Tcp::new(ours, 1 << 20)));
        let arrival = arrival(&apps);
        let node = tokio::spawn(async move { run(node, arrival, &apps).await });
        let limits = Limits {
            fragment_size: Some(64),
            ..Limits::default()
        };
        let connecting = Session::connecting(setup, limits, now);
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
            directory,
            _node: node,
        }
    }

    pub(super) fn retire(&self, linger: Duration, by: Duration) -> bool {
        self.handle.retire(Retirement {
            cause: Cause::Rebalance,
            linger,
            by: Instant::now() + by,
        })
    }

    pub(super) fn pull(&self) -> JoinHandle<PullResult> {
        let handle = Arc::clone(&self.handle);
        tokio::spawn(async move { handle.pull(None, Instant::now() + HOUR).await })
    }

    /// Pulls one target.
    pub(super) fn pull_one(&self, instance: &str, time: Duration) -> JoinHandle<PullResult> {
        let handle = Arc::clone(&self.handle);
        let id = ApplicationId::new(instance, None).expect("a name");
        tokio::spawn(async move { handle.pull(Some(&id), Instant::now() + time).await })
    }

    /// The application learns of a pull.
    pub(super) async fn asked(&mut self) -> StreamId {
        self.asked_for().await.0
    }

    /// The application learns of a pull, and whose text is meant.
    pub(super) async fn asked_for(&mut self) -> (StreamId, Option<TargetName>) {
        match self.app.next().await {
            Event::Request { stream, payload } => {
                let metadata = payload.metadata.unwrap_or_default();
                let announcement = Announcement::decode(&metadata).expect("an announcement");
                (stream, announcement.target)
            }
            other => panic!("expected a pull, got {other:?}"),
        }
    }

    /// The application says what it is now.
    pub(super) fn update(&mut self, json: &str) {
        let payload = Payload {
            metadata: Some(MIME.into()),
            data: json.to_owned().into(),
        };
        self.app.session().fire_and_forget(payload).expect("room");
    }

    /// Every application that is known, and the word for its state.
    pub(super) fn known(&self) -> Vec<(String, &'static str)> {
        let applications = self.directory.applications(SystemTime::now()).into_iter();
        let known = applications.map(|application| {
            let state = match &application.state {
                State::Connected => "connected",
                State::Ended { end, .. } => end.name(),
            };
            (application.id.to_string(), state)
        });
        known.collect()
    }

    pub(super) fn answer(&mut self, stream: StreamId) {
        let answer = Some(Payload::of_data("up 1\n"));
        self.app.session().respond(stream, answer);
    }

    /// A pull, from the question to the answer.
    pub(super) async fn scrape(&mut self) {
        let pull = self.pull();
        let stream = self.asked().await;
        self.answer(stream);
        self.stays(Duration::from_millis(1)).await;
        pull.await.expect("no panic").expect("an answer");
    }

    pub(super) fn push(&mut self, bytes: usize) -> StreamId {
        let payload = Payload::of_data(vec![b'#'; bytes]);
        self.app.session().request_response(payload).expect("room")
    }

    /// The connection stays for so long, and nothing else happens.
    pub(super) async fn stays(&mut self, time: Duration) {
        let event = timeout(time, self.app.next()).await;
        assert!(event.is_err(), "{event:?}");
    }

    /// The node leaves, and with it the connection ends.
    pub(super) async fn is_let_go(&mut self) {
        let event = self.app.next().await;
        assert!(
            matches!(&event, Event::Closed(CloseReason::PeerError { code, .. })
                if *code == ErrorCode::CONNECTION_CLOSE),
            "{event:?}"
        );
    }

    /// The connection ends after so long.
    pub(super) async fn ends_after(mut self, time: Duration) {
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
