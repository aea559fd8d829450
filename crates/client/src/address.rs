//! Where a proxy is: `tcp://HOST:PORT`, with more features also `tls://`, `ws://`, `wss://`.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// The port of RSocket over TCP, with TLS or without.
const TCP_PORT: u16 = 7001;
/// The port of RSocket over WebSocket, with TLS or without.
#[cfg(feature = "websocket")]
const WEBSOCKET_PORT: u16 = 8081;

/// A proxy's address: `tcp://HOST:PORT` or, with the features `tls` and `websocket`, `tls://`, `ws://` and `wss://`.
/// Without a port it is 7001, over WebSocket 8081.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub(crate) framing: Framing,
    pub(crate) secure: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// What carries the frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    Tcp,
    #[cfg(feature = "websocket")]
    WebSocket,
}

impl Framing {
    fn default_port(self) -> u16 {
        match self {
            Self::Tcp => TCP_PORT,
            #[cfg(feature = "websocket")]
            Self::WebSocket => WEBSOCKET_PORT,
        }
    }
}

/// Why a text is not an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// The part before `://` is missing or not supported by this build.
    #[error("an address begins with {}", schemes())]
    Scheme,
    /// There is no host, or what stands there can be none.
    #[error("the address' host is not a name, an IPv4 address, or an IPv6 address in brackets")]
    Host,
    /// The part behind the last colon is not a port.
    #[error("the address' port is not a number between 1 and 65535")]
    Port,
}

/// What this build supports.
fn schemes() -> &'static str {
    match (cfg!(feature = "tls"), cfg!(feature = "websocket")) {
        (true, true) => "tcp://, tls://, ws:// or wss://",
        (true, false) => "tcp:// or tls:// (WebSocket is not built in)",
        (false, true) => "tcp:// or ws:// (TLS is not built in)",
        (false, false) => "tcp:// (neither TLS nor WebSocket is built in)",
    }
}

impl Default for Address {
    fn default() -> Self {
        Self {
            framing: Framing::Tcp,
            secure: false,
            host: "localhost".into(),
            port: TCP_PORT,
        }
    }
}

impl Address {
    /// The word before `://`.
    pub fn scheme(&self) -> &'static str {
        match (self.framing, self.secure) {
            (Framing::Tcp, false) => "tcp",
            (Framing::Tcp, true) => "tls",
            #[cfg(feature = "websocket")]
            (Framing::WebSocket, false) => "ws",
            #[cfg(feature = "websocket")]
            (Framing::WebSocket, true) => "wss",
        }
    }

    /// A name or an IP address, an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, also where it was not said.
    pub fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn authority(&self) -> Authority<'_> {
        Authority {
            host: &self.host,
            port: self.port,
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (scheme, rest) = text.split_once("://").ok_or(AddressError::Scheme)?;
        let (framing, secure) = match scheme {
            "tcp" => (Framing::Tcp, false),
            #[cfg(feature = "tls")]
            "tls" => (Framing::Tcp, true),
            #[cfg(feature = "websocket")]
            "ws" => (Framing::WebSocket, false),
            #[cfg(all(feature = "tls", feature = "websocket"))]
            "wss" => (Framing::WebSocket, true),
            _ => return Err(AddressError::Scheme),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = host_and_port(rest)?;
        Ok(Self {
            framing,
            secure,
            host: host.to_owned(),
            port: port.unwrap_or(framing.default_port()),
        })
    }
}

/// `HOST:PORT` or `HOST`; an IPv6 address is in brackets, and given without them.
pub(crate) fn host_and_port(text: &str) -> Result<(&str, Option<u16>), AddressError> {
    // They would end a line of an HTTP request.
    if text.contains(char::is_control) {
        return Err(AddressError::Host);
    }
    let (host, port) = match text.rsplit_once(':') {
        // The last colon of a bare IPv6 address in brackets stands inside them.
        Some((host, port)) if !port.ends_with(']') => {
            let port = port.parse().map_err(|_| AddressError::Port)?;
            (host, Some(port))
        }
        _ => (text, None),
    };
    let host = host_of(host)?;
    if port == Some(0) {
        return Err(AddressError::Port);
    }
    Ok((host, port))
}

/// `HOST:PORT` of a URL or a request, with the brackets of an IPv6 address.
#[derive(Debug)]
pub(crate) struct Authority<'a> {
    pub(crate) host: &'a str,
    pub(crate) port: u16,
}

impl fmt::Display for Authority<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') {
            write!(f, "[{host}]:{port}")
        } else {
            write!(f, "{host}:{port}")
        }
    }
}

/// Without the brackets of an IPv6 address, which may have a zone (`fe80::1%eth0`).
fn host_of(text: &str) -> Result<&str, AddressError> {
    let bracketed = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let is_host = match bracketed {
        Some(address) => {
            let (address, _zone) = address.split_once('%').unwrap_or((address, ""));
            address.parse::<Ipv6Addr>().is_ok()
        }
        // What else separates parts of a URL stands in no name.
        None => !text.is_empty() && !text.contains([':', '[', ']', '/', '@', '?', '#', ' ']),
    };
    match is_host {
        true => Ok(bracketed.unwrap_or(text)),
        false => Err(AddressError::Host),
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme(), self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_reads_back_as_it_was_written() {
        for text in ["tcp://proxy:7001", "tcp://10.0.0.1:1", "tcp://[::1]:7001"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        assert_eq!("tcp://proxy".parse::<Address>().unwrap().port, TCP_PORT);
        #[cfg(all(feature = "tls", feature = "websocket"))]
        for text in ["tls://proxy:7001", "ws://proxy:8081", "wss://proxy:8081"] {
            let (without_port, _) = text.rsplit_once(':').unwrap();
            assert_eq!(without_port.parse::<Address>().unwrap().to_string(), text);
        }
        assert_eq!("tcp://[::1]".parse::<Address>().unwrap().host, "::1");
        assert_eq!(
            "tcp://[fe80::1%eth0]:7001".parse::<Address>().unwrap().host,
            "fe80::1%eth0"
        );
    }

    #[test]
    fn what_is_wrong_with_an_address_is_said() {
        assert_eq!("proxy:7001".parse::<Address>(), Err(AddressError::Scheme));
        assert_eq!(
            "http://proxy:7001".parse::<Address>(),
            Err(AddressError::Scheme)
        );
        for text in [
            "tcp://:7001",
            "tcp://[]:7001",
            "tcp://::1",
            "tcp://::1:7001",
            "tcp://[proxy]:7001",
            "tcp://[::1:7001",
            "tcp://proxy:7001:7001",
            "tcp://proxy/path",
            "tcp://user@proxy",
            "tcp://tcp://proxy:7001",
            "tcp://proxy\r\nX:7001",
            "tcp://[::1%a\nb]:7001",
        ] {
            assert_eq!(text.parse::<Address>(), Err(AddressError::Host), "{text}");
        }
        assert_eq!(
            "tcp://proxy:70010".parse::<Address>(),
            Err(AddressError::Port)
        );
        assert_eq!("tcp://proxy:0".parse::<Address>(), Err(AddressError::Port));
    }
}
