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
    use futures_util::FutureExt;
    use prometheus_rsocket_wire::session::Event;
    use tokio::time::sleep;

    use super::super::pair::{HOUR, Pair, SECOND};
    use super::*;

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
