//! The cluster's secrets: what shows that a packet comes from a node of ours.

use std::fmt;
use std::path::Path;

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

/// A shorter secret could be guessed from one recorded packet.
const MIN_BYTES: usize = 16;
/// Secrets that open: past it a rotation has forgotten to clean up behind itself.
const MAX_SECRETS: usize = 8;
/// The longest file that is read.
const MAX_FILE: u64 = 64 << 10;

/// Tells this program's keys from others made of the same secret.
const SALT: &[u8] = b"prometheus-rsocket-proxy cluster";

/// What a key is for. Keys for different purposes say nothing about each other (RFC 5869, section 3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Sealing gossip packets.
    Gossip,
    /// Showing other nodes, in calls, that this one belongs to the cluster.
    Calls,
}

impl Purpose {
    fn info(self) -> &'static [u8] {
        match self {
            Self::Gossip => b"gossip packets, AES-256-GCM, 1",
            Self::Calls => b"calls, certificate authority, 1",
        }
    }
}

/// A 256-bit key, wiped when dropped.
pub type Key = Zeroizing<[u8; 32]>;

/// The secrets of a cluster, newest first: the first seals, each of them opens. None: everybody can join.
#[derive(Clone, Default)]
pub struct Secrets(Vec<Zeroizing<String>>);

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.0.len())
    }
}

impl Secrets {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads one secret from each line of the files, in their order. The error names the file and the line.
    pub fn read<P: AsRef<Path>>(files: &[P]) -> Result<Self, String> {
        let mut secrets = Self::default();
        for file in files {
            let file = file.as_ref();
            let text = read_file(file).map_err(|why| format!("{}: {why}", file.display()))?;
            secrets
                .add_lines(&text)
                .map_err(|why| format!("{}{why}", file.display()))?;
        }
        Ok(secrets)
    }

    /// Adds a secret for each line that is not blank. The error begins with `:LINE` or `: `.
    pub(super) fn add_lines(&mut self, text: &str) -> Result<(), String> {
        let before = self.0.len();
        for (number, line) in (1..).zip(text.lines()) {
            let secret = line.trim();
            if secret.is_empty() {
                continue;
            }
            if secret.len() < MIN_BYTES {
                return Err(format!(
                    ":{number}: a secret has at least {MIN_BYTES} characters"
                ));
            }
            if self.0.len() == MAX_SECRETS {
                return Err(format!(":{number}: more than {MAX_SECRETS} secrets"));
            }
            self.0.push(Zeroizing::new(secret.to_owned()));
        }
        if self.0.len() == before {
            return Err(": no secret in it".into());
        }
        Ok(())
    }

    /// A key for each secret, in their order: HKDF-SHA-256 (RFC 5869).
    pub fn keys(&self, purpose: Purpose) -> Vec<Key> {
        self.0
            .iter()
            .map(|secret| derive(secret.as_bytes(), purpose))
            .collect()
    }
}

fn read_file(file: &Path) -> Result<Zeroizing<String>, String> {
    let length = file.metadata().map_err(|error| error.to_string())?.len();
    if length > MAX_FILE {
        return Err(format!("longer than {MAX_FILE} bytes"));
    }
    let bytes = std::fs::read(file).map_err(|error| error.to_string())?;
    String::from_utf8(bytes)
        .map(Zeroizing::new)
        .map_err(|error| {
            error.into_bytes().zeroize();
            "not UTF-8".into()
        })
}

#[expect(
    clippy::expect_used,
    reason = "HKDF gives up to 255 hashes (RFC 5869, section 2.3), and this is one"
)]
fn derive(secret: &[u8], purpose: Purpose) -> Key {
    let mut key = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(Some(SALT), secret)
        .expand(purpose.info(), &mut *key)
        .expect("32 bytes");
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Result<Secrets, String> {
        let mut secrets = Secrets::default();
        secrets.add_lines(text).map(|()| secrets)
    }

    #[test]
    fn every_line_is_a_secret_and_blank_ones_are_none() {
        let secrets =
            lines("the-newest-secret-of-all\r\n\n  an-earlier-secret-of-ours  \n").unwrap();
        assert_eq!(&*secrets.0[0], "the-newest-secret-of-all");
        assert_eq!(&*secrets.0[1], "an-earlier-secret-of-ours");
        assert_eq!(secrets.0.len(), 2);
    }

    #[test]
    fn an_unusable_file_is_told_with_its_line() {
        assert!(lines("").unwrap_err().contains("no secret"));
        assert!(
            lines("a-secret-long-enough\nshort")
                .unwrap_err()
                .starts_with(":2: ")
        );
        let many = "a-secret-long-enough\n".repeat(9);
        assert!(lines(&many).unwrap_err().starts_with(":9: "));
        assert!(
            Secrets::read(&["/nonexistent/secret"])
                .unwrap_err()
                .starts_with("/nonexistent/secret: ")
        );
    }

    /// Computed with Python's `hmac`, step by step as in RFC 5869.
    #[test]
    fn the_key_is_the_one_that_hkdf_gives() {
        let key = derive(b"correct horse battery staple", Purpose::Gossip);
        let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "e79036063cd266761138a9804752d9bee6a3f89153395d1b94b5099e8ed15e05"
        );
    }

    #[test]
    fn a_secret_is_not_shown_when_debugged() {
        let secrets = lines("the-newest-secret-of-all").unwrap();
        assert_eq!(format!("{secrets:?}"), "Secrets(1)");
    }
}
