//! `healthcheck`: asks a running node whether it is ready, for images that have no curl.

use std::fmt::Display;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use clap::Args;
use http_body_util::{BodyExt, Limited};
use hyper::StatusCode;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use prometheus_rsocket_config::values;
use rustls::pki_types::ServerName;

use super::tls::ClientTlsArgs;
use super::{bad_usage, failure, runtime};
use crate::http::client::{self, Address, Security};
use crate::sockets::{first, listen_address};
use crate::tls::{Pem, Role, client_config};

/// Bytes of an answer that are read; a node's has one line.
const MAX_ANSWER: usize = 1 << 10;

#[derive(Debug, Args)]
pub(super) struct HealthcheckArgs {
    /// Address of the node [default: the port of --web.listen-address on this host]
    #[arg(
        long = "web",
        env = "PROXY_HEALTHCHECK_WEB",
        value_name = "http[s]://HOST:PORT"
    )]
    web: Option<Address>,
    /// Address that the node listens on, as for `serve`; the first is asked
    #[arg(
        long = "web.listen-address",
        env = "PROXY_WEB_LISTEN_ADDRESS",
        value_name = "ADDRESS",
        default_value = "[::]:8080",
        value_delimiter = ',',
        value_parser = listen_address
    )]
    listen_addresses: Vec<SocketAddr>,
    /// Timeout of the request
    #[arg(long = "timeout", env = "PROXY_HEALTHCHECK_TIMEOUT", value_name = "DURATION", default_value = "3s", value_parser = values::duration)]
    timeout: Duration,
    /// Name in the node's certificate, if it is not the host
    #[arg(
        long = "tls.server-name",
        env = "PROXY_TLS_SERVER_NAME",
        value_name = "NAME"
    )]
    server_name: Option<String>,
    #[command(flatten)]
    tls: ClientTlsArgs,
    /// User name, one of the node's basic_auth_users
    #[arg(
        long = "basic-auth.user",
        env = "PROXY_BASIC_AUTH_USER",
        value_name = "NAME",
        requires = "password_file"
    )]
    user: Option<String>,
    /// File with the password (its first line)
    #[arg(
        long = "basic-auth.password-file",
        env = "PROXY_BASIC_AUTH_PASSWORD_FILE",
        value_name = "FILE",
        requires = "user"
    )]
    password_file: Option<PathBuf>,
}

impl HealthcheckArgs {
    fn address(&self) -> Address {
        let web = self.web.clone();
        web.unwrap_or_else(|| local(first(&self.listen_addresses)))
    }

    /// `None` for an address in the clear. The error is one line that names the flag.
    fn security(&self, address: &Address) -> Result<Option<Security>, String> {
        if !address.is_secure() {
            return Ok(None);
        }
        let name = self.server_name.as_deref().unwrap_or(address.host());
        let name = ServerName::try_from(name.to_owned())
            .map_err(|error| format!("--tls.server-name {name}: {error}"))?;
        let trusted = self.tls.ca_file.clone().map(Pem::from);
        let pem = |path: &Path| Pem::from(path.to_path_buf());
        let own = self.tls.own();
        let own = own.map(|(certificate, key)| (pem(certificate), pem(key)));
        let config = client_config(trusted.as_ref(), own.as_ref());
        let config = config.map_err(|unusable| {
            let flag = match unusable.role {
                Role::Certificate => "--tls.cert-file",
                Role::Key => "--tls.key-file",
                Role::ClientCa | Role::Policy => "--tls.ca-file",
            };
            format!("{flag}: {unusable}")
        })?;
        Ok(Some(Security { config, name }))
    }

    /// The credentials of the caller.
    fn headers(&self) -> Result<HeaderMap, String> {
        let mut headers = HeaderMap::new();
        if let Some((user, file)) = self.user.as_ref().zip(self.password_file.as_ref()) {
            let wrong = |error: &dyn Display| {
                format!("--basic-auth.password-file {}: {error}", file.display())
            };
            let text = fs::read_to_string(file).map_err(|error| wrong(&error))?;
            let password = text.lines().next().unwrap_or_default();
            let credentials = BASE64_STANDARD.encode(format!("{user}:{password}"));
            let value = HeaderValue::try_from(format!("Basic {credentials}"));
            headers.insert(AUTHORIZATION, value.map_err(|error| wrong(&error))?);
        }
        Ok(headers)
    }
}

/// Where a listener is reached from its own host.
fn local(listen_address: SocketAddr) -> Address {
    let ip = listen_address.ip();
    let host = if ip.is_unspecified() {
        "localhost".to_owned()
    } else {
        ip.to_string()
    };
    Address::new(host, listen_address.port())
}

pub(super) fn run(args: &HealthcheckArgs) -> ExitCode {
    let address = args.address();
    let prepared = args
        .security(&address)
        .and_then(|security| Ok((security, args.headers()?)));
    let (security, headers) = match prepared {
        Ok(prepared) => prepared,
        Err(line) => return bad_usage(&line),
    };
    let asked = runtime::block_on_one(ready(&address, security, headers, args.timeout));
    match asked.unwrap_or_else(|error| Err(error.to_string())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => failure(&format!("{address}/-/ready: {reason}")),
    }
}

async fn ready(
    address: &Address,
    security: Option<Security>,
    headers: HeaderMap,
    timeout: Duration,
) -> Result<(), String> {
    tokio::time::timeout(timeout, ask(address, security, headers))
        .await
        .unwrap_or_else(|_| {
            let timeout = humantime::format_duration(timeout);
            Err(format!("no answer within {timeout}"))
        })
}

async fn ask(
    address: &Address,
    security: Option<Security>,
    headers: HeaderMap,
) -> Result<(), String> {
    let response = client::get(address, security, "/-/ready", headers)
        .await
        .map_err(|error| error.to_string())?;
    let status = response.status();
    if status == StatusCode::OK {
        return Ok(());
    }
    let body = Limited::new(response.into_body(), MAX_ANSWER);
    let said = body
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes);
    let said = said.unwrap_or_default();
    let line = String::from_utf8_lossy(&said);
    Err(format!(
        "{status}: {}",
        line.lines().next().unwrap_or_default()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_asked_where_it_listens() {
        for (listen_address, asked) in [
            ("0.0.0.0:8080", "http://localhost:8080"),
            ("[::]:9090", "http://localhost:9090"),
            ("127.0.0.2:8080", "http://127.0.0.2:8080"),
            ("[::1]:8080", "http://[::1]:8080"),
        ] {
            let address = local(listen_address.parse().unwrap());
            assert_eq!(address.to_string(), asked);
        }
    }
}
