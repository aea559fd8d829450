//! A scrape: every connected application pulled at once under one deadline, their texts merged with the pushes that are
//! due.
//!
//! An application that hangs, dies, or answers rubbish is one counted outcome; it stays connected and is asked again the
//! next time. Nothing of it reaches the others.

mod duplicates;
mod metrics;
mod reserve;
mod settings;
mod targets;

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub use duplicates::{Duplicate, Duplicates};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
pub use metrics::Metrics;
use prometheus_rsocket_exposition::{EqualSeries, Merged, Part, merge_in_front};
use prometheus_rsocket_wire::ErrorCode;
use prometheus_rsocket_wire::envelope::OpenError;
use prometheus_rsocket_wire::session::StreamError;
pub use reserve::Reserve;
pub use settings::Settings;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};
use tokio::time::{Instant, timeout_at};
use tracing::{debug, info, warn};

use crate::directory::ApplicationId;
use crate::limits::log_limit::LogLimit;
use crate::push::{Claim, Pushes};
use crate::rsocket::{
    ConnectionId, Handle, LastScrape, OpenFailure, Opened, Opener, PullError, Registry, run,
};
use crate::store::Content;
use crate::tenant::Tenant;

/// Once everybody has been pulled, a scrape waits for other nodes' pushes until this long after its beginning: a node that
/// hangs costs no more, until it is declared dead.
const CLAIM_PATIENCE: Duration = Duration::from_secs(2);

/// Many fail at once where something is wrong with all; who comes back again and again to fail fills no disk.
static NOT_SCRAPED: LogLimit = LogLimit::new(100);
/// And who succeeds in between.
static SCRAPED_AGAIN: LogLimit = LogLimit::new(100);

/// Why there is no scrape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScrapeError {
    /// The maximum number of scrapes is running.
    #[error("too many scrapes are running (--scrape.max-concurrent)")]
    TooMany,
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

/// What Prometheus is to be answered.
pub struct Scrape {
    /// The merged text.
    pub merged: Merged,
    /// The pushes in it, to be committed once the text has been handed over.
    pub claim: Claim,
    /// What keeps the texts counted, and this scrape among those under way.
    pub held: HeldScrape,
}

/// To be kept as long as the text of a scrape is.
pub struct HeldScrape {
    _texts: Vec<Arc<Opened>>,
    _under_way: UnderWay,
    _response: Option<reserve::Response>,
}

/// One of the scrapes under way, until dropped.
struct UnderWay {
    metrics: Arc<Metrics>,
    _permit: OwnedSemaphorePermit,
}

impl UnderWay {
    fn new(metrics: &Arc<Metrics>, permit: OwnedSemaphorePermit) -> Self {
        metrics.active.inc();
        Self {
            metrics: Arc::clone(metrics),
            _permit: permit,
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.metrics.active.dec();
    }
}

/// Makes scrapes.
pub struct Scraper {
    registry: Arc<Registry>,
    opener: Opener,
    pushes: Arc<Pushes>,
    metrics: Arc<Metrics>,
    concurrent: Arc<Semaphore>,
    reserve: Arc<Reserve>,
    duplicates: Duplicates,
    /// Makes voters of tenants.
    hasher: RandomState,
}

/// An application's answer.
struct Pulled {
    handle: Arc<Handle>,
    opened: Arc<Opened>,
}

impl Scraper {
    /// At most `max_concurrent` scrapes hold text at a time.
    pub fn new(
        registry: Arc<Registry>,
        opener: Opener,
        pushes: Arc<Pushes>,
        metrics: Arc<Metrics>,
        max_concurrent: usize,
    ) -> Self {
        Self {
            registry,
            opener,
            pushes,
            metrics,
            concurrent: Arc::new(Semaphore::new(max_concurrent)),
            reserve: Arc::default(),
            duplicates: Duplicates::default(),
            hasher: RandomState::new(),
        }
    }

    /// Which applications serve the same series.
    pub fn duplicates(&self) -> &Duplicates {
        &self.duplicates
    }

    /// What is to be kept back for the response.
    pub fn reserve(&self) -> &Reserve {
        &self.reserve
    }

    /// Pulls every application and merges what has come by `deadline`. `end`: when the scraper gives the response up, if
    /// they said so.
    pub async fn scrape(
        &self,
        deadline: Instant,
        end: Option<Instant>,
    ) -> Result<Scrape, ScrapeError> {
        let under_way = self.begin()?;
        let started = Instant::now();
        let mut claim = self.pushes.claim();
        let pulled = self.pull_all(deadline).await;
        claim.settle(deadline.min(started + CLAIM_PATIENCE)).await;
        let response = end.map(|end| self.reserve.response(end));
        let parts: Vec<_> = pulled
            .iter()
            .flat_map(|pulled| self.parts(pulled))
            .collect();
        let applications = 0..parts.len();
        // What comes once goes first. An application that is back has the same series in its next answer, too.
        let first = self.pushed(&claim.texts);
        let again = self.pushed(&claim.again);
        let behind = parts.into_iter().chain(again).collect();
        let next = self.duplicates.next();
        let merging = run(move || {
            let merged = merge_in_front(first, behind);
            let equal = merged.equal_series(applications, next, duplicates::BUDGET);
            (merged, equal)
        });
        let (merged, equal) = merging.await.ok_or(ScrapeError::Stopping)?;
        self.note_round(&merged, &equal, &pulled, started);
        Ok(Scrape {
            merged,
            claim,
            held: HeldScrape {
                _texts: pulled.into_iter().map(|pulled| pulled.opened).collect(),
                _under_way: under_way,
                _response: response,
            },
        })
    }

    /// The pushes that are due, alone: no application is pulled. Other nodes' are waited for until `deadline` at the latest.
    pub async fn pushes(&self, deadline: Instant) -> Result<Scrape, ScrapeError> {
        let under_way = self.begin()?;
        let mut claim = self.pushes.claim();
        claim
            .settle(deadline.min(Instant::now() + CLAIM_PATIENCE))
            .await;
        let (first, behind) = (self.pushed(&claim.texts), self.pushed(&claim.again));
        let merging = run(move || merge_in_front(first, behind));
        Ok(Scrape {
            merged: merging.await.ok_or(ScrapeError::Stopping)?,
            claim,
            held: HeldScrape {
                _texts: Vec::new(),
                _under_way: under_way,
                _response: None,
            },
        })
    }

    /// Takes a place among the scrapes under way.
    fn begin(&self) -> Result<UnderWay, ScrapeError> {
        let place = Arc::clone(&self.concurrent)
            .try_acquire_owned()
            .map_err(|error| {
                self.metrics.refused.inc();
                match error {
                    TryAcquireError::NoPermits => ScrapeError::TooMany,
                    TryAcquireError::Closed => ScrapeError::Stopping,
                }
            })?;
        Ok(UnderWay::new(&self.metrics, place))
    }

    /// All that one tenant declares has one vote.
    fn parts(&self, pulled: &Pulled) -> impl Iterator<Item = Part> {
        let tenant = Tenant::of(pulled.handle.identity.as_ref(), pulled.handle.peer);
        let voter = self.hasher.hash_one(tenant);
        let expositions = pulled.opened.expositions();
        expositions.map(move |exposition| Part {
            exposition: Arc::clone(exposition),
            voter: Some(voter),
        })
    }

    fn pushed(&self, contents: &[Arc<Content>]) -> Vec<Part> {
        let contents = contents.iter();
        contents
            .map(|content| Part {
                exposition: Arc::clone(&content.text),
                voter: Some(self.hasher.hash_one(&content.pusher)),
            })
            .collect()
    }

    /// In the order of connecting, whatever the order of answering: it decides ties in the merge.
    async fn pull_all(&self, deadline: Instant) -> Vec<Pulled> {
        let handles = self.registry.snapshot();
        let mut pulls: FuturesUnordered<_> = handles
            .iter()
            .enumerate()
            .map(async |(place, handle)| (place, self.pull(handle, deadline).await.ok()))
            .collect();
        let mut texts: Vec<Option<Arc<Opened>>> = vec![None; handles.len()];
        while let Some((place, text)) = pulls.next().await {
            if let Some(slot) = texts.get_mut(place) {
                *slot = text;
            }
        }
        drop(pulls);
        let pulled = handles.into_iter().zip(texts);
        pulled
            .filter_map(|(handle, opened)| {
                Some(Pulled {
                    handle,
                    opened: opened?,
                })
            })
            .collect()
    }

    /// The text of one connection's application; the outcome is noted.
    pub async fn pull_one(
        &self,
        connection: ConnectionId,
        _target: Option<&ApplicationId>,
        deadline: Instant,
    ) -> Result<Arc<Opened>, PullFailure> {
        let handle = self.registry.get(connection).ok_or(PullError::Closed)?;
        self.pull(&handle, deadline).await
    }

    /// One application's text; the outcome is noted.
    async fn pull(&self, handle: &Handle, deadline: Instant) -> Result<Arc<Opened>, PullFailure> {
        let started = Instant::now();
        let text = async {
            let answer = handle.pull(deadline).await?;
            let opened = timeout_at(deadline, answer.open(&self.opener));
            Ok(opened.await.map_err(|_| PullFailure::Late)??)
        };
        let text: Result<Arc<Opened>, PullFailure> = text.await;
        self.note_pull(handle, &text, started);
        text
    }

    fn note_pull(
        &self,
        handle: &Handle,
        text: &Result<Arc<Opened>, PullFailure>,
        started: Instant,
    ) {
        let duration = started.elapsed();
        let (outcome, exception) = text
            .as_ref()
            .err()
            .map_or(("success", "none"), PullFailure::labels);
        self.metrics
            .pull_seconds
            .observe([outcome, exception], duration.as_secs_f64());
        if let Ok(opened) = text {
            self.metrics.payload_bytes.observe([], opened.bytes as f64);
            self.metrics
                .envelopes
                .with_label_values(&[opened.envelope])
                .inc();
            targets::note(&self.metrics, handle, &opened.targets);
        }
        let reason = text
            .as_ref()
            .err()
            .map(ToString::to_string)
            .unwrap_or_default();
        let before = handle.note_scrape(LastScrape {
            at: SystemTime::now(),
            outcome,
            reason: reason.clone(),
            duration,
            bytes: text.as_ref().map_or(0, |opened| opened.bytes),
            envelope: text.as_ref().map_or("", |opened| opened.envelope),
        });
        let before = before.map_or("success", |scrape| scrape.outcome);
        let (connection, peer) = (handle.id, handle.peer);
        let identity = handle.identity.as_deref();
        match (before, outcome) {
            ("success", "success") => {}
            (_, "success") => match SCRAPED_AGAIN.due() {
                Some(suppressed) => {
                    info!(connection, %peer, identity, suppressed, "application is scraped again");
                }
                None => debug!(connection, %peer, identity, "application is scraped again"),
            },
            (_, "closed") => {
                debug!(connection, %peer, identity, reason, "application disconnected during a scrape");
            }
            ("success", _) => match NOT_SCRAPED.due() {
                Some(suppressed) => {
                    warn!(connection, %peer, identity, outcome, reason, suppressed, "application not scraped");
                }
                None => {
                    debug!(connection, %peer, identity, outcome, reason, "application not scraped");
                }
            },
            _ => {
                debug!(connection, %peer, identity, outcome, reason, "application still not scraped");
            }
        }
    }

    fn note_round(
        &self,
        merged: &Merged,
        equal: &EqualSeries,
        pulled: &[Pulled],
        started: Instant,
    ) {
        let applications: Vec<_> = pulled
            .iter()
            .flat_map(|pulled| pulled.opened.expositions().map(|_| &pulled.handle))
            .collect();
        self.duplicates.note(equal, &applications);
        self.metrics
            .duplicate_series
            .set(equal.series.try_into().unwrap_or(i64::MAX));
        self.metrics
            .round_seconds
            .observe([], started.elapsed().as_secs_f64());
        self.metrics
            .type_conflicts
            .set(merged.type_conflicts().try_into().unwrap_or(i64::MAX));
    }
}

/// Why an application's text is missing from a scrape.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PullFailure {
    /// There is no answer.
    #[error(transparent)]
    Pull(#[from] PullError),
    /// The answer came in time, and was not read in time.
    #[error("the answer came too late to be read before the scrape's deadline")]
    Late,
    /// The answer is not fit to be served, or there is no room for it.
    #[error(transparent)]
    OpenFailure(#[from] OpenFailure),
}

impl PullFailure {
    /// What it is, from the closed set of outcomes.
    pub fn outcome(&self) -> &'static str {
        self.labels().0
    }

    /// Whether the node has too much to do, and nothing is wrong with the application.
    pub fn is_of_the_node(&self) -> bool {
        matches!(self.labels().1, "memory" | "families" | "busy" | "aborted")
    }

    /// The labels `outcome` and `exception`, from closed sets.
    fn labels(&self) -> (&'static str, &'static str) {
        match self {
            Self::Pull(PullError::Closed) => ("closed", "none"),
            Self::Pull(PullError::Timeout) => ("timeout", "deadline"),
            Self::Late => ("timeout", "late"),
            Self::Pull(PullError::Stream(error)) => match error {
                StreamError::Application { code, .. } => ("error", code_label(*code)),
                StreamError::Empty => ("invalid", "empty"),
                StreamError::TooLarge => ("invalid", "too_large"),
                StreamError::Fragments => ("invalid", "fragments"),
            },
            Self::OpenFailure(OpenFailure::Envelope(error)) => match error {
                OpenError::NoKey => ("invalid", "no_key"),
                OpenError::WrongKey => ("invalid", "wrong_key"),
                OpenError::WrongKind => ("invalid", "wrong_envelope"),
                OpenError::Downgrade => ("invalid", "downgrade"),
                OpenError::Decrypt => ("invalid", "decrypt"),
                OpenError::Forged => ("invalid", "forged"),
                OpenError::Replayed => ("invalid", "replayed"),
                OpenError::Decompress => ("invalid", "decompress"),
                OpenError::TooLong => ("invalid", "too_large"),
            },
            Self::OpenFailure(OpenFailure::Exposition(error)) if error.kind().is_limit() => {
                ("invalid", "limit")
            }
            Self::OpenFailure(OpenFailure::Exposition(_)) => ("invalid", "exposition"),
            Self::Pull(PullError::Memory) | Self::OpenFailure(OpenFailure::Memory) => {
                ("error", "memory")
            }
            Self::OpenFailure(OpenFailure::Families) => ("error", "families"),
            Self::Pull(PullError::Busy) | Self::OpenFailure(OpenFailure::Busy) => ("error", "busy"),
            Self::OpenFailure(OpenFailure::Aborted) => ("error", "aborted"),
        }
    }
}

fn code_label(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::APPLICATION_ERROR => "application_error",
        ErrorCode::REJECTED => "rejected",
        ErrorCode::CANCELED => "canceled",
        ErrorCode::INVALID => "invalid",
        _ => "other",
    }
}
