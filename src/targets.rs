//! Flow: each application a Prometheus target of its own, found and pulled wherever it is connected.
//!
//! `follow` keeps up with what the other nodes have, `answer` tells them what this one has. A pull goes to the application
//! where it is connected here, else to the node where it is, which asks no other node. Where the connection ends meanwhile,
//! or the application is on its way to another node, the pull waits until its deadline for the directory to say where the
//! application is.

mod answer;
mod follow;
mod metrics;
mod places;
mod pull;
mod settings;

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
pub use metrics::Metrics;
use prometheus_rsocket_exposition::Encoding;
pub use settings::Settings;
use tokio::time::Instant;

use self::places::Places;
use crate::cluster::calls::Peers;
pub use crate::directory::Application;
use crate::directory::{ApplicationId, Missing, SharedDirectory};
use crate::drain::Lifecycle;
use crate::nodes::{NodeId, NodeState};
use crate::rsocket::Opener;
use crate::scrape::Scraper;

/// Jobs that are named to who has to choose one.
const MAX_JOBS_NAMED: usize = 5;

/// Why there is no list at the moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    /// The node is starting or leaving.
    #[error("the node is not ready")]
    Node,
    /// Another node has not said yet what is connected to it.
    #[error("the applications of node {0} are not known yet")]
    Peer(NodeId),
    /// A node of a release that knows no targets.
    #[error("node {0} runs a release without targets")]
    Release(NodeId),
}

/// An application's text, as it is to be served.
#[derive(Debug)]
pub struct Pulled {
    /// Valid in the encoding that was asked for, with its enforced labels. Counted against `--scrape.max-memory` until dropped.
    pub chunks: Vec<Bytes>,
}

/// Why an application's text is not served; each says so in a few words for Prometheus' targets page.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unserved {
    /// 404.
    #[error("no such application")]
    Unknown,
    /// 400: several jobs have this instance.
    #[error("several applications have this instance, add ?job=: {0}")]
    Ambiguous(String),
    /// 503.
    #[error("{0}")]
    Disconnected(String),
    /// 504.
    #[error("{0}")]
    Timeout(String),
    /// 502.
    #[error("{0}")]
    Invalid(String),
    /// 429.
    #[error("{0}")]
    TooMany(String),
}

/// Finds and pulls applications.
pub struct Targets {
    directory: Arc<SharedDirectory>,
    scraper: Arc<Scraper>,
    opener: Opener,
    peers: Arc<Peers>,
    lifecycle: Arc<Lifecycle>,
    metrics: Arc<Metrics>,
    places: Places,
}

impl Targets {
    /// Those of `directory`, pulled by `scraper` where they are connected to this node.
    pub fn new(
        directory: Arc<SharedDirectory>,
        scraper: Arc<Scraper>,
        opener: Opener,
        peers: Arc<Peers>,
        lifecycle: Arc<Lifecycle>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            directory,
            scraper,
            opener,
            peers,
            lifecycle,
            metrics,
            places: Places::default(),
        }
    }

    /// Every application of the cluster that is to be listed, in the order of their names. Somebody asks: from now on targets
    /// are in use.
    pub async fn list(&self) -> Result<Vec<Application>, NotReady> {
        let missing = self.directory.with(|directory, now| {
            directory.ask(now);
            directory.missing(now)
        });
        if self.lifecycle.state() != NodeState::Active {
            return Err(NotReady::Node);
        }
        match missing {
            Some(Missing::Silent(node)) => Err(NotReady::Peer(node)),
            Some(Missing::OlderRelease(node)) => Err(NotReady::Release(node)),
            None => Ok(self.directory.targets(SystemTime::now())),
        }
    }

    /// Whether every live node has said what is connected to it, but those of a release that knows no targets.
    pub fn are_known(&self) -> bool {
        let missing = self.directory.with(|directory, now| directory.missing(now));
        !matches!(missing, Some(Missing::Silent(_)))
    }

    /// Every application that is known, in the order of their names: those that are gone and those that are superseded among
    /// them.
    pub fn applications(&self) -> Vec<Application> {
        self.directory.applications(SystemTime::now())
    }

    /// Pulls one application, wherever it is connected, and waits for one that moves.
    pub async fn pull(
        &self,
        id: &ApplicationId,
        encoding: Encoding,
        deadline: Instant,
    ) -> Result<Pulled, Unserved> {
        let pulled = match self.places.of(id) {
            Some(_place) => self.find_and_pull(id, encoding, deadline).await,
            None => Err(Unserved::TooMany(
                "too many pulls of this application are under way".into(),
            )),
        };
        self.metrics.note_request(pulled.as_ref().err());
        pulled
    }

    /// The application that a path means: its instance, and the job where that is given. Without one, it is the application
    /// that says none, else the only one.
    pub fn named(&self, instance: &str, job: Option<&str>) -> Result<ApplicationId, Unserved> {
        let id = ApplicationId::new(instance, job).ok_or(Unserved::Unknown);
        let named = id.and_then(|id| match id.job {
            Some(_) => Ok(id),
            None => self.without_job(id),
        });
        if let Err(unserved) = &named {
            self.metrics.note_request(Some(unserved));
        }
        named
    }

    fn without_job(&self, id: ApplicationId) -> Result<ApplicationId, Unserved> {
        let mut known = self
            .directory
            .with(|directory, now| directory.with_instance(&id.instance, now));
        if known.len() > 1 && !known.contains(&id) {
            let jobs = known.iter().filter_map(|id| id.job.as_deref());
            let jobs: Vec<_> = jobs.take(MAX_JOBS_NAMED).collect();
            return Err(Unserved::Ambiguous(jobs.join(", ")));
        }
        match known.pop() {
            Some(only) if known.is_empty() => Ok(only),
            _ => Ok(id),
        }
    }
}
