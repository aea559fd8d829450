//! A node's end: one function, one line per stage, one deadline around all.
//!
//! Alone, a node waits for the scrape of its pushes and closes its connections. With other nodes in service there is
//! somewhere to go: the applications have time to get there, and go when a scrape misses them least.

mod farewells;
mod lifecycle;
mod metrics;
mod signals;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use clap::Args;
use prometheus_rsocket_config::values::{any_duration, duration};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::farewells::Farewells;
pub use self::lifecycle::{Lifecycle, Progress, Stage};
pub use self::metrics::Metrics;
pub use self::signals::{Ending, Signals};
use crate::cluster::{Cluster, Members};
use crate::nodes::NodeState;
use crate::push::Pushes;
use crate::rsocket::Applications;

/// Kept back from the grace period for closing connections once pushes had their chance to be scraped.
const CLOSING: Duration = Duration::from_secs(2);
/// How long balancers have to notice, where no setting says it; no longer than a sixth of the grace period.
const DELAY: Duration = Duration::from_secs(5);
/// Between two looks for connections whose SETUP came after the port had been closed.
const RECHECK: Duration = Duration::from_secs(1);

/// More than anybody waits for a node that leaves; the clock can add it to any time.
const MAX_GRACE_PERIOD: Duration = Duration::from_hours(24);

/// How long a drain may take.
#[derive(Debug, Clone, Copy, Args)]
#[group(skip)]
pub struct Settings {
    /// Maximum duration of the shutdown
    #[arg(id = "shutdown.grace-period", long, value_name = "DURATION", default_value = "30s", value_parser = grace_period)]
    pub grace_period: Duration,
    /// Time between the node reporting that it is not ready and closing its RSocket ports, so that load balancers notice;
    /// at most half of the grace period [default: 5s if other nodes are active, else 0s]
    #[arg(id = "shutdown.delay", long, value_name = "DURATION", value_parser = any_duration)]
    pub delay: Option<Duration>,
}

fn grace_period(value: &str) -> Result<Duration, String> {
    let period = duration(value)?;
    if period > MAX_GRACE_PERIOD {
        let longest = humantime::format_duration(MAX_GRACE_PERIOD);
        return Err(format!("must be no more than {longest}"));
    }
    Ok(period)
}

impl Settings {
    fn for_balancers(&self, others: bool) -> Duration {
        match self.delay {
            Some(delay) => delay.min(self.grace_period / 2),
            None if others => DELAY.min(self.grace_period / 6),
            None => Duration::ZERO,
        }
    }
}

/// The parts of a node that take part in its end.
pub struct Leaving {
    /// What the node says of itself.
    pub lifecycle: Arc<Lifecycle>,
    /// The node's metrics.
    pub metrics: Metrics,
    /// Closes the applications' ports.
    pub stop_accepting: CancellationToken,
    /// The applications' connections.
    pub apps: Arc<Applications>,
    /// The pushes held.
    pub pushes: Arc<Pushes>,
    /// The nodes of the cluster.
    pub members: watch::Receiver<Members>,
}

/// Ends a node within its grace period. A stage that the deadline cuts short is logged.
///
/// `finish_requests` takes no more HTTP requests and ends when those under way have been answered.
pub async fn run(
    node: &Leaving,
    finish_requests: impl Future<Output = ()>,
    cluster: Cluster,
    settings: Settings,
) {
    let deadline = Deadline::after(settings.grace_period);
    let closing = deadline.at - CLOSING.min(settings.grace_period / 2);

    node.lifecycle.drain();
    node.enter(Stage::NotReady, deadline);
    node.let_balancers_notice(settings, deadline).await;

    node.stop_accepting.cancel();
    node.enter(Stage::Closed, deadline);

    node.settle_pushes(closing, deadline).await;
    if node.has_others() {
        node.move_connections(closing, deadline).await;
        // What came meanwhile; and the others may be gone by now, so that a scrape is needed while HTTP still answers.
        node.settle_pushes(closing, deadline).await;
    }

    node.enter(Stage::Finishing, deadline);
    node.pushes.end_scrapes();
    if timeout_at(deadline.at, finish_requests).await.is_err() {
        warn!("scrapes were still running at the end of the grace period");
    }

    node.enter(Stage::Closing, deadline);
    if timeout_at(deadline.at, node.apps.leave()).await.is_err() {
        let connections = node.apps.registry.len();
        warn!(
            connections,
            "connections were still open at the end of the grace period"
        );
    }

    node.enter(Stage::Leaving, deadline);
    node.settle_the_rest(deadline).await;
    if timeout_at(deadline.at, cluster.leave()).await.is_err() {
        warn!("gossip was still running at the end of the grace period");
    }
    info!("drained");
}

/// The end of the grace period, by two clocks.
#[derive(Debug, Clone, Copy)]
struct Deadline {
    at: Instant,
    time: SystemTime,
}

impl Deadline {
    fn after(grace_period: Duration) -> Self {
        Self {
            at: Instant::now() + grace_period,
            time: SystemTime::now() + grace_period,
        }
    }
}

impl Leaving {
    fn enter(&self, stage: Stage, deadline: Deadline) {
        self.lifecycle.enter(Progress {
            stage,
            deadline: deadline.time,
        });
        self.metrics.enter(stage);
        let held = self.pushes.counts();
        info!(
            stage = stage.name(),
            connections = self.apps.registry.len(),
            pushes = held.pending + held.claimed,
            left = %humantime::format_duration(whole_milliseconds(deadline.at)),
            "draining"
        );
    }

    /// Whether applications have another node to go to.
    fn has_others(&self) -> bool {
        let members = self.members.borrow();
        let mut others = members.alive();
        others.any(|member| member.profile.state == NodeState::Active)
    }

    async fn let_balancers_notice(&self, settings: Settings, deadline: Deadline) {
        let delay = settings.for_balancers(self.has_others());
        if !delay.is_zero() {
            self.enter(Stage::AwaitingBalancers, deadline);
            sleep(delay).await;
        }
    }

    /// Gives the pushes held to other nodes, or where there is none, to a scrape. Where connections are to be moved, half
    /// of the time is for that; what other nodes do not take in the other half has another chance later.
    async fn settle_pushes(&self, until: Instant, deadline: Deadline) {
        let held = self.pushes.counts();
        let due = held.pending + held.claimed > 0;
        if !self.pushes.are_alone() && (due || held.retained > 0) {
            self.enter(Stage::HandingOver, deadline);
        } else if due && self.pushes.disk().is_none() {
            self.enter(Stage::AwaitingScrape, deadline);
        }
        let now = Instant::now();
        let left = until.saturating_duration_since(now);
        let until = if self.has_others() {
            now + left / 2
        } else {
            until
        };
        let settled = timeout_at(until, self.pushes.all_settled()).await;
        if settled.is_err() && self.pushes.are_alone() {
            self.pushes.close();
            warn!(
                pushes = self.pushes.counts().pending,
                "no scrape took these pushes, they are lost"
            );
        }
    }

    /// Lets the connections go, spread over the time there is, each after a scrape where one comes.
    async fn move_connections(&self, until: Instant, deadline: Deadline) {
        self.enter(Stage::Moving, deadline);
        let registry = &self.apps.registry;
        let handles = registry.snapshot();
        let scraped = handles.iter().any(|handle| handle.timing().is_some());
        let farewells = Farewells::new(handles.len(), scraped, Instant::now(), until);
        drop(handles);
        let retire_all = async {
            loop {
                let handles = registry.snapshot();
                for handle in handles.iter().filter(|handle| !handle.is_retiring()) {
                    handle.retire(farewells.at(rand::random()));
                }
                sleep(RECHECK).await;
            }
        };
        tokio::select! {
            () = registry.emptied() => {}
            () = retire_all => {}
            () = sleep_until(until) => {}
        }
    }

    /// The pushes that came while connections were still open, and the ends of the last scrapes.
    async fn settle_the_rest(&self, deadline: Deadline) {
        if self.pushes.are_closed() {
            return;
        }
        let settled = timeout_at(deadline.at, self.pushes.all_settled()).await;
        if settled.is_err() {
            let held = self.pushes.counts();
            let pushes = held.pending + held.claimed;
            if self.pushes.disk().is_some() {
                warn!(
                    pushes,
                    "no other node confirmed these pushes, they stay on disk"
                );
            } else {
                warn!(
                    pushes,
                    "no other node confirmed these pushes, they are lost unless one holds them already"
                );
            }
        }
    }
}

/// The time left, as people read it.
fn whole_milliseconds(until: Instant) -> Duration {
    let left = until.saturating_duration_since(Instant::now()).as_millis();
    Duration::from_millis(u64::try_from(left).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn balancers_have_time_to_notice_where_there_is_somewhere_to_go_or_somebody_says_so() {
        let delay = |grace_period, delay: Option<u64>, others| {
            let settings = Settings {
                grace_period: Duration::from_secs(grace_period),
                delay: delay.map(Duration::from_secs),
            };
            settings.for_balancers(others).as_secs()
        };
        assert_eq!(delay(30, None, true), 5);
        assert_eq!(delay(6, None, true), 1);
        assert_eq!(delay(30, None, false), 0);
        assert_eq!(delay(30, Some(0), true), 0);
        assert_eq!(delay(30, Some(10), false), 10);
        assert_eq!(delay(30, Some(60), true), 15);
    }
}
