//! Whom the cost of a connection and of its pushes is put down to.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// Bits of an IPv6 address that a host cannot choose itself (RFC 4291, section 2.5.1).
const IPV6_PREFIX: u32 = 64;

/// What [`Tenant::Unknown`] is called.
const UNKNOWN: &str = "unknown";

/// Who has a share of what a node gives: an identity with all its connections, else an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tenant {
    /// By its name.
    Identity(Arc<str>),
    /// By where it comes from, as [`network`] makes it.
    Address(IpAddr),
    /// Of a push that came by a node of an older release, which does not say. All of these are one tenant.
    Unknown,
}

impl Tenant {
    /// The tenant of a connection from `peer` with this identity, if it has one.
    pub fn of(identity: Option<&Arc<str>>, peer: SocketAddr) -> Self {
        match identity {
            Some(name) => Self::Identity(Arc::clone(name)),
            None => Self::Address(network(peer.ip())),
        }
    }

    /// Those that are displayed so: an identity, and what a network has where it is an address.
    pub fn called(name: &str) -> Vec<Self> {
        let mut called = vec![Self::Identity(name.into())];
        called.extend(name.parse().map(|address| Self::Address(network(address))));
        called.extend((name == UNKNOWN).then_some(Self::Unknown));
        called
    }

    /// Bytes on the heap that a copy received from another node takes.
    pub fn memory(&self) -> usize {
        match self {
            Self::Identity(name) => name.len(),
            Self::Address(_) | Self::Unknown => 0,
        }
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity(name) => formatter.write_str(name),
            Self::Address(address) => address.fmt(formatter),
            Self::Unknown => formatter.write_str(UNKNOWN),
        }
    }
}

/// What counts as one address: with IPv6 what one customer has, a network of 64 bits.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let mask = u128::MAX << (Ipv6Addr::BITS - IPV6_PREFIX);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_is_found_by_what_it_is_called() {
        let name: Arc<str> = "billing".into();
        for peer in ["192.0.2.1:1", "[2001:db8::1]:1", "[::ffff:192.0.2.1]:1"] {
            let peer = peer.parse().unwrap();
            for identity in [None, Some(&name)] {
                let tenant = Tenant::of(identity, peer);
                assert!(Tenant::called(&tenant.to_string()).contains(&tenant));
            }
            let address = Tenant::of(None, peer);
            assert!(Tenant::called(&peer.ip().to_string()).contains(&address));
        }
        assert!(Tenant::called("unknown").contains(&Tenant::Unknown));
    }

    #[test]
    fn a_tenant_is_an_identity_else_an_address() {
        let address = |text: &str| Tenant::of(None, text.parse().unwrap());
        let name: Arc<str> = "billing".into();
        assert_eq!(
            Tenant::of(Some(&name), "192.0.2.1:1".parse().unwrap()),
            Tenant::of(Some(&name), "192.0.2.2:2".parse().unwrap())
        );
        assert_eq!(address("192.0.2.1:1"), address("192.0.2.1:2"));
        assert_eq!(address("192.0.2.1:1"), address("[::ffff:192.0.2.1]:1"));
        assert_ne!(address("192.0.2.1:1"), address("192.0.2.2:1"));
        assert_eq!(address("[2001:db8::1]:1"), address("[2001:db8::f:2]:1"));
        assert_ne!(address("[2001:db8::1]:1"), address("[2001:db8:0:1::1]:1"));
    }
}
