//! The envelopes that an exposition travels in, each the two halves of one RSocket payload:
//!
//! - [`version1`] is byte for byte the Java client's, with a new AES key wrapped for each payload;
//! - [`version2`] is for clients that know it: one wrapped key per connection, authenticated, bound to its connection
//!   and its purpose. The proxy says in its [announcement](crate::Announcement) that it opens it;
//! - [`plaintext`]: where the key was announced as the text `plaintext`, data = the text, metadata = `plaintext`.
//!
//! `docs/envelope.md` describes them for other languages.
//!
//! Opening is pure CPU work (for version 1 an RSA private operation, about 0.25 ms, and the text's size at some GB/s):
//! callers keep it off async threads.

pub mod plaintext;
mod text;
pub mod version1;
pub mod version2;

use bytes::Bytes;
#[cfg(feature = "open")]
pub use text::Block;

/// A text in its envelope, the two halves of one RSocket payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// The wrapped key, or `plaintext`.
    pub metadata: Bytes,
    /// The encrypted block, or the text.
    pub data: Bytes,
}

impl From<Sealed> for crate::Payload {
    fn from(sealed: Sealed) -> Self {
        Self {
            metadata: Some(sealed.metadata),
            data: sealed.data,
        }
    }
}

/// Why a text cannot be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Snappy's raw format holds 4 GiB less one byte.
    #[error("the text is too long for one payload")]
    TooLong,
    /// The key does not encrypt a secret.
    #[error("the public key cannot be used")]
    Key,
    /// The connection has sealed 2^64 payloads.
    #[error("the connection's nonces are used up")]
    Exhausted,
}

/// How long the text of an envelope will be held, which decides where it is put.
#[cfg(feature = "open")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Until the end of a scrape, with many others that go at the same time: in memory that they share.
    Scrape,
    /// For long, by itself.
    Long,
}

/// Why an envelope does not open.
#[cfg(feature = "open")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// There is no metadata.
    #[error("the envelope has no key in its metadata")]
    NoKey,
    /// Sealed to a key that is not among those given, or the metadata is damaged.
    #[error("the envelope is not encrypted to this key")]
    WrongKey,
    /// Plain text where encryption was asked for, or the other way round.
    #[error("plaintext was sent where encryption is expected, or the other way round")]
    WrongKind,
    /// Version 1 where version 2 was asked for.
    #[error("the proxy refuses this envelope version (--rsocket.min-envelope-version)")]
    Downgrade,
    /// The data is not whole AES blocks, or its padding is wrong.
    #[error("the data does not decrypt")]
    Decrypt,
    /// Version 2: damaged, or sealed for another connection, another pull, or another purpose.
    #[error("the data is damaged, or belongs to another connection, pull or push")]
    Forged,
    /// Version 2: opened before, or so old that nobody can tell.
    #[error("the envelope was used before")]
    Replayed,
    /// The decrypted data is not a whole Snappy block.
    #[error("the data does not decompress")]
    Decompress,
    /// The text would be longer than the limit.
    #[error("the text is longer than the limit")]
    TooLong,
}
