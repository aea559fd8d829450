//! `healthcheck`: asks a running node whether it is ready, for images that have no curl.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use http_body_util::{BodyExt, Limited};
use hyper::StatusCode;
use hyper::header::HeaderMap;

use super::{failure, serve};
use crate::http::client::{self, Address};

/// Bytes of an answer that are read; a node's has one line.
const MAX_ANSWER: usize = 1 << 10;

#[derive(Debug, Args)]
pub(super) struct HealthcheckArgs {
    /// The node; not said: the port of --web.listen-address on this host
    #[arg(long = "web", value_name = "http://HOST:PORT")]
    web: Option<Address>,
    /// What the node listens on, as `serve` is told
    #[arg(
        long = "web.listen-address",
        env = "PROXY_WEB_LISTEN_ADDRESS",
        value_name = "ADDRESS",
        default_value = "0.0.0.0:8080"
    )]
    listen_address: SocketAddr,
    /// Give up after this
    #[arg(long = "timeout", value_name = "DURATION", default_value = "3s", value_parser = serve::duration)]
    timeout: Duration,
}

impl HealthcheckArgs {
    fn address(self) -> Address {
        self.web.unwrap_or_else(|| local(self.listen_address))
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

pub(super) fn run(args: HealthcheckArgs) -> ExitCode {
    let timeout = args.timeout;
    let address = args.address();
    match ready(&address, timeout) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => failure(&format!("{address}/-/ready: {reason}")),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn ready(address: &Address, timeout: Duration) -> Result<(), String> {
    tokio::time::timeout(timeout, ask(address))
        .await
        .unwrap_or_else(|_| {
            let timeout = humantime::format_duration(timeout);
            Err(format!("no answer within {timeout}"))
        })
}

async fn ask(address: &Address) -> Result<(), String> {
    let response = client::get(address, "/-/ready", HeaderMap::new())
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
