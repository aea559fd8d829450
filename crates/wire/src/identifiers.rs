//! Numbers of the protocol: stream ids and error codes.

use std::fmt;

/// A stream of a connection: one request and what answers it. Never 0.
///
/// The connecting side numbers its requests 1, 3, 5, …, the accepting side 2, 4, 6, …
/// (section "Stream Identifiers").
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct StreamId(u32);

impl StreamId {
    /// The highest id, 2³¹ − 1.
    pub const MAX: u32 = 0x7FFF_FFFF;

    /// `None` for 0, which stands for the connection, and for more than 31 bits.
    pub fn new(id: u32) -> Option<Self> {
        (1..=Self::MAX).contains(&id).then_some(Self(id))
    }

    /// The number in the frame header.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The code of an ERROR frame (section "Error Codes"). Any number can come from outside.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ErrorCode(pub u32);

impl ErrorCode {
    /// The SETUP cannot be right.
    pub const INVALID_SETUP: Self = Self(0x001);
    /// The SETUP asks for what the server does not speak.
    pub const UNSUPPORTED_SETUP: Self = Self(0x002);
    /// The server does not want this SETUP.
    pub const REJECTED_SETUP: Self = Self(0x003);
    /// The server cannot resume.
    pub const REJECTED_RESUME: Self = Self(0x004);
    /// The connection ends at once, by a fault.
    pub const CONNECTION_ERROR: Self = Self(0x101);
    /// The connection ends in good order. The Java client nevertheless ends every stream in
    /// flight when it gets this: send it when none is.
    pub const CONNECTION_CLOSE: Self = Self(0x102);
    /// The application failed while answering.
    pub const APPLICATION_ERROR: Self = Self(0x201);
    /// A valid request that was not acted upon.
    pub const REJECTED: Self = Self(0x202);
    /// The responder gave up, perhaps half-way.
    pub const CANCELED: Self = Self(0x203);
    /// The request makes no sense.
    pub const INVALID: Self = Self(0x204);

    /// Whether the code answers a SETUP or RESUME, and so means nothing afterwards.
    pub(crate) fn concerns_setup(self) -> bool {
        (Self::INVALID_SETUP.0..=Self::REJECTED_RESUME.0).contains(&self.0)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            Self::INVALID_SETUP => "INVALID_SETUP",
            Self::UNSUPPORTED_SETUP => "UNSUPPORTED_SETUP",
            Self::REJECTED_SETUP => "REJECTED_SETUP",
            Self::REJECTED_RESUME => "REJECTED_RESUME",
            Self::CONNECTION_ERROR => "CONNECTION_ERROR",
            Self::CONNECTION_CLOSE => "CONNECTION_CLOSE",
            Self::APPLICATION_ERROR => "APPLICATION_ERROR",
            Self::REJECTED => "REJECTED",
            Self::CANCELED => "CANCELED",
            Self::INVALID => "INVALID",
            Self(other) => return write!(f, "{other:#x}"),
        };
        f.write_str(name)
    }
}
