//! What connections run over.

/// What a connection runs over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Length-prefixed frames over TCP.
    Tcp,
    /// A frame in each binary WebSocket message.
    WebSocket,
}

impl Transport {
    /// The word in status and log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::WebSocket => "websocket",
        }
    }

    /// The label value that the Java proxy uses.
    pub fn label(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::WebSocket => "Websocket",
        }
    }
}
