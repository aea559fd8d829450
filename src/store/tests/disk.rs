//! A disk that has what was synced, and loses the rest with the power.

use super::*;
use crate::nodes::NodeId;

#[derive(Debug, Clone)]
struct Kept {
    content: Arc<Content>,
    standing: StoredStanding,
    written: Instant,
}

#[derive(Debug, Default)]
pub(super) struct Disk {
    unsynced: Vec<(PushId, Write, Instant)>,
    pushes: BTreeMap<PushId, Kept>,
    ends: BTreeMap<PushId, Instant>,
}

/// What comes back, and how many pushes of the node of this name were over by then.
pub(super) struct Found {
    pub(super) pushes: Vec<Restored>,
    pub(super) over: Vec<(PushId, Duration)>,
    pub(super) expired: usize,
}

impl Disk {
    pub(super) fn write(&mut self, writes: Vec<(PushId, Write)>, now: Instant) {
        let writes = writes.into_iter();
        self.unsynced
            .extend(writes.map(|(push, write)| (push, write, now)));
    }

    /// Syncs everything written; gives what to report.
    pub(super) fn sync(&mut self) -> Vec<(PushId, bool)> {
        let mut synced = Vec::new();
        for (push, write, at) in std::mem::take(&mut self.unsynced) {
            match write {
                Write::Held { content, standing } => {
                    let before = self.pushes.remove(&push);
                    if content.is_some() {
                        synced.push((push.clone(), true));
                    }
                    let content = content.or(before.map(|before| before.content));
                    let kept = Kept {
                        content: content.expect("a text that was written first"),
                        standing,
                        written: at,
                    };
                    self.pushes.insert(push, kept);
                }
                Write::Over { left } => {
                    self.pushes.remove(&push);
                    self.ends.insert(push, at + left);
                }
                Write::Removed => {
                    self.pushes.remove(&push);
                }
            }
        }
        synced
    }

    /// The disk fails: what was written waits; gives what to report.
    pub(super) fn fail(&self) -> Vec<(PushId, bool)> {
        let new = self.unsynced.iter().filter(|(_, write, _)| {
            matches!(
                write,
                Write::Held {
                    content: Some(_),
                    ..
                }
            )
        });
        new.map(|(push, _, _)| (push.clone(), false)).collect()
    }

    pub(super) fn lose_power(&mut self) {
        self.unsynced.clear();
    }

    pub(super) fn find(&mut self, name: &str, now: Instant) -> Found {
        let mut found = Found {
            pushes: Vec::new(),
            over: Vec::new(),
            expired: 0,
        };
        self.pushes.retain(|push, kept| {
            let passed = now.saturating_duration_since(kept.written);
            let standing = StoredStanding {
                left: kept.standing.left.saturating_sub(passed),
                retained: kept
                    .standing
                    .retained
                    .map(|left| left.saturating_sub(passed)),
                ..kept.standing.clone()
            };
            let over = standing.retained.unwrap_or(standing.left).is_zero();
            if over {
                found.expired += usize::from(*standing.ownership.owner.name == *name);
            } else {
                found.pushes.push(Restored {
                    push: push.clone(),
                    content: Arc::clone(&kept.content),
                    standing,
                });
            }
            !over
        });
        self.ends.retain(|_, until| *until > now);
        let ends = self.ends.iter();
        found.over = ends
            .map(|(push, until)| (push.clone(), until.saturating_duration_since(now)))
            .collect();
        found
    }

    /// A node's store, with what an earlier life of it left here.
    pub(super) fn restore(
        &mut self,
        id: &NodeId,
        limits: &Limits,
        replication: &Replication,
        now: Instant,
    ) -> (Store, Effects, usize) {
        let mut store = known_store(id.clone(), limits.clone(), replication.clone());
        store.keep_on_disk();
        let found = self.find(&id.name, now);
        let effects = store.restore(found.pushes, found.over, now);
        (store, effects, found.expired)
    }
}
