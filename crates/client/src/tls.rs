//! TLS to the proxy: whom to trust, and what to show.

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls_native_certs::load_native_certs;
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{self, CertificateError, ClientConfig, RootCertStore};

use crate::failure::Failure;
use crate::metrics::Reason;

/// Why TLS did not come about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read, or does not hold what it should.
    #[error("{}: {reason}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The system has no trusted certificates, or they cannot be read.
    #[error("no trusted certificates found in this system")]
    Roots,
    /// The certificate and its key do not go together, or the like.
    #[error(transparent)]
    Rustls(#[from] rustls::Error),
    /// The proxy's host is no name that a certificate can be for.
    #[error("the proxy's host is not a valid name")]
    Host,
    /// The handshake failed.
    #[error(transparent)]
    Handshake(#[from] io::Error),
}

impl TlsError {
    pub(crate) fn failure(&self) -> Failure {
        let Self::Handshake(error) = self else {
            return Failure::lasting(Reason::Tls, self);
        };
        let reason = error.get_ref().and_then(|error| error.downcast_ref());
        let Some(reason) = reason else {
            return Failure::new(
                Reason::Tls,
                format!("the connection broke in the TLS handshake: {error}"),
            );
        };
        let text = match reason {
            rustls::Error::InvalidMessage(_) => {
                "the port does not speak TLS (is it one for tcp:// or ws://?)".to_owned()
            }
            rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
                "the proxy's certificate is not signed by a trusted CA (is the CA file the right one?)"
                    .to_owned()
            }
            rustls::Error::InvalidCertificate(error) => {
                format!("the proxy's certificate is not valid: {error}")
            }
            rustls::Error::AlertReceived(alert) => {
                format!("the proxy refused the TLS handshake: {alert:?}")
            }
            other => format!("the TLS handshake failed: {other}"),
        };
        Failure::lasting(Reason::Tls, text)
    }

    fn file(path: &Path, reason: impl Display) -> Self {
        Self::File {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }
}

/// Where the means for a handshake come from. Files are read for each connection, so that new ones are taken up.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tls {
    config: Option<Arc<ClientConfig>>,
    ca_file: Option<PathBuf>,
    identity: Option<Identity>,
}

#[derive(Debug, Clone)]
struct Identity {
    certificates: PathBuf,
    key: PathBuf,
}

impl Tls {
    pub(crate) fn trust(&mut self, ca_file: PathBuf) -> Result<(), TlsError> {
        file_roots(&ca_file)?;
        self.ca_file = Some(ca_file);
        Ok(())
    }

    pub(crate) fn show(&mut self, certificates: PathBuf, key: PathBuf) -> Result<(), TlsError> {
        let identity = Identity { certificates, key };
        configuration(RootCertStore::empty(), Some(&identity))?;
        self.identity = Some(identity);
        Ok(())
    }

    pub(crate) fn set_config(&mut self, config: Arc<ClientConfig>) {
        self.config = Some(config);
    }

    /// Makes the handshake; the proxy's certificate has to be for `host`, which is also the name it is asked for.
    pub(crate) async fn handshake(
        &self,
        host: &str,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, TlsError> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| TlsError::Host)?;
        let tls = self.clone();
        let config = spawn_blocking(move || tls.config()).await;
        let config = config.map_err(io::Error::other)??;
        Ok(TlsConnector::from(config).connect(name, stream).await?)
    }

    fn config(self) -> Result<Arc<ClientConfig>, TlsError> {
        if let Some(config) = self.config {
            return Ok(config);
        }
        let roots = match &self.ca_file {
            Some(path) => file_roots(path)?,
            None => system_roots()?,
        };
        Ok(Arc::new(configuration(roots, self.identity.as_ref())?))
    }
}

fn configuration(
    roots: RootCertStore,
    identity: Option<&Identity>,
) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    Ok(match identity {
        None => builder.with_no_client_auth(),
        Some(Identity { certificates, key }) => {
            let chain = read_certificates(certificates)?;
            let key =
                PrivateKeyDer::from_pem_file(key).map_err(|error| TlsError::file(key, error))?;
            builder.with_client_auth_cert(chain, key)?
        }
    })
}

fn file_roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(path)? {
        let added = roots.add(certificate);
        added.map_err(|error| TlsError::file(path, error))?;
    }
    Ok(roots)
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| TlsError::file(path, error))?;
    if certificates.is_empty() {
        return Err(TlsError::file(path, "no certificate in it"));
    }
    Ok(certificates)
}

/// Those of the system's certificates that cannot be read are left out.
fn system_roots() -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(load_native_certs().certs);
    if added == 0 {
        return Err(TlsError::Roots);
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use crate::Client;

    #[test]
    fn a_file_without_a_certificate_is_an_error_that_names_it() {
        for path in [
            "/nonexistent/ca.pem",
            concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"),
        ] {
            let error = Client::builder(|| "").tls_ca_file(path).err().unwrap();
            assert!(error.to_string().starts_with(path), "{error}");
        }
    }
}
