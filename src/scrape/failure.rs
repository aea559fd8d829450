//! Why there is no text of an application.

use prometheus_rsocket_wire::ErrorCode;
use prometheus_rsocket_wire::envelope::OpenError;
use prometheus_rsocket_wire::session::StreamError;

use crate::rsocket::{OpenFailure, PullError};

/// Why there is no text of an application.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PullFailure {
    /// There is no answer.
    #[error(transparent)]
    Pull(#[from] PullError),
    /// The answer came in time, and was not read in time.
    #[error("the answer came too late to be read before the scrape's deadline")]
    Late,
    /// One target was meant, and the answer has a part for each.
    #[error("it answered for all its targets instead of one")]
    Parts,
    /// The answer is not one that can be served.
    #[error(transparent)]
    OpenFailure(#[from] OpenFailure),
}

impl PullFailure {
    /// Whether the node has too much to do, and nothing is wrong with the application.
    pub fn is_of_the_node(&self) -> bool {
        matches!(self.labels().1, "memory" | "families" | "busy" | "aborted")
    }

    /// The labels `outcome` and `exception`, from closed sets.
    pub fn labels(&self) -> (&'static str, &'static str) {
        match self {
            Self::Pull(PullError::Closed) => ("closed", "none"),
            Self::Pull(PullError::Timeout) => ("timeout", "deadline"),
            Self::Late => ("timeout", "late"),
            Self::Parts => ("invalid", "parts"),
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
