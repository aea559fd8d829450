//! What a session tells its user.

use std::io;

use thiserror::Error;

use crate::{
    ErrorCode, Payload, StreamId,
    frame::{Malformed, setup::Setup},
};

/// Something that happened on a connection. [`Event::Closed`] is the last one.
#[derive(Debug)]
pub enum Event {
    /// The peer's SETUP was accepted. Only on the accepting side, and first.
    Setup(Setup),
    /// The outcome of one of our requests. Requests still open when the connection ends get
    /// none: [`Event::Closed`] ends them all.
    Response {
        /// What [`Session::request_response`](super::Session::request_response) returned.
        stream: StreamId,
        /// The peer's answer.
        result: Result<Payload, StreamError>,
    },
    /// The peer asks, and waits for [`Session::respond`](super::Session::respond) or
    /// [`Session::respond_error`](super::Session::respond_error).
    Request {
        /// The stream to answer on.
        stream: StreamId,
        /// The question.
        payload: Payload,
    },
    /// The peer tells, and expects no answer.
    FireAndForget {
        /// What it tells.
        payload: Payload,
    },
    /// The peer no longer waits for the answer to a request.
    RequestCancelled {
        /// The request's stream. Answering it now does nothing.
        stream: StreamId,
    },
    /// A request of the peer was refused without the user seeing it. To be counted.
    Refused {
        /// Whether the peer was told: a fire-and-forget has nobody to tell.
        fire_and_forget: bool,
        /// Why.
        reason: Refusal,
    },
    /// The connection is over: nothing is received or requested any more.
    Closed(CloseReason),
}

/// Why one of our requests has no answer.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum StreamError {
    /// The peer answered with an ERROR.
    #[error("peer answered {code}: {message}")]
    Application {
        /// Its code.
        code: ErrorCode,
        /// Its text, cut at 256 bytes, with whatever was not UTF-8 replaced.
        message: String,
    },
    /// The peer completed the stream without a payload.
    #[error("peer completed the request without an answer")]
    Empty,
    /// The answer exceeds [`Limits::max_payload`](super::Limits::max_payload).
    #[error("answer too large")]
    TooLarge,
    /// The answer's fragments make no payload.
    #[error("answer in fragments out of order")]
    Fragments,
}

/// Why a request of the peer was not passed on.
#[derive(Clone, Copy, Debug, Eq, Error, Hash, PartialEq)]
pub enum Refusal {
    /// More than [`Limits::max_payload`](super::Limits::max_payload).
    #[error("payload too large")]
    TooLarge,
    /// Metadata after data (section "Fragmentation And Reassembly").
    #[error("fragments out of order")]
    Fragments,
    /// More than [`Limits::max_requests_in`](super::Limits::max_requests_in).
    #[error("too many requests")]
    TooManyRequests,
    /// More than [`Limits::max_partial`](super::Limits::max_partial).
    #[error("too many unfinished requests")]
    TooManyPartial,
    /// A fragment was followed by none for longer than the peer's max lifetime.
    #[error("unfinished request timed out")]
    Stalled,
    /// REQUEST_STREAM or REQUEST_CHANNEL.
    #[error("interaction not supported")]
    Unsupported,
}

impl Refusal {
    pub(crate) fn code(self) -> ErrorCode {
        match self {
            Self::TooLarge | Self::Fragments => ErrorCode::INVALID,
            Self::TooManyRequests | Self::TooManyPartial | Self::Stalled | Self::Unsupported => {
                ErrorCode::REJECTED
            }
        }
    }
}

/// Why a connection ended. The variants tell who ended it, and how.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum CloseReason {
    /// The peer ended the stream of bytes, between two frames.
    #[error("closed by peer")]
    PeerEnded,
    /// The peer sent an ERROR for the whole connection.
    #[error("peer closed with {code}: {message}")]
    PeerError {
        /// Its code.
        code: ErrorCode,
        /// Its text, cut at 256 bytes, with whatever was not UTF-8 replaced.
        message: String,
    },
    /// [`Session::close`](super::Session::close) was called.
    #[error("closed with {0}")]
    Closed(ErrorCode),
    /// [`Session::end`](super::Session::end) was called.
    #[error("ended")]
    Ended,
    /// The peer broke the protocol and was told so.
    #[error("protocol violated: {0}")]
    Violation(#[from] Violation),
    /// No SETUP in time.
    #[error("no SETUP in time")]
    SetupTimeout,
    /// Nothing received, or nothing that could be sent, for the peer's max lifetime; or nothing received until the end
    /// of a [`Session::probe`](super::Session::probe).
    #[error("nothing received in time")]
    KeepaliveTimeout,
    /// The transport failed, or ended in the middle of a frame.
    #[error("transport failed: {0}")]
    Transport(io::ErrorKind),
}

/// What the peer did that ends a connection.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum Violation {
    /// A frame that is none.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The first frame is neither SETUP nor RESUME.
    #[error("first frame is not a SETUP")]
    SetupExpected,
    /// The SETUP is malformed.
    #[error("invalid SETUP: {0}")]
    MalformedSetup(Malformed),
    /// The SETUP has a keep-alive interval or a max lifetime of 0.
    #[error("keep-alive interval and max lifetime must not be 0")]
    KeepaliveZero,
    /// The SETUP is of another major version.
    #[error("unsupported protocol version")]
    Version,
    /// The SETUP asks to be resumable.
    #[error("resumption is not supported")]
    ResumableSetup,
    /// A RESUME.
    #[error("resumption is not supported")]
    Resume,
    /// A KEEPALIVE with more data than anybody needs to have echoed.
    #[error("keep-alive data too long")]
    KeepaliveData,
    /// So many requests were refused, without our answers being read, that the queue is full.
    #[error("too many frames wait to be sent")]
    Backlog,
    /// A payload was unfinished for too long, or its memory was needed for others.
    #[error("a payload took too long")]
    Unfinished,
}

impl Violation {
    pub(crate) fn code(self) -> ErrorCode {
        match self {
            Self::SetupExpected | Self::MalformedSetup(_) | Self::KeepaliveZero => {
                ErrorCode::INVALID_SETUP
            }
            Self::Version => ErrorCode::UNSUPPORTED_SETUP,
            Self::ResumableSetup => ErrorCode::REJECTED_SETUP,
            Self::Resume => ErrorCode::REJECTED_RESUME,
            Self::Malformed(_) | Self::KeepaliveData | Self::Backlog | Self::Unfinished => {
                ErrorCode::CONNECTION_ERROR
            }
        }
    }
}

/// Why a request was not taken.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum SendError {
    /// One of the [`Limits`](super::Limits) on what waits is reached: try again later.
    #[error("too much waits to be sent or answered")]
    Full,
    /// The peer's SETUP has not come.
    #[error("connection not set up")]
    NotSetUp,
    /// The connection is over.
    #[error("connection closed")]
    Closed,
}
