//! Frames over a WebSocket: one binary message each, without a length prefix.
//!
//! Handshake and frame headers are `tungstenite`'s. Its own sockets keep a buffer per connection
//! that never shrinks below the largest message seen, and reserve what a header claims; here a
//! message is received as over [`tcp`](super::tcp), and nothing is held in between. No extension
//! is agreed to.

use std::{
    io::{self, Cursor},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tungstenite::protocol::frame::{
    FrameHeader,
    coding::{CloseCode, Control, Data, OpCode},
};

pub use super::handshake::{HandshakeError, Request, refuse};
use super::{
    ReceiveError, Received, Transport,
    body::Body,
    handshake,
    rewind::Rewind,
    send::{MAX_HEAD_LEN, SendQueue},
};
use crate::frame::{MAX_FRAME_LEN, Malformed};

/// "All control frames MUST have a payload length of 125 bytes or less."
const MAX_CONTROL_LEN: usize = 125;

/// RSocket frames as binary messages.
#[derive(Debug)]
pub struct WebSocket<S> {
    stream: Rewind<S>,
    role: Role,
    max_frame: usize,
    head: [u8; MAX_HEAD_LEN],
    head_filled: usize,
    /// The WebSocket frame being received, once its head is whole.
    incoming: Option<Incoming>,
    /// The message being received, over one or more WebSocket frames.
    message: Option<Body>,
    queue: SendQueue,
    /// Answer to the latest ping; a flood of them is answered by the latest only.
    pong: Option<Bytes>,
    close_queued: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Role {
    Client,
    Server,
}

#[derive(Debug)]
struct Incoming {
    mask: Option<[u8; 4]>,
    kind: MessageKind,
}

#[derive(Debug)]
enum MessageKind {
    /// A piece of the message that begins at `start` in it.
    Data {
        start: usize,
        last: bool,
    },
    Control {
        code: Control,
        body: Body,
    },
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// Answers a client's request. The caller sets a time limit. Messages longer than `max_frame` bytes are refused. A web
    /// page may connect if its origin, such as `https://grafana.example`, is one of `origins`.
    ///
    /// # Errors
    ///
    /// When the request is for no WebSocket, or the stream fails. With it comes the stream, open still unless the client
    /// was told.
    pub async fn accept(
        request: Request<S>,
        max_frame: usize,
        origins: &[String],
    ) -> Result<Self, (HandshakeError, S)> {
        let stream = request.accept(origins).await?;
        Ok(Self::new(stream, Role::Server, max_frame))
    }

    /// Makes the client's handshake on a connected stream. `uri` is `ws://HOST[:PORT][/PATH]`
    /// or `wss://…`; what it names is sent, not connected to. The caller sets a time limit.
    ///
    /// # Errors
    ///
    /// When the server does not agree, `uri` is none, or the stream fails.
    pub async fn connect(stream: S, uri: &str, max_frame: usize) -> Result<Self, HandshakeError> {
        let stream = handshake::connect(stream, uri).await?;
        Ok(Self::new(stream, Role::Client, max_frame))
    }
}

impl<S> WebSocket<S> {
    fn new(stream: Rewind<S>, role: Role, max_frame: usize) -> Self {
        Self {
            stream,
            role,
            max_frame: max_frame.min(MAX_FRAME_LEN),
            head: [0; MAX_HEAD_LEN],
            head_filled: 0,
            incoming: None,
            message: None,
            queue: SendQueue::default(),
            pong: None,
            close_queued: false,
        }
    }

    /// The stream below.
    pub fn get_ref(&self) -> &S {
        self.stream.get_ref()
    }

    /// Bytes of head that are needed, as far as can be told from those that have come.
    fn head_len(&self) -> Result<usize, Malformed> {
        if self.head_filled < 2 {
            // The shortest head. Clients send a mask, always.
            return Ok(if self.role == Role::Server { 6 } else { 2 });
        }
        let masked = self.head[1] & 0x80 != 0;
        if masked != (self.role == Role::Server) {
            return Err(Malformed::WebSocket);
        }
        let length = match self.head[1] & 0x7F {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        Ok(2 + length + if masked { 4 } else { 0 })
    }

    /// Begins to receive what a whole head announces.
    fn begin(&mut self) -> Result<(), Malformed> {
        let mut head = Cursor::new(&self.head[..self.head_filled]);
        self.head_filled = 0;
        let Ok(Some((head, len))) = FrameHeader::parse(&mut head) else {
            return Err(Malformed::WebSocket);
        };
        if head.rsv1 || head.rsv2 || head.rsv3 {
            return Err(Malformed::WebSocket);
        }
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let kind = match head.opcode {
            OpCode::Control(code) => {
                if !head.is_final || len > MAX_CONTROL_LEN {
                    return Err(Malformed::WebSocket);
                }
                let body = Body::new(len);
                MessageKind::Control { code, body }
            }
            OpCode::Data(data) => self.begin_data(data, len, head.is_final)?,
        };
        let mask = head.mask;
        self.incoming = Some(Incoming { mask, kind });
        Ok(())
    }

    fn begin_data(&mut self, data: Data, len: usize, last: bool) -> Result<MessageKind, Malformed> {
        match (data, &self.message) {
            (Data::Binary, None) | (Data::Continue, Some(_)) => {}
            (Data::Text, None) => return Err(Malformed::NotBinary),
            _ => return Err(Malformed::WebSocket),
        }
        let message = self.message.get_or_insert_default();
        let start = message.len();
        if len > self.max_frame - start {
            return Err(Malformed::TooLong);
        }
        message.expect(len);
        Ok(MessageKind::Data { start, last })
    }

    /// Acts on a WebSocket frame that is whole.
    fn finish(&mut self, incoming: Incoming) -> Received {
        let mask = incoming.mask.unwrap_or_default();
        match incoming.kind {
            MessageKind::Data { start, last } => {
                let message = self.message.get_or_insert_default();
                apply_mask(&mut message.received()[start..], mask);
                if !last {
                    return Received::Partial;
                }
                let message = self.message.take().unwrap_or_default();
                Received::Frame(message.into_received())
            }
            MessageKind::Control { code, body } => {
                let mut payload = body.into_received();
                apply_mask(&mut payload, mask);
                match code {
                    Control::Close => return Received::End,
                    Control::Ping => self.pong = Some(payload.freeze()),
                    Control::Pong | Control::Reserved(_) => {}
                }
                Received::Partial
            }
        }
    }

    fn queue_frame(&mut self, code: OpCode, payload: Bytes) -> io::Result<()> {
        let masked = self.role == Role::Client;
        let mask = masked.then(rand::random::<[u8; 4]>);
        let header = FrameHeader {
            opcode: code,
            mask,
            ..FrameHeader::default()
        };
        let payload = match mask {
            None => payload,
            Some(mask) => {
                let mut payload = BytesMut::from(payload);
                apply_mask(&mut payload, mask);
                payload.freeze()
            }
        };
        let mut head = [0; MAX_HEAD_LEN];
        let mut rest = &mut head[..];
        let formatted = header.format(payload.len() as u64, &mut rest);
        formatted.map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let head_len = MAX_HEAD_LEN - rest.len();
        self.queue.push_slice(&head[..head_len], payload);
        Ok(())
    }

    fn queue_close(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.close_queued, true) {
            return Ok(());
        }
        let code = u16::from(CloseCode::Normal).to_be_bytes();
        let code = Bytes::copy_from_slice(&code);
        self.queue_frame(OpCode::Control(Control::Close), code)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, ReceiveError>> {
        let len = self.head_len()?;
        let mut buffer = ReadBuf::new(&mut self.head[self.head_filled..len]);
        match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer)) {
            Ok(()) => {}
            // How TLS says that the peer closed TCP without a word. Between messages nothing was cut off.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            Err(error) => return Poll::Ready(Err(error.into())),
        }
        let count = buffer.filled().len();
        if count == 0 {
            // An end without a close frame: what a killed process leaves behind.
            return Poll::Ready(match self.head_filled == 0 && self.message.is_none() {
                true => Ok(Received::End),
                false => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            });
        }
        self.head_filled += count;
        if self.head_filled >= 2 && self.head_filled == self.head_len()? {
            self.begin()?;
            return self.poll_finish();
        }
        Poll::Ready(Ok(Received::Partial))
    }

    /// A WebSocket frame without payload is whole with its head.
    fn poll_finish(&mut self) -> Poll<Result<Received, ReceiveError>> {
        let received = match self.incoming.take_if(|incoming| {
            let body = match &incoming.kind {
                MessageKind::Data { .. } => self.message.as_ref(),
                MessageKind::Control { body, .. } => Some(body),
            };
            body.is_none_or(Body::is_whole)
        }) {
            Some(incoming) => self.finish(incoming),
            None => Received::Partial,
        };
        Poll::Ready(Ok(received))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.queue.poll_write(&mut self.stream, cx))?;
            match self.pong.take() {
                Some(pong) => self.queue_frame(OpCode::Control(Control::Pong), pong)?,
                None => return Poll::Ready(Ok(())),
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Transport for WebSocket<S> {
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, ReceiveError>> {
        let body = match &mut self.incoming {
            None => return self.poll_head(cx),
            Some(Incoming {
                kind: MessageKind::Control { body, .. },
                ..
            }) => body,
            Some(Incoming {
                kind: MessageKind::Data { .. },
                ..
            }) => self.message.get_or_insert_default(),
        };
        ready!(body.poll_fill(&mut self.stream, cx))?;
        self.poll_finish()
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.queue.has_room() {
            return Poll::Ready(Ok(()));
        }
        self.poll_write(cx)
    }

    fn start_send(&mut self, frame: Bytes) -> io::Result<()> {
        self.queue_frame(OpCode::Data(Data::Binary), frame)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.queue_close()?;
        ready!(self.poll_write(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        super::poll_discard(&mut self.stream, cx)
    }

    fn unfinished(&self) -> usize {
        self.message.as_ref().map_or(0, Body::capacity)
    }

    fn bytes_sent(&self) -> u64 {
        self.queue.sent()
    }
}

/// Masks, or unmasks: the mask applies from the first byte on, four by four.
fn apply_mask(bytes: &mut [u8], mask: [u8; 4]) {
    if mask == [0; 4] {
        return;
    }
    let wide = u64::from(u32::from_ne_bytes(mask));
    let wide = wide << 32 | wide;
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}
