//! Notes how a pull went: for the status, for the directory, and in the log when a failure begins and when it ends.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tracing::{debug, info, warn};

use super::{Metrics, PullFailure, targets};
use crate::directory::{ApplicationId, Outcome};
use crate::limits::log_limit::LogLimit;
use crate::rsocket::{Handle, LastScrape, Opened};

/// Many fail at once where something is wrong with all; who comes back again and again to fail fills no disk.
static NOT_SCRAPED: LogLimit = LogLimit::new(100);
/// And who succeeds in between.
static SCRAPED_AGAIN: LogLimit = LogLimit::new(100);

/// Notes a pull of one target of a connection, or of all.
pub(super) fn note(
    metrics: &Metrics,
    handle: &Handle,
    target: Option<&ApplicationId>,
    text: &Result<Arc<Opened>, PullFailure>,
    duration: Duration,
) {
    let (opened, failure) = (text.as_deref().ok(), text.as_ref().err());
    let outcome = failure.map_or("success", |failure| failure.labels().0);
    let reason: Arc<str> = failure.map_or_else(String::new, ToString::to_string).into();
    // The end of the connection says nothing of who it is.
    if outcome != "closed" {
        handle.note_name(target, opened);
    }
    let changed = handle.note_pull(
        target,
        Outcome {
            outcome,
            reason: Arc::clone(&reason),
        },
    );
    if handle.is_several() && target.is_some() {
        if changed {
            log(handle, target, outcome, &reason);
        }
        return;
    }
    if let Some(opened) = opened {
        targets::note(metrics, handle, &opened.targets);
    }
    let before = handle.note_scrape(LastScrape {
        at: SystemTime::now(),
        outcome,
        reason: reason.to_string(),
        duration,
        bytes: opened.map_or(0, |opened| opened.bytes),
        envelope: opened.map_or("", |opened| opened.envelope),
    });
    let before = before.map_or("success", |scrape| scrape.outcome);
    match (before == "success", outcome) {
        (true, "success") => {}
        (true, _) | (_, "success" | "closed") => log(handle, target, outcome, &reason),
        (false, _) => {
            let (connection, peer) = (handle.id, handle.peer);
            debug!(connection, %peer, outcome, %reason, "application still not scraped");
        }
    }
}

/// The first failure, or the first success after one.
fn log(handle: &Handle, target: Option<&ApplicationId>, outcome: &'static str, reason: &str) {
    let (connection, peer) = (handle.id, handle.peer);
    let identity = handle.identity.as_deref();
    let application = target.map(tracing::field::display);
    match outcome {
        "success" => match SCRAPED_AGAIN.due() {
            Some(suppressed) => {
                info!(connection, %peer, identity, application, suppressed, "application is scraped again");
            }
            None => {
                debug!(connection, %peer, identity, application, "application is scraped again");
            }
        },
        "closed" => {
            debug!(connection, %peer, identity, application, reason, "application disconnected during a scrape");
        }
        _ => match NOT_SCRAPED.due() {
            Some(suppressed) => {
                warn!(connection, %peer, identity, application, outcome, reason, suppressed, "application not scraped");
            }
            None => {
                debug!(connection, %peer, identity, application, outcome, reason, "application not scraped");
            }
        },
    }
}
