//! The applications' side: listeners, one task per connection, and the registry by which flows reach them.
//!
//! This edge knows frames, keys and envelopes; what an application's text means belongs to the flows. One call goes the
//! other way: a push arrives here and is handed to a [`PushSink`].

mod admission;
mod applications;
mod connection;
mod described;
mod ending;
mod entry;
mod keys;
mod known;
mod listener;
mod metrics;
mod naming;
mod opener;
#[cfg(test)]
mod pair;
mod parts;
mod proxy_protocol;
mod pull;
mod pull_timing;
mod pulls;
mod refused;
mod registry;
mod retire;
mod settings;
#[cfg(test)]
mod tests;
mod transport;
mod turns;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;

pub(crate) use admission::Shares;
pub use applications::{Applications, Shared};
pub use keys::{Key, KeyRing, Keys};
pub use listener::Listener;
pub use metrics::Metrics;
pub(crate) use metrics::PushRefusal;
pub use opener::{HeldText, Keep, OpenFailure, Opened, Opener, PlainText, Sealed};
pub use parts::{TargetFailure, TargetOutcome, Targets};
use prometheus_rsocket_wire::ErrorCode;
pub use pull::{Answer, PullError};
pub use pull_timing::PullTiming;
pub use refused::Refused;
pub use registry::{Handle, LastScrape, Left, Registry};
pub use retire::{Cause, Retirement};
pub use settings::{Envelope, Settings};
pub use transport::Transport;
pub use turns::{Flow, Wanted, run};

/// Names one connection of this node; later connections have greater ids.
pub type ConnectionId = u64;

/// Why a push is not held; told to the application where it waits for an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// INVALID for what is wrong with the push, APPLICATION_ERROR for what is wrong with the node. CONNECTION_CLOSE: the
    /// node leaves; instead of an answer the connection ends, so that the application pushes elsewhere.
    pub code: ErrorCode,
    /// For people; bounded, and none of it is the application's own bytes.
    pub reason: String,
}

/// The outcome of a push: held, or not.
pub type PushOutcome = Pin<Box<dyn Future<Output = Result<(), Rejection>> + Send>>;

/// Takes what applications push.
pub trait PushSink: Send + Sync {
    /// Opens, checks and holds a push; done when it may be acknowledged.
    ///
    /// The future is polled to its end even when the connection has gone meanwhile.
    fn push(&self, sealed: Sealed, peer: SocketAddr) -> PushOutcome;
}

/// What a fuzz target enters by.
#[cfg(fuzzing)]
pub mod fuzzing {
    use std::net::SocketAddr;

    /// The address that a header of the PROXY protocol names.
    pub fn origin(header: &[u8]) -> Option<SocketAddr> {
        super::proxy_protocol::source(header).ok().flatten()
    }
}
