//! Finds out which scheme a port is for when it does not answer. A proxy does not answer a connection that it cannot use, so
//! a client with the wrong scheme would only ever see a timeout.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::Address;
use crate::address::Framing;
use crate::attempt::Stage;
use crate::failure::Failure;
use crate::metrics::Reason;
use crate::socket::{self, Sockets};

/// How long to wait for each answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// A RESUME with its length (section "RESUME Frame"). A proxy refuses it with an ERROR at once, and does not count it as an
/// application.
const RESUME: &[u8] = b"\0\0\x1d\0\0\0\0\x34\0\0\x01\0\0\0\x01x\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
/// Stream and type of an ERROR of the connection. They follow the length.
const ERROR: &[u8] = b"\0\0\0\0\x2c\0";
const LENGTH_LEN: usize = 3;
/// A WebSocket handshake (RFC 6455, section 4.1); the key is the RFC's example, because the WebSocket is not used.
const UPGRADE: &[u8] =
    b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const HTTP: &[u8] = b"HTTP/1.";

/// What a port may speak, with TLS or without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spoken {
    #[cfg_attr(
        not(any(feature = "tls", feature = "websocket")),
        expect(dead_code, reason = "there is no other scheme to come from")
    )]
    Frames,
    WebSocket,
}

impl Spoken {
    fn question(self) -> &'static [u8] {
        match self {
            Self::Frames => RESUME,
            Self::WebSocket => UPGRADE,
        }
    }

    fn is_answered(self, answer: &[u8]) -> bool {
        match self {
            Self::Frames => answer.get(LENGTH_LEN..) == Some(ERROR),
            Self::WebSocket => answer.starts_with(HTTP),
        }
    }

    fn scheme(self, secure: bool) -> &'static str {
        match (self, secure) {
            (Self::Frames, false) => "tcp",
            (Self::Frames, true) => "tls",
            (Self::WebSocket, false) => "ws",
            (Self::WebSocket, true) => "wss",
        }
    }
}

/// Tries whether the port at this address, which does not answer at this stage of an attempt, is for another scheme.
/// Sends no credentials.
pub(crate) async fn other_scheme(
    sockets: &Sockets,
    address: &Address,
    stage: Stage,
) -> Option<Failure> {
    let (candidates, secure): (&[Spoken], bool) = match (stage, address.framing) {
        #[cfg(feature = "tls")]
        (Stage::Tls, _) => (&[Spoken::Frames, Spoken::WebSocket], false),
        #[cfg(feature = "websocket")]
        (Stage::WebSocket, _) => (&[Spoken::Frames], address.secure),
        (Stage::Key, Framing::Tcp) => (&[Spoken::WebSocket], address.secure),
        _ => return None,
    };
    for spoken in candidates {
        let asked = timeout(ANSWER_WITHIN, answers(sockets, address, secure, *spoken));
        if asked.await == Ok(Some(true)) {
            let (right, wrong) = (spoken.scheme(secure), address.scheme());
            let text = format!("this port is for {right}://, not for {wrong}://");
            return Some(Failure::lasting(Reason::Protocol, text));
        }
    }
    None
}

/// Whether the port speaks this. `None`: the connection failed.
async fn answers(
    sockets: &Sockets,
    address: &Address,
    secure: bool,
    spoken: Spoken,
) -> Option<bool> {
    let address = Address {
        secure,
        ..address.clone()
    };
    let mut candidates = socket::resolve(sockets, &address).await.ok()?;
    let mut stream = socket::secured(sockets, &address, &mut candidates, |_| {})
        .await
        .ok()?;
    stream.write_all(spoken.question()).await.ok()?;
    stream.flush().await.ok()?;
    let mut answer = [0; LENGTH_LEN + ERROR.len()];
    stream.read_exact(&mut answer).await.ok()?;
    Some(spoken.is_answered(&answer))
}
