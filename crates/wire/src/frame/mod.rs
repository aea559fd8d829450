//! Frames: from bytes, behind the [guard](guard::check), and to bytes.
//!
//! The codec is the one of `rsocket_rust`; this module is the only one that calls it.

pub mod guard;

pub(crate) mod encode;

use bytes::BytesMut;
pub use guard::{HEADER_LEN, MAX_FRAME_LEN, Malformed, Vetted};
pub use rsocket_rust::frame::{Body, Frame};

/// Vets and decodes one whole frame, without a length prefix. `None`: the frame is to be skipped.
///
/// # Errors
///
/// [`Malformed`] when the frame breaks the protocol.
pub fn decode(mut frame: BytesMut) -> Result<Option<Frame>, Malformed> {
    match guard::check(&frame)? {
        Vetted::Skip => Ok(None),
        Vetted::Decode => Frame::decode(&mut frame)
            .map(Some)
            .map_err(|_| Malformed::Undecodable),
    }
}
