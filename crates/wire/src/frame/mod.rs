//! Frames: from bytes, where [`decode`] finds them well formed, and to bytes.

pub(crate) mod encode;
pub(crate) mod header;
pub(crate) mod setup;

mod decode;

pub use decode::{Frame, Malformed, PayloadFrame, Request, decode};
pub use header::{HEADER_LEN, MAX_FRAME_LEN};
