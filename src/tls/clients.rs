//! What a client's certificate is held against.

use std::net::IpAddr;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::Problem;

/// Which clients are accepted. The names are those of Go's `tls.ClientAuthType`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// All; none is asked for a certificate.
    #[default]
    NoClientCert,
    /// All; a certificate that one shows need not be anybody's.
    RequestClientCert,
    /// Those with a certificate of any CA.
    RequireAnyClientCert,
    /// Those without a certificate, and those with one of an authority.
    VerifyClientCertIfGiven,
    /// Those with a certificate of an authority.
    RequireAndVerifyClientCert,
}

impl ClientAuth {
    pub(super) fn verifies(self) -> bool {
        matches!(
            self,
            Self::VerifyClientCertIfGiven | Self::RequireAndVerifyClientCert
        )
    }

    fn requires(self) -> bool {
        matches!(
            self,
            Self::RequireAnyClientCert | Self::RequireAndVerifyClientCert
        )
    }
}

/// Lets clients in by their certificate.
#[derive(Debug)]
pub(super) struct Verifier {
    /// `None`: the issuer does not matter.
    issued: Option<Arc<dyn ClientCertVerifier>>,
    mandatory: bool,
    /// One of these has to be among the certificate's names, where there is a list.
    allowed_names: Option<Vec<String>>,
    /// Whatever a client shows, the handshake goes on: it is judged afterwards.
    late: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    /// `authorities` are asked for where `auth` verifies.
    pub(super) fn new(
        auth: ClientAuth,
        authorities: impl FnOnce() -> Result<Arc<RootCertStore>, Problem>,
        allowed_names: Option<Vec<String>>,
        late: bool,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, Problem> {
        let issued = if auth.verifies() {
            let builder =
                WebPkiClientVerifier::builder_with_provider(authorities()?, Arc::clone(provider));
            Some(builder.build()?)
        } else {
            None
        };
        Ok(Self {
            issued,
            mandatory: auth.requires(),
            allowed_names,
            late,
            algorithms: provider.signature_verification_algorithms,
        })
    }

    /// Whether a client may come in with this certificate, whose key it has.
    pub(super) fn judge(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if let Some(issued) = &self.issued {
            issued.verify_client_cert(end_entity, intermediates, now)?;
        }
        match &self.allowed_names {
            Some(allowed) if !is_named(end_entity, allowed)? => {
                Err(CertificateError::ApplicationVerificationFailure.into())
            }
            _ => Ok(ClientCertVerified::assertion()),
        }
    }
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        let issued = self.issued.as_ref();
        issued.map_or(&[], |issued| issued.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if self.late {
            return Ok(ClientCertVerified::assertion());
        }
        self.judge(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Whether one of the certificate's alternative names is exactly one of `allowed`.
fn is_named(certificate: &CertificateDer<'_>, allowed: &[String]) -> Result<bool, Error> {
    let names = names(certificate)?;
    Ok(names.iter().any(|name| allowed.contains(name)))
}

/// The certificate's alternative names: DNS, e-mail, IP, URI.
pub(crate) fn names(certificate: &CertificateDer<'_>) -> Result<Vec<String>, Error> {
    let (_, certificate) =
        X509Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let names = certificate
        .extensions()
        .iter()
        .filter_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
            _ => None,
        })
        .flatten();
    Ok(names.filter_map(text).collect())
}

/// When the certificate ends, in seconds since 1970.
pub(super) fn ends(certificate: &CertificateDer<'_>) -> Option<i64> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Some(certificate.validity().not_after.timestamp())
}

fn text(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(text) | GeneralName::RFC822Name(text) | GeneralName::URI(text) => {
            Some((*text).to_owned())
        }
        GeneralName::IPAddress(bytes) => address(bytes).map(|address| address.to_string()),
        _ => None,
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}
