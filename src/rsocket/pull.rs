//! What comes of asking an application for its text.

use std::future::ready;
use std::sync::{Arc, OnceLock};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use prometheus_rsocket_wire::session::StreamError;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::keys::Key;
use super::opener::{Keep, OpenFailure, Opened, Opener, Sealed};
use crate::directory::ApplicationId;

/// Asks a connection's task for the application's text.
#[derive(Debug)]
pub(super) struct PullRequest {
    /// Whose; `None`: of all for whom it answers.
    pub(super) target: Option<ApplicationId>,
    /// Told to the application; the scrape gives up by itself.
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
    #[error("no memory to hold the answer (--rsocket.max-unfinished)")]
    Memory,
    /// The application answered with an error.
    #[error(transparent)]
    Stream(#[from] StreamError),
}

/// An application's answer, opened once however many wait for it: begun for the first of them, and gone on with when that
/// one gives up. An envelope of version 2 would not open a second time.
#[derive(Debug)]
pub struct Answer {
    /// Gone once it is being opened.
    sealed: Mutex<Option<Sealed>>,
    key: Key,
    /// No single target was meant.
    pub(crate) of_all: bool,
    opening: OnceLock<Opening>,
}

type Opening = Shared<BoxFuture<'static, Result<Arc<Opened>, OpenFailure>>>;

impl Answer {
    pub(super) fn new(sealed: Sealed, key: Key, of_all: bool) -> Self {
        Self {
            of_all,
            sealed: Mutex::new(Some(sealed)),
            key,
            opening: OnceLock::new(),
        }
    }

    /// The text, opened with the key that the request announced. What is kept, the first one says that asks.
    pub async fn open(&self, opener: &Opener, keep: Keep) -> Result<Arc<Opened>, OpenFailure> {
        let opening = self.opening.get_or_init(|| self.begin(opener, keep));
        opening.clone().await
    }

    fn begin(&self, opener: &Opener, keep: Keep) -> Opening {
        let mut sealed = self.sealed.lock();
        let opening = match sealed.take() {
            Some(sealed) => opener.open_answer(sealed, self.key.clone(), keep).boxed(),
            // It is there the first time, and there is no second one.
            None => ready(Err(OpenFailure::Aborted)).boxed(),
        };
        opening.shared()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use prometheus_rsocket_wire::ConnectionToken;
    use prometheus_rsocket_wire::envelope::version2::{Purpose, Sealer};
    use prometheus_rsocket_wire::key::{KeyPair, PublicKey};

    use super::super::opener::tests::{opener, sealed};
    use super::*;

    /// An answer in an envelope that opens once.
    fn answer(text: &str) -> Answer {
        let pair = Arc::new(KeyPair::generate().unwrap());
        let public = PublicKey::from_spki_der(&pair.spki_der()).unwrap();
        let token = ConnectionToken::random();
        let purpose = Purpose::Answer { pull: 0 };
        let payload = Sealer::new(token).seal(text.as_bytes(), &public, purpose, Instant::now());
        let sealed = sealed(payload.unwrap().into(), token, purpose);
        Answer::new(sealed, Key::Pair(pair), true)
    }

    #[tokio::test]
    async fn who_gives_up_does_not_spoil_the_answer_for_others() {
        // A pair of Prometheis with different timeouts: the envelope was opened for the first, and refused as replayed to
        // the second.
        let answer = answer("up 1\n");
        let opener = opener(1, 1 << 20);
        let mut first = Box::pin(answer.open(&opener, Keep::Text));
        assert!((&mut first).now_or_never().is_none());
        drop(first);
        let opened = answer.open(&opener, Keep::Text).await.unwrap();
        assert_eq!(opened.exposition.text(), "up 1\n".as_bytes());
        assert_eq!(opened.envelope, "2");
    }
}
