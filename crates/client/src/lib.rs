//! Exposes the metrics of an application through Prometheus RSocket Proxy: for applications that can open connections
//! only outwards, or that end before anyone scrapes them.
//!
//! A [`Client`] holds one connection to the proxy and answers each pull with what a closure of the application renders.
//! It reconnects by itself, for ever, with a growing and jittered delay. What was rendered can also be pushed: the proxy
//! holds it until the next scrape.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use prometheus_rsocket_client::Client;
//!
//! let client = Client::builder(|| "jobs_done_total 1\n".to_owned())
//!     .proxy("tcp://localhost:7001".parse()?)
//!     .connect();
//! client.ready().await?;
//! // … the application does its work, and at the end:
//! client.push_and_close().await?;
//! # Ok(())
//! # }
//! ```

mod address;
mod connection;
mod reconnect;

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use address::{Address, AddressError};
use bytes::Bytes;
use prometheus_rsocket_wire::ErrorCode;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

/// Commands waiting for the connection's task; whoever pushes waits for room.
const COMMANDS: usize = 4;

/// Gives the text of the moment.
#[derive(Clone)]
pub(crate) enum Render {
    /// Takes its time on a thread of its own.
    Blocking(Arc<dyn Fn() -> Bytes + Send + Sync>),
    /// Waits for others.
    Async(Arc<dyn Fn(Request) -> BoxFuture + Send + Sync>),
}

type BoxFuture = Pin<Box<dyn Future<Output = Bytes> + Send>>;

/// What the text is wanted for.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct Request {
    /// When it must be there; `None` for a push, and where the proxy does not say.
    pub deadline: Option<Instant>,
}

/// Why a push was not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// The proxy refused it.
    #[error("the proxy refused the push with {code}: {message}")]
    Refused {
        /// What kind of refusal.
        code: ErrorCode,
        /// The proxy's reason.
        message: String,
    },
    /// The closure that renders the text panicked.
    #[error("the metrics could not be rendered")]
    Render,
    /// The text is too long to be sealed.
    #[error("the text is too long for one push")]
    TooLong,
    /// The connection ended before the acknowledgement came: the proxy may or may not hold the push.
    #[error("the connection ended before the push was acknowledged")]
    Disconnected,
    /// No acknowledgement in time.
    #[error("the push was not acknowledged in time")]
    Timeout,
    /// The client is closed.
    #[error("the client is closed")]
    Closed,
}

/// How a client is to behave.
#[derive(Clone)]
pub struct Builder {
    render: Render,
    address: Address,
    first_backoff: Duration,
    max_backoff: Duration,
    timeout: Duration,
}

impl Builder {
    /// Where the proxy is; `tcp://localhost:7001` if not said.
    pub fn proxy(mut self, address: Address) -> Self {
        self.address = address;
        self
    }

    /// Several proxies, tried in turn; none: as if not said.
    pub fn proxies(mut self, addresses: impl IntoIterator<Item = Address>) -> Self {
        if let Some(first) = addresses.into_iter().next() {
            self.address = first;
        }
        self
    }

    /// The delays between attempts to connect: the first (10 s if not said, as in the Java client) doubles until the
    /// greatest (10 min). Each is lengthened by up to itself, at random.
    pub fn backoff(mut self, first: Duration, max: Duration) -> Self {
        self.first_backoff = first;
        self.max_backoff = max;
        self
    }

    /// How long a push waits for its acknowledgement; 5 s if not said.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Starts connecting in the background, on the current tokio runtime.
    pub fn connect(self) -> Client {
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let (ready, ready_receiver) = watch::channel(false);
        let timeout = self.timeout;
        tokio::spawn(reconnect::run(self, receiver, ready));
        Client {
            commands,
            ready: ready_receiver,
            timeout,
        }
    }
}

pub(crate) enum Command {
    Push(oneshot::Sender<Result<(), PushError>>),
    Close,
}

/// A connection to the proxy that is made again whenever it ends. Dropped, it is closed.
#[derive(Debug)]
pub struct Client {
    commands: mpsc::Sender<Command>,
    ready: watch::Receiver<bool>,
    timeout: Duration,
}

impl Client {
    /// A client whose text `render` gives. It is called for each pull and push, on a thread where it may take its time.
    pub fn builder<T: Into<Bytes>>(render: impl Fn() -> T + Send + Sync + 'static) -> Builder {
        Self::builder_of(Render::Blocking(Arc::new(move || render().into())))
    }

    /// A client whose text the future of `render` gives, which may wait for others until the request's deadline.
    pub fn builder_async<F, T>(render: impl Fn(Request) -> F + Send + Sync + 'static) -> Builder
    where
        F: Future<Output = T> + Send + 'static,
        T: Into<Bytes>,
    {
        Self::builder_of(Render::Async(Arc::new(move |request| {
            let text = render(request);
            Box::pin(async move { text.await.into() })
        })))
    }

    fn builder_of(render: Render) -> Builder {
        Builder {
            render,
            address: Address::default(),
            first_backoff: Duration::from_secs(10),
            max_backoff: Duration::from_secs(600),
            timeout: Duration::from_secs(5),
        }
    }

    /// Waits until the proxy's key has come, so that the application can be pulled and may push.
    pub async fn ready(&self) -> Result<(), PushError> {
        let ready = self
            .ready
            .clone()
            .wait_for(|ready| *ready)
            .await
            .map(|_| ());
        ready.map_err(|_| PushError::Closed)
    }

    /// Pushes the text of the moment and waits until the proxy has acknowledged it; the connection stays.
    pub async fn push(&self) -> Result<(), PushError> {
        let push = async {
            let (reply, outcome) = oneshot::channel();
            self.commands
                .send(Command::Push(reply))
                .await
                .map_err(|_| PushError::Closed)?;
            outcome.await.unwrap_or(Err(PushError::Disconnected))
        };
        timeout(self.timeout, push)
            .await
            .unwrap_or(Err(PushError::Timeout))
    }

    /// [`Client::push`], then [`Client::close`], whatever came of the push.
    pub async fn push_and_close(self) -> Result<(), PushError> {
        let outcome = self.push().await;
        self.close().await;
        outcome
    }

    /// Closes the connection; nothing is pulled any more.
    pub async fn close(self) {
        // Closed already: nothing left to do.
        let _ = self.commands.send(Command::Close).await;
        self.commands.closed().await;
    }
}
