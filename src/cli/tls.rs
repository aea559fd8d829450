//! The flags by which either end of TLS gets its certificate: the RSocket listeners, and what talks to a node.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::tls::{ClientAuth, Files, Pem, Policy, Role, Tls};

/// For what connects to a node.
#[derive(Debug, Args)]
pub(super) struct ClientTlsArgs {
    /// Trust the authorities in this PEM file instead of the system's
    #[arg(long = "tls.ca-file", env = "PROXY_TLS_CA_FILE", value_name = "FILE")]
    pub(super) ca_file: Option<PathBuf>,
    /// Show this certificate (PEM, with its chain) where one is asked for
    #[arg(
        long = "tls.cert-file",
        env = "PROXY_TLS_CERT_FILE",
        value_name = "FILE",
        requires = "key_file"
    )]
    cert_file: Option<PathBuf>,
    /// The key of that certificate (PEM)
    #[arg(
        long = "tls.key-file",
        env = "PROXY_TLS_KEY_FILE",
        value_name = "FILE",
        requires = "cert_file"
    )]
    key_file: Option<PathBuf>,
}

impl ClientTlsArgs {
    /// The certificate to show, and its key.
    pub(super) fn own(&self) -> Option<(&Path, &Path)> {
        self.cert_file.as_deref().zip(self.key_file.as_deref())
    }
}

#[derive(Debug, Args)]
pub(super) struct TlsArgs {
    /// Certificate and its chain (PEM): TLS on both RSocket listeners. Read again when it changes
    #[arg(
        long = "rsocket.tls.cert-file",
        env = "PROXY_RSOCKET_TLS_CERT_FILE",
        value_name = "FILE",
        requires = "rsocket_tls_key_file"
    )]
    rsocket_tls_cert_file: Option<PathBuf>,
    /// The certificate's private key (PEM)
    #[arg(
        long = "rsocket.tls.key-file",
        env = "PROXY_RSOCKET_TLS_KEY_FILE",
        value_name = "FILE",
        requires = "rsocket_tls_cert_file"
    )]
    rsocket_tls_key_file: Option<PathBuf>,
    /// Let only clients in whose certificate one of these authorities issued (PEM)
    #[arg(
        long = "rsocket.tls.client-ca-file",
        env = "PROXY_RSOCKET_TLS_CLIENT_CA_FILE",
        value_name = "FILE",
        requires = "rsocket_tls_cert_file"
    )]
    rsocket_tls_client_ca_file: Option<PathBuf>,
}

impl TlsArgs {
    /// `None` without a certificate. The error is one line that names the flag and the file.
    pub(super) fn tls(&self) -> Result<Option<Tls>, String> {
        let files = self
            .rsocket_tls_cert_file
            .clone()
            .zip(self.rsocket_tls_key_file.clone());
        let Some((certificate, key)) = files else {
            return Ok(None);
        };
        let files = Files {
            certificate: certificate.into(),
            key: key.into(),
            client_ca: self.rsocket_tls_client_ca_file.clone().map(Pem::from),
        };
        let policy = Policy {
            // A client without a good certificate is not told so, but left unanswered: see `rsocket::listener`.
            verify_late: true,
            client_auth: match files.client_ca {
                Some(_) => ClientAuth::VerifyClientCertIfGiven,
                None => ClientAuth::NoClientCert,
            },
            ..Policy::default()
        };
        Tls::read(files, policy).map(Some).map_err(|unusable| {
            let flag = match unusable.role {
                Role::Certificate | Role::Policy => "--rsocket.tls.cert-file",
                Role::Key => "--rsocket.tls.key-file",
                Role::ClientCa => "--rsocket.tls.client-ca-file",
            };
            format!("{flag}: {unusable}")
        })
    }
}
