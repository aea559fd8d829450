//! The flags by which the RSocket listeners get their certificate.

use std::path::PathBuf;

use clap::Args;

use crate::tls::{Files, Role, Tls};

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
            certificate,
            key,
            client_ca: self.rsocket_tls_client_ca_file.clone(),
        };
        Tls::read(files).map(Some).map_err(|unusable| {
            let flag = match unusable.role {
                Role::Certificate => "--rsocket.tls.cert-file",
                Role::Key => "--rsocket.tls.key-file",
                Role::ClientCa => "--rsocket.tls.client-ca-file",
            };
            format!("{flag}: {unusable}")
        })
    }
}
