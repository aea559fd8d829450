//! Files that are read again when they change: certificates, and what says who may ask over HTTP.

use std::fmt::Display;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::{Instant, interval_at};
use tracing::{error, info};

/// How often files are looked at. Not when the system reports a change: it reports none for network mounts, and for what
/// Kubernetes mounts one of a symbolic link two directories away.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Longer files are no certificates, and no configuration.
pub(crate) const MAX_FILE: u64 = 1 << 20;

/// Something made from files.
pub(crate) trait Source: Send + 'static {
    /// Why what the files hold now is of no use: one line.
    type Error: Display + Send;

    /// Reads the files; whether they changed. On an error, what was made before stays.
    fn look(&mut self) -> Result<bool, Self::Error>;
}

/// Looks at `source` for ever, and tells of it after each look. What is of no use is logged, once.
///
/// `what` and `file` are words for the log.
pub(crate) async fn follow<S: Source>(
    mut source: S,
    what: &'static str,
    file: String,
    tell: impl Fn(&S),
) {
    let mut looks = interval_at(Instant::now() + LOOK_EVERY, LOOK_EVERY);
    let mut failing = None;
    loop {
        looks.tick().await;
        let look = move || {
            let changed = source.look();
            (source, changed)
        };
        let Ok((looked, changed)) = spawn_blocking(look).await else {
            return;
        };
        source = looked;
        tell(&source);
        let failed = match changed {
            Ok(changed) => {
                if changed {
                    info!(file, "{what} read again");
                }
                None
            }
            Err(why) => Some(why.to_string()),
        };
        if let Some(why) = failed.as_ref().filter(|_| failed != failing) {
            error!(file, error = why, "keeping the last good {what}");
        }
        failing = failed;
    }
}

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("{0}")]
    Unreadable(#[from] io::Error),
    #[error("longer than {MAX_FILE} bytes")]
    TooLong,
    #[error("is not UTF-8")]
    Text,
}

/// A whole file, which is no longer than [`MAX_FILE`].
pub(crate) fn read_bounded(path: &Path) -> Result<Vec<u8>, ReadError> {
    if fs::metadata(path)?.len() > MAX_FILE {
        return Err(ReadError::TooLong);
    }
    Ok(fs::read(path)?)
}

/// As [`read_bounded`], for text.
pub(crate) fn read_text(path: &Path) -> Result<String, ReadError> {
    String::from_utf8(read_bounded(path)?).map_err(|_| ReadError::Text)
}
