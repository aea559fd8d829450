//! TLS of a listener: certificates from files, read at start and again when they change.
//!
//! A connection keeps the certificate with which it was made; the next one gets the newest.

mod clients;
mod offer;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

pub use clients::ClientAuth;
pub(crate) use clients::names;
pub use offer::Offer;
use offer::{Contents, authorities, certificates};
use prometheus_rsocket_config::{ReadError, read_bounded};
use rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::{self, PemObject};
use rustls::server::VerifierBuilderError;
use rustls::{ClientConfig, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion};
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::files::{Followed, Found, Settled, Source};

/// PEM text, or the file that holds it.
#[derive(Clone)]
pub enum Pem {
    /// A file, at most a mebibyte long.
    File(PathBuf),
    /// The text itself.
    Text(Zeroizing<String>),
}

impl From<PathBuf> for Pem {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

impl Pem {
    fn read(&self) -> Result<Vec<u8>, ReadError> {
        match self {
            Self::File(path) => read_bounded(path),
            Self::Text(text) => Ok(text.as_bytes().to_vec()),
        }
    }
}

/// Keeps an inline key out of logs.
impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.fmt(f),
            Self::Text(_) => f.write_str("inline"),
        }
    }
}

/// Where certificates come from.
#[derive(Debug, Clone)]
pub struct Files {
    /// The certificate, and those between it and its authority.
    pub certificate: Pem,
    /// Its private key.
    pub key: Pem,
    /// The authorities that clients' certificates are verified against; `None`: those that the system trusts.
    pub client_ca: Option<Pem>,
}

/// How connections are secured.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The versions of TLS.
    pub versions: Vec<&'static SupportedProtocolVersion>,
    /// Cipher suites of all versions, best first.
    pub cipher_suites: Vec<SupportedCipherSuite>,
    /// Key exchange groups, best first.
    pub groups: Vec<&'static dyn SupportedKxGroup>,
    /// Whether our order of cipher suites counts, rather than the client's.
    pub own_order: bool,
    /// Which clients are accepted.
    pub client_auth: ClientAuth,
    /// A client's certificate has to have one of these alternative names, where there is a list.
    pub allowed_names: Option<Vec<String>>,
    /// An invalid certificate of a client does not end the handshake: the caller asks [`Offer::verify`].
    pub verify_late: bool,
    /// What is spoken above TLS, best first; empty: not negotiated.
    pub protocols: Vec<Vec<u8>>,
}

impl Default for Policy {
    fn default() -> Self {
        let CryptoProvider {
            cipher_suites,
            kx_groups,
            ..
        } = aws_lc_rs::default_provider();
        Self {
            versions: rustls::DEFAULT_VERSIONS.to_vec(),
            cipher_suites,
            groups: kx_groups,
            own_order: false,
            client_auth: ClientAuth::default(),
            allowed_names: None,
            verify_late: false,
            protocols: Vec::new(),
        }
    }
}

/// What is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// [`Files::certificate`].
    Certificate,
    /// [`Files::key`].
    Key,
    /// [`Files::client_ca`].
    ClientCa,
    /// [`Policy`]: its parts do not fit together.
    Policy,
}

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub struct TlsFilesError {
    /// Which file cannot be used.
    pub role: Role,
    path: Option<PathBuf>,
    problem: Problem,
}

impl fmt::Display for TlsFilesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.path {
            write!(f, "{}: ", path.display())?;
        }
        self.problem.fmt(f)
    }
}

#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("{0}")]
    Read(#[from] ReadError),
    #[error("{0}")]
    Pem(#[from] pem::Error),
    #[error("no certificate in it")]
    NoCertificate,
    #[error("the system has no trusted CA certificates")]
    NoAuthorities,
    #[error("{0}")]
    Refused(#[from] rustls::Error),
    #[error("{0}")]
    Authorities(#[from] VerifierBuilderError),
}

/// Certificates that follow their files.
#[derive(Clone)]
pub struct Tls {
    files: Files,
    policy: Policy,
    contents: Settled<Contents>,
    offer: Arc<Offer>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tls").field(&self.files).finish()
    }
}

impl Tls {
    /// Reads the files; the error names the one that cannot be used.
    pub fn read(files: Files, policy: Policy) -> Result<Self, TlsFilesError> {
        let contents = files.read()?;
        let offer = contents.offer(&files, &policy)?;
        Ok(Self {
            files,
            policy,
            contents: Settled::new(contents),
            offer: Arc::new(offer),
        })
    }

    /// Whether clients are to show a certificate.
    pub fn is_mutual(&self) -> bool {
        self.files.client_ca.is_some()
    }

    /// Whether a certificate that a client shows has to be an authority's.
    pub(crate) fn verifies_clients(&self) -> bool {
        self.policy.client_auth.verifies()
    }

    /// Whether it has to have a name of a list, too.
    pub(crate) fn names_clients(&self) -> bool {
        self.policy.allowed_names.is_some()
    }

    /// What to offer to the next client.
    pub fn config(&self) -> &Arc<ServerConfig> {
        &self.offer.config
    }

    /// What to offer to the next client; changes while the second of the two runs.
    pub(crate) fn followed(self) -> (watch::Receiver<Arc<Offer>>, Followed<Self>) {
        Followed::new(self)
    }
}

impl Source for Tls {
    type Value = Offer;
    type Error = TlsFilesError;
    const NAME: &'static str = "certificate";

    fn value(&self) -> &Arc<Offer> {
        &self.offer
    }

    fn file(&self) -> String {
        format!("{:?}", self.files.certificate)
    }

    fn look(&mut self) -> Result<Found, TlsFilesError> {
        let contents = self.files.read()?;
        let found = self.contents.look(&contents);
        if found == Found::Taken {
            self.offer = Arc::new(contents.offer(&self.files, &self.policy)?);
            self.contents.take(contents);
        }
        Ok(found)
    }

    fn certificate_ends(&self) -> Option<i64> {
        let chain = certificates(&self.contents.taken().certificate).ok()?;
        clients::ends(chain.first()?)
    }
}

impl Files {
    fn read(&self) -> Result<Contents, TlsFilesError> {
        let read = |role, pem: &Pem| {
            let contents = pem.read();
            contents.map_err(|problem| unusable(role, Some(pem), problem))
        };
        Ok(Contents {
            certificate: read(Role::Certificate, &self.certificate)?,
            key: read(Role::Key, &self.key)?.into(),
            client_ca: match &self.client_ca {
                Some(pem) => Some(read(Role::ClientCa, pem)?),
                None => None,
            },
        })
    }

    fn unusable(&self, role: Role, problem: impl Into<Problem>) -> TlsFilesError {
        let pem = match role {
            Role::Certificate => Some(&self.certificate),
            Role::Key => Some(&self.key),
            Role::ClientCa => self.client_ca.as_ref(),
            Role::Policy => None,
        };
        unusable(role, pem, problem)
    }
}

fn unusable(role: Role, pem: Option<&Pem>, problem: impl Into<Problem>) -> TlsFilesError {
    TlsFilesError {
        role,
        path: match pem {
            Some(Pem::File(path)) => Some(path.clone()),
            Some(Pem::Text(_)) | None => None,
        },
        problem: problem.into(),
    }
}

/// For clients of a node: what to trust (`None`: the system's CAs), and the certificate and its key to present.
pub fn client_config(
    trusted: Option<&Pem>,
    own: Option<&(Pem, Pem)>,
) -> Result<Arc<ClientConfig>, TlsFilesError> {
    let of_trusted = |problem: Problem| unusable(Role::ClientCa, trusted, problem);
    let pem = trusted.map(Pem::read).transpose();
    let pem = pem.map_err(|error| of_trusted(error.into()))?;
    let roots = authorities(pem.as_deref()).map_err(of_trusted)?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(Role::Policy, None, error))?
        .with_root_certificates(roots);
    let Some((certificate, key)) = own else {
        return Ok(Arc::new(builder.with_no_client_auth()));
    };
    let of_certificate = |problem: Problem| unusable(Role::Certificate, Some(certificate), problem);
    let pem = certificate
        .read()
        .map_err(|error| of_certificate(error.into()))?;
    let chain = certificates(&pem).map_err(of_certificate)?;
    let of_key = |problem: Problem| unusable(Role::Key, Some(key), problem);
    let pem = Zeroizing::new(key.read().map_err(|error| of_key(error.into()))?);
    let own_key = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| of_key(error.into()))?;
    let config = builder.with_client_auth_cert(chain, own_key);
    Ok(Arc::new(config.map_err(|error| of_key(error.into()))?))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{CertificateParams, CertifiedKey, KeyPair, generate_simple_self_signed};
    use rustls::{ClientConnection, ConnectionCommon, HandshakeKind, ServerConnection};

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
                certificate: self.write("cert.pem", &cert.pem()).into(),
                key: self.write("key.pem", &signing_key.serialize_pem()).into(),
                client_ca: None,
            }
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn verifying() -> Policy {
        Policy {
            client_auth: ClientAuth::VerifyClientCertIfGiven,
            ..Policy::default()
        }
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named() {
        let folder = Folder::new("named");
        let good = folder.certified();
        let rubbish = folder.write("rubbish.pem", "rubbish");
        let other = generate_simple_self_signed(["other".to_owned()]).unwrap();
        let other = folder.write("other.pem", &other.signing_key.serialize_pem());
        let cases = [
            (
                Role::Certificate,
                Files {
                    certificate: rubbish.clone().into(),
                    ..good.clone()
                },
            ),
            (
                Role::Certificate,
                Files {
                    certificate: folder.0.join("absent").into(),
                    ..good.clone()
                },
            ),
            (
                Role::Key,
                Files {
                    key: rubbish.clone().into(),
                    ..good.clone()
                },
            ),
            (
                Role::Key,
                Files {
                    key: other.into(),
                    ..good.clone()
                },
            ),
            (
                Role::ClientCa,
                Files {
                    client_ca: Some(rubbish.into()),
                    ..good
                },
            ),
        ];
        for (role, files) in cases {
            let unusable = Tls::read(files.clone(), verifying()).expect_err("no use");
            assert_eq!(unusable.role, role, "{files:?}: {unusable}");
        }
    }

    #[test]
    fn an_authority_that_nobody_can_use_is_passed_over() {
        let folder = Folder::new("bundle");
        let good = folder.certified();
        let rubbish = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let authority = String::from_utf8(good.certificate.read().unwrap()).unwrap();
        let with = |bundle: &str| Files {
            client_ca: Some(folder.write("bundle.pem", bundle).into()),
            ..good.clone()
        };
        Tls::read(with(&format!("{rubbish}{authority}")), verifying()).unwrap();
        let unusable = Tls::read(with(rubbish), verifying()).expect_err("no authority");
        assert_eq!(unusable.role, Role::ClientCa, "{unusable}");
    }

    /// How the second of two connections of one client begins.
    fn second_handshake(server: &Tls, version: &'static SupportedProtocolVersion) -> HandshakeKind {
        let files = &server.files;
        let (certificate, key) = (files.certificate.clone(), files.key.clone());
        let client = client_config(Some(&certificate.clone()), Some(&(certificate, key))).unwrap();
        let mut kind = None;
        for _ in 0..2 {
            let name = "localhost".try_into().unwrap();
            let mut client = ClientConnection::new(Arc::clone(&client), name).unwrap();
            let mut server = ServerConnection::new(Arc::clone(server.config())).unwrap();
            let mut turns = 0;
            // Tickets come after the handshake.
            while client.is_handshaking() || server.wants_write() || client.wants_write() {
                transfer(&mut client, &mut server);
                transfer(&mut server, &mut client);
                turns += 1;
                assert!(turns < 20, "no end");
            }
            assert_eq!(server.protocol_version(), Some(version.version));
            assert!(server.peer_certificates().is_some());
            kind = server.handshake_kind();
        }
        kind.unwrap()
    }

    fn transfer<A, B>(from: &mut ConnectionCommon<A>, to: &mut ConnectionCommon<B>) {
        let mut bytes = Vec::new();
        while from.wants_write() {
            from.write_tls(&mut bytes).unwrap();
        }
        let mut bytes = &bytes[..];
        while !bytes.is_empty() {
            to.read_tls(&mut bytes).unwrap();
            to.process_new_packets().unwrap();
        }
    }

    #[test]
    fn each_connection_has_its_certificate_verified() {
        let folder = Folder::new("resumed");
        let mut files = folder.certified();
        files.client_ca = Some(files.certificate.clone());
        for version in rustls::ALL_VERSIONS {
            for client_auth in [
                ClientAuth::RequireAnyClientCert,
                ClientAuth::VerifyClientCertIfGiven,
                ClientAuth::RequireAndVerifyClientCert,
            ] {
                let policy = Policy {
                    versions: vec![version],
                    client_auth,
                    ..Policy::default()
                };
                let server = Tls::read(files.clone(), policy).unwrap();
                assert_eq!(second_handshake(&server, version), HandshakeKind::Full);
            }
        }
    }

    #[test]
    fn the_end_is_that_of_the_certificate_that_is_shown() {
        let folder = Folder::new("end");
        let (leaf, authority) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let certificate = |key: &KeyPair, year| {
            let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
            params.not_after = rcgen::date_time_ymd(year, 1, 1);
            params.self_signed(key).unwrap().pem()
        };
        let chain = certificate(&leaf, 2100) + &certificate(&authority, 2200);
        let files = Files {
            certificate: folder.write("chain.pem", &chain).into(),
            key: folder.write("leaf.pem", &leaf.serialize_pem()).into(),
            client_ca: None,
        };
        let tls = Tls::read(files, Policy::default()).unwrap();
        assert_eq!(tls.certificate_ends(), Some(4_102_444_800));
    }

    #[test]
    fn files_are_taken_when_they_change_and_are_good() {
        let folder = Folder::new("change");
        let mut tls = Tls::read(folder.certified(), Policy::default()).unwrap();
        let first = Arc::clone(&tls.offer);
        assert_eq!(tls.look().unwrap(), Found::Same);
        folder.write("cert.pem", "half a certif");
        assert_eq!(tls.look().unwrap(), Found::Unsettled);
        tls.look().expect_err("half a certificate");
        assert!(Arc::ptr_eq(&first, &tls.offer));
        folder.certified();
        assert_eq!(tls.look().unwrap(), Found::Unsettled);
        assert!(Arc::ptr_eq(&first, &tls.offer));
        assert_eq!(tls.look().unwrap(), Found::Taken);
        assert!(!Arc::ptr_eq(&first, &tls.offer));
    }
}
