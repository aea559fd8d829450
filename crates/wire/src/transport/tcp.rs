//! Frames over a stream of bytes: TCP, TLS, or a pipe in a test.
//!
//! Each frame has a 24-bit length before it (section "Framing Format").

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{ReceiveError, Received, Transport, body::Body, send::SendQueue};
use crate::frame::{MAX_FRAME_LEN, Malformed};

const PREFIX_LEN: usize = 3;

/// Frames with length prefixes over any stream of bytes.
#[derive(Debug)]
pub struct Tcp<S> {
    stream: S,
    max_frame: usize,
    prefix: [u8; PREFIX_LEN],
    prefix_filled: usize,
    /// The frame being received, once its prefix is whole.
    body: Option<Body>,
    queue: SendQueue,
}

impl<S> Tcp<S> {
    /// Takes over a connected stream. Frames longer than `max_frame` bytes are refused.
    pub fn new(stream: S, max_frame: usize) -> Self {
        Self {
            stream,
            max_frame: max_frame.min(MAX_FRAME_LEN),
            prefix: [0; PREFIX_LEN],
            prefix_filled: 0,
            body: None,
            queue: SendQueue::default(),
        }
    }

    /// The stream below.
    pub fn get_ref(&self) -> &S {
        &self.stream
    }
}

impl<S: AsyncRead + Unpin> Tcp<S> {
    fn poll_prefix(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, ReceiveError>> {
        let mut buffer = ReadBuf::new(&mut self.prefix[self.prefix_filled..]);
        match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer)) {
            Ok(()) => {}
            // How TLS says that the peer closed TCP without a word. Between frames nothing was cut off.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            Err(error) => return Poll::Ready(Err(error.into())),
        }
        let count = buffer.filled().len();
        if count == 0 {
            return Poll::Ready(match self.prefix_filled {
                0 => Ok(Received::End),
                _ => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            });
        }
        self.prefix_filled += count;
        if self.prefix_filled == PREFIX_LEN {
            self.prefix_filled = 0;
            let [high, middle, low] = self.prefix.map(usize::from);
            let len = high << 16 | middle << 8 | low;
            if len > self.max_frame {
                // The content type, alert to application data, and the version.
                let malformed = match self.prefix {
                    [0x15..=0x17, 0x03, _] => Malformed::Tls,
                    [b'H', b'T', b'T'] => Malformed::Http,
                    _ => Malformed::TooLong,
                };
                return Poll::Ready(Err(malformed.into()));
            }
            if len == 0 {
                return Poll::Ready(Err(Malformed::TooShort.into()));
            }
            self.body = Some(Body::new(len));
        }
        Poll::Ready(Ok(Received::Partial))
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Transport for Tcp<S> {
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, ReceiveError>> {
        let Some(body) = &mut self.body else {
            return self.poll_prefix(cx);
        };
        ready!(body.poll_fill(&mut self.stream, cx))?;
        if !body.is_whole() {
            return Poll::Ready(Ok(Received::Partial));
        }
        let body = self.body.take().unwrap_or_default();
        Poll::Ready(Ok(Received::Frame(body.into_received())))
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.queue.has_room() {
            return Poll::Ready(Ok(()));
        }
        self.queue.poll_write(&mut self.stream, cx)
    }

    fn start_send(&mut self, frame: Bytes) -> io::Result<()> {
        let len = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        let [0, high, middle, low] = len.to_be_bytes() else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        self.queue.push(&[high, middle, low], frame);
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.queue.poll_write(&mut self.stream, cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.queue.poll_write(&mut self.stream, cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        super::poll_discard(&mut self.stream, cx)
    }

    fn unfinished(&self) -> usize {
        self.body.as_ref().map_or(0, Body::capacity)
    }

    fn bytes_sent(&self) -> u64 {
        self.queue.sent()
    }
}
