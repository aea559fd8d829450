//! How the applications' side is set.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use ipnet::IpNet;
use prometheus_rsocket_config::values::{bytes, duration, positive};
use prometheus_rsocket_wire::Envelopes;

use crate::identity::{Identities, Terms};
use crate::sockets::{listen_address, trusted_network};
use crate::tls::{ClientAuth, Files, Pem, Policy, Role, Tls};

/// Bytes of one RSocket frame: its length prefix has 24 bits.
const MAX_FRAME: usize = (1 << 24) - 1;
/// The shortest frame limit that leaves room for an envelope's wrapped key.
const MIN_FRAME: usize = 4 << 10;

/// The applications' side.
#[derive(Debug, Clone, Parser)]
#[group(skip)]
pub struct Settings {
    /// Address to listen on for RSocket over TCP. Repeatable
    #[arg(
        id = "rsocket.tcp.listen-address",
        long,
        value_name = "ADDRESS",
        default_value = "[::]:7001",
        value_delimiter = ',',
        value_parser = listen_address
    )]
    pub tcp_listen_addresses: Vec<SocketAddr>,
    /// Address to listen on for RSocket over WebSocket. Repeatable
    #[arg(
        id = "rsocket.websocket.listen-address",
        long,
        value_name = "ADDRESS",
        default_value = "[::]:8081",
        value_delimiter = ',',
        value_parser = listen_address
    )]
    pub websocket_listen_addresses: Vec<SocketAddr>,
    /// Origin of web pages that may connect over WebSocket, such as https://app.example; pages of other origins are
    /// refused. Repeatable
    #[allow(rustdoc::bare_urls, reason = "--help shows the text as it is")]
    #[arg(id = "rsocket.websocket.allow-origin", long, value_name = "ORIGIN", value_delimiter = ',', value_parser = origin)]
    pub allowed_origins: Vec<String>,
    /// Certificate with its chain (PEM file): enables TLS on both RSocket listeners. Read again when it changes
    #[arg(
        id = "rsocket.tls.cert-file",
        long,
        value_name = "FILE",
        requires = "rsocket.tls.key-file"
    )]
    pub tls_cert_file: Option<PathBuf>,
    /// Private key of the certificate (PEM file)
    #[arg(
        id = "rsocket.tls.key-file",
        long,
        value_name = "FILE",
        requires = "rsocket.tls.cert-file"
    )]
    pub tls_key_file: Option<PathBuf>,
    /// Require client certificates signed by one of these CAs (PEM file)
    #[arg(
        id = "rsocket.tls.client-ca-file",
        long,
        value_name = "FILE",
        requires = "rsocket.tls.cert-file"
    )]
    pub tls_client_ca_file: Option<PathBuf>,
    /// Path to the file with the identities of applications: tokens, passwords and certificates, with labels and limits
    /// for each (docs/application-identities.md). Read again when it changes
    #[arg(id = "rsocket.auth.file", long, value_name = "FILE")]
    pub auth_file: Option<PathBuf>,
    /// How applications send their metrics
    #[arg(
        id = "rsocket.envelope",
        long,
        value_name = "ENVELOPE",
        default_value = "encrypted"
    )]
    pub envelope: Envelope,
    /// Allow --rsocket.envelope=plaintext without TLS
    #[arg(id = "rsocket.insecure-plaintext", long)]
    pub insecure_plaintext: bool,
    /// Lowest envelope version to accept; 2 excludes Java clients (docs/envelope.md)
    #[arg(
        id = "rsocket.min-envelope-version",
        long,
        value_name = "VERSION",
        default_value = "1",
        value_parser = clap::value_parser!(u8).range(1..=2)
    )]
    pub min_envelope_version: u8,
    /// A new key pair is made after this. No flag: a shorter time protects no more, since the node holds all keys anyway.
    #[arg(skip = Duration::from_hours(24))]
    pub key_rotation: Duration,
    /// Close a connection without SETUP (or with an unfinished handshake) after this
    #[arg(id = "rsocket.setup-timeout", long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub setup_timeout: Duration,
    /// Maximum size of an RSocket frame
    #[arg(id = "rsocket.max-frame", long, value_name = "BYTES", default_value = "16777215B", value_parser = frame_bytes)]
    pub max_frame: usize,
    /// Maximum number of connections on both RSocket listeners; more wait until one of them ends
    #[arg(id = "rsocket.max-connections", long, value_name = "N", default_value = "20000", value_parser = positive)]
    pub max_connections: usize,
    /// Maximum number of RSocket connections from one address, 0 for no limit (behind a load balancer all come from one, unless
    /// --rsocket.proxy-protocol.trusted or --rsocket.forwarded-for.trusted names it)
    #[arg(
        id = "rsocket.max-connections-per-address",
        long,
        value_name = "N",
        default_value = "0"
    )]
    pub max_connections_per_address: usize,
    /// Maximum number of RSocket connections without SETUP; when there are more, the oldest of them is closed
    #[arg(id = "rsocket.max-handshakes", long, value_name = "N", default_value = "1024", value_parser = positive)]
    pub max_handshakes: usize,
    /// Address or network of a load balancer whose RSocket connections begin with a PROXY protocol header (version 1 or
    /// 2). Repeatable
    #[arg(id = "rsocket.proxy-protocol.trusted", long, value_name = "NETWORK", value_delimiter = ',', value_parser = trusted_network)]
    pub proxy_protocol_trusted: Vec<IpNet>,
    /// Address or network of a reverse proxy whose X-Forwarded-For header says where a WebSocket connection comes from.
    /// Repeatable
    #[arg(id = "rsocket.forwarded-for.trusted", long, value_name = "NETWORK", value_delimiter = ',', value_parser = trusted_network)]
    pub forwarded_for_trusted: Vec<IpNet>,
    /// Maximum memory for payloads that are partly received or wait to be opened, over all connections; when it is
    /// exceeded, the connection whose payload is unfinished for longest is closed
    #[arg(id = "rsocket.max-unfinished", long, value_name = "BYTES", default_value = "1GiB", value_parser = bytes)]
    pub max_unfinished: usize,
}

/// How an application's text travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Envelope {
    /// Compressed and encrypted
    Encrypted,
    /// As it is
    Plaintext,
}

impl Settings {
    /// The envelope versions that are opened; none: texts come as they are.
    pub fn envelopes(&self) -> Envelopes {
        let encrypted = self.envelope == Envelope::Encrypted;
        Envelopes {
            version1: encrypted && self.min_envelope_version == 1,
            version2: encrypted,
        }
    }

    /// Whether what is said of envelopes goes together. The error is one line that names the flag.
    pub fn check_envelope(&self) -> Result<(), String> {
        if self.envelope == Envelope::Encrypted {
            return Ok(());
        }
        if self.min_envelope_version > 1 {
            return Err(
                "--rsocket.min-envelope-version=2 and --rsocket.envelope=plaintext exclude each other".into(),
            );
        }
        if self.tls_cert_file.is_none() && !self.insecure_plaintext {
            return Err(
                "--rsocket.envelope=plaintext sends all metrics unencrypted over the network: enable TLS \
                 (--rsocket.tls.cert-file), or allow it with --rsocket.insecure-plaintext"
                    .into(),
            );
        }
        Ok(())
    }

    /// `None` without a certificate. The error is one line that names the flag and the file.
    pub fn tls(&self) -> Result<Option<Tls>, String> {
        let files = self.tls_cert_file.clone().zip(self.tls_key_file.clone());
        let Some((certificate, key)) = files else {
            return Ok(None);
        };
        let files = Files {
            certificate: certificate.into(),
            key: key.into(),
            client_ca: self.tls_client_ca_file.clone().map(Pem::from),
        };
        let policy = Policy {
            // A client without a good certificate is not told so, but left unanswered: see `listener`.
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

    /// Who applications are, and these `terms` where the file says nothing else; `None` without a file. The error is one
    /// line that names the flag and the file.
    pub fn identities(&self, terms: Terms) -> Result<Option<Identities>, String> {
        let Some(file) = &self.auth_file else {
            return Ok(None);
        };
        let place = format!("--rsocket.auth.file {}", file.display());
        let identities = Identities::read(file.clone(), terms);
        let identities = identities.map_err(|unusable| format!("{place}: {unusable}"))?;
        if identities.know_certificates() && self.tls_client_ca_file.is_none() {
            return Err(format!(
                "{place}: identities with certificates need --rsocket.tls.client-ca-file"
            ));
        }
        Ok(Some(identities))
    }
}

/// A web origin as browsers name it (RFC 6454, section 6.2).
fn origin(value: &str) -> Result<String, String> {
    let host = value.split_once("://").map(|(_, host)| host);
    let lower_case = !value.contains(|letter: char| letter.is_ascii_uppercase());
    match host {
        Some(host) if lower_case && !host.is_empty() && !host.contains(['/', '?', '#', '@']) => {
            Ok(value.to_owned())
        }
        _ => Err("an origin is written https://HOST or https://HOST:PORT, in lower case".into()),
    }
}

/// The bytes that a frame may have.
fn frame_bytes(value: &str) -> Result<usize, String> {
    let bytes = bytes(value)?;
    if (MIN_FRAME..=MAX_FRAME).contains(&bytes) {
        Ok(bytes)
    } else {
        Err(format!("must be between {MIN_FRAME} and {MAX_FRAME} bytes"))
    }
}
