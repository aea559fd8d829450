//! A simulated application: a task and a connection of the wire crate, a few kilobytes while nothing happens.
//!
//! The client library would do as well for one application. Here there are thousands, each of whose steps is timed and
//! whose connection, once lost, is to be counted and not made again.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus_rsocket_client::Address;
use prometheus_rsocket_wire::sealing::{Choice, Seal, Sealing};
use prometheus_rsocket_wire::session::{Limits, SetupOptions, StreamError};
use prometheus_rsocket_wire::transport::tcp::Tcp;
use prometheus_rsocket_wire::transport::websocket::WebSocket;
use prometheus_rsocket_wire::{Announcement, Connection, Event, Payload, Session, StreamId};
use tokio::net::TcpStream;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::failure::{FailureKind, LoadFailure};
use super::sealer::Sealer;
use super::text::Source;

/// The proxy sends keys and empty answers: nothing longer is taken from it.
const MAX_FRAME: usize = 64 << 10;

/// What all applications of a run share.
#[derive(Debug)]
pub(super) struct Load {
    /// Tried in turn.
    pub(super) proxies: Vec<Address>,
    pub(super) sealer: Sealer,
    /// Which envelope they use.
    pub(super) envelope: Choice,
    /// For a connection with its key, and for the acknowledgement of a push.
    pub(super) timeout: Duration,
}

/// An application that the proxy has sent its key.
pub(super) struct App {
    link: Link,
    sealing: Sealing,
}

impl App {
    /// Connects and waits for the key.
    pub(super) async fn connect(load: &Load) -> Result<Self, LoadFailure> {
        let connecting = async {
            let mut link = Link::first_of(&load.proxies).await?;
            let mut sealing = Sealing::new(load.envelope);
            take_key(&mut sealing, &link.key().await?)?;
            Ok(Self { link, sealing })
        };
        timeout(load.timeout, connecting)
            .await
            .unwrap_or_else(|_| Err(LoadFailure::new(FailureKind::Key, "no key in time")))
    }

    /// Answers every pull with the text of the moment, until told to stop.
    pub(super) async fn answer(
        mut self,
        load: Arc<Load>,
        source: Source,
        stop: CancellationToken,
    ) -> Result<(), LoadFailure> {
        let mut pulls = Pulls::new(load, source);
        loop {
            tokio::select! {
                event = self.link.next() => self.take(event, &mut pulls)?,
                (stream, payload) = pulls.next() => {
                    self.link.session().respond(stream, Some(payload?));
                }
                () = stop.cancelled() => {
                    self.link.finish().await;
                    return Ok(());
                }
            }
        }
    }

    fn take(&mut self, event: Event, pulls: &mut Pulls) -> Result<(), LoadFailure> {
        match event {
            Event::FireAndForget { payload } => {
                take_key(&mut self.sealing, &payload)?;
            }
            Event::Request { stream, payload } => {
                let announcement = take_key(&mut self.sealing, &payload)?;
                let seal = self.sealing.for_answer(&announcement).ok_or_else(no_seal)?;
                pulls.begin(stream, seal);
            }
            Event::RequestCancelled { stream } => pulls.cancel(stream),
            Event::Closed(reason) => return Err(LoadFailure::new(FailureKind::Lost, reason)),
            Event::Setup(_) | Event::Response { .. } | Event::Refused { .. } => {}
        }
        Ok(())
    }

    /// Pushes the text of a source and leaves. Gives the time from sending the push to its acknowledgement.
    pub(super) async fn push(
        mut self,
        load: &Load,
        source: Source,
    ) -> Result<Duration, LoadFailure> {
        let seal = self.sealing.for_push().ok_or_else(no_seal)?;
        let payload = load.sealer.payload(source, 0, seal).await?;
        let sent = Instant::now();
        let outcome = match timeout(load.timeout, self.acknowledged(payload)).await {
            Ok(acknowledged) => acknowledged.map(|()| sent.elapsed()),
            Err(_) => Err(unacknowledged("no acknowledgement in time")),
        };
        self.link.finish().await;
        outcome
    }

    async fn acknowledged(&mut self, payload: Payload) -> Result<(), LoadFailure> {
        let push = self.link.session().request_response(payload);
        let push = push.map_err(unacknowledged)?;
        loop {
            match self.link.next().await {
                Event::Response { stream, result } if stream == push => return answered(result),
                // A job is asked as well while it is connected. Its text is on its way already.
                Event::Request { stream, .. } => self.link.session().respond(stream, None),
                Event::Closed(reason) => return Err(unacknowledged(reason)),
                _ => {}
            }
        }
    }
}

fn answered(result: Result<Payload, StreamError>) -> Result<(), LoadFailure> {
    match result {
        // The Java proxy answers an empty payload, others may complete without one.
        Ok(_) | Err(StreamError::Empty) => Ok(()),
        Err(refused @ StreamError::Application { .. }) => {
            Err(LoadFailure::new(FailureKind::PushRefused, refused))
        }
        Err(error) => Err(unacknowledged(error)),
    }
}

fn unacknowledged(reason: impl ToString) -> LoadFailure {
    LoadFailure::new(FailureKind::PushUnacknowledged, reason)
}

fn take_key(sealing: &mut Sealing, payload: &Payload) -> Result<Announcement, LoadFailure> {
    let taken = sealing.take(payload);
    taken.map_err(|error| LoadFailure::new(FailureKind::Key, error))
}

fn no_seal() -> LoadFailure {
    LoadFailure::new(
        FailureKind::Seal,
        "the proxy does not offer this envelope version",
    )
}

/// Answers under way.
struct Pulls {
    load: Arc<Load>,
    source: Source,
    round: u64,
    sealing: JoinSet<(StreamId, Result<Payload, LoadFailure>)>,
    by_stream: HashMap<StreamId, AbortHandle>,
}

impl Pulls {
    fn new(load: Arc<Load>, source: Source) -> Self {
        Self {
            load,
            source,
            round: 0,
            sealing: JoinSet::new(),
            by_stream: HashMap::new(),
        }
    }

    /// At most as many as the session takes requests at a time.
    fn begin(&mut self, stream: StreamId, seal: Seal) {
        let (load, source, round) = (Arc::clone(&self.load), self.source, self.round);
        self.round += 1;
        let sealing = self.sealing.spawn(async move {
            let payload = load.sealer.payload(source, round, seal).await;
            (stream, payload)
        });
        self.by_stream.insert(stream, sealing);
    }

    /// What nobody waits for any more must not keep the others waiting.
    fn cancel(&mut self, stream: StreamId) {
        if let Some(sealing) = self.by_stream.remove(&stream) {
            sealing.abort();
        }
    }

    /// The next answer that is ready.
    async fn next(&mut self) -> (StreamId, Result<Payload, LoadFailure>) {
        loop {
            match self.sealing.join_next().await {
                Some(Ok((stream, payload))) => {
                    self.by_stream.remove(&stream);
                    return (stream, payload);
                }
                // Cancelled.
                Some(Err(_)) => {}
                None => std::future::pending().await,
            }
        }
    }
}

/// A connection over either transport.
enum Link {
    Tcp(Box<Connection<Tcp<TcpStream>>>),
    WebSocket(Box<Connection<WebSocket<TcpStream>>>),
}

impl Link {
    async fn first_of(proxies: &[Address]) -> Result<Self, LoadFailure> {
        let mut failed = LoadFailure::new(FailureKind::Connect, "no proxy given");
        for address in proxies {
            match Self::open(address).await {
                Ok(link) => return Ok(link),
                Err(error) => {
                    failed = LoadFailure::new(FailureKind::Connect, format!("{address}: {error}"));
                }
            }
        }
        Err(failed)
    }

    async fn open(address: &Address) -> io::Result<Self> {
        let stream = TcpStream::connect((address.host(), address.port())).await?;
        stream.set_nodelay(true)?;
        let limits = Limits {
            max_frame: MAX_FRAME,
            max_payload: MAX_FRAME,
            ..Limits::default()
        };
        let setup = SetupOptions::default();
        let session =
            Session::connecting(setup, limits, Instant::now()).map_err(io::Error::other)?;
        match address.scheme() {
            "tcp" => {
                let frames = Tcp::new(stream, MAX_FRAME);
                Ok(Self::Tcp(Box::new(Connection::new(session, frames))))
            }
            "ws" => {
                let frames = WebSocket::connect(stream, &format!("{address}/"), MAX_FRAME)
                    .await
                    .map_err(io::Error::other)?;
                Ok(Self::WebSocket(Box::new(Connection::new(session, frames))))
            }
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    async fn key(&mut self) -> Result<Payload, LoadFailure> {
        loop {
            match self.next().await {
                Event::FireAndForget { payload } => return Ok(payload),
                Event::Closed(reason) => return Err(LoadFailure::new(FailureKind::Lost, reason)),
                _ => {}
            }
        }
    }

    async fn next(&mut self) -> Event {
        match self {
            Self::Tcp(connection) => connection.next().await,
            Self::WebSocket(connection) => connection.next().await,
        }
    }

    fn session(&mut self) -> &mut Session {
        match self {
            Self::Tcp(connection) => connection.session(),
            Self::WebSocket(connection) => connection.session(),
        }
    }

    /// Ends the connection in good order.
    async fn finish(&mut self) {
        match self {
            Self::Tcp(connection) => connection.finish().await,
            Self::WebSocket(connection) => connection.finish().await,
        }
    }
}
