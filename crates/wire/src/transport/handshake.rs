//! The HTTP request and response that begin a WebSocket (RFC 6455, section 4).

use std::io;

use bytes::{Bytes, BytesMut};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tungstenite::{
    client::IntoClientRequest,
    handshake::{
        client, derive_accept_key,
        machine::TryParse,
        server::{self, create_response, write_response},
    },
    http::{HeaderMap, StatusCode, header::ORIGIN},
};

use super::rewind::Rewind;

/// Longest request or response, in bytes.
const MAX_HEAD_LEN: usize = 8 << 10;
const BAD_REQUEST: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
const FORBIDDEN: &[u8] =
    b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// Why a WebSocket did not come about.
#[derive(Debug, Error)]
pub enum HandshakeError {
    /// The stream failed, or ended too early.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What the peer sent is not even HTTP. It was not answered.
    #[error("not HTTP: {0}")]
    Foreign(Box<tungstenite::Error>),
    /// What the peer sent is no WebSocket handshake. A client was told so.
    #[error("not a WebSocket handshake: {0}")]
    Invalid(Box<tungstenite::Error>),
    /// A web page asks, from an origin that is not allowed. The browser was told so.
    #[error("a web page's origin is not allowed")]
    Origin,
    /// The head is longer than 8 KiB.
    #[error("handshake too long")]
    TooLong,
    /// The server answered with something else than a switch of protocols.
    #[error("server answered {0}")]
    Refused(u16),
    /// The server's answer is not to our request.
    #[error("server's handshake does not match")]
    Mismatch,
}

impl From<tungstenite::Error> for HandshakeError {
    fn from(error: tungstenite::Error) -> Self {
        Self::Invalid(Box::new(error))
    }
}

/// The server's part, on any path: the Java client uses `/`. With an error comes the stream.
pub(super) async fn accept<S>(
    mut stream: S,
    origins: &[String],
) -> Result<Rewind<S>, (HandshakeError, S)>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match answer(&mut stream, origins).await {
        Ok(early) => Ok(Rewind::new(early, stream)),
        Err(error) => Err((error, stream)),
    }
}

/// Answers a client's request; what came behind it.
async fn answer<S>(stream: &mut S, origins: &[String]) -> Result<Bytes, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let accepted = match read::<server::Request, S>(stream).await {
        Ok((request, _)) if !may_connect(request.headers(), origins) => Err(HandshakeError::Origin),
        Ok((request, early)) => create_response(&request)
            .map(|response| (response, early))
            .map_err(HandshakeError::from),
        Err(HandshakeError::Invalid(error)) => Err(HandshakeError::Foreign(error)),
        Err(error) => Err(error),
    };
    let (response, early) = match accepted {
        Ok(accepted) => accepted,
        Err(error) => {
            let refusal = match error {
                HandshakeError::Invalid(_) | HandshakeError::TooLong => BAD_REQUEST,
                HandshakeError::Origin => FORBIDDEN,
                _ => return Err(error),
            };
            stream.write_all(refusal).await?;
            stream.shutdown().await?;
            return Err(error);
        }
    };
    let mut bytes = Vec::new();
    write_response(&mut bytes, &response)?;
    stream.write_all(&bytes).await?;
    stream.flush().await?;
    Ok(early)
}

/// Whether a client that names these origins may connect. A browser names the origin of the page that asks, and no page can
/// keep it from that (RFC 6455, section 10.2).
///
/// The Java client names the address that it connects to. So may a page whose name has come to mean this host since it was
/// loaded, but that one is in a browser, and all of those call themselves Mozilla.
fn may_connect(headers: &HeaderMap, origins: &[String]) -> bool {
    let is_browser = header(headers, "User-Agent").starts_with("Mozilla/");
    let host = header(headers, "Host");
    let is_own = |origin: &str| {
        let named = origin.split_once("://").map(|(_, host)| host);
        !is_browser && named.is_some_and(|named| named.eq_ignore_ascii_case(host))
    };
    let mut named = headers.get_all(ORIGIN).iter();
    named.all(|origin| {
        let origin = origin.to_str().unwrap_or_default();
        is_own(origin) || origins.iter().any(|allowed| origin == allowed)
    })
}

/// The client's part.
pub(super) async fn connect<S>(mut stream: S, uri: &str) -> Result<Rewind<S>, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (request, key) = client::generate_request(uri.into_client_request()?)?;
    stream.write_all(&request).await?;
    stream.flush().await?;
    let (response, early) = read::<client::Response, S>(&mut stream).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(HandshakeError::Refused(response.status().as_u16()));
    }
    let headers = response.headers();
    let upgraded = header(headers, "Upgrade").eq_ignore_ascii_case("websocket");
    let accepted = header(headers, "Sec-WebSocket-Accept") == derive_accept_key(key.as_bytes());
    // An extension or subprotocol that was not asked for would change what the bytes mean.
    let plain = !headers.contains_key("Sec-WebSocket-Extensions")
        && !headers.contains_key("Sec-WebSocket-Protocol");
    if !(upgraded && accepted && plain) {
        return Err(HandshakeError::Mismatch);
    }
    Ok(Rewind::new(early, stream))
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default()
}

/// Reads a head, and perhaps bytes behind it.
async fn read<H, S>(stream: &mut S) -> Result<(H, Bytes), HandshakeError>
where
    H: TryParse,
    S: AsyncRead + Unpin,
{
    let mut bytes = BytesMut::with_capacity(1 << 10);
    loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        if let Some((len, head)) = H::try_parse(&bytes)? {
            return Ok((head, Bytes::copy_from_slice(&bytes[len..])));
        }
        if bytes.len() > MAX_HEAD_LEN {
            return Err(HandshakeError::TooLong);
        }
    }
}
