//! Files that are read again when they change.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, interval_at};
use tracing::{error, info};

use crate::metrics::Reloads;

/// How often files are looked at. Not when the system reports a change: it reports none for network mounts, and for what
/// Kubernetes mounts one of a symbolic link two directories away.
///
/// A change is taken by the second look that finds it: within 5 seconds, as the manual says.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Until the next look after one that panicked.
const AFTER_PANIC: Duration = Duration::from_secs(60);

/// By what somebody has all files of a node read at once.
#[derive(Debug, Default)]
pub(crate) struct Rereads(watch::Sender<()>);

impl Rereads {
    /// Has them read. Gives how many [`Source`]s there are.
    pub(crate) fn ask(&self) -> usize {
        self.0.send_replace(());
        self.0.receiver_count()
    }

    /// What [`Followed::run`] is told by.
    pub(crate) fn asked(&self) -> watch::Receiver<()> {
        self.0.subscribe()
    }
}

/// What a look has found. Of several files, the last that applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Found {
    /// Nothing new.
    Same,
    /// Something new, which is in force now.
    Taken,
    /// Something new, for the next look to take.
    Unsettled,
}

/// What a file held when it was taken. Something new counts when two looks in a row find the same: who writes a file in
/// place empties it first, and half a file may well be valid.
#[derive(Clone)]
pub(crate) struct Settled<T> {
    taken: T,
    seen: Option<T>,
}

impl<T: Clone + PartialEq> Settled<T> {
    pub(crate) fn new(taken: T) -> Self {
        Self { taken, seen: None }
    }

    /// What to do about what a look has found; [`Found::Taken`]: take it.
    pub(crate) fn look(&mut self, found: &T) -> Found {
        if *found == self.taken {
            self.seen = None;
            Found::Same
        } else if self.seen.as_ref() == Some(found) {
            Found::Taken
        } else {
            self.seen = Some(found.clone());
            Found::Unsettled
        }
    }

    pub(crate) fn take(&mut self, found: T) {
        self.taken = found;
        self.seen = None;
    }

    pub(crate) fn taken(&self) -> &T {
        &self.taken
    }
}

/// What is made from files, and made again when they change.
pub(crate) trait Source: Clone + Send + 'static {
    /// What the rest of the program takes from it.
    type Value: Send + Sync + 'static;
    /// Why what the files hold now is not taken: one line.
    type Error: Display + Send;
    /// The name of it in the log.
    const NAME: &'static str;

    /// Reads the files, and takes what has changed. On an error, what was made before stays.
    fn look(&mut self) -> Result<Found, Self::Error>;

    /// What is in force. A new `Arc` each time that it changes, and only then.
    fn value(&self) -> &Arc<Self::Value>;

    /// The file that the log names.
    fn file(&self) -> String;

    /// When the certificate ends that is among the files, in seconds since 1970.
    fn certificate_ends(&self) -> Option<i64> {
        None
    }
}

/// Files to be read again when they change.
pub(crate) struct Followed<S: Source> {
    source: S,
    value: watch::Sender<Arc<S::Value>>,
}

impl<S: Source> Followed<S> {
    /// With what is in force, which changes while [`Followed::run`] does.
    pub(crate) fn new(source: S) -> (watch::Receiver<Arc<S::Value>>, Self) {
        let (value, receiver) = watch::channel(Arc::clone(source.value()));
        (receiver, Self { source, value })
    }

    /// Reads the files when they change or that is `asked`, until the program ends. An error is logged once, and what was in force stays.
    pub(crate) async fn run(self, reloads: Reloads, mut asked: watch::Receiver<()>) {
        let Self { mut source, value } = self;
        let file = source.file();
        let mut looks = interval_at(Instant::now() + LOOK_EVERY, LOOK_EVERY);
        let mut failing = None;
        reloads.certificate_ends(source.certificate_ends());
        loop {
            let at_once = tokio::select! {
                _ = looks.tick() => false,
                Ok(()) = asked.changed() => true,
            };
            let failed = match look(&source).await {
                None => return,
                Some(Err(Panicked)) => {
                    looks.reset_after(AFTER_PANIC);
                    Some(Panicked.to_string())
                }
                Some(Ok((looked, found))) => {
                    source = looked;
                    tell(&value, source.value());
                    reloads.certificate_ends(source.certificate_ends());
                    match found {
                        Ok(Found::Unsettled) => {
                            // Who asks for it has written it whole.
                            if at_once {
                                looks.reset_immediately();
                            }
                            continue;
                        }
                        Ok(Found::Same) => None,
                        Ok(Found::Taken) => {
                            info!(file, "{} reloaded", S::NAME);
                            reloads.taken();
                            None
                        }
                        Err(why) => Some(why.to_string()),
                    }
                }
            };
            reloads.is_in_force(failed.is_none());
            if let Some(why) = failed.as_ref().filter(|_| failed != failing) {
                error!(file, error = why, "keeping the last good {}", S::NAME);
            }
            failing = failed;
        }
    }
}

fn tell<T>(told: &watch::Sender<Arc<T>>, latest: &Arc<T>) {
    told.send_if_modified(|told| {
        let changed = !Arc::ptr_eq(told, latest);
        *told = Arc::clone(latest);
        changed
    });
}

/// What reads a file is wrong, not the file alone.
#[derive(Debug, thiserror::Error)]
#[error("reading it again failed, which is a bug")]
struct Panicked;

/// One look, by a copy of `source`, so that what was made before outlives a panic. `None`: the program ends.
async fn look<S: Source>(source: &S) -> Option<Result<(S, Result<Found, S::Error>), Panicked>> {
    let mut source = source.clone();
    let look = spawn_blocking(move || {
        let found = source.look();
        (source, found)
    });
    match look.await {
        Ok(looked) => Some(Ok(looked)),
        Err(ended) if ended.is_panic() => Some(Err(Panicked)),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::time::sleep;

    use super::*;
    use crate::metrics::{ConfigFile, FileMetrics, OwnMetrics};

    type Look = Result<Found, &'static str>;

    /// Finds one thing after the other, then nothing new.
    #[derive(Clone)]
    struct Script(std::vec::IntoIter<Look>);

    static NOTHING: LazyLock<Arc<()>> = LazyLock::new(Arc::default);

    impl Source for Script {
        type Value = ();
        type Error = &'static str;
        const NAME: &'static str = "script";

        fn value(&self) -> &Arc<()> {
            &NOTHING
        }

        fn file(&self) -> String {
            "a".into()
        }

        fn look(&mut self) -> Look {
            self.0.next().unwrap_or(Ok(Found::Same))
        }

        fn certificate_ends(&self) -> Option<i64> {
            Some(self.0.len() as i64)
        }
    }

    /// Follows a script; the next look is half an interval away.
    async fn followed(looks: Vec<Look>, rereads: &Rereads) -> OwnMetrics {
        let own = OwnMetrics::new().unwrap();
        let files = FileMetrics::register(&own).unwrap();
        let reloads = files.reloads(ConfigFile::WebConfig);
        let (_, script) = Followed::new(Script(looks.into_iter()));
        tokio::spawn(script.run(reloads, rereads.asked()));
        sleep(LOOK_EVERY / 2).await;
        own
    }

    fn value(own: &OwnMetrics, series: &str) -> f64 {
        let text = own.render().unwrap();
        let mut lines = text.lines();
        let value = lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.expect(series).parse().unwrap()
    }

    const SUCCESSFUL: &str = "prometheus_proxy_config_last_reload_successful{file=\"web_config\"}";

    #[tokio::test(start_paused = true)]
    async fn metrics_say_what_is_in_force() {
        let looks = vec![
            Ok(Found::Taken),
            Err("cut"),
            Ok(Found::Unsettled),
            Ok(Found::Same),
        ];
        let own = followed(looks, &Rereads::default()).await;
        let ends = "prometheus_proxy_certificate_expiry_timestamp_seconds{use=\"web\"}";
        let mut said = Vec::new();
        for _ in 0..5 {
            said.push((value(&own, SUCCESSFUL), value(&own, ends)));
            sleep(LOOK_EVERY).await;
        }
        assert_eq!(
            said,
            [(1.0, 4.0), (1.0, 3.0), (0.0, 2.0), (0.0, 1.0), (1.0, 0.0)]
        );
        let taken =
            "prometheus_proxy_config_last_reload_success_timestamp_seconds{file=\"web_config\"}";
        assert!(value(&own, taken) > 1.0e9);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_asked_for_is_read_at_once() {
        let rereads = Rereads::default();
        let own = followed(vec![Ok(Found::Unsettled), Ok(Found::Taken)], &rereads).await;
        let looks_left = "prometheus_proxy_certificate_expiry_timestamp_seconds{use=\"web\"}";
        assert_eq!(value(&own, looks_left), 2.0);
        assert_eq!(rereads.ask(), 1);
        sleep(LOOK_EVERY / 4).await;
        assert_eq!(value(&own, looks_left), 0.0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_leaves_the_last_good_in_force_and_is_got_over() {
        #[derive(Clone)]
        struct Fragile(Arc<AtomicUsize>, Arc<usize>);
        impl Source for Fragile {
            type Value = usize;
            type Error = &'static str;
            const NAME: &'static str = "script";
            fn look(&mut self) -> Look {
                let look = self.0.fetch_add(1, Ordering::Relaxed);
                self.1 = Arc::new(look);
                assert!(look != 1, "the second look");
                Ok(Found::Taken)
            }
            fn value(&self) -> &Arc<usize> {
                &self.1
            }
            fn file(&self) -> String {
                "a".into()
            }
        }
        let own = OwnMetrics::new().unwrap();
        let files = FileMetrics::register(&own).unwrap();
        let reloads = files.reloads(ConfigFile::WebConfig);
        let (good, fragile) = Followed::new(Fragile(Arc::default(), Arc::new(9)));
        tokio::spawn(fragile.run(reloads, Rereads::default().asked()));
        sleep(LOOK_EVERY / 2).await;
        for (pause, number, successful) in [
            (LOOK_EVERY, 0, 1.0),
            (LOOK_EVERY, 0, 0.0),
            (AFTER_PANIC - LOOK_EVERY, 0, 0.0),
            (LOOK_EVERY, 2, 1.0),
        ] {
            sleep(pause).await;
            assert_eq!(
                (**good.borrow(), value(&own, SUCCESSFUL)),
                (number, successful)
            );
        }
    }

    #[test]
    fn half_a_file_is_not_taken() {
        let mut file = Settled::new("whole");
        for (found, expected) in [
            ("whole", Found::Same),
            ("", Found::Unsettled),
            ("wh", Found::Unsettled),
            ("whole", Found::Same),
            ("", Found::Unsettled),
            ("", Found::Taken),
        ] {
            assert_eq!(file.look(&found), expected, "{found}");
        }
        file.take("");
        assert_eq!(file.look(&""), Found::Same);
    }
}
