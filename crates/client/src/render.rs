//! Asks the application for its text: a few at a time, and whatever its closure does.

use std::fmt::Display;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use prometheus_rsocket_wire::description::TargetName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{AbortHandle, JoinError, spawn_blocking};
use tracing::warn;

/// Why the application gave no text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct RenderError {
    reason: String,
}

impl RenderError {
    fn new(reason: impl Display) -> Self {
        Self {
            reason: reason.to_string(),
        }
    }
}

/// What the text is wanted for.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Request {
    /// When it must be there: for a push its deadline, for a pull `None` where the proxy does not say.
    pub deadline: Option<Instant>,
    /// For a push; else for a pull. An application that has nothing to say but what it pushes gives an empty text to a
    /// pull that comes between, so that its samples are not served twice.
    pub push: bool,
    /// Which of the targets in the application's [`Description`](crate::Description) is meant; `None`: all. Only where
    /// there are several.
    pub target: Option<TargetName>,
}

/// What a closure may give: text, or a [`Result`] whose error becomes the reason why there is none.
pub trait IntoText {
    /// The text in UTF-8.
    ///
    /// # Errors
    ///
    /// When there is none: the pull is answered with an ERROR, the push fails.
    fn into_text(self) -> Result<Bytes, RenderError>;
}

macro_rules! into_text {
    ($($text:ty),+) => {$(
        impl IntoText for $text {
            fn into_text(self) -> Result<Bytes, RenderError> {
                Ok(self.into())
            }
        }
    )+};
}

into_text!(
    Bytes,
    BytesMut,
    String,
    Vec<u8>,
    Box<[u8]>,
    &'static str,
    &'static [u8]
);

impl<T: IntoText, E: Display> IntoText for Result<T, E> {
    fn into_text(self) -> Result<Bytes, RenderError> {
        self.map_err(RenderError::new)?.into_text()
    }
}

type Text = Result<Bytes, RenderError>;
type TextFuture = Pin<Box<dyn Future<Output = Text> + Send>>;

/// Gives the text of the moment.
#[derive(Clone)]
pub(crate) enum Render {
    /// Takes its time on a thread of its own.
    Blocking(Arc<dyn Fn() -> Text + Send + Sync>),
    /// Waits for others.
    Async(Arc<dyn Fn(Request) -> TextFuture + Send + Sync>),
}

impl Render {
    pub(crate) fn blocking<T: IntoText>(render: impl Fn() -> T + Send + Sync + 'static) -> Self {
        Self::Blocking(Arc::new(move || render().into_text()))
    }

    pub(crate) fn waiting<F, T>(render: impl Fn(Request) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = T> + Send + 'static,
        T: IntoText,
    {
        Self::Async(Arc::new(move |request| {
            let text = render(request);
            Box::pin(async move { text.await.into_text() })
        }))
    }
}

/// The application's closure, guarded.
pub(crate) struct Renderer {
    render: Render,
    permits: Arc<Semaphore>,
}

impl Renderer {
    /// Renders at most so many texts at a time: a closure that never returns can hold up this many threads, not more.
    pub(crate) fn new(render: Render, max_renders: usize) -> Self {
        Self {
            render,
            permits: Arc::new(Semaphore::new(max_renders)),
        }
    }

    /// Leave to render now, if not too much is being rendered already.
    pub(crate) fn try_permit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.permits).try_acquire_owned().ok()
    }

    /// Leave to render, as soon as there is room.
    pub(crate) async fn permit(&self) -> Result<OwnedSemaphorePermit, RenderError> {
        let permit = Arc::clone(&self.permits).acquire_owned();
        permit.await.map_err(RenderError::new)
    }

    /// Renders. Dropped, it gives an async closure's future up; a blocking one goes on, and keeps its permit.
    pub(crate) async fn text(&self, request: Request, permit: OwnedSemaphorePermit) -> Text {
        let rendered = match self.render.clone() {
            Render::Blocking(render) => {
                let rendering = spawn_blocking(move || {
                    let _permit = permit;
                    render()
                });
                rendering.await
            }
            Render::Async(render) => {
                let rendering = tokio::spawn(async move {
                    let _permit = permit;
                    render(request).await
                });
                let _abort = AbortOnDrop(rendering.abort_handle());
                rendering.await
            }
        };
        rendered.unwrap_or_else(|panicked| Err(panic_reason(&panicked)))
    }
}

fn panic_reason(panicked: &JoinError) -> RenderError {
    warn!(error = %panicked, "the application's metrics could not be rendered");
    RenderError::new("the application's closure panicked")
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
