//! An application as the cluster knows it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::nodes::NodeId;

/// Bytes of an instance or a job.
const MAX_NAME: usize = 255;

/// Names an application: two with the same are one that connected again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApplicationId {
    /// The value of the label `instance`.
    pub instance: Arc<str>,
    /// The value of the label `job`, where the application says one.
    pub job: Option<Arc<str>>,
}

impl ApplicationId {
    /// `None` where one of them is empty, longer than 255 bytes or has control characters.
    pub fn new(instance: &str, job: Option<&str>) -> Option<Self> {
        let fits = |name: &str| {
            !name.is_empty() && name.len() <= MAX_NAME && !name.chars().any(char::is_control)
        };
        (fits(instance) && job.is_none_or(fits)).then(|| Self {
            instance: instance.into(),
            job: job.map(Into::into),
        })
    }
}

impl fmt::Display for ApplicationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.job {
            None => f.write_str(&self.instance),
            Some(job) => write!(f, "{job}/{}", self.instance),
        }
    }
}

/// What an application's name comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// Its own description.
    Description,
    /// Its identity in the identities file.
    Identity,
    /// Labels of its samples (`--targets.by`).
    Labels,
    /// The other end of its connection: another name after each reconnect.
    Address,
}

impl Named {
    /// The word in status and discovery.
    pub fn name(self) -> &'static str {
        match self {
            Self::Description => "description",
            Self::Identity => "identity",
            Self::Labels => "labels",
            Self::Address => "address",
        }
    }
}

/// What is told of an application beside its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// What its name comes from.
    pub named: Named,
    /// Program and version of its client, as it says.
    pub client: Option<Arc<str>>,
    /// The name of its identity, where it has one.
    pub identity: Option<Arc<str>>,
    /// The other end of its connection.
    pub peer: SocketAddr,
    /// What the connection runs over: `tcp` or `websocket`.
    pub transport: &'static str,
    /// When the connection was set up.
    pub connected_at: SystemTime,
    /// Labels for its Prometheus target: those that it says, and above them those of its identity.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
}

/// One of the applications that a connection speaks for: one, except for an agent's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name.
    pub id: ApplicationId,
    /// What is told of it.
    pub about: Arc<About>,
}

/// How an application's connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It broke, or its node died: the application should be there.
    Lost,
    /// The application said goodbye.
    Left,
    /// The node closed it, so that the application connects to another.
    Moved,
}

impl End {
    /// The word in status.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Left => "left",
            Self::Moved => "moved",
        }
    }
}

/// Whether an application is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It is connected.
    Connected,
    /// It is not.
    Ended {
        /// How its connection ended.
        end: End,
        /// When.
        at: SystemTime,
        /// Why, for people.
        reason: Arc<str>,
    },
}

/// How the last pull of an application went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// From the closed set of outcomes of pulls.
    pub outcome: &'static str,
    /// For people; empty on success.
    pub reason: Arc<str>,
}

/// An application, as any node knows it.
#[derive(Debug, Clone)]
pub struct Application {
    /// Its name.
    pub id: ApplicationId,
    /// What is told of it.
    pub about: Arc<About>,
    /// The node that it is or was connected to.
    pub node: NodeId,
    /// Whether it is there.
    pub state: State,
    /// Another connection has its name.
    pub superseded: bool,
    /// How its last pull went; `None` before the first.
    pub last: Option<Outcome>,
}

impl Application {
    /// Whether it is a target: connected and not superseded, or gone without a goodbye for no longer than
    /// `--targets.linger`.
    pub fn is_listed(&self, now: SystemTime, linger: Duration) -> bool {
        match &self.state {
            State::Connected => !self.superseded,
            State::Ended { end, at, .. } => {
                let ago = now.duration_since(*at).unwrap_or_default();
                *end != End::Left && ago < linger
            }
        }
    }
}
