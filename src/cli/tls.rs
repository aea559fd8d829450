//! The flags by which what talks to a node does TLS.

use std::path::{Path, PathBuf};

use clap::Args;

#[derive(Debug, Args)]
pub(super) struct ClientTlsArgs {
    /// CA certificates to trust (PEM file), instead of the system's
    #[arg(long = "tls.ca-file", env = "PROXY_TLS_CA_FILE", value_name = "FILE")]
    pub(super) ca_file: Option<PathBuf>,
    /// Client certificate with its chain (PEM file)
    #[arg(
        long = "tls.cert-file",
        env = "PROXY_TLS_CERT_FILE",
        value_name = "FILE",
        requires = "key_file"
    )]
    cert_file: Option<PathBuf>,
    /// Private key of the client certificate (PEM file)
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
