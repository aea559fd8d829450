//! TLS of a listener: certificates from files, read at start and again when they change.
//!
//! A connection keeps the certificate with which it was made; the next one gets the newest.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, interval_at};
use tracing::{error, info};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Longer files are no certificates.
const MAX_FILE: u64 = 1 << 20;

/// Where certificates are read from: PEM files.
#[derive(Debug, Clone)]
pub struct Files {
    /// The certificate, and those between it and its authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities whose clients are let in; `None`: everybody is.
    pub client_ca: Option<PathBuf>,
}

/// Which of the files is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// [`Files::certificate`].
    Certificate,
    /// [`Files::key`].
    Key,
    /// [`Files::client_ca`].
    ClientCa,
}

/// Why files cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct Unusable {
    /// The file's part.
    pub role: Role,
    path: PathBuf,
    problem: Problem,
}

#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("{0}")]
    Unreadable(#[from] io::Error),
    #[error("longer than {MAX_FILE} bytes")]
    TooLong,
    #[error("{0}")]
    Pem(#[from] pem::Error),
    #[error("no certificate in it")]
    NoCertificate,
    #[error("{0}")]
    Refused(#[from] rustls::Error),
    #[error("{0}")]
    Authorities(#[from] VerifierBuilderError),
}

/// What the files held at one time.
#[derive(Clone, PartialEq, Eq)]
struct Contents {
    certificate: Vec<u8>,
    key: zeroize::Zeroizing<Vec<u8>>,
    client_ca: Option<Vec<u8>>,
}

/// Certificates that follow their files.
#[derive(Clone)]
pub struct Tls {
    files: Files,
    contents: Contents,
    config: Arc<ServerConfig>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tls").field(&self.files).finish()
    }
}

impl Tls {
    /// Reads the files; the error names the one that is of no use.
    pub fn read(files: Files) -> Result<Self, Unusable> {
        let contents = files.read()?;
        let config = contents.config(&files)?;
        Ok(Self {
            files,
            contents,
            config: Arc::new(config),
        })
    }

    /// Whether clients are to show a certificate.
    pub fn is_mutual(&self) -> bool {
        self.files.client_ca.is_some()
    }

    /// What to offer to the next client; changes as long as the task of [`Followed::follow`] runs.
    pub fn followed(self) -> (watch::Receiver<Arc<ServerConfig>>, Followed) {
        let (told, config) = watch::channel(Arc::clone(&self.config));
        (config, Followed { tls: self, told })
    }
}

/// Files to look at again and again.
pub struct Followed {
    tls: Tls,
    told: watch::Sender<Arc<ServerConfig>>,
}

impl Followed {
    /// Reads the files when they change, for ever. What is of no use is logged, and the last good ones go on.
    pub async fn follow(self) {
        let Self { mut tls, told } = self;
        let mut looks = interval_at(Instant::now() + LOOK_EVERY, LOOK_EVERY);
        let mut failing = None;
        loop {
            looks.tick().await;
            let look = move || {
                let changed = tls.look();
                (tls, changed)
            };
            let Ok((looked, changed)) = spawn_blocking(look).await else {
                return;
            };
            tls = looked;
            let failed = match changed {
                Ok(changed) => {
                    if changed {
                        info!(file = %tls.files.certificate.display(), "certificate read again");
                        told.send_replace(Arc::clone(&tls.config));
                    }
                    None
                }
                Err(unusable) => Some(unusable.to_string()),
            };
            if let Some(why) = failed.as_ref().filter(|_| failed != failing) {
                error!(error = why, "keeping the last good certificate");
            }
            failing = failed;
        }
    }
}

impl Tls {
    fn look(&mut self) -> Result<bool, Unusable> {
        let contents = self.files.read()?;
        if contents == self.contents {
            return Ok(false);
        }
        self.config = Arc::new(contents.config(&self.files)?);
        self.contents = contents;
        Ok(true)
    }
}

impl Files {
    fn read(&self) -> Result<Contents, Unusable> {
        let read = |role, path: &Path| {
            let contents = read_bounded(path);
            contents.map_err(|problem| self.unusable(role, problem))
        };
        Ok(Contents {
            certificate: read(Role::Certificate, &self.certificate)?,
            key: read(Role::Key, &self.key)?.into(),
            client_ca: match &self.client_ca {
                Some(path) => Some(read(Role::ClientCa, path)?),
                None => None,
            },
        })
    }

    fn unusable(&self, role: Role, problem: impl Into<Problem>) -> Unusable {
        let path = match role {
            Role::Certificate => &self.certificate,
            Role::Key => &self.key,
            Role::ClientCa => self.client_ca.as_ref().unwrap_or(&self.certificate),
        };
        Unusable {
            role,
            path: path.clone(),
            problem: problem.into(),
        }
    }
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, Problem> {
    if fs::metadata(path)?.len() > MAX_FILE {
        return Err(Problem::TooLong);
    }
    Ok(fs::read(path)?)
}

impl Contents {
    fn config(&self, files: &Files) -> Result<ServerConfig, Unusable> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let refused = |role| move |error| files.unusable(role, error);
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| files.unusable(Role::Certificate, error))?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(authorities) => {
                let roots = roots(authorities).map_err(refused(Role::ClientCa))?;
                // A client without a certificate is not told so, but left unanswered: see `rsocket::listener`.
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider)
                    .allow_unauthenticated()
                    .build()
                    .map_err(|error| files.unusable(Role::ClientCa, error))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let chain = certificates(&self.certificate).map_err(refused(Role::Certificate))?;
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|error| files.unusable(Role::Key, error))?;
        builder
            .with_single_cert(chain, key)
            .map_err(|error| files.unusable(Role::Key, error))
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>()?;
    if chain.is_empty() {
        return Err(Problem::NoCertificate);
    }
    Ok(chain)
}

fn roots(pem: &[u8]) -> Result<Arc<RootCertStore>, Problem> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate)?;
    }
    Ok(Arc::new(roots))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertifiedKey, generate_simple_self_signed};

    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("tls-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn write(&self, name: &str, contents: &str) -> PathBuf {
            let path = self.0.join(name);
            fs::write(&path, contents).unwrap();
            path
        }

        fn certified(&self) -> Files {
            let CertifiedKey { cert, signing_key } =
                generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            Files {
                certificate: self.write("cert.pem", &cert.pem()),
                key: self.write("key.pem", &signing_key.serialize_pem()),
                client_ca: None,
            }
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_file_that_is_of_no_use_is_named() {
        let folder = Folder::new("named");
        let good = folder.certified();
        let rubbish = folder.write("rubbish.pem", "rubbish");
        let other = generate_simple_self_signed(["other".to_owned()]).unwrap();
        let other = folder.write("other.pem", &other.signing_key.serialize_pem());
        let cases = [
            (
                Role::Certificate,
                Files {
                    certificate: rubbish.clone(),
                    ..good.clone()
                },
            ),
            (
                Role::Certificate,
                Files {
                    certificate: folder.0.join("absent"),
                    ..good.clone()
                },
            ),
            (
                Role::Key,
                Files {
                    key: rubbish.clone(),
                    ..good.clone()
                },
            ),
            (
                Role::Key,
                Files {
                    key: other,
                    ..good.clone()
                },
            ),
            (
                Role::ClientCa,
                Files {
                    client_ca: Some(rubbish),
                    ..good
                },
            ),
        ];
        for (role, files) in cases {
            let unusable = Tls::read(files.clone()).expect_err("no use");
            assert_eq!(unusable.role, role, "{files:?}: {unusable}");
        }
    }

    #[test]
    fn files_are_taken_when_they_change_and_are_good() {
        let folder = Folder::new("change");
        let mut tls = Tls::read(folder.certified()).unwrap();
        let first = Arc::clone(&tls.config);
        assert!(!tls.look().unwrap());
        folder.write("cert.pem", "half a certif");
        tls.look().expect_err("half a certificate");
        assert!(Arc::ptr_eq(&first, &tls.config));
        folder.certified();
        assert!(tls.look().unwrap());
        assert!(!Arc::ptr_eq(&first, &tls.config));
    }
}
