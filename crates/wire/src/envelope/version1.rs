//! The Java client's envelope:
//!
//! - data = AES-128/ECB/PKCS5( Snappy raw block ( text, UTF-8 ) ), a fresh AES key for each payload;
//! - metadata = RSA-OAEP( the 16 bytes of the AES key ), with SHA-256 for the label and **SHA-1 inside MGF1**, which is
//!   what Java's `RSA/ECB/OAEPWithSHA-256AndMGF1Padding` means.
//!
//! The encryption keeps an onlooker from reading the text. It does not tell who sent it: nothing is authenticated.

use aes::Aes128;
use ecb::cipher::block_padding::Pkcs7;
use ecb::cipher::{BlockModeEncrypt, KeyInit};
use zeroize::Zeroizing;

use super::{SealError, Sealed, text};
use crate::key::PublicKey;
use crate::oaep::Mgf;

/// Bytes of an AES-128 key.
const KEY_BYTES: usize = 16;
/// Bytes of an AES block, the most that PKCS#5 padding adds.
const BLOCK_BYTES: usize = 16;

/// Seals `text` to the proxy's key, as the Java client does.
pub fn seal(text: &[u8], key: &PublicKey) -> Result<Sealed, SealError> {
    let (mut buffer, compressed) = text::compress(text, BLOCK_BYTES)?;
    let secret = Zeroizing::new(rand::random::<[u8; KEY_BYTES]>());
    let sealed = ecb::Encryptor::<Aes128>::new((&*secret).into())
        .encrypt_padded::<Pkcs7>(&mut buffer, compressed)
        .map_err(|_| SealError::TooLong)?
        .len();
    buffer.truncate(sealed);
    let metadata = key.encrypt(&*secret, Mgf::Sha1).ok_or(SealError::Key)?;
    Ok(Sealed {
        metadata: metadata.into(),
        data: buffer.into(),
    })
}

#[cfg(feature = "open")]
pub use opening::{Secret, open, open_with, unwrap};

#[cfg(feature = "open")]
mod opening {
    use bytes::{Bytes, BytesMut};
    use ecb::cipher::BlockModeDecrypt;

    use super::{Aes128, KEY_BYTES, KeyInit, Mgf, Pkcs7, Zeroizing};
    use crate::envelope::plaintext::PLAINTEXT;
    use crate::envelope::{Block, OpenError};
    use crate::key::KeyPair;

    /// The AES key of one envelope.
    pub type Secret = Zeroizing<[u8; KEY_BYTES]>;

    /// Opens an envelope that was sealed to one of `keys`, which are tried in turn. `data` is decrypted in place if nobody
    /// else holds it.
    pub fn open<'k>(
        metadata: &[u8],
        data: Bytes,
        keys: impl IntoIterator<Item = &'k KeyPair>,
    ) -> Result<Block, OpenError> {
        open_with(&unwrap(metadata, keys)?, data)
    }

    /// The AES key that `metadata` wraps to one of `keys`, which are tried in turn.
    pub fn unwrap<'k>(
        metadata: &[u8],
        keys: impl IntoIterator<Item = &'k KeyPair>,
    ) -> Result<Secret, OpenError> {
        if metadata.is_empty() {
            return Err(OpenError::NoKey);
        }
        if metadata == PLAINTEXT {
            return Err(OpenError::WrongKind);
        }
        let secret = keys
            .into_iter()
            .find_map(|key| key.decrypt(metadata, Mgf::Sha1))
            .ok_or(OpenError::WrongKey)?;
        let secret = secret
            .as_slice()
            .try_into()
            .map_err(|_| OpenError::WrongKey)?;
        Ok(Zeroizing::new(secret))
    }

    /// Opens the data of an envelope whose AES key is known, as [`open`] does.
    pub fn open_with(secret: &Secret, data: Bytes) -> Result<Block, OpenError> {
        let mut data = data
            .try_into_mut()
            .unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        let block = ecb::Decryptor::<Aes128>::new((&**secret).into())
            .decrypt_padded::<Pkcs7>(&mut data)
            .map_err(|_| OpenError::Decrypt)?
            .len();
        data.truncate(block);
        Ok(Block(data.freeze()))
    }
}
