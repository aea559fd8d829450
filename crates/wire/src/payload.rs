//! What a request or an answer carries.

use bytes::Bytes;

/// Data and optional metadata of one request or answer, whole, however many frames it took.
///
/// A received payload that came in one frame shares that frame's buffer: keeping a piece of it
/// keeps all of it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Payload {
    /// `None` is not the same as empty: the frame says whether there is metadata.
    pub metadata: Option<Bytes>,
    /// May be empty.
    pub data: Bytes,
}

impl Payload {
    /// A payload without metadata.
    pub fn of_data(data: impl Into<Bytes>) -> Self {
        Self {
            metadata: None,
            data: data.into(),
        }
    }

    /// Bytes of metadata and data together.
    pub fn len(&self) -> usize {
        self.metadata.as_ref().map_or(0, Bytes::len) + self.data.len()
    }

    /// Whether there is neither metadata nor data.
    pub fn is_empty(&self) -> bool {
        self.metadata.is_none() && self.data.is_empty()
    }
}
