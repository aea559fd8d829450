//! Where a connection that a balancer passes on comes from: the PROXY protocol, versions 1 and 2.
//!
//! A balancer writes a header before the bytes of the connection
//! (<https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt>). Only those whose address is trusted are believed, and
//! have to write one; from all others no header is read, as anybody could write one.

use std::fmt::Display;
use std::io;
use std::net::SocketAddr;

use ppp::{HeaderResult, v1, v2};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// What the shorter of the two versions has at least: `PROXY UNKNOWN` and the end of the line.
const SHORTEST: usize = 15;
/// The longest header of version 1, with the end of its line.
const LONGEST_V1: usize = 107;
/// Where the length of what follows stands in version 2.
const V2_FIXED: usize = 16;
/// The longest header of version 2 that is read: 16 bytes, addresses, and what a balancer adds, which is skipped.
const LONGEST_V2: usize = 4096;

/// Why nothing is known of where a connection comes from.
#[derive(Debug, thiserror::Error)]
pub(super) enum HeaderError {
    #[error(transparent)]
    Lost(#[from] io::Error),
    #[error("a PROXY header of {0} bytes is too long")]
    TooLong(usize),
    #[error("no PROXY header: {0}")]
    Malformed(String),
}

/// Reads the header, and not a byte more. The address is `peer`, the balancer's own, where the header names none: for its
/// health checks.
pub(super) async fn origin(
    stream: &mut TcpStream,
    peer: SocketAddr,
) -> Result<SocketAddr, HeaderError> {
    let mut header = vec![0; SHORTEST];
    stream.read_exact(&mut header).await?;
    if header.starts_with(v2::PROTOCOL_PREFIX) {
        header.push(stream.read_u8().await?);
        let length = u16::from_be_bytes([header[V2_FIXED - 2], header[V2_FIXED - 1]]);
        let length = V2_FIXED + usize::from(length);
        if length > LONGEST_V2 {
            return Err(HeaderError::TooLong(length));
        }
        header.resize(length, 0);
        stream.read_exact(&mut header[V2_FIXED..]).await?;
    } else if header.starts_with(v1::PROTOCOL_PREFIX.as_bytes()) {
        read_line(stream, &mut header).await?;
    }
    Ok(source(&header)?.unwrap_or(peer))
}

/// Reads on up to the end of the line.
async fn read_line(stream: &mut TcpStream, line: &mut Vec<u8>) -> Result<(), HeaderError> {
    let mut next = [0; LONGEST_V1];
    while !line.ends_with(b"\n") {
        let room = next.get_mut(line.len()..).unwrap_or_default();
        if room.is_empty() {
            return Err(HeaderError::TooLong(line.len()));
        }
        let seen = stream.peek(room).await?;
        let seen = room.get_mut(..seen).unwrap_or_default();
        if seen.is_empty() {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let end = memchr::memchr(b'\n', seen).map_or(seen.len(), |at| at + 1);
        let own = seen.get_mut(..end).unwrap_or_default();
        stream.read_exact(own).await?;
        line.extend_from_slice(own);
    }
    Ok(())
}

/// The address in a whole header; `None`: it names none.
pub(super) fn source(header: &[u8]) -> Result<Option<SocketAddr>, HeaderError> {
    let malformed = |error: &dyn Display| HeaderError::Malformed(error.to_string());
    match HeaderResult::parse(header) {
        HeaderResult::V1(header) => {
            let header = header.map_err(|error| malformed(&error))?;
            Ok(match header.addresses {
                v1::Addresses::Unknown => None,
                v1::Addresses::Tcp4(ip) => Some((ip.source_address, ip.source_port).into()),
                v1::Addresses::Tcp6(ip) => Some((ip.source_address, ip.source_port).into()),
            })
        }
        HeaderResult::V2(header) => {
            let header = header.map_err(|error| malformed(&error))?;
            Ok(match (header.command, header.addresses) {
                (v2::Command::Proxy, v2::Addresses::IPv4(ip)) => {
                    Some((ip.source_address, ip.source_port).into())
                }
                (v2::Command::Proxy, v2::Addresses::IPv6(ip)) => {
                    Some((ip.source_address, ip.source_port).into())
                }
                _ => None,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    const BALANCER: &str = "10.0.0.1:4000";

    /// What is made of these bytes, and what is left of them.
    async fn read(bytes: &[u8]) -> (Result<SocketAddr, HeaderError>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut client = TcpStream::connect(address).await.unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        client.write_all(bytes).await.unwrap();
        client.shutdown().await.unwrap();
        let origin = origin(&mut stream, BALANCER.parse().unwrap()).await;
        let mut left = Vec::new();
        stream.read_to_end(&mut left).await.unwrap();
        (origin, left)
    }

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut header = v2::PROTOCOL_PREFIX.to_vec();
        header.extend([0x20 | command, family]);
        header.extend((rest.len() as u16).to_be_bytes());
        header.extend(rest);
        header
    }

    fn ipv4(more: &[u8]) -> Vec<u8> {
        let rest = [&[192, 0, 2, 1, 10, 0, 0, 1, 0x10, 0, 0x1b, 0x59], more].concat();
        v2(1, 0x11, &rest)
    }

    #[tokio::test]
    async fn the_address_is_the_headers_and_the_bytes_behind_it_stay() {
        let mut ipv6 = [0; 36];
        ipv6[15] = 1;
        ipv6[32..34].copy_from_slice(&[0x10, 0]);
        for (header, address) in [
            (
                b"PROXY TCP4 192.0.2.1 10.0.0.1 4096 7001\r\n".to_vec(),
                "192.0.2.1:4096",
            ),
            (
                b"PROXY TCP6 2001:db8::1 ::1 4096 7001\r\n".to_vec(),
                "[2001:db8::1]:4096",
            ),
            (b"PROXY UNKNOWN\r\n".to_vec(), BALANCER),
            (b"PROXY UNKNOWN whatever it is\r\n".to_vec(), BALANCER),
            (ipv4(b""), "192.0.2.1:4096"),
            // A field that is skipped.
            (ipv4(b"\x04\0\x02xy"), "192.0.2.1:4096"),
            (v2(1, 0x21, &ipv6), "[::1]:4096"),
            // A health check of the balancer's own.
            (v2(0, 0, b""), BALANCER),
            (v2(0, 0x11, &ipv4(b"")[16..]), BALANCER),
        ] {
            let (origin, left) = read(&[&header, &b"\0\0\x0eSETUP\n"[..]].concat()).await;
            assert_eq!(origin.unwrap(), address.parse().unwrap(), "{header:?}");
            assert_eq!(left, b"\0\0\x0eSETUP\n");
        }
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused() {
        let endless = [&b"PROXY TCP4 "[..], &[b'1'; 1000]].concat();
        for bytes in [
            &b""[..],
            b"PROXY TCP4",
            b"PROXY TCP4 192.0.2.1 10.0.0.1 4096\r\n",
            b"PROXY TCP4 192.0.2.1 10.0.0.1 4096 7001\n",
            b"PROXY TCP4 192.0.2.999 10.0.0.1 4096 7001\r\n",
            b"\0\0\x0e\0\0\0\0\x04\0\0\x01\0\0\0\0\x4e\x20",
            &endless,
            &v2(1, 0x11, b"short"),
            &v2(7, 0x11, b""),
            &v2(1, 0x11, &[0; 5000]),
        ] {
            let (origin, _) = read(bytes).await;
            assert!(origin.is_err(), "{bytes:?}: {origin:?}");
        }
    }

    proptest! {
        #[test]
        fn any_header_is_read_without_a_panic(
            prefix in prop_oneof![
                Just(&b"PROXY "[..]), Just(v2::PROTOCOL_PREFIX), Just(&b""[..]),
            ],
            rest in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let _ = source(&[prefix, &rest].concat());
        }
    }
}
