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
pub(super) use decompressing::decompress;

#[cfg(feature = "open")]
mod decompressing {
    use bytes::Bytes;
    use memmap2::{MmapMut, MmapOptions};

    use crate::envelope::OpenError;

    /// The most that Snappy's raw format can expand: a copy of 64 bytes takes 3. A block that declares more than this
    /// many times its own size cannot be whole, so that nothing is allocated for it.
    const MAX_EXPANSION: usize = 22;

    /// Texts of this many bytes and more are held outside the heap.
    const MIN_PAGES: usize = 32 << 10;

    /// `max_text` bounds the text, in bytes; it is compared with the length that the block declares before anything is
    /// allocated for the text.
    pub(in crate::envelope) fn decompress(
        block: &[u8],
        max_text: usize,
    ) -> Result<Bytes, OpenError> {
        let declared = snap::raw::decompress_len(block).map_err(|_| OpenError::Decompress)?;
        if declared > max_text {
            return Err(OpenError::TooLong);
        }
        if declared / MAX_EXPANSION > block.len() {
            return Err(OpenError::Decompress);
        }
        let mut text = TextBuffer::new(declared);
        let written = snap::raw::Decoder::new()
            .decompress(block, text.as_mut())
            .map_err(|_| OpenError::Decompress)?;
        Ok(text.into_bytes(written))
    }

    /// Where a text is decompressed to. A long one gets pages of its own, which go back to the system the moment nobody
    /// holds the text any more; in the heap, a hundred megabytes that are held for half a second every few seconds leave
    /// holes that add up.
    enum TextBuffer {
        Heap(Vec<u8>),
        Pages(MmapMut),
    }

    impl TextBuffer {
        fn new(length: usize) -> Self {
            let pages = (length >= MIN_PAGES)
                // All pages at once: one by one, on first touch, they cost twice as much.
                .then(|| MmapOptions::new().len(length).populate().map_anon().ok())
                .flatten();
            pages.map_or_else(|| Self::Heap(vec![0; length]), Self::Pages)
        }

        fn as_mut(&mut self) -> &mut [u8] {
            match self {
                Self::Heap(text) => text,
                Self::Pages(pages) => pages,
            }
        }

        fn into_bytes(self, length: usize) -> Bytes {
            let mut bytes = match self {
                Self::Heap(text) => Bytes::from(text),
                Self::Pages(pages) => Bytes::from_owner(pages),
            };
            bytes.truncate(length);
            bytes
        }
    }
}
