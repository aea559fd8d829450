//! The envelope of clients that know it:
//!
//! - data = AES-256-GCM( Snappy raw block ( text, UTF-8 ) ), the tag at its end;
//! - metadata = `PRE` 0x02, the proxy key's [id](crate::key::KeyId) (8 bytes), a counter (8 bytes, big-endian), and
//!   RSA-OAEP( the 32 bytes of the AES key ) with SHA-256 for label and MGF1;
//! - nonce = 4 zero bytes and the counter, which begins anew for no key: a connection never uses one twice;
//! - associated data = [`LABEL`], the connection's token (16 bytes), the purpose (1 byte: 1 an answer, 2 a push), and
//!   the pull that is answered (8 bytes, big-endian; 0 for a push).
//!
//! A client wraps a key once per connection, and a new one after [`MAX_AGE`] or [`MAX_USES`], or when the proxy's key
//! changes; the wrapped key accompanies every payload, so that no lost payload can leave the two ends apart, and the
//! proxy unwraps it only when it changes. What was sealed for another connection, another pull or another purpose does
//! not open, nor does anything open twice.
//!
//! What it does not tell is who the client is: a key can be wrapped by everyone who has seen the proxy's public key.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, KeyInit};
use bytes::{BufMut, Bytes, BytesMut};
use zeroize::Zeroizing;

use super::{SealError, Sealed, text};
use crate::ConnectionToken;
use crate::key::{KEY_ID_BYTES, KeyId, PublicKey};
use crate::oaep::Mgf;

/// What the associated data begins with.
pub const LABEL: &[u8] = b"prometheus-rsocket-proxy envelope 2";

/// How long a client uses one AES key.
pub const MAX_AGE: Duration = Duration::from_secs(3600);
/// How many payloads a client seals with one AES key.
pub const MAX_USES: u32 = 1 << 16;

const MAGIC: &[u8] = b"PRE\x02";
const COUNTER_BYTES: usize = 8;
/// Bytes of the metadata before the wrapped key.
const HEAD_BYTES: usize = MAGIC.len() + KEY_ID_BYTES + COUNTER_BYTES;
const SECRET_BYTES: usize = 32;
const TAG_BYTES: usize = 16;
const NONCE_BYTES: usize = 12;
const ASSOCIATED_BYTES: usize = LABEL.len() + 16 + 1 + 8;

type Secret = Zeroizing<[u8; SECRET_BYTES]>;

/// What a text is sealed for. Both go from the application to the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The answer to a pull.
    Answer {
        /// The number that the proxy announced with it.
        pull: u64,
    },
    /// A push.
    Push,
}

/// Whether metadata is that of this version. That of version 1 is as long as the key's modulus, a multiple of eight
/// bytes; this one's is twenty bytes longer.
pub fn is_version2(metadata: &[u8]) -> bool {
    metadata.starts_with(MAGIC)
        && metadata
            .len()
            .checked_sub(HEAD_BYTES)
            .is_some_and(|wrapped| wrapped > 0 && wrapped % 8 == 0)
}

fn associated_data(connection: ConnectionToken, purpose: Purpose) -> [u8; ASSOCIATED_BYTES] {
    let (kind, pull) = match purpose {
        Purpose::Answer { pull } => (1, pull),
        Purpose::Push => (2, 0),
    };
    let mut associated = [0; ASSOCIATED_BYTES];
    let mut rest = &mut associated[..];
    rest.put_slice(LABEL);
    rest.put_slice(connection.as_bytes());
    rest.put_u8(kind);
    rest.put_u64(pull);
    associated
}

fn nonce(counter: u64) -> [u8; NONCE_BYTES] {
    let mut nonce = [0; NONCE_BYTES];
    (&mut nonce[NONCE_BYTES - COUNTER_BYTES..]).put_u64(counter);
    nonce
}

/// The client's end: seals what is sent on one connection.
#[derive(Debug)]
pub struct Sealer {
    connection: ConnectionToken,
    state: Mutex<SealerState>,
}

#[derive(Debug, Default)]
struct SealerState {
    next_counter: u64,
    wrap: Option<Wrap>,
}

/// An AES key and its wrapping.
#[derive(Clone)]
struct Wrap {
    secret: Secret,
    key: KeyId,
    wrapped: Bytes,
    made_at: Instant,
    uses: u32,
}

impl std::fmt::Debug for Wrap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Wrap({:?})", self.key)
    }
}

impl Wrap {
    fn new(key: &PublicKey, now: Instant) -> Result<Self, SealError> {
        let secret = Zeroizing::new(rand::random::<[u8; SECRET_BYTES]>());
        let wrapped = key.encrypt(&*secret, Mgf::Sha256).ok_or(SealError::Key)?;
        Ok(Self {
            secret,
            key: key.id(),
            wrapped: wrapped.into(),
            made_at: now,
            uses: 0,
        })
    }

    fn serves(&self, key: &PublicKey, now: Instant) -> bool {
        self.key == key.id()
            && self.uses < MAX_USES
            && now.saturating_duration_since(self.made_at) < MAX_AGE
    }

    fn metadata(&self, counter: u64) -> Bytes {
        let mut metadata = BytesMut::with_capacity(HEAD_BYTES + self.wrapped.len());
        metadata.put_slice(MAGIC);
        metadata.put_slice(self.key.as_bytes());
        metadata.put_u64(counter);
        metadata.put_slice(&self.wrapped);
        metadata.freeze()
    }
}

impl Sealer {
    /// For the connection that the proxy announced under this token.
    pub fn new(connection: ConnectionToken) -> Self {
        Self {
            connection,
            state: Mutex::default(),
        }
    }

    /// Seals a text to the proxy's newest key. May be called from several threads at a time.
    pub fn seal(
        &self,
        text: &[u8],
        key: &PublicKey,
        purpose: Purpose,
        now: Instant,
    ) -> Result<Sealed, SealError> {
        let (mut buffer, compressed) = text::compress(text, TAG_BYTES)?;
        buffer.truncate(compressed);
        let (wrap, counter) = self.next(key, now)?;
        Aes256Gcm::new((&*wrap.secret).into())
            .encrypt_in_place(
                &nonce(counter).into(),
                &associated_data(self.connection, purpose),
                &mut buffer,
            )
            .map_err(|_| SealError::TooLong)?;
        Ok(Sealed {
            metadata: wrap.metadata(counter),
            data: buffer.into(),
        })
    }

    /// An AES key to seal with, and a counter that no other payload of this connection has.
    fn next(&self, key: &PublicKey, now: Instant) -> Result<(Wrap, u64), SealError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let counter = state.next_counter;
        state.next_counter = counter.checked_add(1).ok_or(SealError::Exhausted)?;
        if !state
            .wrap
            .as_ref()
            .is_some_and(|wrap| wrap.serves(key, now))
        {
            state.wrap = Some(Wrap::new(key, now)?);
        }
        let wrap = state.wrap.as_mut().ok_or(SealError::Key)?;
        wrap.uses += 1;
        Ok((wrap.clone(), counter))
    }
}

#[cfg(feature = "open")]
pub use unsealing::Unsealer;

#[cfg(feature = "open")]
mod unsealing {
    use std::sync::{Mutex, PoisonError};

    use aes_gcm::aead::AeadInOut;
    use aes_gcm::{Aes256Gcm, KeyInit};
    use bytes::{Buf, Bytes, BytesMut};

    use super::{
        HEAD_BYTES, MAGIC, Mgf, Purpose, Secret, TAG_BYTES, associated_data, is_version2, nonce,
    };
    use crate::ConnectionToken;
    use crate::envelope::{Block, Hold, OpenError};
    use crate::key::{KEY_ID_BYTES, KeyPair};

    /// The proxy's end: opens what comes on one connection.
    #[derive(Debug)]
    pub struct Unsealer {
        connection: ConnectionToken,
        state: Mutex<UnsealerState>,
    }

    #[derive(Debug, Default)]
    struct UnsealerState {
        unwrapped: Option<Unwrapped>,
        seen: Seen,
    }

    /// The AES key in use, and what it was unwrapped from.
    #[derive(Clone)]
    struct Unwrapped {
        secret: Secret,
        wrapped: Box<[u8]>,
    }

    impl std::fmt::Debug for Unwrapped {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("Unwrapped")
        }
    }

    /// The counters that were opened: the greatest, and which of those just below it.
    #[derive(Debug, Default)]
    struct Seen {
        /// One more than the greatest.
        next: u64,
        /// Bit n: `next - 1 - n`.
        recent: u128,
    }

    impl Seen {
        /// Whether `counter` is new; from now on it is not. One so far behind that nobody can tell is not.
        /// The greatest number of all never is.
        fn insert(&mut self, counter: u64) -> bool {
            let Some(after) = counter.checked_add(1) else {
                return false;
            };
            if after > self.next {
                let recent = shift(self.recent, after - self.next);
                self.recent = recent | 1;
                self.next = after;
                return true;
            }
            let bit = shift(1, self.next - after);
            let new = bit != 0 && self.recent & bit == 0;
            self.recent |= bit;
            new
        }
    }

    impl From<Purpose> for Hold {
        fn from(purpose: Purpose) -> Self {
            match purpose {
                Purpose::Answer { .. } => Self::Scrape,
                Purpose::Push => Self::Long,
            }
        }
    }

    fn shift(bits: u128, by: u64) -> u128 {
        u32::try_from(by)
            .ok()
            .and_then(|by| bits.checked_shl(by))
            .unwrap_or_default()
    }

    impl Unsealer {
        /// For the connection that is announced under this token.
        pub fn new(connection: ConnectionToken) -> Self {
            Self {
                connection,
                state: Mutex::default(),
            }
        }

        /// The name that this connection is announced under.
        pub fn connection(&self) -> ConnectionToken {
            self.connection
        }

        /// Opens an envelope that was sealed to one of `keys` on this connection, for `purpose`. `data` is decrypted in
        /// place if nobody else holds it.
        pub fn open<'k>(
            &self,
            metadata: &[u8],
            data: Bytes,
            keys: impl IntoIterator<Item = &'k KeyPair>,
            purpose: Purpose,
        ) -> Result<Block, OpenError> {
            if !is_version2(metadata) {
                return Err(OpenError::WrongKind);
            }
            let (head, wrapped) = metadata.split_at(HEAD_BYTES);
            let (key_id, mut counter) = head[MAGIC.len()..].split_at(KEY_ID_BYTES);
            let counter = counter.get_u64();
            let secret = self.secret(key_id, wrapped, keys)?;
            let mut data = data
                .try_into_mut()
                .unwrap_or_else(|shared| BytesMut::from(&shared[..]));
            let block_bytes = data
                .len()
                .checked_sub(TAG_BYTES)
                .ok_or(OpenError::Decrypt)?;
            let (block, tag) = data.split_at_mut(block_bytes);
            let tag: &[u8; TAG_BYTES] = (&*tag).try_into().map_err(|_| OpenError::Decrypt)?;
            Aes256Gcm::new((&*secret).into())
                .decrypt_inout_detached(
                    &nonce(counter).into(),
                    &associated_data(self.connection, purpose),
                    (&mut *block).into(),
                    tag.into(),
                )
                .map_err(|_| OpenError::Forged)?;
            if !self.state().seen.insert(counter) {
                return Err(OpenError::Replayed);
            }
            data.truncate(block_bytes);
            Ok(Block(data.freeze()))
        }

        /// The AES key, unwrapped unless it is the one that was used last.
        fn secret<'k>(
            &self,
            key_id: &[u8],
            wrapped: &[u8],
            keys: impl IntoIterator<Item = &'k KeyPair>,
        ) -> Result<Secret, OpenError> {
            if let Some(known) = &self.state().unwrapped
                && *known.wrapped == *wrapped
            {
                return Ok(known.secret.clone());
            }
            let key = keys
                .into_iter()
                .find(|key| key.id().as_bytes() == key_id)
                .ok_or(OpenError::WrongKey)?;
            let secret = key
                .decrypt(wrapped, Mgf::Sha256)
                .ok_or(OpenError::WrongKey)?;
            let secret = Secret::new(
                secret
                    .as_slice()
                    .try_into()
                    .map_err(|_| OpenError::WrongKey)?,
            );
            self.state().unwrapped = Some(Unwrapped {
                secret: secret.clone(),
                wrapped: wrapped.into(),
            });
            Ok(secret)
        }

        fn state(&self) -> std::sync::MutexGuard<'_, UnsealerState> {
            self.state.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_counter_is_new_once_in_whatever_order_it_comes() {
            let mut seen = Seen::default();
            for counter in [3, 0, 2, 130, 4] {
                assert!(seen.insert(counter), "{counter}");
                assert!(!seen.insert(counter), "{counter} again");
            }
            assert!(!seen.insert(1), "too far behind to tell");
            assert!(seen.insert(u64::MAX - 1));
            assert!(!seen.insert(130));
            assert!(!seen.insert(u64::MAX));
        }
    }
}
