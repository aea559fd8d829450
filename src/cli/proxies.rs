//! Where the subcommands that talk to a proxy find one, and how far they trust the way there.

use std::convert::Infallible;
use std::path::PathBuf;

use clap::Args;
use prometheus_rsocket_client::{Address, Builder, HttpProxy, HttpProxyError};

use super::tls::ClientTlsArgs;

/// The value of `--http-proxy`.
#[derive(Debug, Clone)]
pub(super) struct HttpProxyFlag(Result<HttpProxy, HttpProxyError>);

impl HttpProxyFlag {
    /// Never fails: clap would print the value, which may contain a password.
    pub(super) fn parse(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.parse()))
    }

    /// That of the flag, else that of the environment. The error is one line that names the flag or the variable.
    pub(super) fn or_environment(flag: Option<&Self>) -> Result<Option<HttpProxy>, String> {
        match flag {
            Some(Self(Ok(proxy))) => Ok(Some(proxy.clone())),
            Some(Self(Err(error))) => Err(format!("--http-proxy: {error}")),
            None => HttpProxy::from_env().map_err(|error| error.to_string()),
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct ProxyArgs {
    /// Address of a proxy: tcp://HOST:PORT, tls://, ws:// or wss://. Repeatable: tried in turn
    #[arg(
        long = "proxy",
        env = "PROXY_PROXY",
        value_name = "ADDRESS",
        value_delimiter = ',',
        default_value = "tcp://localhost:7001"
    )]
    proxies: Vec<Address>,
    /// Connect to the proxy through this HTTP proxy (CONNECT): http://[USER:PASSWORD@]HOST[:PORT]. Without it: HTTPS_PROXY, ALL_PROXY and NO_PROXY, as curl reads them
    #[arg(
        long = "http-proxy",
        env = "PROXY_HTTP_PROXY",
        hide_env_values = true,
        value_name = "URL",
        value_parser = HttpProxyFlag::parse
    )]
    http_proxy: Option<HttpProxyFlag>,
    #[command(flatten)]
    tls: ClientTlsArgs,
    /// File with the token to send to the proxy; read again for each connection
    #[arg(
        long = "bearer-token-file",
        env = "PROXY_BEARER_TOKEN_FILE",
        value_name = "FILE",
        conflicts_with = "username"
    )]
    bearer_token_file: Option<PathBuf>,
    /// User name to send to the proxy
    #[arg(
        long = "username",
        env = "PROXY_USERNAME",
        value_name = "NAME",
        requires = "password_file"
    )]
    username: Option<String>,
    /// File with the password; read again for each connection
    #[arg(
        long = "password-file",
        env = "PROXY_PASSWORD_FILE",
        value_name = "FILE",
        requires = "username"
    )]
    password_file: Option<PathBuf>,
    /// Lowest envelope version to encrypt with; 2 refuses proxies that do not offer it
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
        if let Some(proxy) = HttpProxyFlag::or_environment(self.http_proxy.as_ref())? {
            builder = builder.http_proxy(proxy);
        }
        if let Some(file) = &self.tls.ca_file {
            let trusting = builder.tls_ca_file(file);
            builder =
                trusting.map_err(|error| format!("--tls.ca-file {}: {error}", file.display()))?;
        }
        if let Some((certificate, key)) = self.tls.own() {
            let showing = builder.tls_client_certificate(certificate, key);
            builder = showing
                .map_err(|error| format!("--tls.cert-file {}: {error}", certificate.display()))?;
        }
        if let Some(file) = &self.bearer_token_file {
            builder = builder.bearer_token_file(file);
        }
        if let Some((name, file)) = self.username.as_ref().zip(self.password_file.as_ref()) {
            builder = builder.password_file(name, file);
        }
        if self.min_envelope_version > 1 {
            builder = builder.forbid_downgrade();
        }
        Ok(builder)
    }
}
