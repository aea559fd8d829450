//! The SETUP frame: what a connecting session sends, and what an accepting one makes of it.

use std::time::Duration;

use bytes::Bytes;
use rsocket_rust::frame;
use thiserror::Error;

use super::event::{Setup, Violation};
use crate::{Payload, frame::MAX_FRAME_LEN};

const FLAG_RESUME: u16 = frame::Frame::FLAG_RESUME;
const FLAG_LEASE: u16 = frame::Frame::FLAG_LEASE;

/// The SETUP a connecting session begins with.
#[derive(Clone, Debug)]
pub struct SetupOptions {
    /// Time between our KEEPALIVE frames. Whole milliseconds, at least one.
    pub keepalive: Duration,
    /// How long we wait for a sign of life. Whole milliseconds, at least one.
    pub max_lifetime: Duration,
    /// MIME type of the data of all payloads, at most 255 bytes.
    pub data_mime: String,
    /// MIME type of the metadata of all payloads, at most 255 bytes.
    pub metadata_mime: String,
    /// Payload of the SETUP itself. A SETUP cannot go in fragments.
    pub payload: Payload,
}

/// As the Java client: 20 s, 90 s, `application/binary` twice and no payload.
impl Default for SetupOptions {
    fn default() -> Self {
        Self {
            keepalive: Duration::from_secs(20),
            max_lifetime: Duration::from_secs(90),
            data_mime: "application/binary".to_owned(),
            metadata_mime: "application/binary".to_owned(),
            payload: Payload::default(),
        }
    }
}

/// Why [`SetupOptions`] fit no SETUP frame.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum InvalidSetup {
    /// Less than a millisecond, or more than 31 bits of them.
    #[error("keep-alive interval and max lifetime must be 1 ms to 24 days")]
    Duration,
    /// More than 255 bytes.
    #[error("MIME type too long")]
    MimeType,
    /// More than fits into one frame.
    #[error("SETUP payload too large")]
    Payload,
}

impl SetupOptions {
    pub(super) fn validate(&self) -> Result<(), InvalidSetup> {
        let milliseconds = 1..=0x7FFF_FFFF;
        if !milliseconds.contains(&self.keepalive.as_millis())
            || !milliseconds.contains(&self.max_lifetime.as_millis())
        {
            return Err(InvalidSetup::Duration);
        }
        if self.data_mime.len() > 255 || self.metadata_mime.len() > 255 {
            return Err(InvalidSetup::MimeType);
        }
        // Header, version, times, two MIME types and a metadata length take 600 bytes at most.
        if self.payload.len() > MAX_FRAME_LEN - 600 {
            return Err(InvalidSetup::Payload);
        }
        Ok(())
    }
}

/// Judges the peer's SETUP. Resumption is not supported; a server "MUST reject the SETUP" then.
pub(super) fn accept(setup: frame::Setup, flags: u16) -> Result<Setup, Violation> {
    if flags & FLAG_RESUME != 0 {
        return Err(Violation::ResumableSetup);
    }
    let (keepalive, max_lifetime) = (setup.get_keepalive(), setup.get_lifetime());
    if keepalive.is_zero() || max_lifetime.is_zero() {
        return Err(Violation::KeepaliveZero);
    }
    let data_mime = setup.get_mime_data().unwrap_or_default().to_owned();
    let metadata_mime = setup.get_mime_metadata().unwrap_or_default().to_owned();
    Ok(Setup {
        keepalive,
        max_lifetime,
        lease: flags & FLAG_LEASE != 0,
        data_mime,
        metadata_mime,
        payload: payload(setup.split()),
    })
}

/// A payload from the decoder's pair of data and metadata.
pub(super) fn payload((data, metadata): (Option<Bytes>, Option<Bytes>)) -> Payload {
    Payload {
        metadata,
        data: data.unwrap_or_default(),
    }
}
