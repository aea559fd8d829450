//! Which client a request comes from that proxies passed on: the header `X-Forwarded-For`.
//!
//! Each proxy appends the address that it was asked from. So the header is read from its end, and only as far as trusted
//! proxies wrote it: what stands before that, anybody could have written.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

use super::{canonical, is_trusted};

/// The header's name.
pub(crate) const NAME: &str = "x-forwarded-for";
/// Addresses that are read, from the end; what stands before them is ignored. Chains of proxies are shorter.
const MAX_ADDRESSES: usize = 32;

/// The client of a request that came from `peer`, with the values of all its header lines in their order: the last address
/// that is not trusted, or the first one where all are. An entry that is no address says nothing of what is before it, and
/// the address behind it is taken. The port is 0 where the header names none.
pub(crate) fn client<'a>(
    peer: SocketAddr,
    lines: impl DoubleEndedIterator<Item = &'a [u8]>,
    trusted: &[IpNet],
) -> SocketAddr {
    let entries = lines
        .rev()
        .flat_map(|line| line.rsplit(|byte| *byte == b','))
        .take(MAX_ADDRESSES);
    let mut client = peer;
    for entry in entries {
        if !is_trusted(trusted, client) {
            break;
        }
        let Some(before) = address(entry) else {
            break;
        };
        client = before;
    }
    client
}

/// An address as proxies write it, with or without a port, and an IPv6 one with or without brackets.
fn address(entry: &[u8]) -> Option<SocketAddr> {
    let text = str::from_utf8(entry).ok()?.trim_ascii();
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']');
    let alone = text.parse::<IpAddr>().ok();
    let alone = alone.or_else(|| Some(bracketed()?.parse::<Ipv6Addr>().ok()?.into()));
    let address = match alone {
        Some(ip) => (ip, 0).into(),
        None => text.parse().ok()?,
    };
    Some(canonical(address))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PROXY: &str = "10.0.0.1:4000";

    fn trusted() -> Vec<IpNet> {
        let networks = ["10.0.0.0/8", "2001:db8:1::/48"];
        networks
            .map(|network| network.parse().expect("a network"))
            .to_vec()
    }

    fn found(peer: &str, lines: &[&str]) -> String {
        let lines = lines.iter().map(|line| line.as_bytes());
        client(peer.parse().expect("an address"), lines, &trusted()).to_string()
    }

    #[test]
    fn the_client_is_the_last_address_that_no_trusted_proxy_has() {
        for (lines, expected) in [
            (&["192.0.2.7"][..], "192.0.2.7:0"),
            // What the client itself wrote stands before what the proxy appended.
            (&["203.0.113.1, 192.0.2.7"], "192.0.2.7:0"),
            (&["203.0.113.1", "192.0.2.7"], "192.0.2.7:0"),
            (&["192.0.2.7, 10.0.0.2, 10.0.0.3"], "192.0.2.7:0"),
            (&["192.0.2.7,10.0.0.2", "10.0.0.3"], "192.0.2.7:0"),
            (&["192.0.2.7", "2001:db8:1::2"], "192.0.2.7:0"),
            // A client among the proxies.
            (&["10.0.0.9, 10.0.0.2"], "10.0.0.9:0"),
            // The proxy asks for itself, as for its health check.
            (&[], PROXY),
        ] {
            assert_eq!(found(PROXY, lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn an_address_is_read_in_every_way_that_proxies_write_it() {
        for (entry, expected) in [
            ("\t192.0.2.7 ", "192.0.2.7:0"),
            ("192.0.2.7:4711", "192.0.2.7:4711"),
            ("2001:db8::7", "[2001:db8::7]:0"),
            ("[2001:db8::7]", "[2001:db8::7]:0"),
            ("[2001:db8::7]:4711", "[2001:db8::7]:4711"),
            ("::ffff:192.0.2.7", "192.0.2.7:0"),
            ("[::ffff:192.0.2.7]:4711", "192.0.2.7:4711"),
        ] {
            assert_eq!(found(PROXY, &[entry]), expected, "{entry}");
        }
        assert_eq!(found(PROXY, &["192.0.2.7, ::ffff:10.0.0.2"]), "192.0.2.7:0");
        assert_eq!(found("[::ffff:10.0.0.1]:4", &["192.0.2.7"]), "192.0.2.7:0");
    }

    #[test]
    fn what_is_no_address_ends_the_search() {
        for junk in [
            "unknown",
            "_hidden",
            "",
            " ",
            "192.0.2",
            "192.0.2.7:x",
            "192.0.2.7:99999",
            "[192.0.2.7]",
            "[2001:db8::7",
            "\"192.0.2.7\"",
            "for=192.0.2.7",
            "größer",
        ] {
            assert_eq!(found(PROXY, &["192.0.2.7", junk]), PROXY, "{junk}");
            let line = format!("192.0.2.7, {junk}, 10.0.0.2");
            assert_eq!(found(PROXY, &[&line]), "10.0.0.2:0", "{junk}");
        }
    }

    #[test]
    fn who_is_not_trusted_is_not_believed() {
        for peer in ["192.0.2.1:4000", "[2001:db8:2::1]:4000"] {
            assert_eq!(found(peer, &["192.0.2.7"]), peer);
        }
        let peer = PROXY.parse().expect("an address");
        assert_eq!(client(peer, [&b"192.0.2.7"[..]].into_iter(), &[]), peer);
    }

    #[test]
    fn a_long_chain_is_read_from_its_end_up_to_a_limit() {
        let chain = |proxies| ["192.0.2.7"].into_iter().chain(vec!["10.0.0.2"; proxies]);
        let line = Vec::from_iter(chain(MAX_ADDRESSES - 1)).join(",");
        assert_eq!(found(PROXY, &[&line]), "192.0.2.7:0");
        let line = Vec::from_iter(chain(MAX_ADDRESSES)).join(",");
        assert_eq!(found(PROXY, &[&line]), "10.0.0.2:0");
    }

    proptest! {
        #[test]
        fn nothing_before_an_address_that_is_not_trusted_matters(
            before in proptest::collection::vec(any::<u8>(), 0..200),
            proxies in 0..5_usize,
        ) {
            let tail = [&["192.0.2.7"][..], &vec!["10.0.0.2"; proxies]].concat().join(", ");
            let line = [&before, &b","[..], tail.as_bytes()].concat();
            let peer = PROXY.parse().expect("an address");
            let client = client(peer, [line.as_slice()].into_iter(), &trusted());
            prop_assert_eq!(client.to_string(), "192.0.2.7:0");
        }

        #[test]
        fn any_lines_are_read_without_a_panic(
            lines in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 0..50),
        ) {
            let peer = PROXY.parse().expect("an address");
            let everybody = ["0.0.0.0/0".parse().expect("a network"), "::/0".parse().expect("a network")];
            client(peer, lines.iter().map(Vec::as_slice), &everybody);
            prop_assert_eq!(client(peer, lines.iter().map(Vec::as_slice), &[]), peer);
        }

        #[test]
        fn whatever_is_written_the_client_is_the_peer_or_named_behind_trusted_proxies(
            entries in proptest::collection::vec(
                prop_oneof![Just("10.0.0.2"), Just("192.0.2.7"), Just("unknown"), Just("2001:db8:1::2")],
                0..40,
            ),
        ) {
            let line = entries.join(", ");
            let peer = PROXY.parse().expect("an address");
            let client = client(peer, [line.as_bytes()].into_iter(), &trusted());
            let behind = entries.iter().rev().take_while(|entry| **entry != "192.0.2.7" && **entry != "unknown").count();
            let expected = match entries.len() - behind {
                _ if behind >= MAX_ADDRESSES => entries.get(entries.len() - MAX_ADDRESSES).copied(),
                0 => entries.first().copied(),
                left if entries.get(left - 1) == Some(&"192.0.2.7") => Some("192.0.2.7"),
                left => entries.get(left).copied(),
            };
            match expected {
                None => prop_assert_eq!(client, peer),
                Some(address) => prop_assert_eq!(client.ip(), address.parse::<IpAddr>().expect("an address")),
            }
        }
    }
}
