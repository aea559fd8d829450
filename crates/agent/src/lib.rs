//! An agent: in a network that lets connections out only, it answers the proxy's pulls with what HTTP targets near it
//! expose.
//!
//! A pull: every target is fetched at once under the pull's deadline, their texts are validated and given the target's
//! labels. A target that is dead, slow, too long or invalid costs its own samples; its `up` says 0. The answer keeps the
//! targets apart, so that the proxy, too, can refuse one without the others ([`parts`]).
//!
//! A pull may mean one target: then the answer is its text alone, or the reason why there is none. The proxy is told of the
//! targets when the client connects, and when the files change.

mod budget;
mod config;
mod content_type;
mod credentials;
mod described;
mod families;
mod fetch;
mod file_sd;
mod files;
mod gzip;
mod job;
mod redirect;
mod resolver;
mod target;
mod targets;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use budget::{Budget, HeldBytes};
use bytes::Bytes;
pub use content_type::protocol;
use described::{Described, One};
pub use families::{Families, Pattern};
use fetch::{FetchFailure, Fetched};
use futures_util::future::join_all;
use job::JobSettings;
use prometheus_rsocket_client::{Builder, Client, DescriptionError, Request, TargetName};
use prometheus_rsocket_exposition::{
    Encoding, Exposition, Format, Labels, Limits, ParseError, merge_as, parts,
};
use target::Target;
pub use target::{Spec, TargetError};
use targets::Lists;
pub use targets::{SourceError, Sources};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::{Instant, timeout_at};
use tracing::warn;

const UP_HEAD: &str = "# HELP up Whether the target's metrics are in this answer: 0 where it is dead, slow, too long or invalid.\n\
                       # TYPE up gauge\n";

/// Bytes of a line with a target's labels, mostly.
const LINE: usize = 200;

/// Pulls of one target that are answered at a time, and pulls of all; further ones are refused.
const MAX_PULLS: usize = 64;
const MAX_PULLS_OF_ALL: usize = 4;

/// More than anybody waits for a pull; the clock can add it to any time.
const LONGEST_PULL: Duration = Duration::from_hours(24);

/// What an agent is to do.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Whom it asks.
    pub sources: Sources,
    /// Which families it passes on.
    pub families: Families,
    /// The label with a target's address that its samples are given, if any.
    pub address_label: Option<String>,
    /// Whether a sample's own label stays where its target has one of the same name.
    pub honor_labels: bool,
    /// What a target's text is where its Content-Type does not say.
    pub fallback: Option<Format>,
    /// How long a pull may take where the proxy does not say.
    pub timeout: Duration,
    /// Kept back from what the proxy says for the way of the answer.
    pub timeout_offset: Duration,
    /// Bytes of one target's decompressed text.
    pub max_payload: usize,
    /// Bytes of all texts of one answer, and of all that are asked for alone at a time.
    pub max_answer: usize,
    /// How this host is called: the proxy knows targets at a loopback address by it.
    pub host: String,
}

/// Why an agent cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// What it is to ask.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Neither the command line nor a file names one.
    #[error("an agent needs a --target, a --targets-file or a --config.file")]
    NoTargets,
}

/// Answers pulls.
pub struct Agent {
    settings: Settings,
    described: watch::Receiver<Arc<Described>>,
    /// For texts that are asked for alone.
    budget: Budget,
    pulls_of_all: Semaphore,
}

/// Follows the targets files; to be run beside the agent.
pub struct Follow {
    lists: Lists,
    wanted: Arc<Notify>,
    host: String,
    described: watch::Sender<Arc<Described>>,
}

impl Follow {
    /// What to notify to have the files read at once; `None` where there are none.
    pub fn files(&self) -> Option<Arc<Notify>> {
        (!self.lists.are_fixed()).then(|| Arc::clone(&self.wanted))
    }

    /// Reads the files again and again until the agent is gone.
    pub async fn run(self) {
        let Self {
            lists,
            wanted,
            host,
            described,
        } = self;
        targets::follow(lists, &wanted, described, |targets| {
            Arc::new(Described::new(targets, &host))
        })
        .await;
    }
}

/// Why there is no answer to a pull.
#[derive(Debug, thiserror::Error)]
enum Unanswered {
    #[error("no such target")]
    Unknown,
    #[error("too many pulls at a time")]
    Busy,
    #[error(transparent)]
    Down(FetchFailure),
}

/// A target's part of an answer.
struct AnswerPart {
    /// As it stands in the answer.
    text: Bytes,
    /// Keeps the text counted.
    _held: HeldBytes,
}

impl Agent {
    /// Reads the targets files; nothing is connected.
    pub fn new(settings: Settings) -> Result<(Self, Follow), StartError> {
        let sources = settings.sources.clone();
        let named = sources.targets.len() + sources.files.len();
        if named == 0 && sources.config.is_none() {
            return Err(StartError::NoTargets);
        }
        let defaults = JobSettings {
            address_label: settings.address_label.clone(),
            honor_labels: settings.honor_labels,
            fallback: settings.fallback,
            ..JobSettings::new(settings.max_payload)
        };
        let lists = Lists::read(sources, defaults)?;
        let described = Described::new(lists.targets()?, &settings.host);
        let (sender, described) = watch::channel(Arc::new(described));
        let follow = Follow {
            lists,
            wanted: Arc::default(),
            host: settings.host.clone(),
            described: sender,
        };
        let agent = Self {
            budget: Budget::new(settings.max_answer, MAX_PULLS),
            settings,
            described,
            pulls_of_all: Semaphore::new(MAX_PULLS_OF_ALL),
        };
        Ok((agent, follow))
    }

    /// How many targets there are at the moment.
    pub fn targets(&self) -> usize {
        self.described.borrow().targets.len()
    }

    /// A client whose pulls the agent answers, and which says for whom it does.
    ///
    /// # Errors
    ///
    /// Never: what does not fit is not described.
    pub fn client(self: &Arc<Self>) -> Result<Builder, DescriptionError> {
        let agent = Arc::clone(self);
        let answer = move |request: Request| {
            let agent = Arc::clone(&agent);
            async move {
                let deadline = agent.deadline(request.deadline.map(Instant::from_std));
                let passes_on = match request.deadline {
                    Some(_) => PassesOn::AsItCame,
                    None => PassesOn::Text,
                };
                match &request.target {
                    Some(name) => agent.answer_one(name, deadline).await,
                    None => agent.answer(passes_on, deadline).await,
                }
            }
        };
        let description = self.described.borrow().description.clone();
        Client::builder_async(answer)
            .max_renders(MAX_PULLS)
            .description(description)
    }

    /// Says through this client what changes, without end.
    pub async fn describe(&self, client: &Client) {
        let mut described = self.described.clone();
        loop {
            let description = described.borrow_and_update().description.clone();
            if let Err(error) = client.describe(&description) {
                warn!(%error, "cannot describe the targets");
            }
            if described.changed().await.is_err() {
                // The files are not followed any more.
                return std::future::pending().await;
            }
        }
    }

    /// What the proxy allows, less the offset; at least half of it.
    fn deadline(&self, allowed: Option<Instant>) -> Instant {
        let now = Instant::now();
        let Some(allowed) = allowed else {
            return now + self.settings.timeout.min(LONGEST_PULL);
        };
        let left = allowed.saturating_duration_since(now);
        now + left
            .saturating_sub(self.settings.timeout_offset)
            .max(left / 2)
    }

    /// The text of one target.
    async fn answer_one(&self, name: &TargetName, deadline: Instant) -> Result<Bytes, Unanswered> {
        let one = self.described.borrow().one(name).cloned();
        let One { target, labels } = one.ok_or(Unanswered::Unknown)?;
        let (passes_on, budget) = (PassesOn::AsItCame, &self.budget);
        let part = self.part(&target, labels, passes_on, deadline, budget);
        let part = part.await;
        part.map(|part| part.text).map_err(Unanswered::Down)
    }

    async fn answer(&self, passes_on: PassesOn, deadline: Instant) -> Result<Bytes, Unanswered> {
        let _permit = self
            .pulls_of_all
            .try_acquire()
            .map_err(|_| Unanswered::Busy)?;
        let targets = Arc::clone(&self.described.borrow().targets);
        let budget = Budget::new(self.settings.max_answer, targets.len());
        let parts = targets.iter().map(|target| {
            let labels = target.labels().clone();
            self.part(target, labels, passes_on, deadline, &budget)
        });
        let parts = join_all(parts).await;
        let answer = spawn_blocking(move || assemble(&targets, &parts));
        Ok(answer.await.unwrap_or_else(go_on_panicking))
    }

    /// What the target has to say by the deadline, its samples with these labels.
    async fn part(
        &self,
        target: &Arc<Target>,
        labels: Labels,
        passes_on: PassesOn,
        deadline: Instant,
        budget: &Budget,
    ) -> Result<AnswerPart, FetchFailure> {
        let job = target.job();
        let now = Instant::now();
        let longest = job
            .settings
            .timeout
            .map(|timeout| now + timeout.min(LONGEST_PULL));
        let deadline = longest.map_or(deadline, |longest| longest.min(deadline));
        let fetching = async {
            let left = deadline.saturating_duration_since(now);
            let fallback = job.settings.fallback;
            let fetching = job.fetcher().fetch(target.uri(), left, fallback, budget);
            self.prepare(target, labels, passes_on, fetching.await?)
                .await
        };
        let part = timeout_at(deadline, fetching)
            .await
            .unwrap_or(Err(FetchFailure::Timeout));
        target.note(part.as_ref().err());
        part
    }

    /// Decompresses, validates, selects and labels on a thread that may be held up.
    async fn prepare(
        &self,
        target: &Arc<Target>,
        labels: Labels,
        passes_on: PassesOn,
        fetched: Fetched,
    ) -> Result<AnswerPart, FetchFailure> {
        let families = self.settings.families.clone();
        let target = Arc::clone(target);
        let preparing = spawn_blocking(move || {
            let format = fetched.format;
            let max_payload = target.job().settings.max_payload;
            let (text, mut held) = fetched.text(max_payload)?;
            let text = prepared(text, format, passes_on, &target, &labels, &families)?;
            // With labels, the lines are longer than they came.
            held.take(text.len().saturating_sub(held.bytes()))?;
            held.shrink(text.len());
            Ok(AnswerPart { text, _held: held })
        });
        preparing.await.map_err(|_| FetchFailure::Stopping)?
    }
}

/// What an answer has of its targets' texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PassesOn {
    /// All that they say, each in its own format.
    AsItCame,
    /// One format, 0.0.4, that can be read as one text: the Java proxy knows of no parts.
    Text,
}

/// A target's text as it stands in an answer: its families selected and its samples labelled, within the limits.
fn prepared(
    text: Bytes,
    format: Format,
    passes_on: PassesOn,
    target: &Target,
    labels: &Labels,
    families: &Families,
) -> Result<Bytes, ParseError> {
    let settings = &target.job().settings;
    let limits = &settings.limits;
    let selected = families.are_selected();
    // What is left out counts for no limit, as in Prometheus.
    let within = if selected { &Limits::NONE } else { limits };
    let mut exposition = Exposition::parse_as(text, format, within)?;
    exposition.retain_families(|name| families.passes(name));
    let exposition = exposition.with_labels(labels, settings.honor_labels, limits)?;
    let encoding = match passes_on {
        PassesOn::AsItCame => Encoding::unescaped(format),
        PassesOn::Text => Encoding::TEXT,
    };
    let merged = merge_as(encoding, vec![Arc::new(exposition).into()]);
    let text = merged.into_chunks(usize::MAX).next().unwrap_or_default();
    if selected {
        Exposition::parse_as(text.clone(), encoding.format, limits)?;
    }
    Ok(text)
}

/// One text: in front an `up` for each target, so that no target's own takes the place of one, and a part for each.
fn assemble(targets: &[Arc<Target>], parts: &[Result<AnswerPart, FetchFailure>]) -> Bytes {
    let texts = parts.iter().flatten().map(|part| part.text.len());
    let mut answer = Vec::with_capacity(texts.sum::<usize>() + targets.len() * 2 * LINE);
    parts::begin(&mut answer);
    answer.extend_from_slice(UP_HEAD.as_bytes());
    for (target, part) in targets.iter().zip(parts) {
        let line = format!("up{} {}\n", target.up(), u8::from(part.is_ok()));
        answer.extend_from_slice(line.as_bytes());
    }
    for (target, part) in targets.iter().zip(parts) {
        let reason = part.as_ref().err().map(ToString::to_string);
        parts::begin_target(&mut answer, &target.up().to_string(), reason.as_deref());
        if let Ok(part) = part {
            answer.extend_from_slice(&part.text);
        }
    }
    answer.into()
}

fn go_on_panicking(error: JoinError) -> Bytes {
    match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        // The runtime stops: nobody waits for the answer any more.
        Err(_) => Bytes::new(),
    }
}

/// What a fuzz target enters by.
#[cfg(fuzzing)]
pub mod fuzzing {
    use std::path::Path;
    use std::sync::Arc;

    use super::job::{Job, JobSettings};
    use super::resolver::Resolver;
    use super::{config, file_sd};

    /// How many targets a list in the format of `file_sd_configs` has.
    pub fn targets(text: &str) -> Option<usize> {
        let mut settings = JobSettings::new(1);
        // So that the system's authorities are not read each time.
        settings.tls.insecure_skip_verify = true;
        let job = Job::new(settings, &Resolver::new()).ok()?;
        Some(file_sd::parse(text, &Arc::new(job)).ok()?.len())
    }

    /// How many jobs a configuration has.
    pub fn jobs(text: &str) -> Option<usize> {
        let jobs = config::parse(text, Path::new(""), &JobSettings::new(1));
        Some(jobs.ok()?.len())
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::job::tests::job;
    use super::*;

    /// An HTTP target that answers each connection once, with this.
    async fn target(status: &'static str, text: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 4096]).await;
                let head = "content-type: text/plain\r\nconnection: close";
                let answer = format!("HTTP/1.1 {status}\r\n{head}\r\n\r\n{text}");
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        format!("http://{address}")
    }

    fn agent(targets: &[String]) -> Agent {
        let settings = Settings {
            sources: Sources {
                targets: targets.iter().map(|spec| spec.parse().unwrap()).collect(),
                max_targets: 9,
                ..Sources::default()
            },
            families: Families::default(),
            address_label: None,
            honor_labels: false,
            fallback: None,
            timeout: Duration::from_secs(10),
            timeout_offset: Duration::ZERO,
            max_payload: 1 << 20,
            max_answer: 1 << 20,
            host: "h1".to_owned(),
        };
        Agent::new(settings).unwrap().0
    }

    #[tokio::test]
    async fn a_target_that_is_asked_for_alone_answers_with_its_text_or_the_reason() {
        let good = target("200 OK", "a{zone=\"x\"} 1\n").await;
        let bad = target("404 Not Found", "").await;
        let targets = [
            format!("{good},instance=good,job=node,zone=b"),
            format!("{bad},instance=bad"),
        ];
        let agent = agent(&targets);
        let answer = async |instance: &str, job: Option<&str>| {
            let name = TargetName {
                instance: instance.to_owned(),
                job: job.map(str::to_owned),
            };
            let answer = agent.answer_one(&name, agent.deadline(None)).await;
            answer.map_err(|reason| reason.to_string())
        };
        // As it is: Prometheus gives it the labels of the target.
        let text = answer("good", Some("node")).await.unwrap();
        assert_eq!(text, "a{zone=\"x\"} 1\n");
        let reason = answer("bad", None).await.unwrap_err();
        assert_eq!(reason, "answered 404 Not Found");
        let reason = answer("good", None).await.unwrap_err();
        assert_eq!(reason, "no such target");
        let all = agent.answer(PassesOn::AsItCame, agent.deadline(None));
        let all = all.await.unwrap();
        let all = String::from_utf8(all.to_vec()).unwrap();
        let labelled = "a{instance=\"good\",job=\"node\",zone=\"b\",exported_zone=\"x\"} 1";
        assert!(all.contains(labelled), "{all}");
    }

    fn text_of(text: &str, format: Format, families: &Families) -> Result<String, ParseError> {
        text_for(PassesOn::AsItCame, text, format, families)
    }

    fn text_for(
        passes_on: PassesOn,
        text: &str,
        format: Format,
        families: &Families,
    ) -> Result<String, ParseError> {
        let job = job(|settings| settings.limits.max_label_value_len = 9);
        let target = Target::new("http://a:1,job=j".parse().unwrap(), job).unwrap();
        let text = Bytes::from(text.to_owned());
        let text = prepared(text, format, passes_on, &target, target.labels(), families)?;
        Ok(String::from_utf8(text.to_vec()).unwrap())
    }

    #[test]
    fn a_targets_text_is_labelled_and_passed_on_as_it_came() {
        let families = Families::default();
        let openmetrics = "# TYPE a counter\na_total 1 1700000000 # {t=\"x\"} 1\n# EOF\n";
        assert_eq!(
            text_of(openmetrics, Format::OpenMetrics, &families).unwrap(),
            "# TYPE a counter\na_total{job=\"j\"} 1 1700000000 # {t=\"x\"} 1\n# EOF\n"
        );
        let for_java = text_for(PassesOn::Text, openmetrics, Format::OpenMetrics, &families);
        assert_eq!(
            for_java.unwrap(),
            "# TYPE a_total counter\na_total{job=\"j\"} 1 1700000000000\n"
        );
        assert_eq!(
            text_of("{\"a.b\",\"c.d\"=\"1\"} 1\n", Format::Text, &families).unwrap(),
            "{\"a.b\",job=\"j\",\"c.d\"=\"1\"} 1\n"
        );
        // A label of its own, beside an empty one.
        let batch = "jobs_done{job=\"batch\",exported_job=\"\"} 1\n";
        assert_eq!(
            text_of(batch, Format::Text, &families).unwrap(),
            "jobs_done{job=\"j\",exported_job=\"batch\"} 1\n"
        );
    }

    #[test]
    fn what_is_left_out_counts_for_no_limit() {
        let text = "a{b=\"0123456789\"} 1\nc 1\n";
        assert!(text_of(text, Format::Text, &Families::default()).is_err());
        let drop = |name: &str| Families {
            drop: vec![name.parse().unwrap()],
            ..Families::default()
        };
        assert_eq!(
            text_of(text, Format::Text, &drop("a")).unwrap(),
            "c{job=\"j\"} 1\n"
        );
        assert!(text_of(text, Format::Text, &drop("c")).is_err());
    }
}
