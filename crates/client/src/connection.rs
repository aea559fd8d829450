//! One connection to the proxy, from SETUP to its end: answers pulls, sends pushes.

use std::collections::HashMap;
use std::ops::ControlFlow;

use prometheus_rsocket_wire::envelope::plaintext::PLAINTEXT;
use prometheus_rsocket_wire::envelope::{SealError, Sealed, plaintext, version1};
use prometheus_rsocket_wire::key::PublicKey;
use prometheus_rsocket_wire::session::{Limits, SetupOptions, StreamError};
use prometheus_rsocket_wire::transport::Transport;
use prometheus_rsocket_wire::{Connection, ErrorCode, Event, Payload, Session, StreamId};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinError, JoinSet, spawn_blocking};
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::{Builder, Command, PushError, Render, Request};

/// The proxy sends keys and empty answers: nothing longer is taken from it.
pub(crate) const MAX_FRAME: usize = 64 << 10;
/// Pulls that are rendered at a time; a further one is refused.
const MAX_PULLS: usize = 4;

/// What the proxy told the client to seal with.
#[derive(Clone)]
enum Key {
    Public(PublicKey),
    Plaintext,
}

/// The application's side of one connection.
pub(crate) struct Application<'a> {
    render: Render,
    commands: &'a mut mpsc::Receiver<Command>,
    ready: &'a watch::Sender<bool>,
    key: Option<Key>,
    sealing: JoinSet<SealedFor>,
    /// Pushes under way, by stream.
    pushes: HashMap<StreamId, oneshot::Sender<Result<(), PushError>>>,
    /// Pushes that came before the key.
    early: Vec<oneshot::Sender<Result<(), PushError>>>,
}

/// A sealed text, and whom it is for.
struct SealedFor {
    target: Target,
    /// The outer error: the application's closure panicked.
    sealed: Result<Result<Sealed, SealError>, JoinError>,
}

enum Target {
    Pull(StreamId),
    Push(oneshot::Sender<Result<(), PushError>>),
}

impl<'a> Application<'a> {
    pub(crate) fn new(
        builder: &Builder,
        commands: &'a mut mpsc::Receiver<Command>,
        ready: &'a watch::Sender<bool>,
    ) -> Self {
        Self {
            render: builder.render.clone(),
            commands,
            ready,
            key: None,
            sealing: JoinSet::new(),
            pushes: HashMap::new(),
            early: Vec::new(),
        }
    }

    /// Serves until the connection ends (continue), or the client is closed (break).
    pub(crate) async fn serve<T: Transport>(mut self, transport: T) -> ControlFlow<()> {
        let limits = Limits {
            max_frame: MAX_FRAME,
            max_payload: MAX_FRAME,
            ..Limits::default()
        };
        let now = Instant::now().into_std();
        let session = match Session::connecting(SetupOptions::default(), limits, now) {
            Ok(session) => session,
            Err(error) => {
                warn!(%error, "SETUP cannot be sent");
                return ControlFlow::Break(());
            }
        };
        let mut connection = Connection::new(session, transport);
        let flow = self.run(&mut connection).await;
        connection.finish().await;
        flow
    }

    async fn run<T: Transport>(&mut self, connection: &mut Connection<T>) -> ControlFlow<()> {
        loop {
            tokio::select! {
                event = connection.next() => match event {
                    Event::Closed(reason) => {
                        debug!(%reason, "connection to the proxy ended");
                        return ControlFlow::Continue(());
                    }
                    event => self.take(event, connection.session()),
                },
                Some(Ok(sealed)) = self.sealing.join_next() => self.send(sealed, connection.session()),
                command = self.commands.recv() => match command {
                    Some(Command::Push(reply)) => self.push(reply),
                    Some(Command::Close) | None => {
                        connection.session().end();
                        return ControlFlow::Break(());
                    }
                },
            }
        }
    }

    fn take(&mut self, event: Event, session: &mut Session) {
        match event {
            Event::FireAndForget { payload } => self.take_key(&payload),
            Event::Request { stream, payload } => {
                self.take_key(&payload);
                self.pull(stream, session);
            }
            Event::Response { stream, result } => {
                if let Some(reply) = self.pushes.remove(&stream) {
                    // Whoever pushed may have given up; likewise below.
                    let _ = reply.send(acknowledged(result));
                }
            }
            Event::Setup(_)
            | Event::RequestCancelled { .. }
            | Event::Refused { .. }
            | Event::Closed(_) => {}
        }
    }

    fn take_key(&mut self, payload: &Payload) {
        let key = if payload.data == PLAINTEXT {
            Key::Plaintext
        } else {
            match PublicKey::from_spki_der(&payload.data) {
                Ok(key) => Key::Public(key),
                Err(error) => return warn!(%error, "the proxy sent a key that cannot be used"),
            }
        };
        self.key = Some(key);
        self.ready.send_replace(true);
        for reply in std::mem::take(&mut self.early) {
            self.push(reply);
        }
    }

    fn pull(&mut self, stream: StreamId, session: &mut Session) {
        if self.key.is_none() || self.sealing.len() >= MAX_PULLS {
            session.respond_error(stream, ErrorCode::REJECTED, "not ready to answer");
            return;
        }
        self.seal(Target::Pull(stream));
    }

    fn push(&mut self, reply: oneshot::Sender<Result<(), PushError>>) {
        if self.key.is_none() {
            self.early.push(reply);
            return;
        }
        self.seal(Target::Push(reply));
    }

    /// Renders and seals on a thread that may be held up.
    fn seal(&mut self, target: Target) {
        let Some(key) = self.key.clone() else {
            return;
        };
        let render = self.render.clone();
        self.sealing.spawn(async move {
            let sealed = tokio::spawn(seal(render, key));
            SealedFor {
                target,
                sealed: sealed.await,
            }
        });
    }

    fn send(&mut self, SealedFor { target, sealed }: SealedFor, session: &mut Session) {
        let payload = match sealed {
            Ok(Ok(sealed)) => Payload {
                metadata: Some(sealed.metadata),
                data: sealed.data,
            },
            Ok(Err(error)) => return fail(target, &error.to_string(), PushError::TooLong, session),
            Err(error) => {
                warn!(%error, "the application's metrics could not be rendered");
                return fail(
                    target,
                    "metrics could not be rendered",
                    PushError::Render,
                    session,
                );
            }
        };
        match target {
            Target::Pull(stream) => session.respond(stream, Some(payload)),
            Target::Push(reply) => match session.request_response(payload) {
                Ok(stream) => drop(self.pushes.insert(stream, reply)),
                Err(_) => drop(reply.send(Err(PushError::Disconnected))),
            },
        }
    }
}

async fn seal(render: Render, key: Key) -> Result<Sealed, SealError> {
    let text = match render {
        Render::Blocking(render) => match spawn_blocking(move || render()).await {
            Ok(text) => text,
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        },
        Render::Async(render) => render(Request::default()).await,
    };
    let sealed = spawn_blocking(move || match key {
        Key::Public(key) => version1::seal(&text, &key),
        Key::Plaintext => Ok(plaintext::seal(text)),
    });
    match sealed.await {
        Ok(sealed) => sealed,
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}

fn fail(target: Target, reason: &str, error: PushError, session: &mut Session) {
    match target {
        Target::Pull(stream) => {
            session.respond_error(stream, ErrorCode::APPLICATION_ERROR, reason);
        }
        Target::Push(reply) => drop(reply.send(Err(error))),
    }
}

fn acknowledged(result: Result<Payload, StreamError>) -> Result<(), PushError> {
    match result {
        // The Java proxy answers an empty payload, others may complete without one.
        Ok(_) | Err(StreamError::Empty) => Ok(()),
        Err(StreamError::Application { code, message }) => {
            Err(PushError::Refused { code, message })
        }
        Err(StreamError::TooLarge | StreamError::Fragments) => Err(PushError::Disconnected),
    }
}
