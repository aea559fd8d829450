//! Knows when a response has been handed over: not when its last byte was made, but when the kernel has taken it.
//!
//! A scrape's pushes are committed then. Between the body and the socket lie the compressor's and the HTTP library's
//! buffers; a body that ended says nothing about them. So the body, at its end, leaves its [`Claim`] with the
//! connection, and the connection's next flush, which the library makes once its buffers are empty, commits it. A body
//! dropped before its end, and a connection dropped before that flush, give the claim back.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::response::Response;
use http_body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::push::Claim;

/// Claims of one connection whose responses are written but not flushed.
#[derive(Clone, Default)]
pub(super) struct Outbox(Arc<Mutex<Vec<Claim>>>);

impl Outbox {
    fn put(&self, claim: Claim) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(claim);
    }

    fn take(&self) -> Vec<Claim> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
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
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Binds the claim that `response` carries to the end of its body, after everything that rewrites the body. A response that
/// was turned into another one (406, where no encoding is accepted) serves no push. `held` is kept as long as the body.
pub(super) fn attach<T: Send + Unpin + 'static>(
    mut response: Response,
    outbox: &Outbox,
    held: T,
) -> Response {
    let carried = response.extensions_mut().remove::<Carries>();
    let carried = carried.filter(|_| response.status() == StatusCode::OK);
    let claim = carried.and_then(|carries| carries.take());
    response.map(|body| {
        Body::new(ClaimedBody {
            body,
            claim,
            outbox: outbox.clone(),
            _held: held,
        })
    })
}

/// A body whose end moves a claim, where there is one, to the connection.
struct ClaimedBody<T> {
    body: Body,
    claim: Option<Claim>,
    outbox: Outbox,
    _held: T,
}

impl<T> ClaimedBody<T> {
    fn end(&mut self) {
        if let Some(claim) = self.claim.take() {
            self.outbox.put(claim);
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
pub(super) struct Committing<S> {
    stream: S,
    outbox: Outbox,
}

impl<S> Committing<S> {
    pub(super) fn new(stream: S, outbox: Outbox) -> Self {
        Self { stream, outbox }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Committing<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Committing<S> {
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
        for claim in self.outbox.take() {
            claim.commit();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
