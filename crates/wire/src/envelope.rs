//! The envelope that an exposition travels in, byte for byte the Java client's:
//!
//! - data = AES-128/ECB/PKCS5( Snappy raw block ( text, UTF-8 ) ), a fresh AES key for each payload;
//! - metadata = RSA-OAEP( the 16 bytes of the AES key ), see [`crate::key`];
//! - where the key was announced as the text `plaintext`: data = the text, metadata = `plaintext`.
//!
//! The encryption keeps an onlooker from reading the text. It does not tell who sent it: nothing is authenticated.
//!
//! [`open`] is pure CPU work (an RSA private operation, about 0.25 ms, and the text's size at some GB/s):
//! callers keep it off async threads.

use aes::Aes128;
use bytes::Bytes;
use ecb::cipher::block_padding::Pkcs7;
use ecb::cipher::{BlockModeEncrypt, KeyInit};
use zeroize::Zeroizing;

use crate::key::PublicKey;

/// What the data of the key payload and the metadata of the answer say where nothing is to be encrypted.
pub const PLAINTEXT: &[u8] = b"plaintext";

/// Bytes of an AES-128 key.
const KEY_BYTES: usize = 16;
/// Bytes of an AES block, the most that PKCS#5 padding adds.
const BLOCK_BYTES: usize = 16;

/// A text in its envelope, the two halves of one RSocket payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// The wrapped AES key, or `plaintext`.
    pub metadata: Bytes,
    /// The encrypted block, or the text.
    pub data: Bytes,
}

/// Why a text cannot be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Snappy's raw format holds 4 GiB less one byte.
    #[error("the text is too long for one payload")]
    TooLong,
    /// The key does not encrypt 16 bytes.
    #[error("the public key cannot be used")]
    Key,
}

/// Seals `text` to the proxy's key, as the Java client does.
pub fn seal(text: &[u8], key: &PublicKey) -> Result<Sealed, SealError> {
    let block_size = snap::raw::max_compress_len(text.len());
    if block_size == 0 {
        return Err(SealError::TooLong);
    }
    let mut buffer = vec![0; block_size + BLOCK_BYTES];
    let compressed = snap::raw::Encoder::new()
        .compress(text, &mut buffer)
        .map_err(|_| SealError::TooLong)?;
    let secret = Zeroizing::new(rand::random::<[u8; KEY_BYTES]>());
    let sealed = ecb::Encryptor::<Aes128>::new((&*secret).into())
        .encrypt_padded::<Pkcs7>(&mut buffer, compressed)
        .map_err(|_| SealError::TooLong)?
        .len();
    buffer.truncate(sealed);
    let metadata = key.encrypt(&*secret).ok_or(SealError::Key)?;
    Ok(Sealed {
        metadata: metadata.into(),
        data: buffer.into(),
    })
}

/// The envelope of a client that was told `plaintext`.
pub fn seal_plaintext(text: Bytes) -> Sealed {
    Sealed {
        metadata: Bytes::from_static(PLAINTEXT),
        data: text,
    }
}

#[cfg(feature = "open")]
pub use opening::{OpenError, open, open_plaintext};

#[cfg(feature = "open")]
mod opening {
    use bytes::BytesMut;
    use ecb::cipher::BlockModeDecrypt;
    use memmap2::{MmapMut, MmapOptions};

    use super::{Aes128, Bytes, KEY_BYTES, KeyInit, PLAINTEXT, Pkcs7};
    use crate::key::KeyPair;

    /// The most that Snappy's raw format can expand: a copy of 64 bytes takes 3. A block that declares more than this
    /// many times its own size cannot be whole, so that nothing is allocated for it.
    const MAX_EXPANSION: usize = 22;

    /// Texts of this many bytes and more are held outside the heap.
    const MIN_PAGES: usize = 32 << 10;

    /// Why an envelope does not open.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
    pub enum OpenError {
        /// There is no metadata.
        #[error("the envelope has no key in its metadata")]
        NoKey,
        /// Sealed to a key that is not among those given, or the metadata is damaged.
        #[error("the envelope is not sealed to this key")]
        WrongKey,
        /// Plain text where encryption was asked for, or the other way round.
        #[error("the envelope is of another kind than asked for")]
        WrongKind,
        /// The data is not whole AES blocks, or its padding is wrong.
        #[error("the data does not decrypt")]
        Decrypt,
        /// The decrypted data is not a whole Snappy block.
        #[error("the data does not decompress")]
        Decompress,
        /// The text would be longer than the limit.
        #[error("the text is longer than the limit")]
        TooLong,
    }

    /// Opens an envelope that was sealed to one of `keys`, which are tried in turn.
    ///
    /// `max_text` bounds the text, in bytes; it is compared with the length that the Snappy block declares before
    /// anything is allocated for the text. `data` is decrypted in place if nobody else holds it.
    pub fn open<'k>(
        metadata: &[u8],
        data: Bytes,
        keys: impl IntoIterator<Item = &'k KeyPair>,
        max_text: usize,
    ) -> Result<Bytes, OpenError> {
        if metadata.is_empty() {
            return Err(OpenError::NoKey);
        }
        if metadata == PLAINTEXT {
            return Err(OpenError::WrongKind);
        }
        let secret = keys
            .into_iter()
            .find_map(|key| key.decrypt(metadata))
            .ok_or(OpenError::WrongKey)?;
        let secret: &[u8; KEY_BYTES] = secret
            .as_slice()
            .try_into()
            .map_err(|_| OpenError::WrongKey)?;
        let mut data = data
            .try_into_mut()
            .unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        let block = ecb::Decryptor::<Aes128>::new(secret.into())
            .decrypt_padded::<Pkcs7>(&mut data)
            .map_err(|_| OpenError::Decrypt)?;
        decompress(block, max_text)
    }

    /// Takes the text out of an envelope of a client that was told `plaintext`.
    pub fn open_plaintext(
        metadata: &[u8],
        data: Bytes,
        max_text: usize,
    ) -> Result<Bytes, OpenError> {
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

    fn decompress(block: &[u8], max_text: usize) -> Result<Bytes, OpenError> {
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
