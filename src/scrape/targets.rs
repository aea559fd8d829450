//! Notes how the targets of agents fared: counted, remembered for the status, and logged when a failure begins and when it
//! ends.

use tracing::{debug, warn};

use super::Metrics;
use crate::limits::log_limit::LogLimit;
use crate::rsocket::{Handle, TargetFailure, TargetOutcome, Targets};

/// An agent whose network is gone reports a thousand at once.
static CHANGES: LogLimit = LogLimit::new(100);

/// Notes the targets of one answer.
pub(super) fn note(metrics: &Metrics, handle: &Handle, targets: &Targets) {
    for (outcome, failed) in TargetOutcome::ALL.into_iter().zip(targets.failed) {
        let counter = metrics.target_failures.with_label_values(&[outcome.name()]);
        counter.inc_by(failed as u64);
    }
    let before = handle.note_targets(targets.clone());
    for failure in only_in(targets, &before) {
        log_failing(handle, failure);
    }
    for failure in only_in(&before, targets) {
        log_served(handle, failure);
    }
}

/// The targets that failed in the one answer, and not in the other.
fn only_in<'t>(
    targets: &'t Targets,
    others: &'t Targets,
) -> impl Iterator<Item = &'t TargetFailure> {
    targets.failures.iter().filter(|failure| {
        let mut others = others.failures.iter();
        !others.any(|other| other.target == failure.target)
    })
}

fn log_failing(handle: &Handle, failure: &TargetFailure) {
    let (connection, peer) = (handle.id, handle.peer);
    let (target, outcome, reason) = (&failure.target, failure.outcome.name(), &failure.reason);
    match CHANGES.due() {
        Some(suppressed) => {
            warn!(connection, %peer, %target, outcome, %reason, suppressed, "target of an agent not served");
        }
        None => {
            debug!(connection, %peer, %target, outcome, %reason, "target of an agent not served");
        }
    }
}

fn log_served(handle: &Handle, failure: &TargetFailure) {
    let (connection, peer, target) = (handle.id, handle.peer, &failure.target);
    match CHANGES.due() {
        Some(suppressed) => {
            warn!(connection, %peer, %target, suppressed, "target of an agent is served again");
        }
        None => debug!(connection, %peer, %target, "target of an agent is served again"),
    }
}
