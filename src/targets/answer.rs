//! What other nodes ask this one about applications.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use prometheus_rsocket_exposition::Encoding;
use tokio::time::{Instant, timeout_at};

use super::pull::{run_if_long, stopping, write};
use super::{Targets, Unserved};
use crate::cluster::calls::{Host, Unpulled, UnpulledKind, pack};
use crate::directory::{ApplicationId, Asked, Changes, Place};
use crate::rsocket::{Keep, Opened};

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

    fn pull(
        &self,
        id: ApplicationId,
        encoding: Encoding,
        left: Duration,
    ) -> BoxFuture<'_, Result<Bytes, Unpulled>> {
        Box::pin(async move {
            let deadline = Instant::now() + left;
            let pulled = self.pull_and_pack(&id, encoding, deadline).await;
            pulled.map_err(|(kind, reason)| Unpulled { kind, reason })
        })
    }
}

impl Targets {
    /// Only what is connected to this node: a node that asked another one on behalf of a third could be asked back.
    async fn pull_and_pack(
        &self,
        id: &ApplicationId,
        encoding: Encoding,
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
        let opened = self.pull_here(connection, id, deadline, Keep::Block).await;
        let opened = opened.map_err(|unserved| kind(&unserved))?;
        let max = self.max_text();
        let length = match opened.block {
            Some(_) => opened.bytes,
            None => usize::MAX,
        };
        let packed = run_if_long(length, move || packed(&opened, encoding, max));
        let packed = packed.await.ok_or_else(|| kind(&stopping()))?;
        packed.ok_or_else(|| {
            (
                UnpulledKind::Invalid,
                "with its labels the text is too long to be sent to another node".into(),
            )
        })
    }
}

/// What is served of an answer, in one piece and compressed: as it came, where nothing was to be changed. `None` if it is
/// longer than `max` bytes.
fn packed(opened: &Opened, encoding: Encoding, max: usize) -> Option<Bytes> {
    let text = write(opened, encoding, usize::MAX).next();
    let text = text.unwrap_or_default();
    let unchanged = text.len() == opened.bytes && text == *opened.exposition.text();
    let unchanged = opened.block.as_ref().filter(|_| unchanged);
    match unchanged {
        _ if text.len() > max => None,
        Some(block) => Some(block.clone()),
        None => pack(&text),
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
