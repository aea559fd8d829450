//! RSA keys: the proxy's key pair, and the public half that a client is sent.
//!
//! A public key travels as an X.509 `SubjectPublicKeyInfo` in DER, the data of the fireAndForget that follows SETUP and
//! of every requestResponse (as the Java proxy does it).

use std::fmt;

use rsa::pkcs8::DecodePublicKey;
use rsa::traits::PublicKeyParts;
use rsa::{Oaep, RsaPublicKey};
use sha1::Sha1;
use sha2::Sha256;

/// The moduli a client seals to: shorter ones are no protection, longer ones are a way to burn its CPU.
const MODULUS_BITS: std::ops::RangeInclusive<u32> = 2048..=8192;

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

/// The key that a client seals its answers to.
#[derive(Clone)]
pub struct PublicKey(RsaPublicKey);

impl PublicKey {
    /// Reads an X.509 `SubjectPublicKeyInfo` in DER.
    pub fn from_spki_der(der: &[u8]) -> Result<Self, KeyError> {
        let key = RsaPublicKey::from_public_key_der(der).map_err(|_| KeyError::Malformed)?;
        if MODULUS_BITS.contains(&key.n().bits()) {
            Ok(Self(key))
        } else {
            Err(KeyError::Malformed)
        }
    }

    /// RSA-OAEP with SHA-256 for the label and SHA-1 inside MGF1, as Java's
    /// `RSA/ECB/OAEPWithSHA-256AndMGF1Padding` has it.
    pub(crate) fn encrypt(&self, secret: &[u8]) -> Option<Vec<u8>> {
        let padding = Oaep::<Sha256, Sha1>::new_with_mgf_hash();
        self.0.encrypt(&mut rand::rng(), padding, secret).ok()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({} bits)", self.0.n().bits())
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

    use super::KeyError;
    use crate::native;

    /// Bits of the modulus; what the Java proxy uses.
    const BITS: usize = 2048;

    /// The proxy's key pair.
    pub struct KeyPair {
        private: native::PrivateKey,
        spki: Bytes,
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
                spki: spki.into(),
            })
        }

        /// The public half as X.509 `SubjectPublicKeyInfo` in DER: what a client is sent.
        pub fn spki_der(&self) -> Bytes {
            self.spki.clone()
        }

        pub(crate) fn decrypt(&self, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
            self.private.decrypt(sealed)
        }
    }

    impl fmt::Debug for KeyPair {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("KeyPair")
        }
    }
}
