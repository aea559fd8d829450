//! Why there is no connection.

use std::fmt::Display;

use prometheus_rsocket_wire::ErrorCode;
use prometheus_rsocket_wire::session::CloseReason;

use crate::metrics::Reason;

/// Why an attempt failed or a connection ended.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Failure {
    pub(crate) reason: Reason,
    text: String,
}

impl Failure {
    pub(crate) fn new(reason: Reason, text: impl Display) -> Self {
        Self {
            reason,
            text: text.to_string(),
        }
    }

    pub(crate) fn of_close(reason: &CloseReason) -> Self {
        let kind = match reason {
            CloseReason::PeerEnded => Reason::Closed,
            CloseReason::PeerError { code, .. } if *code == ErrorCode::REJECTED_SETUP => {
                Reason::Credentials
            }
            CloseReason::PeerError { .. } => Reason::Error,
            CloseReason::KeepaliveTimeout => Reason::Silent,
            CloseReason::Violation(_) => Reason::Protocol,
            CloseReason::Closed(_)
            | CloseReason::Ended
            | CloseReason::SetupTimeout
            | CloseReason::Transport(_) => Reason::Network,
        };
        Self::new(kind, reason)
    }
}
