//! What a SETUP says.

use std::time::Duration;

use thiserror::Error;

use super::header::MAX_FRAME_LEN;
use crate::Payload;

/// The peer's SETUP.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Setup {
    /// Time between the peer's KEEPALIVE frames, as it announced it.
    pub keepalive: Duration,
    /// How long the peer wants to wait for a sign of life, as it announced it.
    pub max_lifetime: Duration,
    /// Whether our requests wait for the peer's LEASE.
    pub lease: bool,
    /// MIME type of the data of all payloads.
    pub data_mime: String,
    /// MIME type of the metadata of all payloads.
    pub metadata_mime: String,
    /// Payload of the SETUP itself.
    pub payload: Payload,
}

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
    pub(crate) fn validate(&self) -> Result<(), InvalidSetup> {
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
