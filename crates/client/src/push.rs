//! The life of a push: rendered once, sent over one connection after the other until the proxy has answered.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep_until};

use crate::errors::PushError;
use crate::link::{Link, Order, Outcome};
use crate::render::Request;
use crate::state::State;

/// As good as never: a longer time may be more than the clock can add.
const FAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Whether a push is over when the proxy has acknowledged it, or as soon as it has been sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    Acknowledged,
    Sent,
}

/// Pushes the text of the moment.
pub(crate) async fn push(state: Arc<State>, until: Until, within: Duration) -> Outcome {
    let _waiting = WaitingPush::new(&state.pushes);
    let deadline = Instant::now() + within.min(FAR);
    let outcome = tokio::select! {
        biased;
        outcome = deliver(&state, until, deadline) => outcome,
        () = sleep_until(deadline) => Err(PushError::Timeout),
    };
    let counters = &state.counters;
    match (&outcome, until) {
        (Ok(()), Until::Acknowledged) => counters.pushes_acknowledged.increment(),
        (Ok(()), Until::Sent) => counters.pushes_unacknowledged.increment(),
        (Err(PushError::Refused { .. }), _) => counters.pushes_refused.increment(),
        (Err(_), _) => counters.pushes_failed.increment(),
    }
    outcome
}

async fn deliver(state: &State, until: Until, deadline: Instant) -> Outcome {
    let permit = state.renderer.permit().await?;
    let request = Request {
        deadline: Some(deadline.into_std()),
        push: true,
        target: None,
    };
    let text = state.text(request, permit).await?;
    let mut links = state.link.subscribe();
    let mut lasting_failures = state.lasting_failures.subscribe();
    let mut tried = None;
    loop {
        let link = tokio::select! {
            biased;
            link = next_link(&mut links, tried) => link?,
            // One that has been sent may be held by the proxy: it is not known how it went.
            () = next_lasting(&mut lasting_failures), if tried.is_none() => {
                return Err(PushError::NotConnected(state.why()));
            }
            () = sleep_until(deadline), if tried.is_none() => {
                return Err(PushError::NotConnected(state.why()));
            }
        };
        tried = Some(link.id());
        let left = deadline.saturating_duration_since(Instant::now());
        if let Some(outcome) = send(&link, until, text.clone(), left).await {
            return outcome;
        }
    }
}

/// Comes when a further round of attempts has failed in a way that no waiting mends.
async fn next_lasting(failures: &mut watch::Receiver<u64>) {
    loop {
        // The state has the sender.
        let _ = failures.changed().await;
        if *failures.borrow_and_update() > 0 {
            return;
        }
    }
}

/// A connection other than the one that was tried last.
async fn next_link(
    links: &mut watch::Receiver<Option<Link>>,
    tried: Option<u64>,
) -> Result<Link, PushError> {
    let is_new = |link: &Option<Link>| link.as_ref().is_some_and(|link| Some(link.id()) != tried);
    let link = links.wait_for(is_new).await;
    link.ok()
        .and_then(|link| link.clone())
        .ok_or(PushError::Closed)
}

/// `None`: the connection ended before there was an answer.
async fn send(link: &Link, until: Until, text: Bytes, left: Duration) -> Option<Outcome> {
    let (reply, outcome) = oneshot::channel();
    let order = match until {
        Until::Acknowledged => Order::Push(text, reply, left),
        Until::Sent => Order::Tell(text, reply),
    };
    link.order(order).await.ok()?;
    outcome.await.ok()
}

/// Counts a push as waiting for as long as it lives: reconnecting hurries.
struct WaitingPush<'a>(&'a watch::Sender<usize>);

impl<'a> WaitingPush<'a> {
    fn new(pushes: &'a watch::Sender<usize>) -> Self {
        pushes.send_modify(|waiting| *waiting += 1);
        Self(pushes)
    }
}

impl Drop for WaitingPush<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|waiting| *waiting -= 1);
    }
}
