//! What a client shows the proxy to say who it is.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};

use prometheus_rsocket_wire::Credentials as Shown;
use prometheus_rsocket_wire::credentials::{CredentialsError, MAX_LEN};
use prometheus_rsocket_wire::session::SetupOptions;
use tokio::task::spawn_blocking;
use tracing::warn;
use zeroize::Zeroizing;

use crate::Address;
use crate::failure::Failure;
use crate::metrics::Reason;

/// A token or a password.
#[derive(Clone)]
pub(crate) enum Secret {
    Value(Arc<Zeroizing<Vec<u8>>>),
    /// Read for each connection, so that a new one is taken up.
    File(PathBuf),
}

/// What a client shows. Says of itself where a secret is, not what it is.
#[derive(Clone, Default)]
pub(crate) struct Credentials {
    secret: Option<Secret>,
    /// Of whom the secret is a password; `None`: it is a token.
    name: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place: &dyn fmt::Debug = match &self.secret {
            None => &"none",
            Some(Secret::Value(_)) => &"given",
            Some(Secret::File(path)) => path,
        };
        let mut said = f.debug_struct("Credentials");
        said.field("name", &self.name)
            .field("secret", place)
            .finish()
    }
}

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
enum SecretError {
    #[error("{}: {error}", path.display())]
    Unreadable { path: PathBuf, error: io::Error },
    #[error(transparent)]
    Unfit(#[from] CredentialsError),
}

impl Credentials {
    pub(crate) fn new(name: Option<String>, secret: Secret) -> Self {
        Self {
            secret: Some(secret),
            name,
        }
    }

    /// The SETUP of a connection to `address`.
    pub(crate) async fn setup(&self, address: &Address) -> Result<SetupOptions, Failure> {
        let mut setup = SetupOptions::default();
        let Some(secret) = self.secret.clone() else {
            return Ok(setup);
        };
        if !address.secure {
            warn_once(address);
        }
        let name = self.name.clone();
        let shown = spawn_blocking(move || secret.shown(name)).await;
        let failed = |error: &dyn fmt::Display| Failure::lasting(Reason::Credentials, error);
        let shown = shown.map_err(|error| failed(&error))?;
        let shown = shown.map_err(|error| failed(&error))?;
        shown.write(&mut setup).map_err(|error| failed(&error))?;
        Ok(setup)
    }
}

impl Secret {
    fn shown(&self, name: Option<String>) -> Result<Shown, SecretError> {
        let secret = match self {
            Self::Value(secret) => Zeroizing::clone(secret),
            Self::File(path) => read(path)?,
        };
        Ok(match name {
            None => Shown::Bearer(secret),
            Some(name) => Shown::Simple {
                name,
                password: secret,
            },
        })
    }
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let mut secret = Zeroizing::new(Vec::with_capacity(MAX_LEN + 1));
    let file = File::open(path);
    let bytes = file.and_then(|file| file.take(MAX_LEN as u64 + 1).read_to_end(&mut secret));
    bytes.map_err(|error| SecretError::Unreadable {
        path: path.to_owned(),
        error,
    })?;
    if secret.len() > MAX_LEN {
        return Err(CredentialsError::TooLong.into());
    }
    let end = secret.trim_ascii_end().len();
    secret.truncate(end);
    Ok(secret)
}

fn warn_once(address: &Address) {
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        warn!(proxy = %address, "credentials are sent without encryption: use tls:// or wss://");
    });
}
