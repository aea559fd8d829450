//! One connection to the proxy, from SETUP to its end: answers pulls, sends pushes.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use prometheus_rsocket_wire::description::MIME;
use prometheus_rsocket_wire::envelope::SealError;
use prometheus_rsocket_wire::sealing::{NoSeal, Seal, Sealing};
use prometheus_rsocket_wire::session::{InvalidSetup, Limits, SetupOptions, StreamError};
use prometheus_rsocket_wire::transport::Transport;
use prometheus_rsocket_wire::{
    Announcement, Connection, ErrorCode, Event, Payload, Session, StreamId,
};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinHandle, JoinSet, spawn_blocking};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};

use crate::errors::PushError;
use crate::failure::Failure;
use crate::link::{Link, Order, Outcome};
use crate::metrics::Reason;
use crate::render::{RenderError, Request};
use crate::state::State;

/// The proxy sends keys and empty answers: nothing longer is taken from it.
pub(crate) const MAX_FRAME: usize = 64 << 10;
/// How often each side gives a sign of life, and how long the client waits for one of the proxy: a machine that is gone
/// sends no word of it.
const KEEPALIVE: Duration = Duration::from_secs(5);
const MAX_LIFETIME: Duration = Duration::from_secs(15);
/// The proxy may take a third of the time that a push has for a sign of life, within these bounds: a push over a connection
/// that leads nowhere is to be tried over another.
const SIGN_OF_LIFE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));
/// What the proxy is told where the application ends.
const GOODBYE: &str = "the application ends";
/// For the pulls and pushes under way on a connection that another one has replaced.
const RETIRE_WITHIN: Duration = Duration::from_secs(10);

/// A connection in its own task.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) link: Link,
    /// Comes with the first key.
    pub(crate) keyed: oneshot::Receiver<()>,
    /// Why the connection ended; `None` where the client ended it.
    pub(crate) task: JoinHandle<Option<Failure>>,
}

/// Starts the task of a connection on a transport that has not been used yet. It ends when the last [`Link`] is gone.
pub(crate) fn start<T: Transport + 'static>(
    state: Arc<State>,
    mut setup: SetupOptions,
    transport: T,
) -> Result<Running, InvalidSetup> {
    let mut limits = Limits {
        max_frame: MAX_FRAME,
        max_payload: MAX_FRAME,
        ..Limits::default()
    };
    limits.max_requests_in = limits.max_requests_in.max(state.max_renders);
    let mut description = state.description.subscribe();
    setup.keepalive = KEEPALIVE;
    setup.max_lifetime = MAX_LIFETIME;
    setup.data_mime = MIME.to_owned();
    setup.payload.data = description.borrow_and_update().clone();
    let session = Session::connecting(setup, limits, Instant::now().into_std())?;
    let (link, orders) = Link::new();
    let (key, keyed) = oneshot::channel();
    let application = Application {
        sealing: Sealing::new(state.envelope),
        state,
        description,
        orders,
        first_key: Some(key),
        work: JoinSet::new(),
        pulls: HashMap::new(),
        pushes: HashMap::new(),
        told: Vec::new(),
        retire_until: None,
    };
    Ok(Running {
        link,
        keyed,
        task: tokio::spawn(application.serve(Connection::new(session, transport))),
    })
}

/// The application's side of one connection.
struct Application {
    state: Arc<State>,
    /// Changes when the application says that it is something else.
    description: watch::Receiver<Bytes>,
    orders: mpsc::Receiver<Order>,
    first_key: Option<oneshot::Sender<()>>,
    sealing: Sealing,
    /// Texts being rendered and sealed.
    work: JoinSet<Sealed>,
    /// Pulls being rendered or sealed, to be given up when the proxy gives them up.
    pulls: HashMap<StreamId, AbortHandle>,
    /// Pushes under way.
    pushes: HashMap<StreamId, oneshot::Sender<Outcome>>,
    /// Pushes without an acknowledgement of which not all has been sent; no more than the session queues frames.
    told: Vec<oneshot::Sender<Outcome>>,
    retire_until: Option<Instant>,
}

/// A sealed text, and what it is for.
struct Sealed {
    target: Target,
    payload: Result<Payload, Unsealed>,
}

enum Target {
    Pull(StreamId),
    /// It is awaited for so long.
    Push(oneshot::Sender<Outcome>, Duration),
    Tell(oneshot::Sender<Outcome>),
}

/// Why there is nothing to send.
#[derive(Debug, thiserror::Error)]
enum Unsealed {
    #[error("metrics could not be rendered: {0}")]
    Render(#[from] RenderError),
    /// Of one target: what the application says of it is what people read.
    #[error("{0}")]
    Target(RenderError),
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error("encryption was interrupted")]
    Broken,
}

enum Step {
    GoOn,
    Over(Option<Failure>),
}

impl Application {
    async fn serve<T: Transport>(mut self, mut connection: Connection<T>) -> Option<Failure> {
        let failure = loop {
            match self.step(&mut connection).await {
                Step::GoOn if self.has_retired() => break None,
                Step::GoOn => {}
                Step::Over(failure) => break failure,
            }
        };
        connection.session().end();
        connection.finish().await;
        failure
    }

    async fn step<T: Transport>(&mut self, connection: &mut Connection<T>) -> Step {
        tokio::select! {
            event = next(connection, !self.told.is_empty()) => match event {
                None => self.all_sent(),
                Some(Event::Closed(reason)) => return Step::Over(Some(Failure::of_close(&reason))),
                Some(event) => if let Err(failure) = self.take(event, connection.session()) {
                    return Step::Over(Some(failure));
                },
            },
            Some(done) = self.work.join_next() => if let Ok(sealed) = done {
                self.send(sealed, connection.session());
            },
            // What is ordered of a connection that has been replaced is lost, and ordered of its successor.
            order = self.orders.recv(), if self.retire_until.is_none() => match order {
                Some(Order::Push(text, reply, left)) => {
                    self.give_up_abandoned(connection.session());
                    self.seal_push(text, Target::Push(reply, left));
                }
                Some(Order::Tell(text, reply)) => self.seal_push(text, Target::Tell(reply)),
                Some(Order::Retire) => self.retire_until = Some(Instant::now() + RETIRE_WITHIN),
                Some(Order::End) => {
                    connection.session().close(ErrorCode::CONNECTION_CLOSE, GOODBYE);
                    return Step::Over(None);
                }
                None => return Step::Over(None),
            },
            Ok(()) = self.description.changed() => {
                if let Err(failure) = self.describe(connection.session()) {
                    return Step::Over(Some(failure));
                }
            }
            () = at(self.retire_until) => return Step::Over(None),
        }
        Step::GoOn
    }

    fn has_retired(&self) -> bool {
        self.retire_until.is_some()
            && self.work.is_empty()
            && self.pushes.is_empty()
            && self.told.is_empty()
    }

    fn all_sent(&mut self) {
        for reply in self.told.drain(..) {
            // The caller may have given up; likewise below.
            let _ = reply.send(Ok(()));
        }
    }

    fn take(&mut self, event: Event, session: &mut Session) -> Result<(), Failure> {
        match event {
            Event::FireAndForget { payload } => {
                self.take_key(&payload)?;
            }
            Event::Request { stream, payload } => {
                let announcement = self.take_key(&payload)?;
                self.pull(stream, announcement, session);
            }
            Event::RequestCancelled { stream } => {
                if let Some(pull) = self.pulls.remove(&stream) {
                    pull.abort();
                    self.state.counters.pulls_cancelled.increment();
                }
            }
            Event::Response { stream, result } => {
                if let Some(reply) = self.pushes.remove(&stream) {
                    let _ = reply.send(acknowledged(result));
                }
            }
            Event::Setup(_) | Event::Refused { .. } | Event::Closed(_) => {}
        }
        Ok(())
    }

    /// Without a key to seal with the connection serves nobody: it ends.
    fn take_key(&mut self, payload: &Payload) -> Result<Announcement, Failure> {
        let announcement = self.sealing.take(payload).map_err(|error| {
            let reason = match error {
                NoSeal::Key(_) => Reason::Protocol,
                NoSeal::Downgrade => Reason::Downgrade,
            };
            Failure::new(reason, error)
        })?;
        self.state.key_came(&payload.data);
        if let Some(first_key) = self.first_key.take() {
            // Nobody waits for it where the client is being closed.
            let _ = first_key.send(());
        }
        Ok(announcement)
    }

    /// Says what the application is now. Where that cannot be sent, the next connection says it.
    fn describe(&mut self, session: &mut Session) -> Result<(), Failure> {
        let description = Payload {
            metadata: Some(Bytes::from_static(MIME.as_bytes())),
            data: self.description.borrow_and_update().clone(),
        };
        let told = session.fire_and_forget(description);
        told.map_err(|error| Failure::new(Reason::Network, error))
    }

    fn pull(&mut self, stream: StreamId, announcement: Announcement, session: &mut Session) {
        let seal = self.sealing.for_answer(&announcement);
        let (Some(seal), Some(permit)) = (seal, self.state.renderer.try_permit()) else {
            self.state.counters.pulls_failed.increment();
            return session.respond_error(stream, ErrorCode::REJECTED, "not ready to answer");
        };
        let state = Arc::clone(&self.state);
        let timeout = announcement.timeout;
        let request = Request {
            deadline: timeout.and_then(|timeout| std::time::Instant::now().checked_add(timeout)),
            push: false,
            target: announcement.target,
        };
        let work = self.work.spawn(async move {
            Sealed {
                target: Target::Pull(stream),
                payload: pulled(&state, seal, request, permit).await,
            }
        });
        self.pulls.insert(stream, work);
    }

    /// Nothing happens before the key has come: pushes are given to connections that have one.
    fn seal_push(&mut self, text: Bytes, target: Target) {
        let Some(seal) = self.sealing.for_push() else {
            return;
        };
        self.work.spawn(async move {
            Sealed {
                target,
                payload: sealed(seal, text).await,
            }
        });
    }

    fn send(&mut self, Sealed { target, payload }: Sealed, session: &mut Session) {
        match target {
            Target::Pull(stream) => self.answer(stream, payload, session),
            Target::Push(reply, left) => {
                match payload.map(|payload| session.request_response(payload)) {
                    Ok(Ok(stream)) => {
                        self.pushes.insert(stream, reply);
                        let within = (left / 3).clamp(SIGN_OF_LIFE.0, SIGN_OF_LIFE.1);
                        session.probe((Instant::now() + within).into_std());
                    }
                    // Too much waits to be sent: it is as good as lost on this connection.
                    Ok(Err(error)) => debug!(%error, "cannot push"),
                    Err(error) => drop(reply.send(Err(error.into()))),
                }
            }
            Target::Tell(reply) => match payload.map(|payload| session.fire_and_forget(payload)) {
                Ok(Ok(())) => self.told.push(reply),
                Ok(Err(error)) => debug!(%error, "cannot push"),
                Err(error) => drop(reply.send(Err(error.into()))),
            },
        }
    }

    fn answer(
        &mut self,
        stream: StreamId,
        payload: Result<Payload, Unsealed>,
        session: &mut Session,
    ) {
        self.pulls.remove(&stream);
        match payload {
            Ok(payload) => {
                self.state.counters.pulls_answered.increment();
                session.respond(stream, Some(payload));
            }
            Err(error) => {
                self.state.counters.pulls_failed.increment();
                match &error {
                    // One of the targets is down, scrape after scrape.
                    Unsealed::Target(reason) => {
                        debug!(%reason, "cannot answer a pull of one target");
                    }
                    _ => warn!(%error, "cannot answer a pull"),
                }
                session.respond_error(stream, ErrorCode::APPLICATION_ERROR, &error.to_string());
            }
        }
    }

    /// Cancels pushes that nobody waits for any more, so that they do not add up.
    fn give_up_abandoned(&mut self, session: &mut Session) {
        self.pushes.retain(|stream, reply| {
            let wanted = !reply.is_closed();
            if !wanted {
                session.cancel(*stream);
            }
            wanted
        });
    }
}

/// The next event; `None` when all has been sent, where `telling` asks for that.
async fn next<T: Transport>(connection: &mut Connection<T>, telling: bool) -> Option<Event> {
    poll_fn(|cx| match connection.poll_next(cx) {
        Poll::Pending if telling && connection.is_flushed() => Poll::Ready(None),
        polled => polled.map(Some),
    })
    .await
}

async fn pulled(
    state: &State,
    seal: Seal,
    request: Request,
    permit: OwnedSemaphorePermit,
) -> Result<Payload, Unsealed> {
    let reason = match request.target {
        None => Unsealed::Render,
        Some(_) => Unsealed::Target,
    };
    let text = state.text(request, permit).await.map_err(reason)?;
    sealed(seal, text).await
}

async fn sealed(seal: Seal, text: Bytes) -> Result<Payload, Unsealed> {
    let sealed = spawn_blocking(move || seal.seal(text)).await;
    Ok(sealed.map_err(|_| Unsealed::Broken)??)
}

impl From<Unsealed> for PushError {
    fn from(error: Unsealed) -> Self {
        match error {
            Unsealed::Render(error) | Unsealed::Target(error) => Self::Render(error),
            Unsealed::Seal(SealError::TooLong) => Self::TooLong,
            Unsealed::Seal(SealError::Key | SealError::Exhausted) | Unsealed::Broken => {
                Self::Sealing
            }
        }
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

fn acknowledged(result: Result<Payload, StreamError>) -> Outcome {
    match result {
        // The Java proxy answers an empty payload, others may complete without one.
        Ok(_) | Err(StreamError::Empty) => Ok(()),
        Err(StreamError::Application { code, message }) => {
            Err(PushError::Refused { code, message })
        }
        Err(StreamError::TooLarge | StreamError::Fragments) => Err(PushError::Answer),
    }
}
