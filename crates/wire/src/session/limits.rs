//! How much one connection may cost.

use std::time::Duration;

use crate::frame::MAX_FRAME_LEN;

/// Bounds of one session. Each field says what happens at the bound.
///
/// The most memory a peer can make a session hold is about `max_frame` for the frame being read,
/// twice `max_partial × max_payload` for requests in pieces, twice `max_payload` for each of our
/// own unanswered requests, and what the caller itself has queued.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest frame received, in bytes: a longer one ends the connection with CONNECTION_ERROR.
    /// At most [`MAX_FRAME_LEN`].
    pub max_frame: usize,
    /// Most bytes of metadata and data in a payload received, put together from its fragments:
    /// a larger answer fails its request, a larger request is refused. The connection stays.
    pub max_payload: usize,
    /// Requests of the peer that wait for our answer: further ones are answered REJECTED.
    pub max_requests_in: usize,
    /// Requests of ours that wait for the peer's answer: past it [`SendError::Full`].
    ///
    /// [`SendError::Full`]: crate::session::SendError::Full
    pub max_requests_out: usize,
    /// Requests of the peer whose fragments have not all come: further ones are refused.
    pub max_partial: usize,
    /// Frames and payloads that wait to be sent. Past it our requests get [`SendError::Full`] and
    /// the connection reads no further frames, so that a peer which never reads is in the end
    /// closed as silent.
    ///
    /// [`SendError::Full`]: crate::session::SendError::Full
    pub max_queued_frames: usize,
    /// Requests of ours that wait for a LEASE: past it [`SendError::Full`].
    ///
    /// [`SendError::Full`]: crate::session::SendError::Full
    pub max_pending_lease: usize,
    /// Longest frame we send, header included: larger payloads go in fragments. `None`: as long
    /// as the protocol allows. Less than 64 counts as 64.
    pub fragment_size: Option<usize>,
    /// From accepting a connection to its SETUP: then it is closed with INVALID_SETUP.
    pub setup_timeout: Duration,
    /// The shortest KEEPALIVE interval a peer can make us keep.
    pub min_keepalive: Duration,
    /// The longest a peer's SETUP can make us wait for a sign of life.
    pub max_lifetime: Duration,
}

impl Limits {
    /// The shortest `fragment_size`, as in rsocket-java.
    pub const MIN_FRAGMENT_SIZE: usize = 64;

    pub(crate) fn frame_len_out(&self) -> usize {
        self.fragment_size
            .unwrap_or(MAX_FRAME_LEN)
            .clamp(Self::MIN_FRAGMENT_SIZE, MAX_FRAME_LEN)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_frame: MAX_FRAME_LEN,
            max_payload: 32 << 20,
            max_requests_in: 16,
            max_requests_out: 64,
            max_partial: 4,
            max_queued_frames: 128,
            max_pending_lease: 16,
            fragment_size: None,
            setup_timeout: Duration::from_secs(10),
            min_keepalive: Duration::from_millis(500),
            max_lifetime: Duration::from_secs(300),
        }
    }
}
