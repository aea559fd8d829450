//! What a target is shown (`basic_auth`, `authorization`).

use std::fmt;
use std::path::PathBuf;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hyper::header::HeaderValue;
use prometheus_rsocket_config::read_text;
use tokio::task::spawn_blocking;
use zeroize::Zeroizing;

/// A secret, or the file that holds it.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum CredentialSource {
    Text(Zeroizing<String>),
    /// Read again for each request.
    File(PathBuf),
}

/// Keeps what is secret out of logs.
impl fmt::Debug for CredentialSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("<secret>"),
            Self::File(path) => path.fmt(f),
        }
    }
}

/// What stands in the `Authorization` header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Credentials {
    Basic {
        username: String,
        password: CredentialSource,
    },
    /// A scheme, mostly `Bearer`, and what follows it.
    Other {
        scheme: String,
        credentials: CredentialSource,
    },
}

impl Credentials {
    /// The header's value. The reason why there is none does not repeat what is secret.
    pub(super) async fn header(&self) -> Result<HeaderValue, String> {
        let text = match self {
            Self::Basic { username, password } => {
                let password = password.read().await?;
                let pair = Zeroizing::new(format!("{username}:{}", *password));
                format!("Basic {}", BASE64_STANDARD.encode(pair.as_bytes()))
            }
            Self::Other {
                scheme,
                credentials,
            } => format!("{scheme} {}", *credentials.read().await?),
        };
        let text = Zeroizing::new(text);
        let mut value = HeaderValue::from_str(&text)
            .map_err(|_| "no HTTP header can hold the credentials".to_owned())?;
        value.set_sensitive(true);
        Ok(value)
    }
}

impl CredentialSource {
    async fn read(&self) -> Result<Zeroizing<String>, String> {
        match self {
            Self::Text(text) => Ok(text.clone()),
            Self::File(path) => {
                let path = path.clone();
                let read = spawn_blocking(move || match read_text(&path) {
                    Ok(text) => Ok(Zeroizing::new(Zeroizing::new(text).trim().to_owned())),
                    Err(error) => Err(format!("{}: {error}", path.display())),
                });
                read.await.map_err(|error| error.to_string())?
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> CredentialSource {
        CredentialSource::Text(text.to_owned().into())
    }

    #[tokio::test]
    async fn credentials_become_a_header_and_stay_out_of_logs() {
        let basic = Credentials::Basic {
            username: "ann".into(),
            password: secret("hunter2"),
        };
        let bearer = Credentials::Other {
            scheme: "Bearer".into(),
            credentials: secret("hunter2"),
        };
        for (credentials, expected) in [
            (basic, "Basic YW5uOmh1bnRlcjI="),
            (bearer, "Bearer hunter2"),
        ] {
            let header = credentials.header().await.unwrap();
            assert_eq!(header, expected);
            let shown = format!("{credentials:?} {header:?}");
            assert!(
                !shown.contains("hunter2") && !shown.contains("YW5u"),
                "{shown}"
            );
        }
    }

    #[tokio::test]
    async fn what_no_header_can_hold_is_not_repeated() {
        let broken = Credentials::Other {
            scheme: "Bearer".into(),
            credentials: secret("hunter2\nX: y"),
        };
        assert!(!broken.header().await.unwrap_err().contains("hunter2"));
        let gone = Credentials::Other {
            scheme: "Bearer".into(),
            credentials: CredentialSource::File("/nowhere/token".into()),
        };
        assert!(
            gone.header()
                .await
                .unwrap_err()
                .starts_with("/nowhere/token: ")
        );
    }
}
