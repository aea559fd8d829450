//! A scrape: every connected application pulled at once under one deadline, their texts merged with the pushes that are
//! due.
//!
//! An application that hangs, dies, or answers rubbish is one counted outcome; it stays connected and is asked again the
//! next time. Nothing of it reaches the others.

mod duplicates;
mod failure;
mod metrics;
mod naming;
mod pulled;
mod reserve;
mod settings;
mod targets;

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

pub use duplicates::{Duplicate, Duplicates};
pub use failure::PullFailure;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
pub use metrics::Metrics;
use prometheus_rsocket_exposition::{Encoding, EqualSeries, Merged, Part, merge_in_front};
pub use reserve::Reserve;
pub use settings::Settings;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};
use tokio::time::{Instant, timeout_at};

use crate::directory::ApplicationId;
use crate::push::{Claim, Pushes};
use crate::rsocket::{ConnectionId, Handle, Keep, Opened, Opener, PullError, Registry, run};
use crate::store::{ConsumerName, Content};
use crate::tenant::Tenant;

/// Once everybody has been pulled, a scrape waits for other nodes' pushes until this long after its beginning: a node that
/// hangs costs no more, until it is declared dead.
const CLAIM_PATIENCE: Duration = Duration::from_secs(2);

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

    /// Pulls every application for `consumer` and merges what has come by `deadline`. `end`: when the scraper gives the response up, if
    /// they said so.
    pub async fn scrape(
        &self,
        consumer: &ConsumerName,
        encoding: Encoding,
        deadline: Instant,
        end: Option<Instant>,
    ) -> Result<Scrape, ScrapeError> {
        let under_way = self.begin()?;
        let started = Instant::now();
        let mut claim = self.pushes.claim(consumer);
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
            let merged = merge_in_front(encoding, first, behind);
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

    /// The pushes that are due to `consumer`, alone: no application is pulled. Other nodes' are waited for until `deadline` at the latest.
    pub async fn pushes(
        &self,
        consumer: &ConsumerName,
        encoding: Encoding,
        deadline: Instant,
    ) -> Result<Scrape, ScrapeError> {
        let under_way = self.begin()?;
        let mut claim = self.pushes.claim(consumer);
        claim
            .settle(deadline.min(Instant::now() + CLAIM_PATIENCE))
            .await;
        let (first, behind) = (self.pushed(&claim.texts), self.pushed(&claim.again));
        let merging = run(move || merge_in_front(encoding, first, behind));
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
            .map(async |(place, handle)| {
                let pulled = self.pull(handle, None, deadline, Keep::Text).await;
                (place, pulled.ok())
            })
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

    /// The text of one application that is connected to this node, pulled for itself. The outcome is noted.
    pub async fn pull_one(
        &self,
        connection: ConnectionId,
        target: &ApplicationId,
        deadline: Instant,
        keep: Keep,
    ) -> Result<Arc<Opened>, PullFailure> {
        let handle = self.registry.get(connection).ok_or(PullError::Closed)?;
        self.pull(&handle, Some(target), deadline, keep).await
    }

    /// The text of one application, or of all for whom a connection answers. The outcome is noted.
    async fn pull(
        &self,
        handle: &Handle,
        target: Option<&ApplicationId>,
        deadline: Instant,
        keep: Keep,
    ) -> Result<Arc<Opened>, PullFailure> {
        let started = Instant::now();
        let text = async {
            let answer = handle.pull(target, deadline).await?;
            let opened = timeout_at(deadline, answer.open(&self.opener, keep));
            let opened = opened.await.map_err(|_| PullFailure::Late)??;
            match answer.of_all || opened.targets.total == 0 {
                true => Ok(opened),
                false => Err(PullFailure::Parts),
            }
        };
        let text: Result<Arc<Opened>, PullFailure> = text.await;
        self.note_pull(handle, target, &text, started.elapsed());
        text
    }

    fn note_pull(
        &self,
        handle: &Handle,
        target: Option<&ApplicationId>,
        text: &Result<Arc<Opened>, PullFailure>,
        duration: Duration,
    ) {
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
        }
        pulled::note(&self.metrics, handle, target, text, duration);
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
        self.metrics
            .name_conflicts
            .set(merged.name_conflicts().try_into().unwrap_or(i64::MAX));
    }
}
