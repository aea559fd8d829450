//! What a client shows in its SETUP to say who it is: a token, or a name and a password.
//!
//! The encodings are those of RSocket's authentication extension
//! (`message/x.rsocket.authentication.v0`), alone or as an entry of composite metadata
//! (`message/x.rsocket.composite-metadata.v0`); ours go as the latter, which every RSocket library
//! reads.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::frame::setup::SetupOptions;

/// MIME type of metadata that is credentials and nothing else.
pub const AUTHENTICATION_MIME: &str = "message/x.rsocket.authentication.v0";
/// MIME type of metadata with entries of several types.
pub const COMPOSITE_MIME: &str = "message/x.rsocket.composite-metadata.v0";

/// Most bytes of a token, and of a name and a password together.
pub const MAX_LEN: usize = 16 << 10;

/// In front of a type that is known by number: of an entry's MIME type, and of credentials.
const WELL_KNOWN: u8 = 0x80;
/// Number of [`AUTHENTICATION_MIME`] among the well-known MIME types.
const AUTHENTICATION_ID: u8 = 0x7C;
/// Number of a name and a password among the authentication types.
const SIMPLE_ID: u8 = 0x00;
/// Number of a token among the authentication types.
const BEARER_ID: u8 = 0x01;

/// What says who a client is. Zeroised when dropped.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A token.
    Bearer(Zeroizing<Vec<u8>>),
    /// A name and a password.
    Simple {
        /// At most 65,535 bytes.
        name: String,
        /// The rest of the metadata.
        password: Zeroizing<Vec<u8>>,
    },
}

/// Does not say what the token or the password is.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bearer(_) => f.write_str("Bearer"),
            Self::Simple { name, .. } => f.debug_tuple("Simple").field(name).finish(),
        }
    }
}

/// Why there is nothing to be read in a SETUP's metadata, or nothing to be written.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum CredentialsError {
    /// An entry or a field ends before its length.
    #[error("the metadata ends early")]
    Truncated,
    /// Neither a token nor a name and a password.
    #[error("an authentication type other than simple and bearer")]
    Type,
    /// The name is not UTF-8.
    #[error("the name is not UTF-8")]
    Name,
    /// More than [`MAX_LEN`].
    #[error("longer than {MAX_LEN} bytes")]
    TooLong,
    /// Credentials stand there twice.
    #[error("credentials are given twice")]
    Twice,
}

impl Credentials {
    /// The metadata of a SETUP, and sets its MIME type.
    ///
    /// # Errors
    ///
    /// They are longer than [`MAX_LEN`]; nothing has changed.
    pub fn write(&self, setup: &mut SetupOptions) -> Result<(), CredentialsError> {
        let (name, secret) = match self {
            Self::Bearer(token) => (None, token),
            Self::Simple { name, password } => (Some(name), password),
        };
        let content = secret.len() + name.map_or(0, |name| 2 + name.len());
        if content > MAX_LEN {
            return Err(CredentialsError::TooLong);
        }
        let mut entry = BytesMut::with_capacity(content + 5);
        entry.put_u8(WELL_KNOWN | AUTHENTICATION_ID);
        entry.put_uint((content + 1) as u64, 3);
        match name {
            None => entry.put_u8(WELL_KNOWN | BEARER_ID),
            Some(name) => {
                entry.put_u8(WELL_KNOWN | SIMPLE_ID);
                // Not longer than `MAX_LEN`.
                entry.put_u16(name.len() as u16);
                entry.put_slice(name.as_bytes());
            }
        }
        entry.put_slice(secret);
        COMPOSITE_MIME.clone_into(&mut setup.metadata_mime);
        setup.payload.metadata = Some(entry.freeze());
        Ok(())
    }

    /// What a SETUP's metadata of this MIME type says; `None`: nothing about who the client is.
    ///
    /// # Errors
    ///
    /// It says something that cannot be understood.
    pub fn read(mime: &str, metadata: &Bytes) -> Result<Option<Self>, CredentialsError> {
        match mime {
            AUTHENTICATION_MIME => authentication(Reader(metadata)).map(Some),
            COMPOSITE_MIME => composite(Reader(metadata)),
            _ => Ok(None),
        }
    }
}

fn composite(mut entries: Reader<'_>) -> Result<Option<Credentials>, CredentialsError> {
    let mut found = None;
    while !entries.0.is_empty() {
        let is_authentication = match entries.name()? {
            Name::Known(number) => number == AUTHENTICATION_ID,
            Name::Text(mime) => mime == AUTHENTICATION_MIME.as_bytes(),
        };
        let length = entries.number(3)?;
        let content = entries.take(length)?;
        if is_authentication {
            let credentials = authentication(Reader(content))?;
            if found.replace(credentials).is_some() {
                return Err(CredentialsError::Twice);
            }
        }
    }
    Ok(found)
}

fn authentication(mut content: Reader<'_>) -> Result<Credentials, CredentialsError> {
    let name = content.name()?;
    if content.0.len() > MAX_LEN {
        return Err(CredentialsError::TooLong);
    }
    match name {
        Name::Known(BEARER_ID) | Name::Text(b"bearer") => {
            Ok(Credentials::Bearer(content.0.to_vec().into()))
        }
        Name::Known(SIMPLE_ID) | Name::Text(b"simple") => {
            let length = content.number(2)?;
            let name = std::str::from_utf8(content.take(length)?);
            Ok(Credentials::Simple {
                name: name.map_err(|_| CredentialsError::Name)?.to_owned(),
                password: content.0.to_vec().into(),
            })
        }
        _ => Err(CredentialsError::Type),
    }
}

/// A type, by number or by name.
enum Name<'a> {
    Known(u8),
    Text(&'a [u8]),
}

/// What has not been read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], CredentialsError> {
        let (taken, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(CredentialsError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    /// A number of so many bytes, the highest first.
    fn number(&mut self, bytes: usize) -> Result<usize, CredentialsError> {
        let digits = self.take(bytes)?;
        Ok(digits
            .iter()
            .fold(0, |number, &digit| number << 8 | usize::from(digit)))
    }

    /// A text has one byte at least, hence its length is given less one.
    fn name(&mut self) -> Result<Name<'a>, CredentialsError> {
        let first = self.number(1)? as u8;
        if first & WELL_KNOWN != 0 {
            return Ok(Name::Known(first & !WELL_KNOWN));
        }
        self.take(usize::from(first) + 1).map(Name::Text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bearer(token: &[u8]) -> Credentials {
        Credentials::Bearer(token.to_vec().into())
    }

    fn written(credentials: &Credentials) -> (String, Bytes) {
        let mut setup = SetupOptions::default();
        credentials.write(&mut setup).unwrap();
        (setup.metadata_mime, setup.payload.metadata.unwrap())
    }

    #[test]
    fn the_bytes_are_those_of_the_extension() {
        let (mime, metadata) = written(&bearer(b"abc"));
        assert_eq!(mime, COMPOSITE_MIME);
        assert_eq!(metadata[..], *b"\xFC\x00\x00\x04\x81abc");
        let (_, metadata) = written(&Credentials::Simple {
            name: "me".to_owned(),
            password: b"pw".to_vec().into(),
        });
        assert_eq!(metadata[..], *b"\xFC\x00\x00\x07\x80\x00\x02mepw");
    }

    #[test]
    fn types_are_understood_by_number_and_by_name() {
        let alone = |bytes: &'static [u8]| {
            Credentials::read(AUTHENTICATION_MIME, &Bytes::from_static(bytes))
        };
        assert_eq!(alone(b"\x81abc"), Ok(Some(bearer(b"abc"))));
        assert_eq!(alone(b"\x05bearerabc"), Ok(Some(bearer(b"abc"))));
        assert_eq!(alone(b"\x82abc"), Err(CredentialsError::Type));
        assert_eq!(alone(b""), Err(CredentialsError::Truncated));
        assert_eq!(alone(b"\x80\x00\x09me"), Err(CredentialsError::Truncated));
        assert_eq!(alone(b"\x80\x00\x01\xFF"), Err(CredentialsError::Name));

        let mut named = vec![34];
        named.extend_from_slice(AUTHENTICATION_MIME.as_bytes());
        named.extend_from_slice(b"\x00\x00\x04\x81abc");
        let named = Credentials::read(COMPOSITE_MIME, &named.into());
        assert_eq!(named, Ok(Some(bearer(b"abc"))));
    }

    #[test]
    fn other_metadata_says_nothing() {
        let entry = Bytes::from_static(b"\x85\x00\x00\x02{}");
        assert_eq!(Credentials::read(COMPOSITE_MIME, &entry), Ok(None));
        assert_eq!(Credentials::read("application/binary", &entry), Ok(None));
    }

    #[test]
    fn credentials_are_given_once() {
        let twice = Bytes::from_static(b"\xFC\x00\x00\x02\x81a\xFC\x00\x00\x02\x81b");
        let read = Credentials::read(COMPOSITE_MIME, &twice);
        assert_eq!(read, Err(CredentialsError::Twice));
    }

    #[test]
    fn what_is_too_long_is_neither_written_nor_read() {
        let long = bearer(&[b'x'; MAX_LEN + 1]);
        let mut setup = SetupOptions::default();
        assert_eq!(long.write(&mut setup), Err(CredentialsError::TooLong));
        assert_eq!(setup.payload.metadata, None);
        let mut metadata = vec![0x81];
        metadata.extend_from_slice(&[b'x'; MAX_LEN + 1]);
        let read = Credentials::read(AUTHENTICATION_MIME, &metadata.into());
        assert_eq!(read, Err(CredentialsError::TooLong));
    }

    #[test]
    fn debugging_shows_no_secret() {
        let simple = Credentials::Simple {
            name: "me".to_owned(),
            password: b"pw".to_vec().into(),
        };
        assert_eq!(format!("{simple:?}"), "Simple(\"me\")");
        assert_eq!(format!("{:?}", bearer(b"abc")), "Bearer");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            name in proptest::option::of(".{0,40}"),
            secret in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let credentials = match name {
                None => bearer(&secret),
                Some(name) => Credentials::Simple { name, password: secret.into() },
            };
            let (mime, metadata) = written(&credentials);
            prop_assert_eq!(Credentials::read(&mime, &metadata), Ok(Some(credentials)));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let bytes = Bytes::from(bytes);
            let _ = Credentials::read(COMPOSITE_MIME, &bytes);
            let _ = Credentials::read(AUTHENTICATION_MIME, &bytes);
        }
    }
}
