//! What the application holds: the handle to the client's task.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pollster::block_on;
use prometheus_rsocket_wire::Description;
use prometheus_rsocket_wire::description::DescriptionError;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::warn;

use crate::errors::{ConnectError, PushError};
use crate::link::{Link, Outcome};
use crate::metrics::{Counters, Metrics};
use crate::push::Until;
use crate::supervisor::Command;

/// A connection to the proxy that is made again whenever it ends. Dropped, it is closed, after a push if
/// [`Builder::push_on_drop`](crate::Builder::push_on_drop) was said. Closed, it tells the proxy that the application ends:
/// an application whose connection just breaks is taken for one that was lost.
///
/// The futures of its methods need no tokio runtime around them. Those that end in `_blocking` are for threads that may
/// block: on a current-thread runtime that also runs the client they would deadlock.
#[derive(Debug)]
#[must_use = "a client that is dropped closes its connection"]
pub struct Client {
    pub(crate) task: Task,
    pub(crate) counters: Arc<Counters>,
    pub(crate) timeout: Duration,
    pub(crate) push_on_drop: bool,
}

/// The way to a client's task.
#[derive(Debug)]
pub(crate) enum Task {
    /// Disabled: there is none, and what is asked of it succeeds without being done.
    None,
    Running {
        commands: mpsc::Sender<Command>,
        link: watch::Receiver<Option<Link>>,
        failure: watch::Receiver<String>,
        description: watch::Sender<Bytes>,
    },
}

impl Client {
    /// Waits until the proxy's key has come, so that the application can be pulled and may push.
    ///
    /// # Errors
    ///
    /// [`PushError::Closed`] when the client has given up (see [`Builder::max_retries`](crate::Builder::max_retries)).
    pub async fn ready(&self) -> Result<(), PushError> {
        let Task::Running { link, .. } = &self.task else {
            return Ok(());
        };
        let ready = link.clone().wait_for(Option::is_some).await.map(|_| ());
        ready.map_err(|_| PushError::Closed)
    }

    /// [`Client::ready`] for no longer than this.
    ///
    /// # Errors
    ///
    /// When the key did not come in time, the client gave up, or the attempts fail in a way that no waiting mends
    /// ([`ConnectError::GaveUp`]). The client goes on connecting.
    pub async fn ready_within(&self, within: Duration) -> Result<(), ConnectError> {
        let Task::Running {
            commands, failure, ..
        } = &self.task
        else {
            return Ok(());
        };
        let (reply, answer) = oneshot::channel();
        // Where the client has ended, there is no answer either.
        let _ = commands.send(Command::Wait { within, reply }).await;
        let answer = answer.await;
        answer.unwrap_or_else(|_| Err(ConnectError::GaveUp(failure.borrow().clone())))
    }

    /// Waits until the client has ended by itself, because it has given up (see
    /// [`Builder::max_retries`](crate::Builder::max_retries)) or was told to
    /// end on a signal; a client that is not enabled never does.
    pub async fn ended(&self) {
        match &self.task {
            Task::Running { commands, .. } => commands.closed().await,
            Task::None => std::future::pending().await,
        }
    }

    /// Says that the application is something else now: at once, and on each connection from now on.
    ///
    /// # Errors
    ///
    /// As [`Builder::description`](crate::Builder::description); what was said before stays.
    pub fn describe(&self, description: &Description) -> Result<(), DescriptionError> {
        let json = description.encode()?;
        if let Task::Running { description, .. } = &self.task {
            description.send_if_modified(|said| {
                let changes = *said != json;
                *said = json;
                changes
            });
        }
        Ok(())
    }

    /// What the client has counted so far.
    pub fn metrics(&self) -> Metrics {
        self.counters.snapshot()
    }

    /// Pushes the text of the moment and waits until the proxy has acknowledged it, for
    /// [`Builder::timeout`](crate::Builder::timeout) at most; the
    /// connection stays.
    ///
    /// # Errors
    ///
    /// When there was no text, or no acknowledgement in time. See the crate's documentation about pushing at least once.
    pub async fn push(&self) -> Result<(), PushError> {
        self.push_within(self.timeout).await
    }

    /// [`Client::push`] with a time of its own.
    ///
    /// # Errors
    ///
    /// As [`Client::push`].
    pub async fn push_within(&self, timeout: Duration) -> Result<(), PushError> {
        self.order_push(Until::Acknowledged, timeout).await
    }

    /// [`Client::push`], then [`Client::close`], whatever came of the push.
    ///
    /// # Errors
    ///
    /// As [`Client::push`].
    pub async fn push_and_close(self) -> Result<(), PushError> {
        self.finish(Until::Acknowledged).await
    }

    /// Sends the text of the moment without waiting for an acknowledgement, then closes, as the Java client's
    /// `pushAndClose` does. Waits for a connection, and until everything has been written to it. For proxies that do not
    /// acknowledge; with others, [`Client::push_and_close`] says whether the push arrived.
    ///
    /// # Errors
    ///
    /// When there was no text, or no connection in time, or one that took not all of it in time.
    pub async fn push_and_close_unacknowledged(self) -> Result<(), PushError> {
        self.finish(Until::Sent).await
    }

    /// Closes the connection, without a push; nothing is pulled any more.
    pub async fn close(mut self) {
        self.push_on_drop = false;
        self.end().await;
    }

    /// [`Client::push`] for threads without a runtime.
    ///
    /// # Errors
    ///
    /// As [`Client::push`].
    pub fn push_blocking(&self) -> Result<(), PushError> {
        block_on(self.push())
    }

    /// [`Client::push_and_close`] for threads without a runtime.
    ///
    /// # Errors
    ///
    /// As [`Client::push`].
    pub fn push_and_close_blocking(self) -> Result<(), PushError> {
        block_on(self.push_and_close())
    }

    /// [`Client::close`] for threads without a runtime.
    pub fn close_blocking(self) {
        block_on(self.close());
    }

    async fn finish(mut self, until: Until) -> Outcome {
        self.push_on_drop = false;
        let outcome = self.order_push(until, self.timeout).await;
        self.end().await;
        outcome
    }

    async fn order_push(&self, until: Until, within: Duration) -> Outcome {
        let Task::Running { commands, .. } = &self.task else {
            return Ok(());
        };
        let (reply, outcome) = oneshot::channel();
        let command = Command::Push {
            until,
            within,
            reply,
        };
        commands
            .send(command)
            .await
            .map_err(|_| PushError::Closed)?;
        outcome.await.unwrap_or(Err(PushError::Closed))
    }

    async fn end(&self) {
        if let Task::Running { commands, .. } = &self.task {
            // Closed already: nothing left to do.
            let _ = commands.send(Command::Close).await;
            commands.closed().await;
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if !self.push_on_drop {
            return;
        }
        // The task runs on a thread of its own, whatever this one is.
        let outcome = block_on(self.order_push(Until::Acknowledged, self.timeout));
        block_on(self.end());
        if let Err(error) = outcome {
            warn!(%error, "cannot push at the end");
        }
    }
}
