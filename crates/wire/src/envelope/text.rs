//! The text inside an envelope: a Snappy block in the raw format.

use super::SealError;

/// Compresses `text` into a buffer that has room for `spare` bytes more, and gives it with the block's length.
pub(super) fn compress(text: &[u8], spare: usize) -> Result<(Vec<u8>, usize), SealError> {
    let block_size = snap::raw::max_compress_len(text.len());
    if block_size == 0 {
        return Err(SealError::TooLong);
    }
    let mut buffer = vec![0; block_size + spare];
    let length = snap::raw::Encoder::new()
        .compress(text, &mut buffer)
        .map_err(|_| SealError::TooLong)?;
    Ok((buffer, length))
}

#[cfg(feature = "open")]
pub use block::Block;

#[cfg(feature = "open")]
mod block {
    use bytes::Bytes;

    use crate::envelope::{Hold, OpenError};
    use crate::pages;

    /// The most that Snappy's raw format can expand: a copy of 64 bytes takes 3. A block that declares more than this
    /// many times its own size cannot be whole, so that nothing is allocated for it.
    const MAX_EXPANSION: usize = 22;

    /// A text as it stood in its envelope: a block of Snappy's raw format, or what is none.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Block(pub(in crate::envelope) Bytes);

    impl Block {
        /// The text.
        ///
        /// `max_text` bounds it, in bytes; it is compared with the length that the block declares before anything is
        /// allocated for the text.
        pub fn text(&self, max_text: usize, hold: Hold) -> Result<Bytes, OpenError> {
            let Self(block) = self;
            let declared = snap::raw::decompress_len(block).map_err(|_| OpenError::Decompress)?;
            if declared > max_text {
                return Err(OpenError::TooLong);
            }
            if declared / MAX_EXPANSION > block.len() {
                return Err(OpenError::Decompress);
            }
            match hold {
                Hold::Scrape => match pages::take(declared) {
                    Some(room) => fill(block, room),
                    None => fill(block, vec![0; declared]),
                },
                Hold::Long => fill(block, vec![0; declared]),
            }
        }

        /// The block itself.
        pub fn into_bytes(self) -> Bytes {
            self.0
        }
    }

    fn fill<B>(block: &[u8], mut room: B) -> Result<Bytes, OpenError>
    where
        B: AsMut<[u8]> + AsRef<[u8]> + Send + 'static,
    {
        let written = snap::raw::Decoder::new()
            .decompress(block, room.as_mut())
            .map_err(|_| OpenError::Decompress)?;
        let mut text = Bytes::from_owner(room);
        text.truncate(written);
        Ok(text)
    }
}
