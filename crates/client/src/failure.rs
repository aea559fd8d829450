//! Why there is no connection, in words for people who run the application.

use std::fmt::Display;

use prometheus_rsocket_wire::ErrorCode;
use prometheus_rsocket_wire::frame::Malformed;
use prometheus_rsocket_wire::session::{CloseReason, Violation};

use crate::metrics::Reason;

/// Why an attempt failed or a connection ended.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Failure {
    pub(crate) reason: Reason,
    text: String,
    /// Somebody has to change something first: waiting does not help.
    pub(crate) is_lasting: bool,
}

impl Failure {
    /// A failure that may pass without a change.
    pub(crate) fn new(reason: Reason, text: impl Display) -> Self {
        Self {
            reason,
            text: text.to_string(),
            is_lasting: false,
        }
    }

    /// A failure that stays until somebody changes something.
    pub(crate) fn lasting(reason: Reason, text: impl Display) -> Self {
        Self {
            is_lasting: true,
            ..Self::new(reason, text)
        }
    }

    pub(crate) fn of_close(reason: &CloseReason) -> Self {
        match reason {
            CloseReason::PeerEnded => Self::new(Reason::Closed, "the proxy closed the connection"),
            CloseReason::PeerError { code, message } if *code == ErrorCode::REJECTED_SETUP => {
                Self::lasting(Reason::Credentials, message)
            }
            CloseReason::PeerError { code, message } => Self::new(
                Reason::Error,
                format!("the proxy ended the connection with {code}: {message}"),
            ),
            CloseReason::KeepaliveTimeout => {
                Self::new(Reason::Silent, "the proxy gave no sign of life")
            }
            CloseReason::Violation(Violation::Malformed(
                malformed @ (Malformed::Tls | Malformed::Http),
            )) => Self::lasting(Reason::Protocol, malformed),
            CloseReason::Violation(violation) => Self::new(
                Reason::Protocol,
                format!("what the port sends is not RSocket: {violation}"),
            ),
            CloseReason::Transport(kind) => {
                Self::new(Reason::Network, format!("the connection broke: {kind}"))
            }
            CloseReason::Closed(_) | CloseReason::Ended | CloseReason::SetupTimeout => {
                Self::new(Reason::Network, reason)
            }
        }
    }
}
