//! How connecting and pushing fail.

use prometheus_rsocket_wire::ErrorCode;

use crate::render::RenderError;

/// Why a push was not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// The proxy refused it; it is not tried again.
    #[error("the proxy refused the push with {code}: {message}")]
    Refused {
        /// What kind of refusal.
        code: ErrorCode,
        /// The proxy's reason.
        message: String,
    },
    /// The closure that renders the text panicked or gave an error.
    #[error("the metrics could not be rendered: {0}")]
    Render(#[from] RenderError),
    /// The text is too long to be sealed.
    #[error("the text is too long for one push")]
    TooLong,
    /// The proxy's key cannot be used.
    #[error("the text cannot be encrypted to the proxy's key")]
    Sealing,
    /// The proxy answered with something that is no acknowledgement.
    #[error("the proxy's answer is not an acknowledgement")]
    Answer,
    /// No acknowledgement in time, or where none was asked for, not all could be sent: the proxy may or may not hold
    /// the push.
    #[error("the push was not acknowledged in time")]
    Timeout,
    /// There was no connection to send it over in time, or none can come about before somebody changes something, as with
    /// wrong credentials. The proxy does not hold the push.
    #[error("not connected to the proxy: {0}")]
    NotConnected(String),
    /// Too many pushes wait already (16).
    #[error("too many pushes wait already")]
    Busy,
    /// The client is closed, or has given up.
    #[error("the client is closed")]
    Closed,
}

/// Why there is no connection, where the application waited for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// All attempts that [`Builder::max_retries`](crate::Builder::max_retries) allows have failed, or one has failed in a
    /// way that no waiting mends: wrong credentials, a file that cannot be read, TLS on one side only.
    #[error("cannot connect to the proxy: {0}")]
    GaveUp(String),
    /// Not within [`Builder::timeout`](crate::Builder::timeout); the text is how the last attempt failed, or what it
    /// waits for.
    #[error("not connected to the proxy in time: {0}")]
    Timeout(String),
    /// As [`ConnectError::Timeout`], of a proxy that took the connection and sent no key.
    #[error("not connected to the proxy in time: {0}")]
    NoKey(String),
}
