//! `NO_PROXY`: which hosts are reached without an HTTP proxy, as curl reads it (its manual, "ENVIRONMENT").

use std::net::IpAddr;

/// Hosts that are reached directly.
#[derive(Debug, Clone, Default)]
pub(crate) struct NoProxy(Vec<Direct>);

#[derive(Debug, Clone)]
enum Direct {
    All,
    /// A name and all below it.
    Domain(String),
    /// The addresses that have these first bits in common.
    Network(IpAddr, u32),
}

impl NoProxy {
    /// Entries are separated by commas or spaces. An invalid entry matches nothing.
    pub(crate) fn parse(text: &str) -> Self {
        let entries = text.split(|c: char| c == ',' || c.is_whitespace());
        Self(entries.filter_map(Direct::parse).collect())
    }

    /// An IPv6 address is without brackets, and may have a zone.
    pub(crate) fn contains(&self, host: &str) -> bool {
        let (address, _zone) = host.split_once('%').unwrap_or((host, ""));
        match address.parse() {
            Ok(address) => self.0.iter().any(|direct| direct.has_address(address)),
            Err(_) => {
                let name = normal(host);
                self.0.iter().any(|direct| direct.has_name(&name))
            }
        }
    }
}

impl Direct {
    fn parse(entry: &str) -> Option<Self> {
        if entry == "*" {
            return Some(Self::All);
        }
        let (address, bits) = match entry.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse().ok()?)),
            None => (entry, None),
        };
        let address = address.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = address.parse::<IpAddr>() {
            let all = if address.is_ipv4() { 32 } else { 128 };
            let bits = bits.unwrap_or(all);
            return (bits <= all).then_some(Self::Network(address, bits));
        }
        let name = normal(entry.strip_prefix('.').unwrap_or(entry));
        (bits.is_none() && !name.is_empty()).then_some(Self::Domain(name))
    }

    fn has_address(&self, address: IpAddr) -> bool {
        match (self, address) {
            (Self::All, _) => true,
            (Self::Network(IpAddr::V4(network), bits), IpAddr::V4(address)) => {
                (network.to_bits() ^ address.to_bits()).leading_zeros() >= *bits
            }
            (Self::Network(IpAddr::V6(network), bits), IpAddr::V6(address)) => {
                (network.to_bits() ^ address.to_bits()).leading_zeros() >= *bits
            }
            _ => false,
        }
    }

    fn has_name(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Domain(domain) => name
                .strip_suffix(domain.as_str())
                .is_some_and(|below| below.is_empty() || below.ends_with('.')),
            Self::Network(..) => false,
        }
    }
}

fn normal(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_matched_as_curl_matches_them() {
        for (list, host, expected) in [
            ("", "proxy", false),
            ("*", "proxy", true),
            ("*", "10.0.0.1", true),
            ("example.com", "example.com", true),
            ("example.com", "proxy.example.com", true),
            ("example.com", "proxy.EXAMPLE.com.", true),
            ("Example.com.", "example.com", true),
            (".example.com", "example.com", true),
            (".example.com", "proxy.example.com", true),
            ("example.com", "badexample.com", false),
            ("proxy.example.com", "example.com", false),
            ("a, example.com b", "example.com", true),
            ("a,b c", "c", true),
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.10", false),
            ("0.0.1", "10.0.0.1", false),
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("10.0.0.0/33", "10.0.0.0", false),
            ("10.0.0.0/", "10.0.0.0", false),
            ("192.168.4.0/22", "192.168.7.255", true),
            ("192.168.4.0/22", "192.168.8.0", false),
            ("0.0.0.0/0", "10.0.0.1", true),
            ("0.0.0.0/0", "::1", false),
            ("::1", "::1", true),
            ("[::1]", "0:0::1", true),
            ("fe80::/10", "fe80::1%eth0", true),
            ("fe80::/10", "fd00::1", false),
            ("localhost", "127.0.0.1", false),
        ] {
            assert_eq!(
                NoProxy::parse(list).contains(host),
                expected,
                "{list} {host}"
            );
        }
    }
}
