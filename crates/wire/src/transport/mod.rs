//! How frames travel: over a stream of bytes ([`tcp`]) or over a WebSocket.

mod body;
#[cfg(feature = "websocket")]
mod handshake;
#[cfg(feature = "websocket")]
mod rewind;
mod send;
pub mod tcp;
#[cfg(feature = "websocket")]
pub mod websocket;

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use thiserror::Error;
use tokio::io::{AsyncRead, ReadBuf};

use crate::frame::Malformed;

/// Sends and receives whole frames. No method blocks; all wake the task of the last context.
///
/// A transport holds no buffer while nothing is under way: idle connections are counted in
/// thousands.
pub trait Transport: Send + Unpin {
    /// Receives a frame or a part of one.
    ///
    /// # Errors
    ///
    /// After any error nothing more can be received.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, ReceiveError>>;

    /// Waits until there is room for one more frame, sending what waits if need be.
    ///
    /// # Errors
    ///
    /// After any error nothing more can be sent, while [`Self::poll_receive`] may still find
    /// frames that arrived before.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Takes a frame to be sent. To be called after [`Self::poll_ready`] found room.
    ///
    /// # Errors
    ///
    /// As [`Self::poll_ready`].
    fn start_send(&mut self, frame: Bytes) -> io::Result<()>;

    /// Sends what waits.
    ///
    /// # Errors
    ///
    /// As [`Self::poll_ready`].
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Sends what waits and then the end of the stream.
    ///
    /// # Errors
    ///
    /// As [`Self::poll_ready`].
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Receives whatever comes and drops it: how many bytes, 0 for the end of the stream. For the
    /// end of a connection, also after [`Self::poll_receive`] failed.
    ///
    /// # Errors
    ///
    /// When the stream failed.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>>;

    /// Bytes of a frame of which not all has come.
    fn unfinished(&self) -> usize;

    /// Bytes that have left so far: tells a peer that reads slowly from one that does not read.
    fn bytes_sent(&self) -> u64;
}

/// What [`Transport::poll_receive`] found.
#[derive(Debug, Eq, PartialEq)]
pub enum Received {
    /// A whole frame, without a length prefix.
    Frame(BytesMut),
    /// Some bytes, not yet a frame. There may be more at once.
    Partial,
    /// The peer's end of the stream, between two frames.
    End,
}

/// Why nothing more can be received.
#[derive(Debug, Error)]
pub enum ReceiveError {
    /// What came is no frame, or too long a one.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The stream failed, or ended within a frame.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// [`Transport::poll_discard`] for the stream of bytes under a transport.
fn poll_discard(
    stream: &mut (impl AsyncRead + Unpin),
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let mut bytes = [0; 1024];
    let mut buffer = ReadBuf::new(&mut bytes);
    ready!(Pin::new(stream).poll_read(cx, &mut buffer))?;
    Poll::Ready(Ok(buffer.filled().len()))
}
