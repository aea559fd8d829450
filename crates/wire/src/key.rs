//! RSA keys: the proxy's key pair, and the public half that a client is sent.
//!
//! A public key travels as an X.509 `SubjectPublicKeyInfo` in DER, the data of the fireAndForget that follows SETUP and
//! of every requestResponse (as the Java proxy does it).

use std::fmt;
use std::ops::RangeInclusive;

use rsa::pkcs8::DecodePublicKey;
use rsa::traits::PublicKeyParts;
use rsa::{Oaep, RsaPublicKey};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::oaep::Mgf;

/// The moduli a client seals to: shorter ones are no protection, longer ones are a way to burn its CPU.
const MODULUS_BITS: RangeInclusive<u32> = 2048..=8192;
/// The bytes that a key wrapped to one of these has: as many as the modulus.
pub const WRAPPED_BYTES: RangeInclusive<usize> =
    *MODULUS_BITS.start() as usize / 8..=*MODULUS_BITS.end() as usize / 8;

/// Why a key cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not DER, not RSA, or of a length outside 2048 to 8192 bits.
    #[error("not an RSA key of 2048 to 8192 bits in DER")]
    Malformed,
    /// The system's random source or the arithmetic failed.
    #[error("the key pair could not be made")]
    Generation,
}

/// Bytes of a [`KeyId`].
pub const KEY_ID_BYTES: usize = 8;

/// Tells keys apart: the first eight bytes of the SHA-256 of the public half's `SubjectPublicKeyInfo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId([u8; KEY_ID_BYTES]);

impl KeyId {
    fn of(spki: &[u8]) -> Self {
        let digest: [u8; 32] = Sha256::digest(spki).into();
        let [a, b, c, d, e, f, g, h, ..] = digest;
        Self([a, b, c, d, e, f, g, h])
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; KEY_ID_BYTES] {
        &self.0
    }
}

/// The key that a client seals its answers to.
#[derive(Clone)]
pub struct PublicKey {
    key: RsaPublicKey,
    id: KeyId,
}

impl PublicKey {
    /// Reads an X.509 `SubjectPublicKeyInfo` in DER.
    pub fn from_spki_der(der: &[u8]) -> Result<Self, KeyError> {
        let key = RsaPublicKey::from_public_key_der(der).map_err(|_| KeyError::Malformed)?;
        if MODULUS_BITS.contains(&key.n().bits()) {
            let id = KeyId::of(der);
            Ok(Self { key, id })
        } else {
            Err(KeyError::Malformed)
        }
    }

    /// Which key it is.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// RSA-OAEP with SHA-256 for the (empty) label.
    pub(crate) fn encrypt(&self, secret: &[u8], mgf: Mgf) -> Option<Vec<u8>> {
        let random = &mut rand::rng();
        let sealed = match mgf {
            Mgf::Sha1 => {
                let padding = Oaep::<Sha256, Sha1>::new_with_mgf_hash();
                self.key.encrypt(random, padding, secret)
            }
            Mgf::Sha256 => self.key.encrypt(random, Oaep::<Sha256>::new(), secret),
        };
        sealed.ok()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({} bits)", self.key.n().bits())
    }
}

#[cfg(feature = "open")]
pub use pair::KeyPair;

#[cfg(feature = "open")]
mod pair {
    use std::fmt;

    use bytes::Bytes;
    use rsa::RsaPrivateKey;
    use rsa::pkcs8::{DecodePrivateKey, EncodePrivateKey, EncodePublicKey};
    use zeroize::Zeroizing;

    use super::{KeyError, KeyId};
    use crate::native;
    use crate::oaep::Mgf;

    /// Bits of the modulus; what the Java proxy uses.
    const BITS: usize = 2048;

    /// The proxy's key pair.
    pub struct KeyPair {
        private: native::PrivateKey,
        spki: Bytes,
        id: KeyId,
    }

    impl KeyPair {
        /// Makes a new RSA-2048 pair. Takes 40 to 200 ms of CPU: not for an async thread.
        pub fn generate() -> Result<Self, KeyError> {
            let key =
                RsaPrivateKey::new(&mut rand::rng(), BITS).map_err(|_| KeyError::Generation)?;
            Self::new(&key)
        }

        /// Reads a PKCS#8 private key in PEM.
        pub fn from_pkcs8_pem(pem: &str) -> Result<Self, KeyError> {
            let key = RsaPrivateKey::from_pkcs8_pem(pem).map_err(|_| KeyError::Malformed)?;
            Self::new(&key)
        }

        fn new(key: &RsaPrivateKey) -> Result<Self, KeyError> {
            let pkcs8 = Zeroizing::new(
                key.to_pkcs8_der()
                    .map_err(|_| KeyError::Malformed)?
                    .as_bytes()
                    .to_vec(),
            );
            let private = native::PrivateKey::from_pkcs8_der(&pkcs8).ok_or(KeyError::Malformed)?;
            let spki = key
                .to_public_key()
                .to_public_key_der()
                .map_err(|_| KeyError::Malformed)?
                .into_vec();
            Ok(Self {
                private,
                id: KeyId::of(&spki),
                spki: spki.into(),
            })
        }

        /// The public half as X.509 `SubjectPublicKeyInfo` in DER: what a client is sent.
        pub fn spki_der(&self) -> Bytes {
            self.spki.clone()
        }

        /// Which key it is.
        pub fn id(&self) -> KeyId {
            self.id
        }

        pub(crate) fn decrypt(&self, sealed: &[u8], mgf: Mgf) -> Option<Zeroizing<Vec<u8>>> {
            self.private.decrypt(sealed, mgf)
        }
    }

    impl fmt::Debug for KeyPair {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("KeyPair")
        }
    }
}
