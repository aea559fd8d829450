//! Frames on their way into a stream of bytes.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::io::AsyncWrite;

/// The longest head: that of a masked WebSocket frame of more than 65,535 bytes.
pub(super) const MAX_HEAD_LEN: usize = 14;
/// Frames taken before the first of them must leave, in number and bytes.
const MAX_WAITING_FRAMES: usize = 32;
const MAX_WAITING_BYTES: usize = 64 << 10;

/// Frames that wait, each behind the head its transport wants: small ones leave together, and
/// none is copied.
#[derive(Debug, Default)]
pub(super) struct SendQueue {
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    sent: u64,
}

#[derive(Debug)]
struct Waiting {
    head: [u8; MAX_HEAD_LEN],
    head_len: usize,
    head_sent: usize,
    frame: Bytes,
}

impl SendQueue {
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < MAX_WAITING_FRAMES && self.waiting_bytes < MAX_WAITING_BYTES
    }

    /// Bytes that have left so far.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// Takes a frame, whether or not there is room.
    pub(super) fn push<const N: usize>(&mut self, head: &[u8; N], frame: Bytes) {
        const { assert!(N <= MAX_HEAD_LEN) };
        self.push_slice(head, frame);
    }

    /// As [`Self::push`]. Of a longer head than [`MAX_HEAD_LEN`] only that much is sent.
    pub(super) fn push_slice(&mut self, head: &[u8], frame: Bytes) {
        let head_len = head.len().min(MAX_HEAD_LEN);
        let mut bytes = [0; MAX_HEAD_LEN];
        bytes[..head_len].copy_from_slice(&head[..head_len]);
        self.waiting_bytes += frame.len();
        self.waiting.push_back(Waiting {
            head: bytes,
            head_len,
            head_sent: 0,
            frame,
        });
    }

    /// Writes until nothing waits.
    pub(super) fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.waiting.is_empty() {
            let mut slices = [IoSlice::new(&[]); 2 * MAX_WAITING_FRAMES];
            let mut count = 0;
            for (waiting, pair) in self.waiting.iter().zip(slices.chunks_exact_mut(2)) {
                pair[0] = IoSlice::new(&waiting.head[waiting.head_sent..waiting.head_len]);
                pair[1] = IoSlice::new(&waiting.frame);
                count += 2;
            }
            let written = ready!(Pin::new(&mut *stream).poll_write_vectored(cx, &slices[..count]))?;
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
            let head = written.min(waiting.head_len - waiting.head_sent);
            waiting.head_sent += head;
            written -= head;
            let body = written.min(waiting.frame.len());
            let _ = waiting.frame.split_to(body);
            written -= body;
            self.waiting_bytes -= body;
            if waiting.head_sent < waiting.head_len || !waiting.frame.is_empty() {
                return;
            }
            self.waiting.pop_front();
        }
    }
}
