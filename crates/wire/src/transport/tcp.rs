//! Frames over a stream of bytes: TCP, TLS, or a pipe in a test.
//!
//! Each frame has a 24-bit length before it (section "Framing Format"). A claimed length costs
//! nothing: the buffer grows with the bytes that come.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use super::{ReceiveError, Received, Transport};
use crate::frame::{MAX_FRAME_LEN, Malformed};

const PREFIX_LEN: usize = 3;
/// Reserved for a frame whose first bytes have not come yet.
const FIRST_RESERVATION: usize = 1 << 10;
/// Up to here a buffer grows eightfold, so that a large frame takes few reads.
const FAST_GROWTH: usize = 64 << 10;
/// Frames taken before the first of them must leave, in number and bytes.
const MAX_WAITING_FRAMES: usize = 32;
const MAX_WAITING_BYTES: usize = 64 << 10;

/// Frames with length prefixes over any stream of bytes.
#[derive(Debug)]
pub struct Tcp<S> {
    stream: S,
    max_frame: usize,
    prefix: [u8; PREFIX_LEN],
    prefix_filled: usize,
    /// The frame being received, once its prefix is whole.
    body: Option<Body>,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    sent: u64,
}

#[derive(Debug)]
struct Body {
    len: usize,
    received: BytesMut,
}

/// A frame on its way out.
#[derive(Debug)]
struct Waiting {
    prefix: [u8; PREFIX_LEN],
    prefix_sent: usize,
    frame: Bytes,
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
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            sent: 0,
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
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
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
                return Poll::Ready(Err(Malformed::TooLong.into()));
            }
            if len == 0 {
                return Poll::Ready(Err(Malformed::TooShort.into()));
            }
            let received = BytesMut::new();
            self.body = Some(Body { len, received });
        }
        Poll::Ready(Ok(Received::Partial))
    }
}

impl Body {
    fn poll_fill<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let missing = self.len - self.received.len();
        if self.received.len() == self.received.capacity() {
            // Each step is a multiple of what has come: all copies together stay below that.
            let len = self.received.len();
            let step = (7 * len).min(FAST_GROWTH).max(len).max(FIRST_RESERVATION);
            self.received.reserve(step.min(missing));
        }
        let mut room = (&mut self.received).limit(missing);
        // The future keeps nothing between polls, so it need not be kept either.
        let count = ready!(pin!(stream.read_buf(&mut room)).poll(cx))?;
        Poll::Ready(match count {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        })
    }
}

impl<S: AsyncWrite + Unpin> Tcp<S> {
    /// Writes until `self.waiting` is empty.
    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.waiting.is_empty() {
            let mut slices = [IoSlice::new(&[]); 2 * MAX_WAITING_FRAMES];
            let mut count = 0;
            for (waiting, pair) in self.waiting.iter().zip(slices.chunks_mut(2)) {
                pair[0] = IoSlice::new(&waiting.prefix[waiting.prefix_sent..]);
                pair[1] = IoSlice::new(&waiting.frame);
                count += 2;
            }
            let stream = Pin::new(&mut self.stream);
            let written = ready!(stream.poll_write_vectored(cx, &slices[..count]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(written);
        }
        self.waiting = VecDeque::new();
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, mut written: usize) {
        self.sent += written as u64;
        while let Some(waiting) = self.waiting.front_mut() {
            let prefix = written.min(PREFIX_LEN - waiting.prefix_sent);
            waiting.prefix_sent += prefix;
            written -= prefix;
            let body = written.min(waiting.frame.len());
            let _ = waiting.frame.split_to(body);
            written -= body;
            self.waiting_bytes -= body;
            if waiting.prefix_sent < PREFIX_LEN || !waiting.frame.is_empty() {
                return;
            }
            self.waiting.pop_front();
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Transport for Tcp<S> {
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, ReceiveError>> {
        let Some(body) = &mut self.body else {
            return self.poll_prefix(cx);
        };
        ready!(body.poll_fill(&mut self.stream, cx))?;
        if body.received.len() < body.len {
            return Poll::Ready(Ok(Received::Partial));
        }
        let received = std::mem::take(&mut body.received);
        self.body = None;
        Poll::Ready(Ok(Received::Frame(received)))
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.waiting.len() < MAX_WAITING_FRAMES && self.waiting_bytes < MAX_WAITING_BYTES {
            return Poll::Ready(Ok(()));
        }
        self.poll_write_out(cx)
    }

    fn start_send(&mut self, frame: Bytes) -> io::Result<()> {
        let len = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        let [0, prefix @ ..] = len.to_be_bytes() else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        self.waiting_bytes += frame.len();
        self.waiting.push_back(Waiting {
            prefix,
            prefix_sent: 0,
            frame,
        });
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_out(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_out(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        super::poll_discard(&mut self.stream, cx)
    }

    fn bytes_sent(&self) -> u64 {
        self.sent
    }
}
