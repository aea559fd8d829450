//! What one scrape takes: begun, settled, and committed or given back.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::time::timeout_at;

use super::Pushes;
use crate::store::{ClaimId, ConsumerName, Content, Effects};

impl Pushes {
    /// Begins to take what a scrape is to serve to `consumer`: asks the other nodes, and does not wait for them.
    pub fn claim(self: &Arc<Self>, consumer: &ConsumerName) -> Claim {
        let id = self.with(|held, now| {
            let (id, effects) = held.store.begin(consumer, now);
            held.scrapes.insert(id.clone(), BTreeSet::new());
            (id, effects)
        });
        Claim {
            id: Some(id),
            texts: Vec::new(),
            again: Vec::new(),
            pushes: Arc::clone(self),
        }
    }
}

/// Pushes handed to one scrape: committed when they have been served, given back when dropped before.
pub struct Claim {
    id: Option<ClaimId>,
    /// What to serve that the consumer has not had before, with who pushed it, oldest first; none until settled.
    pub texts: Vec<Arc<Content>>,
    /// What to serve again, oldest first; none until settled.
    pub again: Vec<Arc<Content>>,
    pushes: Arc<Pushes>,
}

impl Claim {
    /// Waits until every node that can be reached has answered, or until then, and settles what goes out. What nodes hand
    /// out later goes back to them.
    pub async fn settle(&mut self, until: tokio::time::Instant) {
        let Some(id) = &self.id else {
            return;
        };
        let pushes = &self.pushes;
        let answered = async {
            loop {
                let answers = pushes.answers.notified();
                if !pushes.awaits(id) {
                    return;
                }
                answers.await;
            }
        };
        if timeout_at(until, answered).await.is_err() {
            pushes.metrics.copies.claims_late.inc();
        }
        let claimed = pushes.with(|held, now| match held.store.choose(id, now) {
            Some((claimed, effects)) => (Some(claimed), effects),
            None => (None, Effects::default()),
        });
        if let Some(claimed) = claimed {
            let deferred = claimed.deferred as u64;
            pushes.metrics.deferred.inc_by(deferred);
            self.texts = claimed.texts;
            self.again = claimed.again;
        }
        pushes.publish();
    }

    /// The response has been handed over whole.
    pub fn commit(mut self) {
        if let Some(id) = self.id.take() {
            let delivered = self.pushes.with(|held, now| {
                held.scrapes.remove(&id);
                held.store.commit(&id, now)
            });
            let metrics = &self.pushes.metrics;
            metrics.served.inc_by(delivered.first as u64);
            metrics.deliveries.inc_by(delivered.pushes as u64);
            self.pushes.publish();
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            self.pushes.with(|held, now| {
                held.scrapes.remove(&id);
                ((), held.store.release(&id, now))
            });
            self.pushes.publish();
        }
    }
}
