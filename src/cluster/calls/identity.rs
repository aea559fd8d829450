//! Who may call: nodes that know the cluster's secret, and nobody else.
//!
//! The secret becomes the signing key of an authority that exists in every node alike. Each node issues itself a
//! certificate under it, in memory and for two days, and both ends of a connection demand one (TLS 1.3). So there is no
//! certificate to hand out, to keep or to renew by hand.
//!
//! To replace a secret: add the new one behind the old one everywhere, then swap the two everywhere, then remove the old
//! one. The first secret signs, all are accepted.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hkdf::Hkdf;
use parking_lot::Mutex;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PKCS_ED25519,
};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::{ClientHello, NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SignatureScheme};
use sha2::Sha256;
use tokio::sync::watch;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use zeroize::Zeroizing;

/// What the certificate of every node is for: that it is signed under the secret is all there is to know.
const NAME: &str = "node.prometheus-rsocket-proxy.internal";
/// Tells this use of the secret from others.
const PURPOSE: &[u8] = b"prometheus-rsocket-proxy cluster authority 1";
/// A certificate is good for this long before and after it is issued: clocks of nodes may differ by as much.
const VALID: Duration = Duration::from_secs(24 * 3600);
/// A new one is issued to the first connection after this, or once the clock was set back.
const RENEWED_AFTER: Duration = Duration::from_secs(6 * 3600);
/// The protocol that both ends speak above TLS.
pub(super) const ALPN: &[u8] = b"h2";
/// What precedes the 32 bytes of an Ed25519 private key in PKCS#8 (RFC 8410, section 7).
const PKCS8_HEAD: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// Why a secret gives no identity: a mistake in this program or in its libraries.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The key could not be derived.
    #[error("no key can be derived from the cluster's secret")]
    Derivation,
    /// The certificate could not be made.
    #[error("certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// TLS does not take it.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// TLS does not take the authorities.
    #[error("TLS: {0}")]
    Verifier(#[from] rustls::client::VerifierBuilderError),
}

/// What shows other nodes that this one is one of theirs, and checks the same of them.
#[derive(Clone)]
pub struct CallIdentity {
    ends: watch::Receiver<Arc<Ends>>,
    name: ServerName<'static>,
}

/// What makes TLS of a connection, at either end.
#[derive(Clone)]
pub(crate) struct Ends {
    acceptor: TlsAcceptor,
    connector: TlsConnector,
}

impl Ends {
    pub(super) fn new(server: Arc<ServerConfig>, client: Arc<ClientConfig>) -> Self {
        Self {
            acceptor: server.into(),
            connector: client.into(),
        }
    }
}

impl CallIdentity {
    /// An identity under the first of `secrets` that accepts those under any of them; `None` if there are none.
    pub fn new<S: AsRef<[u8]>>(secrets: &[S]) -> Result<Option<Self>, IdentityError> {
        let authorities = secrets.iter().map(|secret| authority(secret.as_ref()));
        let authorities = authorities.collect::<Result<Vec<_>, _>>()?;
        let mut trusted = RootCertStore::empty();
        for authority in &authorities {
            trusted.add(authority.der().clone())?;
        }
        let Some(first) = authorities.into_iter().next() else {
            return Ok(None);
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let own = Arc::new(Own::new(first, Arc::clone(&provider))?);
        let trusted = Arc::new(trusted);
        let name = ServerName::try_from(NAME).map_err(|_| IdentityError::Derivation)?;
        let server = server(&own, &trusted, &provider)?;
        let client = client(&own, &trusted, &provider)?;
        let ends = watch::channel(Arc::new(Ends::new(server, client))).1;
        Ok(Some(Self { ends, name }))
    }

    /// One that changes with `ends`.
    pub(super) fn followed(ends: watch::Receiver<Arc<Ends>>, name: ServerName<'static>) -> Self {
        Self { ends, name }
    }

    /// Takes connections of other nodes.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        self.ends.borrow().acceptor.clone()
    }

    /// Makes connections to other nodes, which all have this name.
    pub(super) fn connector(&self) -> (TlsConnector, ServerName<'static>) {
        (self.ends.borrow().connector.clone(), self.name.clone())
    }
}

impl std::fmt::Debug for CallIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CallIdentity")
    }
}

fn server(
    own: &Arc<Own>,
    trusted: &Arc<RootCertStore>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<ServerConfig>, IdentityError> {
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::clone(trusted), Arc::clone(provider))
            .build()?;
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::clone(own) as _);
    config.alpn_protocols = vec![ALPN.to_vec()];
    // Connections last; what is not kept cannot be stolen.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

fn client(
    own: &Arc<Own>,
    trusted: &Arc<RootCertStore>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<ClientConfig>, IdentityError> {
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::clone(trusted), Arc::clone(provider))
            .build()?;
    let mut config = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_webpki_verifier(verifier)
        .with_client_cert_resolver(Arc::clone(own) as _);
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// The authority that every node with this secret makes alike: same name, same key.
fn authority(secret: &[u8]) -> Result<CertifiedIssuer<'static, KeyPair>, IdentityError> {
    let mut pkcs8 = Zeroizing::new([0; 48]);
    let (head, seed) = pkcs8.split_at_mut(PKCS8_HEAD.len());
    head.copy_from_slice(&PKCS8_HEAD);
    Hkdf::<Sha256>::new(None, secret)
        .expand(PURPOSE, seed)
        .map_err(|_| IdentityError::Derivation)?;
    let key = KeyPair::from_pkcs8_der_and_sign_algo(
        &PrivatePkcs8KeyDer::from(&pkcs8[..]),
        &PKCS_ED25519,
    )?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, "prometheus-rsocket-proxy cluster");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    Ok(CertifiedIssuer::self_signed(params, key)?)
}

/// This node's certificate, issued anew now and then.
struct Own {
    authority: CertifiedIssuer<'static, KeyPair>,
    provider: Arc<CryptoProvider>,
    issued: Mutex<Issued>,
}

/// When, and what.
struct Issued {
    /// By the clock that others hold against the certificate: it runs on while the machine sleeps, and may be set.
    at: SystemTime,
    certificate: Arc<CertifiedKey>,
}

impl Issued {
    /// Whether it is younger than [`RENEWED_AFTER`]. One from the future was issued before the clock was set back.
    fn is_fresh(&self, now: SystemTime) -> bool {
        let age = now.duration_since(self.at);
        age.is_ok_and(|age| age <= RENEWED_AFTER)
    }
}

impl Own {
    fn new(
        authority: CertifiedIssuer<'static, KeyPair>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, IdentityError> {
        let first = issue(&authority, &provider, SystemTime::now())?;
        Ok(Self {
            authority,
            provider,
            issued: Mutex::new(first),
        })
    }

    /// A certificate that is good for a while from `now`. Making one takes a tenth of a millisecond.
    fn current(&self, now: SystemTime) -> Arc<CertifiedKey> {
        let mut issued = self.issued.lock();
        if !issued.is_fresh(now)
            && let Ok(anew) = issue(&self.authority, &self.provider, now)
        {
            *issued = anew;
        }
        Arc::clone(&issued.certificate)
    }
}

fn issue(
    authority: &CertifiedIssuer<'static, KeyPair>,
    provider: &CryptoProvider,
    now: SystemTime,
) -> Result<Issued, IdentityError> {
    let key = KeyPair::generate_for(&PKCS_ED25519)?;
    let mut params = CertificateParams::new([NAME.to_owned()])?;
    params.not_before = (now - VALID).into();
    params.not_after = (now + VALID).into();
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let certificate = params.signed_by(&key, authority)?;
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let key = provider.key_provider.load_private_key(key)?;
    let certificate = CertifiedKey::new(vec![certificate.der().clone()], key);
    Ok(Issued {
        at: now,
        certificate: Arc::new(certificate),
    })
}

impl std::fmt::Debug for Own {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Own")
    }
}

impl rustls::server::ResolvesServerCert for Own {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current(SystemTime::now()))
    }
}

impl rustls::client::ResolvesClientCert for Own {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.current(SystemTime::now()))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a node with the secrets of `client` and one with those of `server` get to talk.
    async fn meet(client: &[&str], server: &[&str]) -> bool {
        let client = CallIdentity::new(client).unwrap().unwrap();
        let server = CallIdentity::new(server).unwrap().unwrap();
        let (near, far) = tokio::io::duplex(1 << 16);
        let (connector, name) = client.connector();
        let (near, far) = tokio::join!(connector.connect(name, near), async {
            let mut stream = server.acceptor().accept(far).await?;
            tokio::io::AsyncWriteExt::write_all(&mut stream, b"x").await?;
            tokio::io::AsyncWriteExt::shutdown(&mut stream).await
        });
        near.is_ok() && far.is_ok()
    }

    #[tokio::test]
    async fn nodes_that_share_a_secret_talk_and_others_do_not() {
        assert!(meet(&["one"], &["one"]).await);
        assert!(!meet(&["one"], &["two"]).await);
    }

    #[tokio::test]
    async fn each_step_of_replacing_a_secret_leaves_all_nodes_talking() {
        let steps: [&[&str]; 4] = [&["old"], &["old", "new"], &["new", "old"], &["new"]];
        for pair in steps.windows(2) {
            assert!(meet(pair[0], pair[1]).await, "{pair:?}");
            assert!(meet(pair[1], pair[0]).await, "{pair:?}");
        }
        assert!(!meet(&["old"], &["new"]).await);
    }

    #[tokio::test]
    async fn who_shows_no_certificate_is_refused() {
        let server = CallIdentity::new(&["one"]).unwrap().unwrap();
        let mut trusted = RootCertStore::empty();
        trusted
            .add(authority(b"one").unwrap().der().clone())
            .unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(trusted)
            .with_no_client_auth();
        let stranger = TlsConnector::from(Arc::new(config));
        let (near, far) = tokio::io::duplex(1 << 16);
        let (_, far) = tokio::join!(
            stranger.connect(ServerName::try_from(NAME).unwrap(), near),
            server.acceptor().accept(far)
        );
        assert!(far.is_err());
    }

    #[test]
    fn no_secret_is_no_identity() {
        assert!(CallIdentity::new::<&[u8]>(&[]).unwrap().is_none());
    }

    #[test]
    fn a_certificate_is_issued_anew_when_it_is_old_or_from_the_future() {
        const SECOND: Duration = Duration::from_secs(1);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let own = Own::new(authority(b"secret").unwrap(), provider).unwrap();
        let issued_at = own.issued.lock().at;
        let first = own.current(issued_at);
        for young in [SECOND, RENEWED_AFTER] {
            assert!(Arc::ptr_eq(&first, &own.current(issued_at + young)));
        }
        let second = own.current(issued_at + RENEWED_AFTER + SECOND);
        assert!(!Arc::ptr_eq(&first, &second));
        let set_back = own.current(issued_at);
        assert!(!Arc::ptr_eq(&second, &set_back));
        assert!(Arc::ptr_eq(&set_back, &own.current(issued_at + SECOND)));
    }
}
