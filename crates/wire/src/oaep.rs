//! Which RSA-OAEP (RFC 8017, section 7.1) an envelope is wrapped with.

/// The hash inside OAEP's MGF1; that of its label is SHA-256.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mgf {
    /// Java's default, envelope version 1.
    Sha1,
    /// Envelope version 2.
    Sha256,
}
