//! How a node finds and trusts its peers.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use rustls::pki_types::ServerName;

use super::calls::Certificates;
use super::{Advertised, Peer, Secrets};
use crate::sockets::listen_address;

/// The nodes' side.
#[derive(Debug, Clone, Args)]
#[group(skip)]
pub struct Settings {
    /// Address to listen on for gossip (UDP)
    #[arg(
        id = "cluster.listen-address",
        long,
        value_name = "ADDRESS",
        default_value = "[::]:7946",
        value_parser = listen_address
    )]
    pub listen_address: SocketAddr,
    /// Address to listen on for calls between nodes: pushes, applications (TCP)
    #[arg(
        id = "cluster.grpc.listen-address",
        long,
        value_name = "ADDRESS",
        default_value = "[::]:7947",
        value_parser = listen_address
    )]
    pub grpc_listen_address: SocketAddr,
    /// IP address that peers connect to, if this host has several; with :PORT, the port for gossip
    #[arg(id = "cluster.advertise-address", long, value_name = "IP")]
    pub advertise_address: Option<Advertised>,
    /// A peer's gossip address, or a DNS name that resolves to several. Without peers the node runs alone. Repeatable
    #[arg(id = "cluster.peer", long, value_name = "HOST", value_delimiter = ',')]
    pub peers: Vec<Peer>,
    /// Name of the cluster; nodes with another name are ignored
    #[arg(
        id = "cluster.name",
        long,
        value_name = "NAME",
        default_value = "prometheus-rsocket-proxy",
        value_parser = NonEmptyStringValueParser::new()
    )]
    pub name: String,
    /// File with secrets, one per line: the first encrypts messages between nodes, all of them decrypt. Repeatable
    #[arg(
        id = "cluster.secret-file",
        long,
        value_name = "FILE",
        value_delimiter = ','
    )]
    pub secret_files: Vec<PathBuf>,
    /// Certificate with its chain (PEM file) for connections between nodes, instead of one derived from the secret. Read
    /// again when it changes
    #[arg(
        id = "cluster.tls.cert-file",
        long,
        value_name = "FILE",
        requires = "cluster.tls.key-file",
        requires = "cluster.tls.ca-file"
    )]
    pub tls_cert_file: Option<PathBuf>,
    /// Private key of the certificate (PEM file)
    #[arg(
        id = "cluster.tls.key-file",
        long,
        value_name = "FILE",
        requires = "cluster.tls.cert-file"
    )]
    pub tls_key_file: Option<PathBuf>,
    /// CA that signs the certificates of all nodes (PEM file)
    #[arg(
        id = "cluster.tls.ca-file",
        long,
        value_name = "FILE",
        requires = "cluster.tls.cert-file"
    )]
    pub tls_ca_file: Option<PathBuf>,
    /// Subject alternative name that the certificates of all nodes have
    #[arg(
        id = "cluster.tls.name",
        long,
        value_name = "NAME",
        default_value = "prometheus-rsocket-proxy",
        value_parser = server_name
    )]
    pub tls_name: ServerName<'static>,
}

/// Where peers reach a node, and how they and it know each other.
#[derive(Debug, Clone)]
pub struct Introduction {
    /// Where the peers reach this node.
    pub advertised: Advertised,
    /// What shows that a packet comes from a node of ours; without any, everybody can join.
    pub secrets: Secrets,
    /// Certificates for calls; `None`: they are made from the secrets.
    pub certificates: Option<Certificates>,
}

impl Settings {
    /// `None` for a cluster of one. The error is one line that names the flag.
    pub fn introduction(&self) -> Result<Option<Introduction>, String> {
        let secrets = Secrets::read(&self.secret_files)
            .map_err(|why| format!("--cluster.secret-file: {why}"))?;
        let certificates = self.certificates()?;
        if self.peers.is_empty() {
            return Ok(None);
        }
        let advertised = match self.advertise_address {
            Some(advertised) => advertised,
            None => Advertised::find(self.listen_address.ip()).map_err(|why| {
                format!("set --cluster.advertise-address to where peers reach this node: {why}")
            })?,
        };
        self.check_family(advertised.ip)?;
        Ok(Some(Introduction {
            advertised,
            secrets,
            certificates,
        }))
    }

    /// A socket for IPv4 is not reached at an address of IPv6, nor does it reach peers there; one for IPv6 does both.
    fn check_family(&self, advertised: IpAddr) -> Result<(), String> {
        let listened_on = [
            ("cluster.listen-address", self.listen_address),
            ("cluster.grpc.listen-address", self.grpc_listen_address),
        ];
        let unreached = listened_on
            .into_iter()
            .find(|(_, address)| address.is_ipv4() && advertised.is_ipv6());
        match unreached {
            None => Ok(()),
            Some((flag, address)) => Err(format!(
                "--{flag}: {address} is not reached at {advertised}, which peers are told: set it to [::]:{}",
                address.port()
            )),
        }
    }

    fn certificates(&self) -> Result<Option<Certificates>, String> {
        let files = self.tls_cert_file.clone().zip(self.tls_key_file.clone());
        let Some(((certificate, key), authority)) = files.zip(self.tls_ca_file.clone()) else {
            return Ok(None);
        };
        Certificates::read(certificate, key, authority, self.tls_name.clone())
            .map(Some)
            .map_err(|unusable| format!("--{}: {unusable}", Certificates::flag(unusable.role)))
    }
}

fn server_name(text: &str) -> Result<ServerName<'static>, String> {
    let name = ServerName::try_from(text.to_owned());
    name.map_err(|_| "neither a DNS name nor an address".into())
}
