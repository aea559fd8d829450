//! What is offered to clients, made of what the files held at one time.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::{RootCertStore, ServerConfig};
use zeroize::Zeroizing;

use super::clients::Verifier;
use super::{ClientAuth, Files, Policy, Problem, Role, TlsFilesError};

/// What is offered to clients, and what of them.
#[derive(Debug)]
pub struct Offer {
    /// For the handshake.
    pub config: Arc<ServerConfig>,
    clients: Option<Arc<Verifier>>,
}

impl Offer {
    /// Judges the certificate that a client has shown in its handshake, and those between it and its authority.
    pub fn verify(&self, chain: &[CertificateDer<'_>]) -> Result<(), rustls::Error> {
        let (Some(clients), Some((own, others))) = (&self.clients, chain.split_first()) else {
            return Ok(());
        };
        clients.judge(own, others, UnixTime::now()).map(|_| ())
    }
}

/// What the files held at one time.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) certificate: Vec<u8>,
    pub(super) key: Zeroizing<Vec<u8>>,
    pub(super) client_ca: Option<Vec<u8>>,
}

impl Contents {
    /// What is made of them; the error names the one that cannot be used.
    pub(super) fn offer(&self, files: &Files, policy: &Policy) -> Result<Offer, TlsFilesError> {
        let provider = Arc::new(CryptoProvider {
            cipher_suites: policy.cipher_suites.clone(),
            kx_groups: policy.groups.clone(),
            ..aws_lc_rs::default_provider()
        });
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&policy.versions)
            .map_err(|error| files.unusable(Role::Policy, error))?;
        let clients = self.clients(policy, &provider);
        let clients = clients.map_err(|problem| files.unusable(Role::ClientCa, problem))?;
        let builder = match &clients {
            None => builder.with_no_client_auth(),
            Some(clients) => builder.with_client_cert_verifier(Arc::clone(clients) as _),
        };
        let chain = certificates(&self.certificate)
            .map_err(|problem| files.unusable(Role::Certificate, problem))?;
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|error| files.unusable(Role::Key, error))?;
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(|error| files.unusable(Role::Key, error))?;
        config.ignore_client_order = policy.own_order;
        config.alpn_protocols.clone_from(&policy.protocols);
        if clients.is_some() {
            // A session that is resumed brings its client's certificate along, which is not verified again: not whether
            // it has ended since, nor by an authority that has changed. In TLS 1.2 it is the storage that resumes, in
            // TLS 1.3 a ticket, which the storage would have to redeem.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(Offer {
            config: Arc::new(config),
            clients,
        })
    }

    /// `None`: no client is asked for a certificate.
    fn clients(
        &self,
        policy: &Policy,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Option<Arc<Verifier>>, Problem> {
        if policy.client_auth == ClientAuth::NoClientCert {
            return Ok(None);
        }
        let verifier = Verifier::new(
            policy.client_auth,
            || self.authorities(),
            policy.allowed_names.clone(),
            policy.verify_late,
            provider,
        )?;
        Ok(Some(Arc::new(verifier)))
    }

    fn authorities(&self) -> Result<Arc<RootCertStore>, Problem> {
        authorities(self.client_ca.as_deref())
    }
}

/// Those in `pem`, or those that the system trusts.
pub(super) fn authorities(pem: Option<&[u8]>) -> Result<Arc<RootCertStore>, Problem> {
    let mut roots = RootCertStore::empty();
    match pem {
        Some(pem) => {
            let mut refused = None;
            for certificate in certificates(pem)? {
                // A bundle may hold what nobody can use any more; Go passes over it, too.
                if let Err(error) = roots.add(certificate) {
                    refused.get_or_insert(error);
                }
            }
            if let Some(error) = refused.filter(|_| roots.is_empty()) {
                return Err(error.into());
            }
        }
        None => {
            let trusted = rustls_native_certs::load_native_certs().certs;
            roots.add_parsable_certificates(trusted);
            if roots.is_empty() {
                return Err(Problem::NoAuthorities);
            }
        }
    }
    Ok(Arc::new(roots))
}

/// Those in `pem`, at least one.
pub(super) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>()?;
    if chain.is_empty() {
        return Err(Problem::NoCertificate);
    }
    Ok(chain)
}
