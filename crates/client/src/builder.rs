//! How a client is to behave.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use pollster::block_on;
use prometheus_rsocket_wire::Description;
use prometheus_rsocket_wire::description::DescriptionError;
use prometheus_rsocket_wire::sealing::Choice;
use tokio::sync::{mpsc, watch};
#[cfg(feature = "tls")]
use tokio_rustls::rustls::ClientConfig;

use crate::client::Task;
use crate::credentials::{Credentials, Secret};
use crate::description::Described;
use crate::errors::ConnectError;
use crate::http_proxy::HttpProxy;
use crate::metrics::Counters;
use crate::reconnect::Reconnect;
use crate::render::{IntoText, Render, Renderer, Request};
use crate::schedule::Schedule;
#[cfg(feature = "signal")]
use crate::signal::AfterSigterm;
use crate::socket::Sockets;
use crate::state::{OnKey, State};
use crate::supervisor::Supervisor;
#[cfg(feature = "tls")]
use crate::tls::TlsError;
use crate::{Address, Client, runtime};

/// Commands waiting for the client's task; a push waits for room.
const COMMANDS: usize = 4;
/// The most texts that can be rendered at a time: each may hold a thread.
const MAX_RENDERS: usize = 1024;
/// The shortest interval between looks at the preferred proxies: each is a whole connection.
const MIN_PREFER_INTERVAL: Duration = Duration::from_secs(1);

/// How a client is to behave.
#[derive(Clone)]
pub struct Builder {
    render: Render,
    max_renders: usize,
    described: Described,
    pub(crate) enabled: bool,
    proxies: Vec<Address>,
    pub(crate) first_backoff: Duration,
    pub(crate) max_backoff: Duration,
    pub(crate) max_retries: Option<u32>,
    timeout: Duration,
    prefer_first: Option<Duration>,
    on_key: Option<OnKey>,
    own_metrics: bool,
    envelope: Choice,
    own_thread: bool,
    push_on_drop: bool,
    #[cfg(feature = "signal")]
    push_on_sigterm: Option<AfterSigterm>,
    pub(crate) sockets: Sockets,
}

impl Client {
    /// A client whose text `render` gives. It is called for each pull and push, on a thread where it may take its time.
    pub fn builder<T: IntoText>(render: impl Fn() -> T + Send + Sync + 'static) -> Builder {
        Builder::new(Render::blocking(render))
    }

    /// A client whose text the future of `render` gives, which may wait for others until the request's deadline.
    pub fn builder_async<F, T>(render: impl Fn(Request) -> F + Send + Sync + 'static) -> Builder
    where
        F: Future<Output = T> + Send + 'static,
        T: IntoText,
    {
        Builder::new(Render::waiting(render))
    }
}

impl Builder {
    pub(crate) fn new(render: Render) -> Self {
        Self {
            render,
            max_renders: 4,
            described: Described::default(),
            enabled: true,
            proxies: Vec::new(),
            first_backoff: Duration::from_secs(10),
            max_backoff: Duration::from_secs(600),
            max_retries: None,
            timeout: Duration::from_secs(5),
            prefer_first: None,
            on_key: None,
            own_metrics: false,
            envelope: Choice::Best,
            own_thread: false,
            push_on_drop: false,
            #[cfg(feature = "signal")]
            push_on_sigterm: None,
            sockets: Sockets::default(),
        }
    }

    /// Where the proxy is, instead of all said before; `tcp://localhost:7001` if nothing is said.
    pub fn proxy(self, address: Address) -> Self {
        self.proxies([address])
    }

    /// Several proxies, instead of all said before. An attempt to connect goes through them in turn until one sends its
    /// key; one that accepts the connection but sends no key within 10 s, or 2 s while a push waits, counts as not
    /// answering. (A single proxy is waited for: past its limits it leaves connections unanswered for a while.) None: as
    /// if nothing was said.
    pub fn proxies(mut self, addresses: impl IntoIterator<Item = Address>) -> Self {
        self.proxies = addresses.into_iter().collect();
        self
    }

    /// Connects through this HTTP proxy (`CONNECT`), whatever the addresses begin with. It looks up their hosts itself; TLS
    /// and envelopes pass through it unread. [`Builder::http_proxy_from_env`] takes it from the environment, which a
    /// client does not read by itself.
    pub fn http_proxy(mut self, proxy: HttpProxy) -> Self {
        self.sockets.http_proxy = Some(proxy);
        self
    }

    #[cfg(test)]
    pub(crate) fn addresses(&self) -> &[Address] {
        &self.proxies
    }

    /// While connected to a later one of several proxies, tries the earlier ones at this interval (1 s at least, and each
    /// time lengthened by up to itself at random), and moves over when one sends its key. The new connection serves
    /// before the old one is closed, and what is under way on the old one has 10 s to finish; a push is sent again over
    /// the new one then. Without this the client stays where it is until the connection ends.
    pub fn prefer_first(mut self, interval: Duration) -> Self {
        self.prefer_first = Some(interval.max(MIN_PREFER_INTERVAL));
        self
    }

    /// What Prometheus is to call this application, where it is a target of its own: 1 to 255 bytes without control
    /// characters. It should stay the same when the application starts again, and no other may have it. If not said,
    /// it is host name and process id.
    ///
    /// # Errors
    ///
    /// When it cannot be a name.
    pub fn instance(mut self, instance: impl Into<String>) -> Result<Self, DescriptionError> {
        self.described.set_instance(instance.into())?;
        Ok(self)
    }

    /// What kind of application this is; as long as an instance can be.
    ///
    /// # Errors
    ///
    /// As [`Builder::instance`].
    pub fn job(mut self, job: impl Into<String>) -> Result<Self, DescriptionError> {
        self.described.set_job(job.into())?;
        Ok(self)
    }

    /// One more label of this application as a target; at most 64, and 64 KiB with all that is said of it.
    ///
    /// # Errors
    ///
    /// When it has a name that a target's label cannot have, such as `instance`, or is one too many.
    pub fn label(
        mut self,
        name: impl Into<String>,
        value: impl Into<String>,
    ) -> Result<Self, DescriptionError> {
        self.described.set_label(name.into(), value.into())?;
        Ok(self)
    }

    /// For an application that answers for others, or for no target at all: what it says it is, instead of
    /// [`Builder::instance`], [`Builder::job`] and [`Builder::label`]. Pulls name the one of several targets that is
    /// meant ([`Request::target`]). [`Client::describe`] changes it.
    ///
    /// # Errors
    ///
    /// When it exceeds a limit, or names a target twice.
    pub fn description(mut self, description: Description) -> Result<Self, DescriptionError> {
        self.described.set(description)?;
        Ok(self)
    }

    /// How many texts are rendered at a time, 4 if not said, and 1 at least. A further pull is refused, a further push
    /// waits.
    pub fn max_renders(mut self, texts: usize) -> Self {
        self.max_renders = texts.clamp(1, MAX_RENDERS);
        self
    }

    /// The delays between attempts to connect: the first (10 s if not said, as in the Java client) doubles until the
    /// greatest (10 min). Each is lengthened by up to itself, at random. They are shorter, 1 s at most before that,
    /// while a push waits. Neither is shorter than 100 ms, nor the first longer than the greatest.
    ///
    /// After the end of a connection that lived for 30 s the client is back within 500 ms, or within the first delay if
    /// that is shorter. If it does not find the proxy then, it tries again after 0.5 to 1, 1 to 2 and 2 to 4 s before it
    /// waits for the first delay. While connections keep ending earlier, these delays double too.
    pub fn backoff(mut self, first: Duration, max: Duration) -> Self {
        self.first_backoff = first;
        self.max_backoff = max;
        self
    }

    /// How many attempts to connect may fail after a failed one, before the client gives up: then everything fails with
    /// [`PushError::Closed`](crate::PushError::Closed). An attempt tries all proxies. One that succeeds resets the count;
    /// one that is made early because a push waits, and fails, is not counted. Default: no limit.
    pub fn max_retries(mut self, retries: u32) -> Self {
        self.max_retries = Some(retries);
        self
    }

    /// How long a push waits for its acknowledgement, the rendering and all connections it takes included, and
    /// [`Builder::connect_and_wait`] for the key; 5 s if not said.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Calls `callback` whenever a key comes that is not the one before: on the first connection, and when a proxy has
    /// a new one. It runs on a thread where it may take its time.
    pub fn on_key(mut self, callback: impl Fn() + Send + Sync + 'static) -> Self {
        self.on_key = Some(Arc::new(callback));
        self
    }

    /// Whether to put the client's own metrics behind the application's text, in the format that this is in; not if not
    /// said. They are those of [`Metrics`](crate::Metrics), with the prefix `prometheus_rsocket_client_`:
    ///
    /// | family | labels |
    /// |---|---|
    /// | `connected` | |
    /// | `connects_total`, `retries_total` | |
    /// | `connection_errors_total` | `reason`: see [`Reason`](crate::Reason) |
    /// | `pulls_total` | `outcome`: `answered`, `failed`, `cancelled` |
    /// | `pushes_total` | `outcome`: `acknowledged`, `unacknowledged`, `refused`, `failed` |
    pub fn own_metrics(mut self, wanted: bool) -> Self {
        self.own_metrics = wanted;
        self
    }

    /// Seals by envelope version 2 or not at all: connections to a proxy that does not offer it fail. Otherwise the client
    /// seals by whatever the proxy opens, as the Java client does, and somebody between the two can make both believe
    /// that there is nothing better than version 1, or than plain text.
    pub fn forbid_downgrade(mut self) -> Self {
        self.envelope = Choice::Version2;
        self
    }

    /// Seals by envelope version 1, as the Java client, also where the proxy offers better: to compare the two.
    pub fn envelope_version1(mut self) -> Self {
        self.envelope = Choice::Version1;
        self
    }

    /// Whether to connect at all; so if not said. A client that is not enabled does nothing, and whatever is asked of it
    /// succeeds: for a switch in the configuration.
    pub fn enabled(mut self, enabled: bool) -> Self {
        self.enabled = enabled;
        self
    }

    /// Runs the client on a thread of its own, with a runtime of its own, even where there is one already: it goes on
    /// when that one is busy, or gone.
    pub fn own_thread(mut self) -> Self {
        self.own_thread = true;
        self
    }

    /// Pushes when the client is dropped, and holds up the dropping thread until the acknowledgement, for
    /// [`Builder::timeout`] at most. Nobody learns how it went, except the log. The client runs on a thread of its own
    /// then, so it does not matter what kind of runtime drops it; but an async closure that needs that very runtime
    /// thread gets no further while the drop waits. [`Client::close`] does not push.
    pub fn push_on_drop(mut self) -> Self {
        self.push_on_drop = true;
        self
    }

    /// Pushes when the process gets SIGTERM, waits for the acknowledgement, for [`Builder::timeout`] at most, and closes.
    /// What then becomes of the process, `afterwards` says. Has no effect on systems without SIGTERM.
    #[cfg(feature = "signal")]
    pub fn push_on_sigterm(mut self, afterwards: AfterSigterm) -> Self {
        self.push_on_sigterm = Some(afterwards);
        self
    }

    /// Shows this token to the proxy (`--rsocket.auth.file` there). TLS keeps others from reading it.
    #[must_use]
    pub fn bearer_token(self, token: impl Into<Vec<u8>>) -> Self {
        self.showing(None, Secret::Value(Arc::new(token.into().into())))
    }

    /// Shows the token in this file, which is read for each connection. White space at its end is not part of it.
    #[must_use]
    pub fn bearer_token_file(self, path: impl Into<PathBuf>) -> Self {
        self.showing(None, Secret::File(path.into()))
    }

    /// Shows a name and its password.
    #[must_use]
    pub fn password(self, name: impl Into<String>, password: impl Into<Vec<u8>>) -> Self {
        let password = Secret::Value(Arc::new(password.into().into()));
        self.showing(Some(name.into()), password)
    }

    /// Shows a name and the password in this file, which is read for each connection. White space at its end is not part
    /// of it.
    #[must_use]
    pub fn password_file(self, name: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        self.showing(Some(name.into()), Secret::File(path.into()))
    }

    fn showing(mut self, name: Option<String>, secret: Secret) -> Self {
        self.sockets.credentials = Credentials::new(name, secret);
        self
    }

    /// Starts connecting in the background: on the current tokio runtime, or where there is none on a thread of its own.
    pub fn connect(self) -> Client {
        let counters = Arc::new(Counters::default());
        let timeout = self.timeout;
        let push_on_drop = self.push_on_drop && self.enabled;
        let task = if self.enabled {
            self.start(Arc::clone(&counters))
        } else {
            Task::None
        };
        Client {
            task,
            counters,
            timeout,
            push_on_drop,
        }
    }

    /// [`Builder::connect`], then waits until the proxy's key has come, for [`Builder::timeout`] at most. Where the
    /// application should go on without the proxy, use [`Builder::connect`] and [`Client::ready_within`].
    ///
    /// # Errors
    ///
    /// When it did not come in time, or the client gave up, or the attempt failed in a way that no waiting mends
    /// ([`ConnectError::GaveUp`]); there is no client then.
    pub async fn connect_and_wait(self) -> Result<Client, ConnectError> {
        let mut client = self.connect();
        let connected = client.ready_within(client.timeout).await;
        // There is nothing to push to.
        client.push_on_drop &= connected.is_ok();
        connected.map(|()| client)
    }

    /// [`Builder::connect_and_wait`] for threads without a runtime. The client runs on a thread of its own.
    ///
    /// # Errors
    ///
    /// As [`Builder::connect_and_wait`].
    pub fn connect_and_wait_blocking(self) -> Result<Client, ConnectError> {
        block_on(self.own_thread().connect_and_wait())
    }

    fn start(mut self, counters: Arc<Counters>) -> Task {
        let (commands, receiver) = mpsc::channel(COMMANDS);
        if self.proxies.is_empty() {
            self.proxies.push(Address::default());
        }
        let own_thread = self.own_thread || self.push_on_drop;
        let state = Arc::new(self.state(counters));
        let task = Task::Running {
            commands,
            link: state.link.subscribe(),
            failure: state.failure.subscribe(),
            description: state.description.clone(),
        };
        let supervisor = Supervisor {
            state: Arc::clone(&state),
            commands: receiver,
            timeout: self.timeout,
            #[cfg(feature = "signal")]
            push_on_sigterm: self.push_on_sigterm,
        };
        let reconnect = self.reconnect(state);
        runtime::start(move || supervisor.run(reconnect), own_thread);
        task
    }

    pub(crate) fn state(&self, counters: Arc<Counters>) -> State {
        // It was checked when it was said.
        let description = self.described.clone().encode().unwrap_or_default();
        State {
            renderer: Renderer::new(self.render.clone(), self.max_renders),
            max_renders: self.max_renders,
            description: watch::Sender::new(description),
            counters,
            own_metrics: self.own_metrics,
            envelope: self.envelope,
            link: watch::Sender::new(None),
            failure: watch::Sender::new(String::new()),
            lasting_failures: watch::Sender::new(0),
            attempt: watch::Sender::new(None),
            pushes: watch::Sender::new(0),
            on_key: self.on_key.clone(),
            last_key: Mutex::new(Bytes::new()),
        }
    }

    pub(crate) fn reconnect(self, state: Arc<State>) -> Reconnect {
        Reconnect {
            state,
            proxies: self.proxies,
            sockets: self.sockets,
            schedule: Schedule::new(self.first_backoff, self.max_backoff, self.max_retries),
            prefer_first: self.prefer_first,
        }
    }
}

#[cfg(feature = "tls")]
impl Builder {
    /// Trusts the certificates in this PEM file, and not those of the system. It is read now, to find mistakes early,
    /// and for each connection, to find a new one.
    ///
    /// # Errors
    ///
    /// When the file holds no certificate.
    pub fn tls_ca_file(mut self, path: impl Into<PathBuf>) -> Result<Self, TlsError> {
        self.sockets.tls.trust(path.into())?;
        Ok(self)
    }

    /// Shows a proxy that asks for it the certificate (with its chain, if there is one) in the first of these PEM files,
    /// with the key in the second. They are read now, and for each connection.
    ///
    /// # Errors
    ///
    /// When the files hold no certificate and key that go together.
    pub fn tls_client_certificate(
        mut self,
        certificates: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Result<Self, TlsError> {
        self.sockets.tls.show(certificates.into(), key.into())?;
        Ok(self)
    }

    /// Uses this configuration and no files.
    pub fn tls_config(mut self, config: impl Into<Arc<ClientConfig>>) -> Self {
        self.sockets.tls.set_config(config.into());
        self
    }
}
