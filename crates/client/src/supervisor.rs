//! The task of a client: takes commands until it is closed or gives up.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::attempt::Stage;
use crate::errors::{ConnectError, PushError};
use crate::link::{Order, Outcome};
use crate::push::{self, Until};
use crate::reconnect::Reconnect;
#[cfg(feature = "signal")]
use crate::signal::{AfterSigterm, Sigterm};
use crate::state::State;
#[cfg(not(feature = "signal"))]
use std::convert::Infallible as Sigterm;

/// Pushes that wait at a time; a further one is refused with [`PushError::Busy`].
const MAX_TASKS: usize = 16;

/// What a [`Client`](crate::Client) wants of its task.
#[derive(Debug)]
pub(crate) enum Command {
    /// Push, and tell how it went.
    Push {
        until: Until,
        within: Duration,
        reply: oneshot::Sender<Outcome>,
    },
    /// Tell whether there is a connection within this time.
    Wait {
        within: Duration,
        reply: oneshot::Sender<Result<(), ConnectError>>,
    },
    /// End.
    Close,
}

/// What a task of the client that has ended leaves to do.
enum Next {
    GoOn,
    Close,
}

/// A client's task.
pub(crate) struct Supervisor {
    pub(crate) state: Arc<State>,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) timeout: Duration,
    #[cfg(feature = "signal")]
    pub(crate) push_on_sigterm: Option<AfterSigterm>,
}

impl Supervisor {
    pub(crate) async fn run(mut self, reconnect: Reconnect) {
        let mut connecting = pin!(reconnect.run());
        // Dropped at the end, however that comes: from then on SIGTERM has its effect on the process again.
        let mut sigterm = self.listen();
        let mut tasks = JoinSet::new();
        // The push after SIGTERM is the last one: while it is under way, neither commands nor their end count.
        let mut leaving = false;
        loop {
            tokio::select! {
                () = &mut connecting => break,
                command = self.commands.recv(), if !leaving => match command {
                    Some(Command::Push { until, within, reply }) => {
                        push(&self.state, &mut tasks, until, within, reply);
                    }
                    Some(Command::Wait { within, reply }) => {
                        wait(&self.state, &mut tasks, within, reply);
                    }
                    Some(Command::Close) | None => break,
                },
                () = received(&mut sigterm), if !leaving => {
                    leaving = true;
                    push_last(&self.state, &mut tasks, self.timeout);
                }
                Some(done) = tasks.join_next() => if matches!(done, Ok(Next::Close)) {
                    break;
                },
            }
        }
        end(&self.state).await;
    }

    /// Listens to SIGTERM, where a push is wanted then.
    #[cfg(feature = "signal")]
    fn listen(&self) -> Option<Sigterm> {
        self.push_on_sigterm.and_then(Sigterm::listen)
    }

    #[cfg(not(feature = "signal"))]
    fn listen(&self) -> Option<Sigterm> {
        None
    }
}

async fn received(sigterm: &mut Option<Sigterm>) {
    match sigterm {
        #[cfg(feature = "signal")]
        Some(sigterm) => sigterm.received().await,
        #[cfg(not(feature = "signal"))]
        Some(never) => match *never {},
        None => std::future::pending().await,
    }
}

fn push(
    state: &Arc<State>,
    tasks: &mut JoinSet<Next>,
    until: Until,
    within: Duration,
    reply: oneshot::Sender<Outcome>,
) {
    // The caller may have gone; likewise below.
    if tasks.len() >= MAX_TASKS {
        return drop(reply.send(Err(PushError::Busy)));
    }
    let state = Arc::clone(state);
    tasks.spawn(async move {
        let _ = reply.send(push::push(state, until, within).await);
        Next::GoOn
    });
}

fn wait(
    state: &Arc<State>,
    tasks: &mut JoinSet<Next>,
    within: Duration,
    reply: oneshot::Sender<Result<(), ConnectError>>,
) {
    let state = Arc::clone(state);
    tasks.spawn(async move {
        let _ = reply.send(connected(&state, within).await);
        Next::GoOn
    });
}

async fn connected(state: &State, within: Duration) -> Result<(), ConnectError> {
    let mut links = state.link.subscribe();
    let mut lasting_failures = state.lasting_failures.subscribe();
    // The state has the senders of both.
    tokio::select! {
        biased;
        _ = links.wait_for(Option::is_some) => Ok(()),
        _ = lasting_failures.wait_for(|failures| *failures > 0) => {
            Err(ConnectError::GaveUp(state.why()))
        }
        () = sleep(within) => {
            let attempt = state.attempt.borrow();
            let has_no_key = attempt.as_ref().is_some_and(|attempt| attempt.stage == Stage::Key);
            drop(attempt);
            Err(if has_no_key && state.failure.borrow().is_empty() {
                ConnectError::NoKey(state.why())
            } else {
                ConnectError::Timeout(state.why())
            })
        }
    }
}

fn push_last(state: &Arc<State>, tasks: &mut JoinSet<Next>, within: Duration) {
    let state = Arc::clone(state);
    tasks.spawn(async move {
        match push::push(state, Until::Acknowledged, within).await {
            Ok(()) => info!("pushed on SIGTERM"),
            Err(error) => warn!(%error, "cannot push on SIGTERM"),
        }
        Next::Close
    });
}

/// Ends the connection: what was sent reaches the socket before its end does.
async fn end(state: &State) {
    let link = state.link.borrow().clone();
    state.set_link(None);
    if let Some(link) = link {
        // It may have ended by itself.
        let _ = link.order(Order::End).await;
        link.ended().await;
    }
}
