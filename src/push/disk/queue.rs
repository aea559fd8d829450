//! What is to be written, at most one thing for each push: a later one takes the place of an earlier one.
//!
//! Pushes in it are held by the store as well, which bounds them. Ends are bounded here.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::SystemTime;

use super::record::{StandingRecord, millis_after};
use crate::store::{Content, PushId, Write};

/// Ends waiting, which only a disk that fails for long brings about. Past it the oldest is dropped: should its push be on
/// disk, it may come back after a restart and be served again.
const MAX_ENDS: usize = 100_000;

/// Something to be written for a push. Times are milliseconds since 1970.
#[derive(Debug, Clone)]
pub(super) enum QueuedWrite {
    Held {
        /// `None` where it is on disk, or queued before.
        content: Option<Arc<Content>>,
        standing: StandingRecord,
    },
    Over {
        until: u64,
    },
    Removed,
}

impl QueuedWrite {
    pub(super) fn of(write: Write, now: SystemTime) -> Self {
        match write {
            Write::Held { content, standing } => Self::Held {
                content,
                standing: StandingRecord::of(&standing, now),
            },
            Write::Over { left } => Self::Over {
                until: millis_after(left, now),
            },
            Write::Removed => Self::Removed,
        }
    }

    fn is_end(&self) -> bool {
        !matches!(self, Self::Held { .. })
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Held {
                content: Some(content),
                ..
            } => content.text.text().len(),
            _ => 0,
        }
    }

    /// This one, with what it lacks from an earlier one.
    fn after(mut self, earlier: Self) -> Self {
        if let (
            Self::Held { content, .. },
            Self::Held {
                content: Some(before),
                ..
            },
        ) = (&mut self, earlier)
        {
            content.get_or_insert(before);
        }
        self
    }
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    writes: HashMap<PushId, QueuedWrite>,
    /// The pushes in `writes`, each once, as they came.
    order: VecDeque<PushId>,
    ends: usize,
}

impl Queue {
    pub(super) fn push(&mut self, push: PushId, write: QueuedWrite) {
        self.ends += usize::from(write.is_end());
        match self.writes.remove(&push) {
            Some(earlier) => {
                self.ends -= usize::from(earlier.is_end());
                self.writes.insert(push, write.after(earlier));
            }
            None => {
                self.order.push_back(push.clone());
                self.writes.insert(push, write);
            }
        }
        while self.ends > MAX_ENDS {
            self.drop_oldest_end();
        }
    }

    fn drop_oldest_end(&mut self) {
        let oldest = self
            .order
            .iter()
            .position(|push| self.writes.get(push).is_some_and(QueuedWrite::is_end));
        if let Some(push) = oldest.and_then(|at| self.order.remove(at)) {
            self.writes.remove(&push);
        }
        self.ends -= 1;
    }

    /// Takes what came first: at most so many, and so many bytes of text; one goes whatever its size.
    pub(super) fn take(&mut self, most: usize, most_bytes: usize) -> Vec<(PushId, QueuedWrite)> {
        let mut taken = Vec::new();
        let mut bytes = 0;
        while taken.len() < most
            && let Some(push) = self.order.front()
        {
            let more = self.writes.get(push).map_or(0, QueuedWrite::bytes);
            if !taken.is_empty() && bytes + more > most_bytes {
                break;
            }
            bytes += more;
            if let Some(push) = self.order.pop_front()
                && let Some(write) = self.writes.remove(&push)
            {
                self.ends -= usize::from(write.is_end());
                taken.push((push, write));
            }
        }
        taken
    }

    /// Puts back what could not be written, in front.
    pub(super) fn put_back(&mut self, taken: Vec<(PushId, QueuedWrite)>) {
        for (push, earlier) in taken.into_iter().rev() {
            if let Some(later) = self.writes.remove(&push) {
                self.writes.insert(push, later.after(earlier));
            } else {
                self.ends += usize::from(earlier.is_end());
                self.order.push_front(push.clone());
                self.writes.insert(push, earlier);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use prometheus_rsocket_exposition::Exposition;

    use super::*;
    use crate::nodes::NodeId;
    use crate::store::{Ownership, StoredStanding};
    use crate::tenant::Tenant;

    fn id(sequence: u64) -> PushId {
        PushId {
            acceptor: NodeId::new("a", 1),
            sequence,
        }
    }

    fn held(order: u64, text: Option<&'static str>) -> QueuedWrite {
        let content = text.map(|text| {
            let text = Exposition::parse(Bytes::from_static(text.as_bytes())).unwrap();
            Arc::new(Content {
                text: Arc::new(text),
                series: Vec::new(),
                pusher: Tenant::Unknown,
            })
        });
        let standing = StoredStanding {
            order,
            left: Duration::from_secs(1),
            ownership: Ownership {
                term: 0,
                owner: NodeId::new("a", 1),
                lost_before: false,
            },
            had: Vec::new(),
            retained: None,
        };
        QueuedWrite::of(Write::Held { content, standing }, SystemTime::UNIX_EPOCH)
    }

    /// The pushes in the order in which they are written, each with what is written.
    fn all(queue: &mut Queue) -> Vec<String> {
        let taken = queue.take(usize::MAX, usize::MAX).into_iter();
        let taken = taken.map(|(push, write)| {
            let what = match write {
                QueuedWrite::Held { content: None, .. } => "standing",
                QueuedWrite::Held { .. } => "all",
                QueuedWrite::Over { .. } => "over",
                QueuedWrite::Removed => "removed",
            };
            format!("{} {what}", push.sequence)
        });
        taken.collect()
    }

    #[test]
    fn of_several_changes_of_a_push_one_is_written_and_the_text_is_not_lost() {
        let mut queue = Queue::default();
        queue.push(id(1), held(1, Some("a 1\n")));
        queue.push(id(2), held(2, Some("b 1\n")));
        queue.push(id(3), held(3, None));
        queue.push(id(1), held(1, None));
        queue.push(id(2), QueuedWrite::Over { until: 1 });
        assert_eq!(all(&mut queue), ["1 all", "2 over", "3 standing"]);
        assert!(queue.is_empty());
    }

    #[test]
    fn what_could_not_be_written_goes_first_the_next_time_unless_it_has_changed() {
        let mut queue = Queue::default();
        queue.push(id(1), held(1, Some("a 1\n")));
        queue.push(id(2), held(2, Some("b 1\n")));
        queue.push(id(3), held(3, Some("c 1\n")));
        let taken = queue.take(2, usize::MAX);
        queue.push(id(4), QueuedWrite::Removed);
        queue.push(id(2), QueuedWrite::Over { until: 1 });
        queue.push(id(1), held(1, None));
        queue.put_back(taken);
        assert_eq!(all(&mut queue), ["3 all", "4 removed", "2 over", "1 all"]);
        assert_eq!(queue.ends, 0);
    }

    #[test]
    fn a_batch_has_a_bound_and_a_text_that_is_longer_goes_alone() {
        let mut queue = Queue::default();
        queue.push(id(1), held(1, Some("long_name 1\n")));
        queue.push(id(2), held(2, Some("b 1\n")));
        queue.push(id(3), held(3, Some("c 1\n")));
        queue.push(id(4), held(4, Some("d 1\n")));
        let batches = std::iter::from_fn(|| Some(queue.take(9, 8).len()).filter(|n| *n > 0));
        assert_eq!(batches.collect::<Vec<_>>(), [1, 2, 1]);
    }

    #[test]
    fn while_nothing_can_be_written_the_oldest_ends_are_dropped_past_the_bound() {
        let mut queue = Queue::default();
        queue.push(id(0), held(0, None));
        for sequence in 1..=MAX_ENDS as u64 + 2 {
            queue.push(id(sequence), QueuedWrite::Removed);
        }
        let left = queue.take(3, usize::MAX);
        let left: Vec<_> = left.iter().map(|(push, _)| push.sequence).collect();
        assert_eq!(left, [0, 3, 4]);
        assert_eq!(queue.ends, MAX_ENDS - 2);
    }
}
