//! Which targets there are: those of the command line, those of a configuration, and those of files that either of them
//! names. All files are read again when they change.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use prometheus_rsocket_exposition::Labels;
use tokio::sync::{Notify, watch};
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::{info, warn};

use super::config::{self, Parsed};
use super::file_sd;
use super::files::{matching, read};
use super::job::{Job, JobSettings};
use super::resolver::Resolver;
use super::target::{Spec, Target, TargetError};

/// Files are read again after this. Not when the system reports a change: it reports none for network mounts, and for
/// Kubernetes' ConfigMaps one of a symbolic link two directories away.
const EVERY: Duration = Duration::from_secs(5);

/// All targets of the moment, in the order of the command line, then of the configuration.
pub(super) type Targets = Arc<[Arc<Target>]>;

/// Where targets are listed.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// On the command line.
    pub targets: Vec<Spec>,
    /// In files of Prometheus' `file_sd` format; the last part of a path may have `*`.
    pub files: Vec<PathBuf>,
    /// In a file with `scrape_configs`.
    pub config: Option<PathBuf>,
    /// The most targets there may be.
    pub max_targets: usize,
}

/// Why there are no targets to begin with.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A target of the command line.
    #[error("--target {0}: {1}")]
    Target(String, TargetError),
    /// A file that cannot be read or used: which, and why.
    #[error("--targets-file {0}")]
    File(String),
    /// The configuration, or a file that it names: which, and why.
    #[error("--config.file {0}")]
    Config(String),
    /// More than may be.
    #[error("{0} targets are more than --max-targets={1}")]
    TooMany(usize, usize),
    /// TLS of the system cannot be set up.
    #[error("TLS: {0}")]
    Tls(String),
}

/// What the sources list.
#[derive(Debug)]
pub(super) struct Lists {
    defaults: JobSettings,
    resolver: Resolver,
    own: List,
    config: Option<Config>,
    max_targets: usize,
}

/// The configuration, and what it said when it was last of use.
#[derive(Debug)]
struct Config {
    path: PathBuf,
    text: String,
    lists: Vec<List>,
    /// Why what it says now cannot be used.
    problem: Option<String>,
}

/// The targets of one job.
#[derive(Debug)]
struct List {
    job: Arc<Job>,
    fixed: Vec<Arc<Target>>,
    patterns: Vec<PathBuf>,
    files: Vec<Listed>,
}

/// What one file lists.
#[derive(Debug, Clone)]
struct Listed {
    path: PathBuf,
    /// What was read last: the text, or why there was none.
    read: Result<String, String>,
    /// Of the last text that could be used.
    targets: Vec<Arc<Target>>,
}

impl Lists {
    /// Reads every source; one that cannot be used is an error.
    pub(super) fn read(sources: Sources, defaults: JobSettings) -> Result<Self, SourceError> {
        let resolver = Resolver::new();
        let job = Job::new(defaults.clone(), &resolver).map_err(SourceError::Tls)?;
        let job = Arc::new(job);
        let fixed: Result<Vec<_>, _> = sources
            .targets
            .into_iter()
            .map(|spec| {
                let url = spec.to_string();
                let target = Target::new(spec, Arc::clone(&job));
                target
                    .map(Arc::new)
                    .map_err(|error| SourceError::Target(url, error))
            })
            .collect();
        let mut own = List {
            job,
            fixed: fixed?,
            patterns: sources.files,
            files: Vec::new(),
        };
        own.read_files(&Known::default())
            .map_err(SourceError::File)?;
        let mut lists = Self {
            defaults,
            resolver,
            own,
            config: None,
            max_targets: sources.max_targets,
        };
        if let Some(path) = sources.config {
            let at = |reason| SourceError::Config(format!("{}: {reason}", path.display()));
            let text = read(&path).map_err(at)?;
            let made = lists.jobs(&path, &text, &[]).map_err(at)?;
            lists.config = Some(Config {
                path,
                text,
                lists: made,
                problem: None,
            });
        }
        Ok(lists)
    }

    /// All of them; one that is listed twice counts once.
    pub(super) fn targets(&self) -> Result<Targets, SourceError> {
        let mut all: Vec<Arc<Target>> = Vec::new();
        let mut seen = BTreeSet::new();
        let of_config = self.config.iter().flat_map(|config| &config.lists);
        for target in std::iter::once(&self.own)
            .chain(of_config)
            .flat_map(List::targets)
        {
            if seen.insert(target.up()) {
                all.push(Arc::clone(target));
            }
        }
        if all.len() > self.max_targets {
            return Err(SourceError::TooMany(all.len(), self.max_targets));
        }
        Ok(all.into())
    }

    /// Whether there is nothing to read again.
    pub(super) fn are_fixed(&self) -> bool {
        self.own.patterns.is_empty() && self.config.is_none()
    }

    /// Reads the files again; whether any lists something else now.
    fn refresh(&mut self) -> bool {
        let mut changed = self.own.refresh();
        if let Some(mut config) = self.config.take() {
            changed |= self.reconfigure(&mut config);
            for list in &mut config.lists {
                changed |= list.refresh();
            }
            self.config = Some(config);
        }
        changed
    }

    /// Reads the configuration again, and takes it where it, or a certificate that it names, has changed. If it cannot be
    /// used, what it said before stays, and the reason is logged once.
    fn reconfigure(&self, config: &mut Config) -> bool {
        let text = read(&config.path);
        let unchanged = text.as_ref() == Ok(&config.text)
            && config
                .lists
                .iter()
                .all(|list| list.job.is_same(&list.job.settings));
        if unchanged {
            config.problem = None;
            return false;
        }
        let made = text.and_then(|text| {
            let lists = self.jobs(&config.path, &text, &config.lists)?;
            Ok((text, lists))
        });
        let file = config.path.display();
        match made {
            Ok((text, lists)) => {
                info!(%file, jobs = lists.len(), "configuration read");
                config.text = text;
                config.lists = lists;
                config.problem = None;
                true
            }
            Err(reason) => {
                if config.problem.as_ref() != Some(&reason) {
                    warn!(%file, reason, "cannot use the changed configuration, keeping the last valid one");
                    config.problem = Some(reason);
                }
                false
            }
        }
    }

    /// The jobs of a configuration, with what `before` knows of them.
    fn jobs(&self, path: &Path, text: &str, before: &[List]) -> Result<Vec<List>, String> {
        let directory = path.parent().unwrap_or(Path::new(""));
        let parsed = config::parse(text, directory, &self.defaults);
        let parsed = parsed.map_err(|error| error.to_string())?;
        let lists = parsed.into_iter().map(|parsed| self.job(parsed, before));
        lists.collect()
    }

    fn job(&self, parsed: Parsed, before: &[List]) -> Result<List, String> {
        let Parsed {
            settings,
            groups,
            files,
        } = parsed;
        let before = before
            .iter()
            .find(|list| list.job.settings.name == settings.name);
        let job = match before {
            Some(list) if list.job.is_same(&settings) => Arc::clone(&list.job),
            _ => Arc::new(Job::new(settings, &self.resolver)?),
        };
        let known = before.map(List::known).unwrap_or_default();
        let fixed = file_sd::targets(&groups, &job).map_err(|error| error.to_string())?;
        let mut list = List {
            job,
            fixed: known.keep(fixed),
            patterns: files,
            files: Vec::new(),
        };
        match before {
            // One that cannot be used at the moment does not keep the others from changing.
            Some(before)
                if Arc::ptr_eq(&before.job, &list.job) && before.patterns == list.patterns =>
            {
                list.files.clone_from(&before.files);
            }
            _ => list.read_files(&known)?,
        }
        Ok(list)
    }
}

/// Targets that there were before, by the labels of their `up`.
#[derive(Default)]
struct Known(BTreeMap<Labels, Arc<Target>>);

impl Known {
    fn of<'t>(targets: impl Iterator<Item = &'t Arc<Target>>) -> Self {
        Self(
            targets
                .map(|target| (target.up().clone(), Arc::clone(target)))
                .collect(),
        )
    }

    /// The targets, those that were there before with what is known of them.
    fn keep(&self, targets: Vec<Target>) -> Vec<Arc<Target>> {
        let targets = targets.into_iter();
        let kept = targets.map(|target| match self.0.get(target.up()) {
            Some(before) if before.is_same(&target) => Arc::clone(before),
            Some(before) => Arc::new(target.after(before)),
            None => Arc::new(target),
        });
        kept.collect()
    }
}

impl List {
    fn targets(&self) -> impl Iterator<Item = &Arc<Target>> {
        let listed = self.files.iter().flat_map(|file| &file.targets);
        self.fixed.iter().chain(listed)
    }

    fn known(&self) -> Known {
        Known::of(self.targets())
    }

    /// Reads the files for the first time. The error names the one that cannot be used.
    fn read_files(&mut self, known: &Known) -> Result<(), String> {
        for path in self.paths()? {
            let mut file = Listed::new(path);
            file.read_first(&self.job, known)
                .map_err(|reason| format!("{}: {reason}", file.path.display()))?;
            self.files.push(file);
        }
        Ok(())
    }

    /// Every file that is meant now.
    fn paths(&self) -> Result<BTreeSet<PathBuf>, String> {
        let mut paths = BTreeSet::new();
        for pattern in &self.patterns {
            let matching = matching(pattern);
            paths.extend(matching.map_err(|reason| format!("{}: {reason}", pattern.display()))?);
        }
        Ok(paths)
    }

    /// Reads the files again; whether any lists something else now.
    fn refresh(&mut self) -> bool {
        let paths = match self.paths() {
            Ok(paths) => paths,
            Err(reason) => {
                warn!(
                    reason,
                    "cannot list targets files, keeping the last targets"
                );
                self.files.iter().map(|file| file.path.clone()).collect()
            }
        };
        let mut before: BTreeMap<PathBuf, Listed> = std::mem::take(&mut self.files)
            .into_iter()
            .map(|file| (file.path.clone(), file))
            .collect();
        let mut changed = false;
        for path in paths {
            let mut file = before.remove(&path).unwrap_or_else(|| Listed::new(path));
            changed |= file.refresh(&self.job);
            self.files.push(file);
        }
        for file in before.values() {
            info!(file = %file.path.display(), "targets file deleted, removing its targets");
        }
        changed || !before.is_empty()
    }
}

impl Listed {
    fn new(path: PathBuf) -> Self {
        Self {
            path,
            read: Ok(String::new()),
            targets: Vec::new(),
        }
    }

    fn read_first(&mut self, job: &Arc<Job>, known: &Known) -> Result<(), String> {
        let text = read(&self.path)?;
        self.list(&text, job, known)?;
        self.read = Ok(text);
        Ok(())
    }

    /// Takes the targets of the text.
    fn list(&mut self, text: &str, job: &Arc<Job>, known: &Known) -> Result<(), String> {
        let new = file_sd::parse(text, job).map_err(|error| error.to_string())?;
        self.targets = known.keep(new);
        Ok(())
    }

    /// Whether the file lists something else than the last time it could be used. If it cannot be used, what it listed
    /// stays, and the reason is logged once.
    fn refresh(&mut self, job: &Arc<Job>) -> bool {
        let read = read(&self.path);
        if read == self.read {
            return false;
        }
        let known = Known::of(self.targets.iter());
        let listed = match &read {
            Ok(text) => self.list(text, job, &known),
            Err(reason) => Err(reason.clone()),
        };
        self.read = read;
        let file = self.path.display();
        match listed {
            Ok(()) => info!(%file, targets = self.targets.len(), "targets file read"),
            Err(reason) => {
                warn!(%file, reason, targets = self.targets.len(), "cannot use targets file, keeping its last targets");
                return false;
            }
        }
        true
    }
}

/// Reads the files again and again, also when that is wanted at once, and tells what `make` makes of a change, until nobody listens.
pub(super) async fn follow<T>(
    mut lists: Lists,
    wanted: &Notify,
    listed: watch::Sender<T>,
    make: impl Fn(Targets) -> T,
) {
    while !lists.are_fixed() && !listed.is_closed() {
        tokio::select! {
            () = sleep(EVERY) => {}
            () = wanted.notified() => {}
        }
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
            Ok(all) => drop(listed.send_replace(make(all))),
            Err(error) => warn!(%error, "keeping the last targets"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::job::tests::job;
    use super::*;

    fn lists(targets: &[&str], max_targets: usize) -> Lists {
        let sources = Sources {
            targets: targets.iter().map(|spec| spec.parse().unwrap()).collect(),
            max_targets,
            ..Sources::default()
        };
        Lists::read(sources, JobSettings::new(1 << 20)).unwrap()
    }

    fn file(list: &str, job: &Arc<Job>) -> Listed {
        let mut file = Listed::new(PathBuf::from("gone"));
        file.list(list, job, &Known::default()).unwrap();
        file.read = Ok(list.into());
        file
    }

    fn ups(lists: &Lists) -> Vec<String> {
        let targets = lists.targets().unwrap();
        targets
            .iter()
            .map(|target| target.up().to_string())
            .collect()
    }

    #[test]
    fn a_target_listed_twice_counts_once_and_labels_make_another_of_it() {
        let mut lists = lists(&["http://a:1", "http://a:1/metrics", "http://a:1,x=1"], 3);
        let job = Arc::clone(&lists.own.job);
        lists
            .own
            .files
            .push(file("- targets: ['a:1', 'b:1']", &job));
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
        let job = job(|_| ());
        let mut file = file("- targets: [a, b]", &job);
        let before = Arc::clone(&file.targets[1]);
        let known = Known::of(file.targets.iter());
        file.list("- targets: [b, c]", &job, &known).unwrap();
        assert!(Arc::ptr_eq(&file.targets[0], &before));
        assert_eq!(file.targets.len(), 2);
        assert!(file.list("- targets: b", &job, &known).is_err());
        assert_eq!(file.targets.len(), 2);
    }

    #[test]
    fn a_file_that_is_gone_leaves_its_targets() {
        let job = job(|_| ());
        let mut file = file("- targets: [a]", &job);
        assert!(!file.refresh(&job));
        assert!(file.read.is_err());
        assert_eq!(file.targets.len(), 1);
    }

    /// A directory of its own, gone with the test.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("agent-{}-{name}", std::process::id()));
            fs::create_dir_all(&folder).unwrap();
            Self(folder)
        }

        fn write(&self, name: &str, text: &str) -> PathBuf {
            let file = self.0.join(name);
            fs::write(&file, text).unwrap();
            file
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn files_that_match_a_pattern_come_and_go() {
        let folder = Folder::new("glob");
        folder.write("a.json", r#"[{"targets": ["a"]}]"#);
        folder.write("notes.txt", "none");
        let sources = Sources {
            files: vec![folder.0.join("*.json")],
            max_targets: 9,
            ..Sources::default()
        };
        let mut lists = Lists::read(sources, JobSettings::new(1)).unwrap();
        assert_eq!(ups(&lists).len(), 1);
        assert!(!lists.refresh());
        folder.write("b.json", r#"[{"targets": ["b", "c"]}]"#);
        assert!(lists.refresh());
        assert_eq!(ups(&lists).len(), 3);
        fs::remove_file(folder.0.join("a.json")).unwrap();
        assert!(lists.refresh());
        assert_eq!(ups(&lists).len(), 2);
    }

    #[test]
    fn a_changed_configuration_keeps_what_it_leaves_as_it_is() {
        let folder = Folder::new("config");
        folder.write("b.yml", "- targets: [b]\n");
        let one = "scrape_configs:\n- {job_name: one, static_configs: [{targets: [a]}], file_sd_configs: [{files: [b.yml]}]}\n";
        let path = folder.write("agent.yml", one);
        let sources = Sources {
            config: Some(path),
            max_targets: 9,
            ..Sources::default()
        };
        let mut lists = Lists::read(sources, JobSettings::new(1)).unwrap();
        let before = lists.targets().unwrap();
        assert_eq!(before.len(), 2);
        assert!(!lists.refresh());
        folder.write(
            "agent.yml",
            &format!("{one}- {{job_name: two, static_configs: [{{targets: [c]}}]}}\n"),
        );
        assert!(lists.refresh());
        let after = lists.targets().unwrap();
        assert_eq!(after.len(), 3);
        assert!(Arc::ptr_eq(&before[0], &after[0]) && Arc::ptr_eq(&before[1], &after[1]));
        folder.write(
            "agent.yml",
            "scrape_configs: [{job_name: one, relabel_configs: []}]\n",
        );
        assert!(!lists.refresh());
        let problem = lists.config.as_ref().unwrap().problem.clone().unwrap();
        assert!(
            problem.contains("line 1") && problem.contains("relabel_configs"),
            "{problem}"
        );
        assert_eq!(lists.targets().unwrap().len(), 3);
        folder.write("agent.yml", "");
        assert!(!lists.refresh());
        folder.write("agent.yml", "scrape_configs: []");
        assert!(lists.refresh());
        assert_eq!(lists.targets().unwrap().len(), 0);
    }
}
