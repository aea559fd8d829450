//! What the parts of one client have in common.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use prometheus_rsocket_wire::sealing::Choice;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::task::spawn_blocking;
use tracing::warn;

use crate::Address;
use crate::attempt::{Attempt, Stage};
use crate::link::Link;
use crate::metrics::Counters;
use crate::render::{RenderError, Renderer, Request};

/// What the application wants to be told of a new key.
pub(crate) type OnKey = Arc<dyn Fn() + Send + Sync>;

/// Shared by the tasks of one client.
pub(crate) struct State {
    pub(crate) renderer: Renderer,
    /// Pulls that are answered at a time.
    pub(crate) max_renders: usize,
    /// What the application says it is.
    pub(crate) description: watch::Sender<Bytes>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) own_metrics: bool,
    pub(crate) envelope: Choice,
    /// The connection that pushes go to: one whose key has come.
    pub(crate) link: watch::Sender<Option<Link>>,
    /// How the last attempt or connection failed; empty before the first.
    pub(crate) failure: watch::Sender<String>,
    /// Rounds of attempts, one behind the other, in which all proxies failed in a way that no waiting mends.
    pub(crate) lasting_failures: watch::Sender<u64>,
    /// What is being attempted, or was last.
    pub(crate) attempt: watch::Sender<Option<Attempt>>,
    /// Pushes that are not acknowledged yet.
    pub(crate) pushes: watch::Sender<usize>,
    pub(crate) on_key: Option<OnKey>,
    /// The key that came last, on whichever connection.
    pub(crate) last_key: Mutex<Bytes>,
}

impl State {
    /// The application's text, with the client's own metrics if they are wanted; not beside that of one of its targets.
    pub(crate) async fn text(
        &self,
        request: Request,
        permit: OwnedSemaphorePermit,
    ) -> Result<Bytes, RenderError> {
        let of_all = request.target.is_none();
        let text = self.renderer.text(request, permit).await?;
        if self.own_metrics && of_all {
            Ok(self.counters.snapshot().append_to(&text))
        } else {
            Ok(text)
        }
    }

    /// Tells the application if this key is not the one before.
    pub(crate) fn key_came(&self, key: &Bytes) {
        let mut last = self.last_key.lock().unwrap_or_else(PoisonError::into_inner);
        if *last == *key {
            return;
        }
        // A copy: the frame that the key came in can go.
        *last = Bytes::copy_from_slice(key);
        if let Some(on_key) = self.on_key.clone() {
            spawn_blocking(move || {
                if catch_unwind(AssertUnwindSafe(|| on_key())).is_err() {
                    warn!("the application's key callback panicked");
                }
            });
        }
    }

    pub(crate) fn attempting(&self, address: &Address, stage: Stage) {
        self.attempt.send_replace(Some(Attempt {
            address: address.clone(),
            stage,
        }));
    }

    /// Why there is no connection.
    pub(crate) fn why(&self) -> String {
        let failure = self.failure.borrow().clone();
        if !failure.is_empty() {
            return failure;
        }
        let attempt = self.attempt.borrow();
        let attempt = attempt.as_ref().map(ToString::to_string);
        attempt.unwrap_or_else(|| "there was no time for an attempt".to_owned())
    }

    /// From now on pushes go to this connection, or wait.
    pub(crate) fn set_link(&self, link: Option<Link>) {
        self.counters.set_connected(link.is_some());
        self.link.send_replace(link);
    }
}
