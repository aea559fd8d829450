//! The loop around the plan: looks, asks the plan, closes, tells.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{info, warn};

use super::membership::Membership;
use super::overview::Overview;
use super::plan::{Plan, Step, Tally, Turn, View};
use super::{Metrics, Settings, victims};
use crate::cluster::{Load, Members};
use crate::nodes::NodeState;
use crate::rsocket::Registry;

/// Between two steps of the plan: so much is closed at once.
const TICK: Duration = Duration::from_millis(250);

/// How rebalancing stands, for the status page.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// What it is doing: [`Phase::name`](super::Phase::name), or `off`.
    pub phase: &'static str,
    /// What this node would have if all had the same.
    pub target: f64,
    /// What it has above that.
    pub surplus: f64,
    /// What was done so far.
    pub tally: Tally,
}

impl Default for Report {
    fn default() -> Self {
        Self {
            phase: "off",
            target: 0.0,
            surplus: 0.0,
            tally: Tally::default(),
        }
    }
}

/// What the loop works with.
pub struct Task {
    /// When, and how fast.
    pub settings: Settings,
    /// This node's connections.
    pub registry: Arc<Registry>,
    /// The other nodes.
    pub members: watch::Receiver<Members>,
    /// What this node is doing.
    pub state: watch::Receiver<NodeState>,
    /// The node's metrics.
    pub metrics: Metrics,
    /// Where the status page finds how it stands.
    pub report: watch::Sender<Report>,
}

impl Task {
    /// Runs until the process ends, unless it is turned off.
    pub async fn run(self) {
        if !self.settings.enabled {
            return;
        }
        let mut plan = Plan::new(self.settings.clone());
        let mut membership = Membership::default();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let now = ticks.tick().await;
            let view = self.view(&mut membership, now);
            let before = plan.tally();
            let step = plan.step(now.into_std(), &view);
            plan.closed(self.close(&step, now));
            if let Some(turn) = step.turn {
                log(turn, &view.overview);
            }
            self.metrics.add(&before, &plan.tally());
            self.tell(&plan, &view.overview);
        }
    }

    fn view(&self, membership: &mut Membership, now: Instant) -> View {
        let members = self.members.borrow();
        let state = *self.state.borrow();
        let active = members
            .alive()
            .filter(|member| member.profile.state == NodeState::Active);
        let others = active.map(|member| member.profile.load);
        View {
            overview: overview(self.registry.len(), others),
            settled_since: membership.settled_since(now.into_std(), state, &members),
            opened: self.registry.opened(),
        }
    }

    fn close(&self, step: &Step, now: Instant) -> usize {
        if step.close == 0 {
            return 0;
        }
        let victims = victims::choose(
            &self.registry.snapshot(),
            step.close,
            self.settings.min_connection_age,
            now,
            &mut rand::rng(),
        );
        victims
            .iter()
            .filter(|handle| victims::close(handle, now))
            .count()
    }

    fn tell(&self, plan: &Plan, overview: &Overview) {
        let report = Report {
            phase: plan.phase().name(),
            target: overview.target,
            surplus: overview.surplus().max(0.0),
            tally: plan.tally(),
        };
        self.metrics
            .tell(report.target, report.surplus, plan.phase());
        self.report.send_replace(report);
    }
}

/// A full node that has fewer connections than this one can take none of its own, so that it counts for nothing.
fn overview(own: usize, others: impl Iterator<Item = Load> + Clone) -> Overview {
    let others = others.filter(|load| !load.full || load.connections >= own);
    Overview::new(own, others.map(|load| load.connections))
}

fn log(turn: Turn, overview: &Overview) {
    let Overview {
        nodes, own, target, ..
    } = overview;
    let target = target.round();
    match turn {
        Turn::Begun => {
            info!(
                connections = own,
                target, nodes, "more connections than other nodes, closing some"
            );
        }
        Turn::Done { shed } => {
            info!(
                connections = own,
                target, nodes, shed, "connections are even again"
            );
        }
        Turn::Ineffective => {
            info!(
                connections = own,
                target, nodes, "closed connections came back"
            );
        }
        Turn::Yielding { pause } => {
            warn!(connections = own, target, nodes, pause = %humantime::format_duration(pause),
                "closed connections come back to this node, pausing rebalancing: is the balancer sticky?");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_node_is_to_get_no_connections() {
        let load = |connections, full| Load {
            connections,
            full,
            pushes: 0,
        };
        let seen = |others: [Load; 2]| overview(90, others.into_iter());
        let full = seen([load(30, true), load(60, false)]);
        assert_eq!((full.nodes, full.target, full.lacking), (2, 75.0, 15.0));
        let free = seen([load(30, false), load(60, false)]);
        assert_eq!((free.nodes, free.target, free.lacking), (3, 60.0, 30.0));
        // What it has too many, the others get.
        let fuller = seen([load(120, true), load(60, false)]);
        assert_eq!((fuller.nodes, fuller.target), (3, 90.0));
    }
}
