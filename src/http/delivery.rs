//! Knows when a response has been handed over: not when its last byte was made, but when the kernel has taken it.
//!
//! A scrape's pushes are committed then. Between the body and the socket lie the compressor's and the HTTP library's
//! buffers; a body that ended says nothing about them. So the body, at its end, leaves its [`Claim`] with the
//! connection, and the connection's next flush, which the library makes once its buffers are empty, commits it. A body
//! dropped before its end, and a connection dropped before that flush, give the claim back.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::response::Response;
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::push::Claim;

/// What responses of one connection hold that are written but not flushed.
pub(super) struct Outbox<T>(Arc<Mutex<Vec<Delivery<T>>>>);

/// What a response holds until it has been handed over, or given up.
struct Delivery<T> {
    claim: Option<Claim>,
    _held: T,
}

impl<T> Outbox<T> {
    pub(super) fn new() -> Self {
        Self(Arc::default())
    }

    fn put(&self, delivery: Delivery<T>) {
        self.0.lock().push(delivery);
    }

    fn take(&self) -> Vec<Delivery<T>> {
        std::mem::take(&mut self.0.lock())
    }
}

impl<T> Clone for Outbox<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// Marks a response as carrying a claim; [`attach`] finds it once the response is whole.
#[derive(Clone)]
pub(super) struct Carries(Arc<Mutex<Option<Claim>>>);

impl Carries {
    pub(super) fn new(claim: Claim) -> Self {
        Self(Arc::new(Mutex::new(Some(claim))))
    }

    fn take(&self) -> Option<Claim> {
        self.0.lock().take()
    }
}

/// Marks a response with how long the scraper still waits for it.
#[derive(Clone, Copy)]
pub(super) struct Left(pub(super) Duration);

/// Binds the claim that `response` carries to the end of its body, after everything that rewrites the body. A response that
/// was turned into another one (406, where no encoding is accepted) serves no push. `held` is kept until it is handed over.
pub(super) fn attach<T: Send + Unpin + 'static>(
    mut response: Response,
    outbox: &Outbox<T>,
    held: T,
) -> Response {
    let carried = response.extensions_mut().remove::<Carries>();
    let carried = carried.filter(|_| response.status() == StatusCode::OK);
    let delivery = Delivery {
        claim: carried.and_then(|carries| carries.take()),
        _held: held,
    };
    response.map(|body| {
        Body::new(ClaimedBody {
            body,
            delivery: Some(delivery),
            outbox: outbox.clone(),
        })
    })
}

/// A body whose end moves what the response holds to the connection.
struct ClaimedBody<T> {
    body: Body,
    delivery: Option<Delivery<T>>,
    outbox: Outbox<T>,
}

impl<T> ClaimedBody<T> {
    fn end(&mut self) {
        if let Some(delivery) = self.delivery.take() {
            self.outbox.put(delivery);
        }
    }
}

impl<T: Unpin> http_body::Body for ClaimedBody<T> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            None => self.end(),
            // The library asks a body that says it is over for nothing more.
            Some(Ok(_)) if self.body.is_end_stream() => self.end(),
            Some(_) => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection that commits what its outbox holds whenever everything written has been flushed.
pub(super) struct Committing<S, T> {
    stream: S,
    outbox: Outbox<T>,
}

impl<S, T> Committing<S, T> {
    pub(super) fn new(stream: S, outbox: Outbox<T>) -> Self {
        Self { stream, outbox }
    }
}

impl<S: AsyncRead + Unpin, T> AsyncRead for Committing<S, T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin, T> AsyncWrite for Committing<S, T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        for delivery in self.outbox.take() {
            if let Some(claim) = delivery.claim {
                claim.commit();
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
