//! What other nodes ask this one about applications.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::time::{Instant, timeout_at};

use super::pull::written;
use super::{Targets, Unserved};
use crate::cluster::calls::{Host, Unpulled, UnpulledKind, pack};
use crate::directory::{ApplicationId, Asked, Changes, Place};
use crate::rsocket::run;

impl Host for Targets {
    fn changes(&self, asked: Asked, clock: u64, wait: Duration) -> BoxFuture<'_, Changes> {
        Box::pin(async move {
            let over = Instant::now() + wait;
            let mut changes = self.directory.changes();
            loop {
                changes.borrow_and_update();
                let news = self
                    .directory
                    .with(|directory, _| directory.has_news(&asked));
                if news || !matches!(timeout_at(over, changes.changed()).await, Ok(Ok(()))) {
                    break;
                }
            }
            self.directory
                .with(|directory, now| directory.changes_since(&asked, clock, now))
        })
    }

    fn pull(&self, id: ApplicationId, left: Duration) -> BoxFuture<'_, Result<Bytes, Unpulled>> {
        Box::pin(async move {
            let pulled = self.pull_and_pack(&id, Instant::now() + left).await;
            pulled.map_err(|(kind, reason)| Unpulled { kind, reason })
        })
    }
}

impl Targets {
    /// Only what is connected to this node: a node that asked another one on behalf of a third could be asked back.
    async fn pull_and_pack(
        &self,
        id: &ApplicationId,
        deadline: Instant,
    ) -> Result<Bytes, (UnpulledKind, String)> {
        let place = self
            .directory
            .with(|directory, now| directory.find(id, now));
        let Place::Here { connection } = place else {
            return Err((
                UnpulledKind::NotHere,
                "application is not connected to the node where it was".into(),
            ));
        };
        let text = async {
            let opened = self.pull_here(connection, id, deadline).await?;
            // In one piece.
            written(opened, usize::MAX).await
        };
        let mut pulled = text.await.map_err(|unserved| kind(&unserved))?;
        let text = pulled.chunks.pop().unwrap_or_default();
        if text.len() > self.max_text() {
            return Err((
                UnpulledKind::Invalid,
                "with its labels the text is too long to be sent to another node".into(),
            ));
        }
        let packed = run(move || pack(&text)).await.flatten();
        packed.ok_or_else(|| (UnpulledKind::Disconnected, "the node is stopping".into()))
    }
}

fn kind(unserved: &Unserved) -> (UnpulledKind, String) {
    let kind = match unserved {
        Unserved::Unknown | Unserved::Ambiguous(_) => UnpulledKind::NotHere,
        Unserved::Disconnected(_) => UnpulledKind::Disconnected,
        Unserved::Timeout(_) => UnpulledKind::Timeout,
        Unserved::Invalid(_) => UnpulledKind::Invalid,
        Unserved::TooMany(_) => UnpulledKind::TooMany,
    };
    (kind, unserved.to_string())
}
