//! Which targets there are: those of the command line, and those of files, which are read again when they change.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use prometheus_rsocket_exposition::Labels;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::{info, warn};

use super::file_sd;
use super::target::{Spec, Target, TargetError};

/// Bytes of one file.
const MAX_FILE: u64 = 16 << 20;
/// Files are read again after this. Not when the system reports a change: it reports none for network mounts, and for
/// Kubernetes' ConfigMaps one of a symbolic link two directories away.
const EVERY: Duration = Duration::from_secs(5);

/// All targets of the moment, in the order of the command line, then of the files.
pub(super) type Targets = Arc<[Arc<Target>]>;

/// Where targets are listed.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// On the command line.
    pub targets: Vec<Spec>,
    /// In files of Prometheus' `file_sd` format.
    pub files: Vec<PathBuf>,
    /// The label with a target's address that its samples are given, if any.
    pub address_label: Option<String>,
    /// The most targets there may be.
    pub max_targets: usize,
}

/// Why there are no targets to begin with.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A target of the command line.
    #[error("--target {0}: {1}")]
    Target(String, TargetError),
    /// A file that cannot be read or used.
    #[error("--targets-file {path}: {reason}")]
    File {
        /// Which file.
        path: String,
        /// Why, with the line where there is one.
        reason: String,
    },
    /// More than may be.
    #[error("{0} targets are more than --max-targets={1}")]
    TooMany(usize, usize),
}

/// What the sources list.
#[derive(Debug)]
pub(super) struct Lists {
    fixed: Vec<Arc<Target>>,
    files: Vec<Listed>,
    address_label: Option<String>,
    max_targets: usize,
}

/// What one file lists.
#[derive(Debug)]
struct Listed {
    path: PathBuf,
    /// What was read last: the text, or why there was none.
    read: Result<String, String>,
    /// Of the last text that could be used.
    targets: Vec<Arc<Target>>,
}

impl Lists {
    /// Reads every source; one that cannot be used is an error.
    pub(super) fn read(sources: Sources) -> Result<Self, SourceError> {
        let label = sources.address_label.as_deref();
        let fixed: Result<Vec<_>, _> = sources
            .targets
            .into_iter()
            .map(|spec| {
                let url = spec.to_string();
                let target = Target::new(spec, label);
                target
                    .map(Arc::new)
                    .map_err(|error| SourceError::Target(url, error))
            })
            .collect();
        let files: Result<Vec<_>, _> = sources
            .files
            .into_iter()
            .map(|path| Listed::read(path, label))
            .collect();
        Ok(Self {
            fixed: fixed?,
            files: files?,
            address_label: sources.address_label,
            max_targets: sources.max_targets,
        })
    }

    /// All of them; one that is listed twice counts once.
    pub(super) fn targets(&self) -> Result<Targets, SourceError> {
        let mut all: Vec<Arc<Target>> = Vec::new();
        let mut seen = BTreeSet::new();
        let listed = self.files.iter().flat_map(|file| &file.targets);
        for target in self.fixed.iter().chain(listed) {
            if seen.insert(target.up()) {
                all.push(Arc::clone(target));
            }
        }
        if all.len() > self.max_targets {
            return Err(SourceError::TooMany(all.len(), self.max_targets));
        }
        Ok(all.into())
    }

    /// Reads the files again; whether any lists something else now.
    fn refresh(&mut self) -> bool {
        let label = self.address_label.as_deref();
        let mut changed = false;
        for file in &mut self.files {
            changed |= file.refresh(label);
        }
        changed
    }
}

impl Listed {
    fn read(path: PathBuf, address_label: Option<&str>) -> Result<Self, SourceError> {
        let mut file = Self {
            path,
            read: Ok(String::new()),
            targets: Vec::new(),
        };
        let read = file.text().and_then(|text| {
            file.list(&text, address_label)?;
            Ok(text)
        });
        match read {
            Ok(text) => {
                file.read = Ok(text);
                Ok(file)
            }
            Err(reason) => Err(SourceError::File {
                path: file.path.display().to_string(),
                reason,
            }),
        }
    }

    fn text(&self) -> Result<String, String> {
        let read = || -> std::io::Result<String> {
            let mut text = String::new();
            let mut file = File::open(&self.path)?.take(MAX_FILE + 1);
            file.read_to_string(&mut text)?;
            Ok(text)
        };
        let text = read().map_err(|error| error.to_string())?;
        if text.len() as u64 > MAX_FILE {
            return Err(format!("longer than {MAX_FILE} bytes"));
        }
        Ok(text)
    }

    /// Takes the targets of the text. Those that were there before stay, with what is known of them.
    fn list(&mut self, text: &str, address_label: Option<&str>) -> Result<(), String> {
        let new = file_sd::parse(text, address_label).map_err(|error| error.to_string())?;
        let known: BTreeMap<&Labels, &Arc<Target>> =
            self.targets.iter().map(|old| (old.up(), old)).collect();
        let targets = new.into_iter().map(|target| match known.get(target.up()) {
            Some(old) if old.is_same(&target) => Arc::clone(old),
            _ => Arc::new(target),
        });
        self.targets = targets.collect();
        Ok(())
    }

    /// Whether the file lists something else than the last time it could be used. If it cannot be used, what it listed
    /// stays, and the reason is logged once.
    fn refresh(&mut self, address_label: Option<&str>) -> bool {
        let read = self.text();
        if read == self.read {
            return false;
        }
        let listed = match &read {
            Ok(text) => self.list(text, address_label),
            Err(reason) => Err(reason.clone()),
        };
        self.read = read;
        let file = self.path.display();
        match listed {
            Ok(()) => info!(%file, targets = self.targets.len(), "targets file read"),
            Err(reason) => {
                warn!(%file, reason, targets = self.targets.len(), "targets file cannot be used, its last targets stay");
                return false;
            }
        }
        true
    }
}

/// Reads the files again and again, and tells what changes, until nobody listens.
pub(super) async fn follow(mut lists: Lists, targets: watch::Sender<Targets>) {
    while !lists.files.is_empty() && !targets.is_closed() {
        sleep(EVERY).await;
        let refreshed = spawn_blocking(move || {
            let changed = lists.refresh();
            (lists, changed)
        });
        // Fails only while the runtime stops.
        let Ok((read, changed)) = refreshed.await else {
            return;
        };
        lists = read;
        if !changed {
            continue;
        }
        match lists.targets() {
            Ok(all) => drop(targets.send_replace(all)),
            Err(error) => warn!(%error, "targets stay as they were"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lists(targets: &[&str], max_targets: usize) -> Lists {
        let sources = Sources {
            targets: targets.iter().map(|spec| spec.parse().unwrap()).collect(),
            max_targets,
            ..Sources::default()
        };
        Lists::read(sources).unwrap()
    }

    fn file(list: &str) -> Listed {
        let mut file = Listed {
            path: PathBuf::from("gone"),
            read: Ok(list.into()),
            targets: Vec::new(),
        };
        file.list(list, None).unwrap();
        file
    }

    #[test]
    fn a_target_listed_twice_counts_once_and_labels_make_another_of_it() {
        let mut lists = lists(&["http://a:1", "http://a:1/metrics", "http://a:1,x=1"], 3);
        lists.files.push(file("- targets: ['a:1', 'b:1']"));
        let ups = |lists: &Lists| -> Vec<String> {
            let targets = lists.targets().unwrap();
            targets
                .iter()
                .map(|target| target.up().to_string())
                .collect()
        };
        assert_eq!(
            ups(&lists),
            [
                r#"{instance="a:1",target="http://a:1/metrics"}"#,
                r#"{instance="a:1",target="http://a:1/metrics",x="1"}"#,
                r#"{instance="b:1",target="http://b:1/metrics"}"#,
            ]
        );
        lists.max_targets = 2;
        assert!(matches!(lists.targets(), Err(SourceError::TooMany(3, 2))));
    }

    #[test]
    fn a_target_that_a_changed_file_still_lists_stays_what_it_was() {
        let mut file = file("- targets: [a, b]");
        let before = Arc::clone(&file.targets[1]);
        file.list("- targets: [b, c]", None).unwrap();
        assert!(Arc::ptr_eq(&file.targets[0], &before));
        assert_eq!(file.targets.len(), 2);
        assert!(file.list("- targets: b", None).is_err());
        assert_eq!(file.targets.len(), 2);
    }

    #[test]
    fn a_file_that_is_gone_leaves_its_targets() {
        let mut file = file("- targets: [a]");
        assert!(!file.refresh(None));
        assert!(file.read.is_err());
        assert_eq!(file.targets.len(), 1);
    }
}
