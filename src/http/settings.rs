//! How the HTTP side is set.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use ipnet::IpNet;
use prometheus_rsocket_config::values::{duration, positive};

use crate::access::Access;
use crate::sockets::{listen_address, trusted_network};

/// The HTTP side.
#[derive(Debug, Clone, Args)]
#[group(skip)]
pub struct Settings {
    /// Address to listen on for HTTP: scrapes, probes and the status page. Repeatable
    #[arg(
        id = "web.listen-address",
        long,
        value_name = "ADDRESS",
        default_value = "[::]:8080",
        value_delimiter = ',',
        value_parser = listen_address
    )]
    pub listen_addresses: Vec<SocketAddr>,
    /// Maximum number of HTTP connections; more wait until one of them ends
    #[arg(id = "web.max-connections", long, value_name = "N", default_value = "512", value_parser = positive)]
    pub max_connections: usize,
    /// Close an HTTP connection when its request header is not complete after this, when nothing of a push comes for
    /// this long, when the client reads nothing of a response for this long, or still reads it this long after the
    /// scrape timed out
    #[arg(id = "web.io-timeout", long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub io_timeout: Duration,
    /// Address or network of a reverse proxy whose X-Forwarded-For header says where a request comes from. Repeatable
    #[arg(id = "web.forwarded-for.trusted", long, value_name = "NETWORK", value_delimiter = ',', value_parser = trusted_network)]
    pub forwarded_for_trusted: Vec<IpNet>,
    /// Path to the file that enables TLS or authentication, in the format of Prometheus' exporter-toolkit. Read again
    /// when it changes
    #[arg(id = "web.config.file", long, value_name = "FILE")]
    pub config_file: Option<PathBuf>,
    /// Enable shutdown via HTTP request (PUT /-/drain)
    #[arg(id = "web.enable-lifecycle", long)]
    pub enable_lifecycle: bool,
    /// Enable pushes over HTTP (POST /api/v1/push)
    #[arg(id = "web.enable-push-receiver", long)]
    pub enable_push_receiver: bool,
}

impl Settings {
    /// What the file says; `None` without one. The error is one line that names the flag and the file.
    pub fn access(&self) -> Result<Option<Access>, String> {
        let Some(file) = &self.config_file else {
            return Ok(None);
        };
        Access::read(file.clone())
            .map(Some)
            .map_err(|unusable| format!("--web.config.file {}: {unusable}", file.display()))
    }
}
