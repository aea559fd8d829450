//! TLS towards targets: whom to trust, what to show, and which name to expect (`tls_config`).

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use prometheus_rsocket_config::read_bounded;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tracing::debug;
use zeroize::Zeroizing;

/// Where the parts are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tls {
    /// Authorities to trust instead of the system's.
    pub(super) ca: Option<PathBuf>,
    /// A certificate to show, and its key.
    pub(super) own: Option<(PathBuf, PathBuf)>,
    /// The name that the target's certificate is to have, instead of the URL's host.
    pub(super) server_name: Option<ServerName<'static>>,
    /// Take whatever certificate the target shows.
    pub(super) insecure_skip_verify: bool,
}

/// What the files hold.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Contents {
    ca: Option<Vec<u8>>,
    certificate: Option<Vec<u8>>,
    key: Option<Zeroizing<Vec<u8>>>,
}

/// Keeps the key out of logs.
impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Contents")
    }
}

impl Tls {
    /// Reads the files. The error names the one that cannot be read.
    pub(super) fn read(&self) -> Result<Contents, String> {
        let read = |path: &Path| read_bounded(path).map_err(|error| at(path, &error));
        Ok(Contents {
            ca: self.ca.as_deref().map(read).transpose()?,
            certificate: match &self.own {
                Some((certificate, _)) => Some(read(certificate)?),
                None => None,
            },
            key: match &self.own {
                Some((_, key)) => Some(read(key)?.into()),
                None => None,
            },
        })
    }

    /// What connections are made with. The error names the file that is wrong.
    pub(super) fn config(&self, contents: &Contents) -> Result<ClientConfig, String> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let builder = if self.insecure_skip_verify {
            let verifier = Arc::new(Unverified(provider));
            builder
                .dangerous()
                .with_custom_certificate_verifier(verifier)
        } else {
            builder.with_root_certificates(self.roots(contents)?)
        };
        let parts = self
            .own
            .as_ref()
            .zip(contents.certificate.as_ref().zip(contents.key.as_ref()));
        let Some(((certificate_path, key_path), (certificate, key))) = parts else {
            return Ok(builder.with_no_client_auth());
        };
        let chain = certificates(certificate_path, certificate)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| at(key_path, &error))?;
        builder
            .with_client_auth_cert(chain, key)
            .map_err(|error| at(certificate_path, &error))
    }

    fn roots(&self, contents: &Contents) -> Result<RootCertStore, String> {
        let mut roots = RootCertStore::empty();
        match self.ca.as_ref().zip(contents.ca.as_ref()) {
            Some((path, pem)) => {
                let (added, _) = roots.add_parsable_certificates(certificates(path, pem)?);
                if added == 0 {
                    return Err(at(path, &"no certificate in it can be trusted"));
                }
            }
            None => {
                let found = rustls_native_certs::load_native_certs();
                for error in found.errors {
                    debug!(%error, "cannot read certificates of the system");
                }
                // There may be none, as in an image of nothing else; most targets are asked in the clear.
                roots.add_parsable_certificates(found.certs);
            }
        }
        Ok(roots)
    }
}

fn at(path: &Path, problem: &dyn fmt::Display) -> String {
    format!("{}: {problem}", path.display())
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|error| at(path, &error))?;
    if chain.is_empty() {
        return Err(at(path, &"no certificate in it"));
    }
    Ok(chain)
}

/// Takes every certificate. That the target has its key is verified all the same.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
