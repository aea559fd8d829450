//! Flow: each application a Prometheus target of its own, found and pulled wherever it is connected.

mod metrics;
mod settings;

use std::sync::Arc;

use bytes::Bytes;
pub use metrics::Metrics;
pub use settings::Settings;
use tokio::time::Instant;

use crate::cluster::calls::Peers;
pub use crate::directory::Application;
use crate::directory::{ApplicationId, SharedDirectory};
use crate::drain::Lifecycle;
use crate::nodes::NodeId;
use crate::rsocket::Opener;
use crate::scrape::Scraper;

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
pub struct Pulled {
    /// Valid in the exposition format 0.0.4, with its enforced labels.
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
    TooMany(&'static str),
}

/// Finds and pulls applications.
pub struct Targets {
    _directory: Arc<SharedDirectory>,
    _scraper: Arc<Scraper>,
    _opener: Opener,
    _peers: Arc<Peers>,
    _lifecycle: Arc<Lifecycle>,
    _metrics: Arc<Metrics>,
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
            _directory: directory,
            _scraper: scraper,
            _opener: opener,
            _peers: peers,
            _lifecycle: lifecycle,
            _metrics: metrics,
        }
    }

    /// Every application of the cluster that is to be listed, in the order of their names. Somebody asks: from now on targets
    /// are in use.
    pub async fn list(&self) -> Result<Vec<Application>, NotReady> {
        Err(NotReady::Node)
    }

    /// Every application that is known, in the order of their names: those that are gone and those that are superseded among
    /// them.
    pub fn applications(&self) -> Vec<Application> {
        Vec::new()
    }

    /// Pulls one application, wherever it is connected, and waits for one that moves.
    pub async fn pull(&self, _id: &ApplicationId, _deadline: Instant) -> Result<Pulled, Unserved> {
        Err(Unserved::Unknown)
    }

    /// The application that a path means: its instance, and the job where that is given.
    pub fn named(&self, _instance: &str, _job: Option<&str>) -> Result<ApplicationId, Unserved> {
        Err(Unserved::Unknown)
    }
}
