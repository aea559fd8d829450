//! Files that are read again when they change: certificates, and what says who may ask over HTTP.

use std::fmt::Display;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::{Instant, interval_at};
use tracing::{error, info};

use crate::metrics::Reloads;

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

    /// When the certificate ends that is among the files, in seconds since 1970.
    fn certificate_ends(&self) -> Option<i64> {
        None
    }
}

/// Looks at `source` for ever, and tells of it after each look. What is of no use is logged, once.
///
/// `what` and `file` are words for the log.
pub(crate) async fn follow<S: Source>(
    mut source: S,
    what: &'static str,
    file: String,
    reloads: Reloads,
    tell: impl Fn(&S),
) {
    let mut looks = interval_at(Instant::now() + LOOK_EVERY, LOOK_EVERY);
    let mut failing = None;
    reloads.certificate_ends(source.certificate_ends());
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
                    reloads.taken();
                }
                None
            }
            Err(why) => Some(why.to_string()),
        };
        reloads.is_in_force(failed.is_none());
        reloads.certificate_ends(source.certificate_ends());
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

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;
    use crate::metrics::{File, Metrics};

    type Look = Result<bool, &'static str>;

    /// Finds one thing after the other, then nothing new.
    struct Script(std::vec::IntoIter<Look>);

    impl Source for Script {
        type Error = &'static str;

        fn look(&mut self) -> Look {
            self.0.next().unwrap_or(Ok(false))
        }

        fn certificate_ends(&self) -> Option<i64> {
            Some(self.0.len() as i64)
        }
    }

    /// Follows a script; the next look is half an interval away.
    async fn followed(looks: Vec<Look>) -> Metrics {
        let metrics = Metrics::new().unwrap();
        let reloads = metrics.reloads(File::WebConfig);
        let script = Script(looks.into_iter());
        tokio::spawn(follow(script, "script", "a".into(), reloads, |_| {}));
        sleep(LOOK_EVERY / 2).await;
        metrics
    }

    fn value(metrics: &Metrics, series: &str) -> f64 {
        let text = metrics.render().unwrap();
        let mut lines = text.lines();
        let value = lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.expect(series).parse().unwrap()
    }

    const SUCCESSFUL: &str = "prometheus_proxy_config_last_reload_successful{file=\"web_config\"}";

    #[tokio::test(start_paused = true)]
    async fn metrics_say_what_is_in_force() {
        let metrics = followed(vec![Ok(true), Err("cut"), Err("cut"), Ok(false)]).await;
        let ends = "prometheus_proxy_certificate_expiry_timestamp_seconds{use=\"web\"}";
        let mut said = Vec::new();
        for _ in 0..5 {
            said.push((value(&metrics, SUCCESSFUL), value(&metrics, ends)));
            sleep(LOOK_EVERY).await;
        }
        assert_eq!(
            said,
            [(1.0, 4.0), (1.0, 3.0), (0.0, 2.0), (0.0, 1.0), (1.0, 0.0)]
        );
        let taken =
            "prometheus_proxy_config_last_reload_success_timestamp_seconds{file=\"web_config\"}";
        assert!(value(&metrics, taken) > 1.0e9);
    }
}
