//! The flags by which a node finds and trusts its peers.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::Args;
use rustls::pki_types::ServerName;

use crate::cluster::calls::Certificates;
use crate::cluster::{Advertised, Peer, Secrets, Settings};

#[derive(Debug, Args)]
pub(super) struct ClusterArgs {
    /// Where nodes gossip (UDP)
    #[arg(
        long = "cluster.listen-address",
        env = "PROXY_CLUSTER_LISTEN_ADDRESS",
        value_name = "ADDRESS",
        default_value = "0.0.0.0:7946"
    )]
    cluster_listen_address: SocketAddr,
    /// Where nodes replicate pushes (TCP)
    #[arg(
        long = "cluster.grpc.listen-address",
        env = "PROXY_CLUSTER_GRPC_LISTEN_ADDRESS",
        value_name = "ADDRESS",
        default_value = "0.0.0.0:7947"
    )]
    cluster_grpc_listen_address: SocketAddr,
    /// Where peers reach this node, if it has several addresses; with :PORT, its gossip there
    #[arg(
        long = "cluster.advertise-address",
        env = "PROXY_CLUSTER_ADVERTISE_ADDRESS",
        value_name = "IP"
    )]
    cluster_advertise_address: Option<Advertised>,
    /// A peer's gossip address, or a DNS name that stands for several (repeatable; without any, the node stays alone)
    #[arg(
        long = "cluster.peer",
        env = "PROXY_CLUSTER_PEER",
        value_name = "HOST",
        value_delimiter = ','
    )]
    cluster_peer: Vec<Peer>,
    /// Nodes of another name are ignored
    #[arg(
        long = "cluster.name",
        env = "PROXY_CLUSTER_NAME",
        value_name = "NAME",
        default_value = "prometheus-rsocket-proxy",
        value_parser = clap::builder::NonEmptyStringValueParser::new()
    )]
    cluster_name: String,
    /// A secret in each line: the first seals what nodes send each other, all of them open it (repeatable)
    #[arg(
        long = "cluster.secret-file",
        env = "PROXY_CLUSTER_SECRET_FILE",
        value_name = "FILE",
        value_delimiter = ','
    )]
    cluster_secret_file: Vec<PathBuf>,
    /// Show other nodes this certificate (PEM, with its chain) instead of one made from the secret
    #[arg(
        long = "cluster.tls.cert-file",
        env = "PROXY_CLUSTER_TLS_CERT_FILE",
        value_name = "FILE",
        requires = "cluster_tls_key_file",
        requires = "cluster_tls_ca_file"
    )]
    cluster_tls_cert_file: Option<PathBuf>,
    /// The key of that certificate (PEM)
    #[arg(
        long = "cluster.tls.key-file",
        env = "PROXY_CLUSTER_TLS_KEY_FILE",
        value_name = "FILE",
        requires = "cluster_tls_cert_file"
    )]
    cluster_tls_key_file: Option<PathBuf>,
    /// The authority that issues the certificates of all nodes (PEM)
    #[arg(
        long = "cluster.tls.ca-file",
        env = "PROXY_CLUSTER_TLS_CA_FILE",
        value_name = "FILE",
        requires = "cluster_tls_cert_file"
    )]
    cluster_tls_ca_file: Option<PathBuf>,
    /// The alternative name that the certificates of all nodes have
    #[arg(
        long = "cluster.tls.name",
        env = "PROXY_CLUSTER_TLS_NAME",
        value_name = "NAME",
        default_value = "prometheus-rsocket-proxy",
        value_parser = server_name
    )]
    cluster_tls_name: ServerName<'static>,
}

impl ClusterArgs {
    /// `None` for a cluster of one. The error is one line that names the flag.
    pub(super) fn settings(&self) -> Result<Option<Settings>, String> {
        let secrets = Secrets::read(&self.cluster_secret_file)
            .map_err(|why| format!("--cluster.secret-file: {why}"))?;
        let certificates = self.certificates()?;
        if self.cluster_peer.is_empty() {
            return Ok(None);
        }
        let advertised = match self.cluster_advertise_address {
            Some(advertised) => advertised,
            None => Advertised::find(self.cluster_listen_address.ip()).map_err(|why| {
                format!("set --cluster.advertise-address to where peers reach this node: {why}")
            })?,
        };
        self.check_family(advertised.ip)?;
        Ok(Some(Settings {
            listen_address: self.cluster_listen_address,
            grpc_listen_address: self.cluster_grpc_listen_address,
            advertised,
            peers: self.cluster_peer.clone(),
            name: self.cluster_name.clone(),
            secrets,
            certificates,
        }))
    }

    /// A socket for IPv4 is not reached at an address of IPv6, nor does it reach peers there; one for IPv6 does both.
    fn check_family(&self, advertised: IpAddr) -> Result<(), String> {
        let listened_on = [
            ("cluster.listen-address", self.cluster_listen_address),
            (
                "cluster.grpc.listen-address",
                self.cluster_grpc_listen_address,
            ),
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
        let files = self.cluster_tls_cert_file.clone();
        let files = files.zip(self.cluster_tls_key_file.clone());
        let Some(((certificate, key), authority)) = files.zip(self.cluster_tls_ca_file.clone())
        else {
            return Ok(None);
        };
        let name = self.cluster_tls_name.clone();
        Certificates::read(certificate, key, authority, name)
            .map(Some)
            .map_err(|unusable| format!("--{}: {unusable}", Certificates::flag(unusable.role)))
    }
}

fn server_name(text: &str) -> Result<ServerName<'static>, String> {
    let name = ServerName::try_from(text.to_owned());
    name.map_err(|_| "neither a DNS name nor an address".into())
}
