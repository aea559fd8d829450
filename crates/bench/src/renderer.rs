//! Renders texts off the async threads, as many at a time as there are processors.
//!
//! A thousand applications are asked at once: on the async threads it would hold up everybody's frames, on a thread for
//! each the system would be busy switching.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::{JoinError, spawn_blocking};

use super::meter::processors;
use super::text::{Source, Texts};

/// The texts, and whose turn it is to have one rendered.
#[derive(Debug)]
pub(super) struct Renderer {
    texts: Texts,
    turns: Arc<Semaphore>,
}

impl Renderer {
    pub(super) fn new(texts: Texts) -> Self {
        Self {
            texts,
            turns: Arc::new(Semaphore::new(processors())),
        }
    }

    /// [`Texts::job`].
    pub(super) fn job(&self) -> String {
        self.texts.job()
    }

    /// The text of `source` in this round. Not made if nobody waits for it any more when its turn comes.
    pub(super) async fn text(&self, source: Source, round: u64) -> Result<String, JoinError> {
        // It is never closed.
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        let texts = self.texts;
        let rendering = spawn_blocking(move || {
            let _turn = turn;
            texts.render(source, round)
        });
        rendering.await
    }
}
