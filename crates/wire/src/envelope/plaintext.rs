//! No envelope: for connections that something else protects.

use bytes::Bytes;

#[cfg(feature = "open")]
use super::OpenError;
use super::Sealed;

/// What the data of the key payload and the metadata of the answer say where nothing is to be encrypted.
pub const PLAINTEXT: &[u8] = b"plaintext";

/// The envelope of a client that was told `plaintext`.
pub fn seal(text: Bytes) -> Sealed {
    Sealed {
        metadata: Bytes::from_static(PLAINTEXT),
        data: text,
    }
}

/// Takes the text out of an envelope of a client that was told `plaintext`.
#[cfg(feature = "open")]
pub fn open(metadata: &[u8], data: Bytes, max_text: usize) -> Result<Bytes, OpenError> {
    if metadata.is_empty() {
        return Err(OpenError::NoKey);
    }
    if metadata != PLAINTEXT {
        return Err(OpenError::WrongKind);
    }
    if data.len() > max_text {
        return Err(OpenError::TooLong);
    }
    Ok(data)
}
