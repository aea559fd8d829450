//! Where a proxy is: `tcp://HOST:PORT`, or `ws://HOST:PORT` with the feature `websocket`.

use std::fmt;
use std::str::FromStr;

/// The port of RSocket over TCP.
const TCP_PORT: u16 = 7001;
/// The port of RSocket over WebSocket.
#[cfg(feature = "websocket")]
const WEBSOCKET_PORT: u16 = 8081;

/// A proxy's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub(crate) scheme: Scheme,
    pub(crate) host: String,
    pub(crate) port: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    Tcp,
    #[cfg(feature = "websocket")]
    WebSocket,
}

impl Scheme {
    fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            #[cfg(feature = "websocket")]
            Self::WebSocket => "ws",
        }
    }
}

/// Why a text is not an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// The part before `://` is missing or not supported by this build.
    #[error("an address begins with tcp://, or ws:// where WebSocket is built in")]
    Scheme,
    /// There is no host.
    #[error("the address has no host")]
    Host,
    /// The part behind the last colon is not a port.
    #[error("the address' port is not a number between 1 and 65535")]
    Port,
}

impl Default for Address {
    fn default() -> Self {
        Self {
            scheme: Scheme::Tcp,
            host: "localhost".into(),
            port: TCP_PORT,
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (scheme, rest) = text.split_once("://").ok_or(AddressError::Scheme)?;
        let (scheme, default_port) = match scheme {
            "tcp" => (Scheme::Tcp, TCP_PORT),
            #[cfg(feature = "websocket")]
            "ws" => (Scheme::WebSocket, WEBSOCKET_PORT),
            _ => return Err(AddressError::Scheme),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.rsplit_once(':') {
            // The last colon of a bare IPv6 address in brackets stands inside them.
            Some((host, port)) if !port.ends_with(']') => {
                (host, port.parse().map_err(|_| AddressError::Port)?)
            }
            _ => (rest, default_port),
        };
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        if host.is_empty() {
            return Err(AddressError::Host);
        }
        if port == 0 {
            return Err(AddressError::Port);
        }
        Ok(Self {
            scheme,
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, host, port) = (self.scheme.name(), &self.host, self.port);
        if host.contains(':') {
            write!(f, "{scheme}://[{host}]:{port}")
        } else {
            write!(f, "{scheme}://{host}:{port}")
        }
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
        assert_eq!("tcp://[::1]".parse::<Address>().unwrap().host, "::1");
    }

    #[test]
    fn what_is_wrong_with_an_address_is_said() {
        assert_eq!("proxy:7001".parse::<Address>(), Err(AddressError::Scheme));
        assert_eq!(
            "http://proxy:7001".parse::<Address>(),
            Err(AddressError::Scheme)
        );
        assert_eq!("tcp://:7001".parse::<Address>(), Err(AddressError::Host));
        assert_eq!(
            "tcp://proxy:70010".parse::<Address>(),
            Err(AddressError::Port)
        );
        assert_eq!("tcp://proxy:0".parse::<Address>(), Err(AddressError::Port));
    }
}
