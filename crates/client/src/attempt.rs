//! How far an attempt to connect has come.

use std::fmt;

use crate::Address;

/// What an attempt waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    LookUp,
    Connection,
    #[cfg(feature = "tls")]
    Tls,
    #[cfg(feature = "websocket")]
    WebSocket,
    Key,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LookUp => "the name is still being looked up",
            Self::Connection => {
                "nothing answers there (is the host up, and does a firewall let connections pass?)"
            }
            #[cfg(feature = "tls")]
            Self::Tls => "no answer to the TLS handshake (is this a port without TLS?)",
            #[cfg(feature = "websocket")]
            Self::WebSocket => "no answer to the WebSocket handshake (is this a port for tcp://?)",
            Self::Key => {
                "connected, but the proxy sends no key (does it require credentials, has it too many \
                 connections, or is this another kind of port?)"
            }
        })
    }
}

/// The attempt under way, or the last one.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    pub(crate) address: Address,
    pub(crate) stage: Stage,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.address, self.stage)
    }
}
