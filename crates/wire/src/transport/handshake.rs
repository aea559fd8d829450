//! The HTTP request and response that begin a WebSocket (RFC 6455, section 4).

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tungstenite::{
    client::IntoClientRequest,
    handshake::{
        client, derive_accept_key,
        machine::TryParse,
        server::{self, create_response, write_response},
    },
    http::{HeaderMap, HeaderValue, StatusCode, header::ORIGIN},
};

use super::rewind::Rewind;

/// Longest request or response, in bytes.
const MAX_HEAD_LEN: usize = 8 << 10;
const BAD_REQUEST: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
const FORBIDDEN: &[u8] =
    b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
/// The header in which [`refuse`] says why.
const REASON: &str = "X-Prometheus-RSocket-Error";
/// How long the client may take to receive it.
const REFUSE_WITHIN: Duration = Duration::from_secs(5);
/// Characters of a reason that a client shows.
const MAX_REASON: usize = 200;

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
    /// The proxy does not accept who the client is, for this reason.
    #[error("{0}")]
    Unauthorized(String),
    /// The server's answer is not to our request.
    #[error("server's handshake does not match")]
    Mismatch,
}

impl From<tungstenite::Error> for HandshakeError {
    fn from(error: tungstenite::Error) -> Self {
        Self::Invalid(Box::new(error))
    }
}

/// A client's request for a WebSocket, on any path: the Java client uses `/`. It is not answered yet.
#[derive(Debug)]
pub struct Request<S> {
    request: server::Request,
    early: Bytes,
    stream: S,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Request<S> {
    /// Waits for a request on a connected stream. The caller sets a time limit.
    ///
    /// # Errors
    ///
    /// When what comes is no request, or the stream fails. With it comes the stream, open still unless the client was told.
    pub async fn read(mut stream: S) -> Result<Self, (HandshakeError, S)> {
        let error = match read::<server::Request, S>(&mut stream).await {
            Ok((request, early)) => {
                return Ok(Self {
                    request,
                    early,
                    stream,
                });
            }
            Err(HandshakeError::Invalid(error)) => HandshakeError::Foreign(error),
            Err(HandshakeError::TooLong) => {
                let refused = send_refusal(&mut stream, BAD_REQUEST).await;
                refused.map_or_else(HandshakeError::from, |()| HandshakeError::TooLong)
            }
            Err(error) => error,
        };
        Err((error, stream))
    }

    /// The values of all header lines of this name, in their order.
    pub fn values(&self, name: &str) -> impl DoubleEndedIterator<Item = &[u8]> {
        let lines = self.request.headers().get_all(name).iter();
        lines.map(HeaderValue::as_bytes)
    }

    /// Answers the request. As [`WebSocket::accept`](super::websocket::WebSocket::accept) says.
    pub(super) async fn accept(
        mut self,
        origins: &[String],
    ) -> Result<Rewind<S>, (HandshakeError, S)> {
        match self.answer(origins).await {
            Ok(()) => Ok(Rewind::new(self.early, self.stream)),
            Err(error) => Err((error, self.stream)),
        }
    }

    async fn answer(&mut self, origins: &[String]) -> Result<(), HandshakeError> {
        if !may_connect(self.request.headers(), origins) {
            send_refusal(&mut self.stream, FORBIDDEN).await?;
            return Err(HandshakeError::Origin);
        }
        let response = match create_response(&self.request) {
            Ok(response) => response,
            Err(error) => {
                send_refusal(&mut self.stream, BAD_REQUEST).await?;
                return Err(error.into());
            }
        };
        let mut bytes = Vec::new();
        write_response(&mut bytes, &response)?;
        self.stream.write_all(&bytes).await?;
        self.stream.flush().await?;
        Ok(())
    }
}

/// Tells a client that it gets no WebSocket.
async fn send_refusal(stream: &mut (impl AsyncWrite + Unpin), refusal: &[u8]) -> io::Result<()> {
    stream.write_all(refusal).await?;
    stream.shutdown().await
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

/// Tells a client whose handshake was not read why its credentials are not accepted, and closes the stream.
pub async fn refuse(mut stream: impl AsyncWrite + Unpin, reason: &'static str) {
    let response = format!(
        "HTTP/1.1 401 Unauthorized\r\nConnection: close\r\n{REASON}: {reason}\r\nContent-Length: 0\r\n\r\n"
    );
    // The client may be gone.
    let _ = timeout(
        REFUSE_WITHIN,
        send_refusal(&mut stream, response.as_bytes()),
    )
    .await;
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
    if response.status() == StatusCode::UNAUTHORIZED && response.headers().contains_key(REASON) {
        let reason = header(response.headers(), REASON).chars();
        return Err(HandshakeError::Unauthorized(
            reason.take(MAX_REASON).collect(),
        ));
    }
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
