//! Replicas on their way to other nodes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::PushId;
use crate::nodes::NodeId;

/// After this, and a second more for each [`BYTES_PER_SECOND`], a call of whose end nobody has told is taken for over. It
/// is longer than any call takes.
const LONGEST: Duration = Duration::from_secs(30);
const BYTES_PER_SECOND: usize = 1 << 20;

#[derive(Debug)]
struct Call {
    since: Instant,
    until: Instant,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Lane {
    calls: BTreeMap<PushId, Call>,
    bytes: usize,
}

/// Calls to hold a push that have neither been answered nor failed.
#[derive(Debug, Default)]
pub(super) struct Underway(BTreeMap<NodeId, Lane>);

impl Underway {
    /// Whether `bytes` more may go to `node` where it is sent so many replicas and bytes at a time. One replica may always
    /// go, however long.
    pub(super) fn has_room(
        &self,
        node: &NodeId,
        bytes: usize,
        (calls, max_bytes): (usize, usize),
    ) -> bool {
        self.0.get(node).is_none_or(|lane| {
            let fits = lane.bytes.saturating_add(bytes) <= max_bytes;
            lane.calls.is_empty() || (lane.calls.len() < calls && fits)
        })
    }

    pub(super) fn begin(&mut self, node: &NodeId, push: &PushId, bytes: usize, now: Instant) {
        let lane = self.0.entry(node.clone()).or_default();
        let seconds = (bytes / BYTES_PER_SECOND) as u64;
        let call = Call {
            since: now,
            until: now + LONGEST + Duration::from_secs(seconds),
            bytes,
        };
        lane.bytes += bytes;
        if let Some(before) = lane.calls.insert(push.clone(), call) {
            lane.bytes -= before.bytes;
        }
    }

    pub(super) fn end(&mut self, node: &NodeId, push: &PushId) {
        if let Some(lane) = self.0.get_mut(node)
            && let Some(call) = lane.calls.remove(push)
        {
            lane.bytes -= call.bytes;
        }
    }

    /// Since when `push` is on its way to `node`, if it is.
    pub(super) fn since(&self, node: &NodeId, push: &PushId) -> Option<Instant> {
        let call = self.0.get(node)?.calls.get(push)?;
        Some(call.since)
    }

    /// Lets go of the calls to nodes that are gone.
    pub(super) fn retain(&mut self, is_alive: impl Fn(&NodeId) -> bool) {
        self.0.retain(|node, _| is_alive(node));
    }

    /// Lets go of what must be over by now.
    pub(super) fn forget(&mut self, now: Instant) {
        for lane in self.0.values_mut() {
            for (_, call) in lane.calls.extract_if(.., |_, call| call.until <= now) {
                lane.bytes -= call.bytes;
            }
        }
    }
}
