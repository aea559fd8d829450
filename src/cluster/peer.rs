//! How an operator names peers and addresses.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

/// Where peers gossip if they do not say.
pub const GOSSIP_PORT: u16 = 7946;

/// A peer: an address, or a DNS name that may stand for many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// `10.0.0.1:7946`
    Address(SocketAddr),
    /// `proxy.monitoring.svc:7946`
    Name {
        /// To be looked up.
        host: String,
        /// The gossip's.
        port: u16,
    },
}

impl FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(address) = address(text) {
            return Ok(Self::Address(address));
        }
        let (host, port) = match text.rsplit_once(':') {
            None => (text, GOSSIP_PORT),
            Some((host, port)) => (host, port.parse().map_err(|_| expected())?),
        };
        // RFC 1123, section 2.1; underscores are seen in container networks.
        let sensible = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if host.is_empty() || host.len() > 253 || port == 0 || !host.bytes().all(sensible) {
            return Err(expected());
        }
        Ok(Self::Name {
            host: host.to_owned(),
            port,
        })
    }
}

fn expected() -> String {
    format!("expected an IP address or a DNS name, with :PORT unless it is {GOSSIP_PORT}")
}

/// `IP:PORT`, or `IP` with the usual port.
fn address(text: &str) -> Option<SocketAddr> {
    let with_port = text.parse().ok();
    with_port.or_else(|| Some(SocketAddr::new(text.parse().ok()?, GOSSIP_PORT)))
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

/// What the peers are told: an IP address, and the gossip's port where it is not the one that is listened on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advertised {
    /// Where this host is reached.
    pub ip: IpAddr,
    /// Where its gossip is reached.
    pub gossip_port: Option<u16>,
}

impl FromStr for Advertised {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let advertised = match text.parse::<SocketAddr>() {
            Ok(address) => Self {
                ip: address.ip(),
                gossip_port: Some(address.port()),
            },
            Err(_) => Self {
                ip: text
                    .parse()
                    .map_err(|_| "expected IP or IP:PORT".to_owned())?,
                gossip_port: None,
            },
        };
        if advertised.ip.is_unspecified() || advertised.gossip_port == Some(0) {
            return Err("expected an address that peers can reach".into());
        }
        Ok(advertised)
    }
}

impl Advertised {
    /// The address that is listened on, if it is one; else the only one that this host has. The error says why it cannot
    /// be told.
    pub fn find(listen: IpAddr) -> Result<Self, String> {
        let ip = if listen.is_unspecified() {
            only(&interface_addresses()?)?
        } else {
            listen
        };
        Ok(Self {
            ip,
            gossip_port: None,
        })
    }
}

/// Addresses of this host that others may reach.
fn interface_addresses() -> Result<Vec<IpAddr>, String> {
    let interfaces =
        getifaddrs().map_err(|error| format!("cannot read this host's addresses: {error}"))?;
    let up = |flags: InterfaceFlags| {
        flags.contains(InterfaceFlags::IFF_UP) && !flags.contains(InterfaceFlags::IFF_LOOPBACK)
    };
    Ok(interfaces
        .filter(|interface| up(interface.flags))
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
        })
        .filter(|ip| !is_link_local(ip))
        .collect())
}

fn is_link_local(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// The only IPv4 address; without any, the only IPv6 address.
fn only(addresses: &[IpAddr]) -> Result<IpAddr, String> {
    let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = addresses.iter().partition(|ip| ip.is_ipv4());
    let candidates = if v4.is_empty() { v6 } else { v4 };
    match candidates[..] {
        [ip] => Ok(ip),
        [] => Err("this host has no address but loopback".into()),
        _ => {
            let list: Vec<_> = candidates.iter().map(ToString::to_string).collect();
            Err(format!("this host has {}", list.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_an_address_or_a_name_with_or_without_a_port() {
        for (text, read) in [
            ("10.0.0.1:1234", "10.0.0.1:1234"),
            ("10.0.0.1", "10.0.0.1:7946"),
            ("[fd00::1]:1234", "[fd00::1]:1234"),
            ("fd00::1", "[fd00::1]:7946"),
            ("proxy", "proxy:7946"),
            ("proxy.default.svc:1234", "proxy.default.svc:1234"),
            ("my_stack_proxy", "my_stack_proxy:7946"),
        ] {
            assert_eq!(text.parse::<Peer>().unwrap().to_string(), read);
        }
        for senseless in [
            "",
            ":7946",
            "proxy:",
            "proxy:0",
            "proxy:port",
            "a b",
            "http://proxy",
            "[fd00::1]",
        ] {
            assert!(senseless.parse::<Peer>().is_err(), "{senseless}");
        }
    }

    #[test]
    fn what_is_advertised_is_an_address_that_peers_can_reach() {
        let with_port: Advertised = "10.0.0.1:1234".parse().unwrap();
        assert_eq!(with_port.gossip_port, Some(1234));
        assert_eq!("10.0.0.1".parse::<Advertised>().unwrap().gossip_port, None);
        for senseless in ["0.0.0.0", "[::]:7946", "10.0.0.1:0", "proxy"] {
            assert!(senseless.parse::<Advertised>().is_err(), "{senseless}");
        }
    }

    #[test]
    fn the_address_listened_on_is_the_one_to_advertise() {
        let ip = "10.0.0.1".parse().unwrap();
        assert_eq!(Advertised::find(ip).unwrap().ip, ip);
    }

    #[test]
    fn an_address_is_found_only_where_there_is_no_choice() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let (a, b, six) = (ip("10.0.0.1"), ip("172.17.0.1"), ip("fd00::1"));
        assert_eq!(only(&[a]), Ok(a));
        assert_eq!(only(&[a, six]), Ok(a));
        assert_eq!(only(&[six]), Ok(six));
        assert!(only(&[a, b]).unwrap_err().contains("10.0.0.1, 172.17.0.1"));
        assert!(only(&[]).is_err());
    }
}
