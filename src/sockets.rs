//! Addresses of sockets: where to listen, and who comes.

pub(crate) mod forwarded_for;

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::task::Poll;

use ipnet::IpNet;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Open TCP ports that all lead to the same.
#[derive(Debug)]
pub(crate) struct Ports {
    sockets: Vec<TcpListener>,
    /// Which is asked first for the next connection, so that a busy one does not keep the others waiting.
    next: usize,
    /// The real addresses, where port 0 was asked for.
    pub(crate) addresses: Vec<SocketAddr>,
}

/// Which port could not be opened, and why.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {error}")]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// What the system says.
    pub error: io::Error,
}

impl Ports {
    /// Opens a port at each address. The kernel completes `backlog` connections for each while none is accepted; it takes
    /// less where its own limit is lower.
    pub(crate) fn open(addresses: &[SocketAddr], backlog: u32) -> Result<Self, BindError> {
        let mut ports = Self {
            sockets: Vec::new(),
            next: 0,
            addresses: Vec::new(),
        };
        for address in addresses {
            let (socket, actual) = open(*address, backlog).map_err(|error| BindError {
                address: *address,
                error,
            })?;
            ports.sockets.push(socket);
            ports.addresses.push(actual);
        }
        Ok(ports)
    }

    /// The next connection at any of the ports.
    pub(crate) async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        let (before, from) = self.sockets.split_at(self.next % self.sockets.len().max(1));
        self.next = self.next.wrapping_add(1);
        poll_fn(|context| {
            for socket in from.iter().chain(before) {
                if let Poll::Ready(accepted) = socket.poll_accept(context) {
                    return Poll::Ready(accepted);
                }
            }
            Poll::Pending
        })
        .await
    }
}

fn open(address: SocketAddr, backlog: u32) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let socket = socket.listen(backlog)?;
    let address = socket.local_addr()?;
    Ok((socket, address))
}

/// Reads an address to listen on: `HOST:PORT`, where the host is an address or a name, or `:PORT` for all addresses of this
/// host. `[::]` is all of them, too, and `0.0.0.0` those of IPv4. A host without IPv6 has only those.
pub(crate) fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let whole = match text.strip_prefix(':') {
        Some(port) => format!("[::]:{port}"),
        None => text.to_owned(),
    };
    let address = match whole.parse() {
        Ok(address) => address,
        Err(_) => look_up(&whole)?,
    };
    let is_any = address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    Ok(match is_any && !has_ipv6() {
        true => (Ipv4Addr::UNSPECIFIED, address.port()).into(),
        false => address,
    })
}

/// The address that a name stands for, that of IPv4 where it has both.
fn look_up(text: &str) -> Result<SocketAddr, String> {
    let named = text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains(':') && port.parse::<u16>().is_ok()
    });
    if !named {
        return Err("an address to listen on is written as :8080, 127.0.0.1:8080, [::1]:8080 or localhost:8080".into());
    }
    let mut addresses: Vec<_> = text
        .to_socket_addrs()
        .map_err(|error| format!("the name is not found: {error}"))?
        .collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    addresses
        .first()
        .copied()
        .ok_or_else(|| "the name has no address".into())
}

/// The address that a node is known by where it listens on several. There is always one: the flags have defaults.
pub(crate) fn first(addresses: &[SocketAddr]) -> SocketAddr {
    let none = (Ipv4Addr::UNSPECIFIED, 0).into();
    addresses.first().copied().unwrap_or(none)
}

fn has_ipv6() -> bool {
    UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).is_ok()
}

/// The address of IPv4 behind one that a socket for both gives it (RFC 4291, section 2.5.5.2).
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    (address.ip().to_canonical(), address.port()).into()
}

/// Reads a network, or the one address that is all of it.
pub(crate) fn trusted_network(text: &str) -> Result<IpNet, String> {
    let address = text.parse::<IpAddr>().map(IpNet::from);
    address
        .or_else(|_| text.parse())
        .map_err(|_| "neither an address nor a network, as 192.0.2.1 or 10.0.0.0/8".into())
}

/// Whether one of these networks has the address: whether the peer there is believed where a connection comes from.
pub(crate) fn is_trusted(trusted: &[IpNet], peer: SocketAddr) -> bool {
    let address = peer.ip().to_canonical();
    trusted.iter().any(|network| network.contains(&address))
}

/// Whether the connection just ended. Whether a port is open is asked so, too.
pub(crate) fn is_lost(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(
        error.kind(),
        UnexpectedEof | ConnectionReset | ConnectionAborted
    )
}

/// What a socket that is bound to `from` calls `to`: for a socket for both, an address of IPv4 is one of IPv6.
pub(crate) fn reached_from(from: SocketAddr, to: SocketAddr) -> SocketAddr {
    match (from.ip(), to.ip()) {
        (IpAddr::V6(_), IpAddr::V4(ip)) => (ip.to_ipv6_mapped(), to.port()).into(),
        _ => to,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_those_that_are_named_are_trusted() {
        let trusted = ["10.0.0.0/8", "2001:db8::/32", "192.0.2.1"]
            .map(|text| trusted_network(text).expect("a network"));
        for (peer, expected) in [
            ("10.1.2.3:4", true),
            ("[::ffff:10.1.2.3]:4", true),
            ("11.1.2.3:4", false),
            ("[2001:db8::1]:4", true),
            ("[2001:db9::1]:4", false),
            ("192.0.2.1:4", true),
            ("192.0.2.2:4", false),
        ] {
            assert_eq!(
                is_trusted(&trusted, peer.parse().unwrap()),
                expected,
                "{peer}"
            );
        }
        assert!(!is_trusted(&[], "10.1.2.3:4".parse().unwrap()));
    }

    #[tokio::test]
    async fn a_busy_port_does_not_keep_another_waiting() {
        let any = "127.0.0.1:0".parse().unwrap();
        let mut ports = Ports::open(&[any, any], 16).unwrap();
        let [busy, quiet] = ports.addresses[..] else {
            panic!("two ports")
        };
        let mut clients = Vec::new();
        for port in [busy, busy, busy, quiet] {
            clients.push(TcpStream::connect(port).await.unwrap());
        }
        let mut accepted_at = Vec::new();
        for _ in 0..3 {
            let (stream, _) = ports.accept().await.unwrap();
            accepted_at.push(stream.local_addr().unwrap());
        }
        assert!(accepted_at[..2].contains(&quiet), "{accepted_at:?}");
        assert!(accepted_at.contains(&busy), "{accepted_at:?}");
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_named() {
        let any = "127.0.0.1:0".parse().unwrap();
        let taken = Ports::open(&[any], 16).unwrap();
        let address = taken.addresses[0];
        let failed = Ports::open(&[any, address], 16).unwrap_err();
        assert_eq!(failed.address, address);
    }

    #[test]
    fn an_address_to_listen_on_is_written_as_for_other_components() {
        let any = match has_ipv6() {
            true => "[::]:8080",
            false => "0.0.0.0:8080",
        };
        for (text, address) in [
            (":8080", any),
            ("[::]:8080", any),
            ("0.0.0.0:8080", "0.0.0.0:8080"),
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("localhost:8080", "127.0.0.1:8080"),
        ] {
            assert_eq!(listen_address(text).unwrap().to_string(), address, "{text}");
        }
        for wrong in [
            "",
            ":",
            "8080",
            "localhost",
            "localhost:http",
            "::1",
            "a:b:1",
            ":70000",
        ] {
            let why = listen_address(wrong).unwrap_err();
            assert!(why.starts_with("an address to listen on"), "{wrong}: {why}");
        }
        let unknown = listen_address("no-such-host.invalid:1").unwrap_err();
        assert!(unknown.starts_with("the name is not found"), "{unknown}");
    }

    #[test]
    fn who_comes_over_ipv4_has_an_address_of_ipv4() {
        let four: SocketAddr = "10.0.0.1:7".parse().unwrap();
        let any: SocketAddr = "[::]:1".parse().unwrap();
        let mapped = reached_from(any, four);
        assert_eq!(mapped.to_string(), "[::ffff:10.0.0.1]:7");
        assert_eq!(canonical(mapped), four);
        assert_eq!(reached_from(four, four), four);
        let six: SocketAddr = "[2001:db8::1]:7".parse().unwrap();
        assert_eq!((canonical(six), reached_from(any, six)), (six, six));
    }
}
