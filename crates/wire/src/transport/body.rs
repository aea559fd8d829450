//! Bytes of a known number on their way out of a stream.

use std::{
    io,
    pin::pin,
    task::{Context, Poll, ready},
};

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Reserved before the first byte has come.
const FIRST_RESERVATION: usize = 1 << 10;
/// Up to here a buffer grows eightfold, so that a large frame takes few reads.
const FAST_GROWTH: usize = 64 << 10;

/// The body of a frame. A claimed length costs nothing: the buffer grows with what comes.
#[derive(Debug, Default)]
pub(super) struct Body {
    received: BytesMut,
    len: usize,
}

impl Body {
    pub(super) fn new(len: usize) -> Self {
        Self {
            received: BytesMut::new(),
            len,
        }
    }

    /// Bytes that it takes up.
    pub(super) fn capacity(&self) -> usize {
        self.received.capacity()
    }

    pub(super) fn is_whole(&self) -> bool {
        self.received.len() == self.len
    }

    pub(super) fn into_received(self) -> BytesMut {
        self.received
    }

    /// Reads once. Not to be called when it is whole.
    pub(super) fn poll_fill<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let received = self.received.len();
        let missing = self.len - received;
        if received == self.received.capacity() {
            // Each step is a multiple of what has come: all copies together stay below that.
            let step = (7 * received).min(FAST_GROWTH).max(received);
            self.received
                .reserve(step.max(FIRST_RESERVATION).min(missing));
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

/// For messages in several pieces.
#[cfg(feature = "websocket")]
impl Body {
    /// Bytes that are or will be in it.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Expects that many bytes more.
    pub(super) fn expect(&mut self, more: usize) {
        self.len += more;
    }

    /// What has come.
    pub(super) fn received(&mut self) -> &mut [u8] {
        &mut self.received
    }
}
