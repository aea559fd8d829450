//! What comes of asking an application for its text.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_rsocket_wire::session::StreamError;
use tokio::sync::{OnceCell, oneshot};
use tokio::time::Instant;

use super::keys::Key;
use super::opener::{Opened, Opener, Sealed, Unusable};

/// Asks a connection's task for the application's text.
#[derive(Debug)]
pub(super) struct PullRequest {
    /// Told to the application; whoever asks gives up by itself.
    pub(super) deadline: Instant,
    /// Who asks.
    pub(super) reply: oneshot::Sender<PullReply>,
}

/// What a pull brings.
pub(super) type PullReply = Result<Arc<Answer>, PullError>;

/// Why a pull has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PullError {
    /// The connection ended first.
    #[error("the connection closed")]
    Closed,
    /// No answer before the deadline.
    #[error("no answer before the scrape's deadline")]
    Timeout,
    /// Too much waits for this connection already, or its lease is used up.
    #[error("the application does not take requests fast enough")]
    Busy,
    /// There is no memory to hold the answer (`--rsocket.max-unfinished`).
    #[error("there is no memory to hold the answer")]
    Memory,
    /// The application answered with an error.
    #[error(transparent)]
    Stream(#[from] StreamError),
}

/// An application's answer, opened once however many wait for it.
#[derive(Debug)]
pub struct Answer {
    /// Gone once it is opened.
    sealed: Mutex<Option<Sealed>>,
    key: Key,
    opened: OnceCell<Result<Arc<Opened>, Unusable>>,
}

impl Answer {
    pub(super) fn new(sealed: Sealed, key: Key) -> Self {
        Self {
            sealed: Mutex::new(Some(sealed)),
            key,
            opened: OnceCell::new(),
        }
    }

    /// The text, opened with the key that the request announced.
    pub async fn open(&self, opener: &Opener) -> Result<Arc<Opened>, Unusable> {
        let open = async || {
            let sealed = self.sealed().clone().ok_or(Unusable::Aborted)?;
            let opened = opener.open(sealed, std::slice::from_ref(&self.key));
            opened.await.map(Arc::new)
        };
        let opened = self.opened.get_or_init(open).await.clone();
        self.sealed().take();
        opened
    }

    fn sealed(&self) -> MutexGuard<'_, Option<Sealed>> {
        self.sealed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
