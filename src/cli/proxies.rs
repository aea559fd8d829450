//! Where the subcommands that talk to a proxy find one, and how far they trust the way there.

use std::path::PathBuf;

use clap::Args;
use prometheus_rsocket_client::{Address, Builder};

#[derive(Debug, Args)]
pub(super) struct ProxyArgs {
    /// A proxy: tcp://HOST:PORT, tls://, ws:// or wss://; repeated: tried in turn
    #[arg(
        long = "proxy",
        env = "PROXY_PROXY",
        value_name = "ADDRESS",
        value_delimiter = ',',
        default_value = "tcp://localhost:7001"
    )]
    proxies: Vec<Address>,
    /// Trust the certificates in this PEM file instead of the system's (tls:// and wss://)
    #[arg(long = "tls.ca-file", env = "PROXY_TLS_CA_FILE", value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Show this certificate (PEM, with its chain) to a proxy that asks for one
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
    /// The least envelope version that a text is sealed in; 2 refuses proxies that do not offer it
    #[arg(
        long = "min-envelope-version",
        env = "PROXY_MIN_ENVELOPE_VERSION",
        value_name = "VERSION",
        default_value = "1",
        value_parser = clap::value_parser!(u8).range(1..=2)
    )]
    min_envelope_version: u8,
}

impl ProxyArgs {
    /// A client's builder that knows these proxies. The error is one line that names the flag.
    pub(super) fn apply(&self, builder: Builder) -> Result<Builder, String> {
        let mut builder = builder.proxies(self.proxies.iter().cloned());
        if let Some(file) = &self.ca_file {
            let trusting = builder.tls_ca_file(file);
            builder =
                trusting.map_err(|error| format!("--tls.ca-file {}: {error}", file.display()))?;
        }
        if let Some((certificate, key)) = self.cert_file.as_ref().zip(self.key_file.as_ref()) {
            let showing = builder.tls_client_certificate(certificate, key);
            builder = showing
                .map_err(|error| format!("--tls.cert-file {}: {error}", certificate.display()))?;
        }
        if self.min_envelope_version > 1 {
            builder = builder.forbid_downgrade();
        }
        Ok(builder)
    }
}
