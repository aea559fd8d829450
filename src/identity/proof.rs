//! By what an application has shown who it is.

use std::fmt;

use sha2::{Digest, Sha256};

/// SHA-256 of a token, by which it is known: the token itself is kept nowhere.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token([u8; 32]);

impl Token {
    pub(super) fn of(token: &[u8]) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// `None`: not 64 hexadecimal digits.
    pub(super) fn from_hex(digits: &str) -> Option<Self> {
        let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
        if pairs.len() != 32 || !rest.is_empty() {
            return None;
        }
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(pairs) {
            let digit = |digit: u8| char::from(digit).to_digit(16);
            *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
        }
        Some(Self(hash))
    }
}

/// The first bytes: enough to tell two apart.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "{a:02x}{b:02x}{c:02x}{d:02x}…")
    }
}

/// What an application has shown. It holds as long as the file says so: a password that was changed there holds no more.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Proof {
    /// Nothing.
    Nothing,
    /// A token.
    Token(Token),
    /// A name and its password.
    Password {
        /// The name.
        name: String,
        /// The password's bcrypt hash of that time.
        hash: Token,
    },
    /// A certificate of this name.
    Certificate(String),
}

impl Proof {
    pub(super) fn password(name: &str, hash: &str) -> Self {
        Self::Password {
            name: name.to_owned(),
            hash: Token::of(hash.as_bytes()),
        }
    }
}

impl Proof {
    /// What must not be another's: of a password the name alone.
    pub(super) fn claim(&self) -> Self {
        match self {
            Self::Password { name, .. } => Self::password(name, ""),
            other => other.clone(),
        }
    }

    /// Where it stands in the file.
    pub(super) fn key(&self) -> &'static str {
        match self {
            Self::Nothing => "anonymous",
            Self::Token(_) => "tokens_sha256",
            Self::Password { .. } => "users",
            Self::Certificate(_) => "certificates",
        }
    }
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("Nothing"),
            Self::Token(token) => f.debug_tuple("Token").field(token).finish(),
            Self::Password { name, .. } => f.debug_tuple("Password").field(name).finish(),
            Self::Certificate(name) => f.debug_tuple("Certificate").field(name).finish(),
        }
    }
}
