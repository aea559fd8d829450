//! Renders and seals texts off the async threads, as many at a time as there are processors.
//!
//! A thousand applications are asked at once and each answer is CPU work (text, Snappy, AES, for version 1 of the envelope
//! a public RSA operation too):
//! on the async threads it would hold up everybody's frames, on a thread for each the system would be busy switching.

use prometheus_rsocket_wire::Payload;
use prometheus_rsocket_wire::sealing::Seal;
use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};
use tokio::sync::oneshot;

use super::failure::{FailureKind, LoadFailure};
use super::text::{Source, Texts};

/// The pool, and the texts that it renders.
#[derive(Debug)]
pub(super) struct Sealer {
    workers: ThreadPool,
    texts: Texts,
}

impl Sealer {
    /// Starts its threads.
    pub(super) fn new(texts: Texts) -> Result<Self, ThreadPoolBuildError> {
        let workers = ThreadPoolBuilder::new()
            .thread_name(|number| format!("sealer-{number}"))
            .build()?;
        Ok(Self { workers, texts })
    }

    /// The text of `source` in this round, in its envelope. Not made if nobody waits for it any more when its turn comes.
    pub(super) async fn payload(
        &self,
        source: Source,
        round: u64,
        seal: Seal,
    ) -> Result<Payload, LoadFailure> {
        let (done, sealed) = oneshot::channel();
        let texts = self.texts;
        self.workers.spawn_fifo(move || {
            if !done.is_closed() {
                // The caller may have given up meanwhile.
                let _ = done.send(seal.seal(texts.render(source, round).into()));
            }
        });
        match sealed.await {
            Ok(sealed) => sealed.map_err(|error| LoadFailure::new(FailureKind::Seal, error)),
            Err(error) => Err(LoadFailure::new(FailureKind::Seal, error)),
        }
    }
}
