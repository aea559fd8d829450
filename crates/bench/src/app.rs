//! A simulated application, on the client library: what the figures say holds for those that link it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::ValueEnum;
use prometheus_rsocket_client::{
    Address, Builder, Client, ConnectError, Description, HttpProxy, PushError, TargetDescription,
};

use super::failure::{FailureKind, LoadFailure};
use super::renderer::Renderer;
use super::text::Source;

/// The client's name and version.
const CLIENT: &str = concat!("bench ", env!("CARGO_PKG_VERSION"));
/// Delays between attempts to connect, and how many: in a storm, a few are lost.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const MAX_DELAY: Duration = Duration::from_secs(1);
const RETRIES: u32 = 3;

/// What all applications of a run share.
#[derive(Debug)]
pub(super) struct Load {
    /// Tried in turn.
    pub(super) proxies: Vec<Address>,
    pub(super) http_proxy: Option<HttpProxy>,
    pub(super) renderer: Renderer,
    pub(super) envelope: Envelope,
    /// For a connection with its key, and for the acknowledgement of a push.
    pub(super) timeout: Duration,
}

impl Load {
    /// What a source says it is. A job is nothing that can be scraped.
    fn description(&self, source: Source) -> Description {
        let target = match source {
            Source::Application(number) => Some(TargetDescription {
                instance: format!("app-{number}"),
                job: Some(self.renderer.job()),
                ..TargetDescription::default()
            }),
            Source::Job(_) => None,
        };
        Description {
            client: CLIENT.to_owned(),
            targets: target.into_iter().collect(),
        }
    }
}

/// Which envelope the applications use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Envelope {
    /// The highest that the proxy offers, as the Rust client
    Auto,
    /// Version 1, as the Java client
    #[value(name = "1")]
    Version1,
    /// Version 2; fails if the proxy does not offer it
    #[value(name = "2")]
    Version2,
}

impl Envelope {
    fn apply(self, builder: Builder) -> Builder {
        match self {
            Self::Auto => builder,
            Self::Version1 => builder.envelope_version1(),
            Self::Version2 => builder.forbid_downgrade(),
        }
    }
}

/// An application that the proxy has sent its key.
pub(super) struct App {
    client: Client,
    /// Connections that ended and were counted.
    lost: u64,
}

impl App {
    /// Connects, waits for the key, and answers every pull with the text of the moment from then on. Gives the time that
    /// it took, too.
    pub(super) async fn connect(
        load: Arc<Load>,
        source: Source,
    ) -> Result<(Self, Duration), LoadFailure> {
        let rounds = Arc::new(AtomicU64::new(0));
        let rendering = Arc::clone(&load);
        let builder = Client::builder_async(move |_| {
            let round = rounds.fetch_add(1, Ordering::Relaxed);
            let load = Arc::clone(&rendering);
            async move { load.renderer.text(source, round).await }
        });
        let started = Instant::now();
        let app = Self::started(&load, builder, source).await?;
        Ok((app, started.elapsed()))
    }

    /// Connects, pushes the text of a source and leaves. Gives the time from the push to its acknowledgement. A job is
    /// pulled as well while it is connected, and says nothing then.
    pub(super) async fn push(load: Arc<Load>, source: Source) -> Result<Duration, LoadFailure> {
        let text = load.renderer.text(source, 0).await;
        let text = Bytes::from(text.map_err(|why| LoadFailure::new(FailureKind::Render, why))?);
        let builder = Client::builder_async(move |request| {
            let text = if request.push {
                text.clone()
            } else {
                Bytes::new()
            };
            std::future::ready(text)
        });
        let Self { client, .. } = Self::started(&load, builder, source).await?;
        let sent = Instant::now();
        let pushed = client.push().await.map(|()| sent.elapsed());
        client.close().await;
        pushed.map_err(|error| LoadFailure::new(kind_of(&error), error))
    }

    async fn started(load: &Load, builder: Builder, source: Source) -> Result<Self, LoadFailure> {
        let described = builder.description(load.description(source));
        let mut builder = described
            .map_err(|error| LoadFailure::new(FailureKind::Connect, error))?
            .proxies(load.proxies.iter().cloned())
            .timeout(load.timeout)
            .backoff(FIRST_DELAY, MAX_DELAY)
            .max_retries(RETRIES);
        if let Some(proxy) = &load.http_proxy {
            builder = builder.http_proxy(proxy.clone());
        }
        let connected = load.envelope.apply(builder).connect_and_wait().await;
        let client = connected.map_err(|error| {
            let kind = match error {
                ConnectError::NoKey(_) => FailureKind::Key,
                _ => FailureKind::Connect,
            };
            LoadFailure::new(kind, error)
        })?;
        Ok(Self { client, lost: 0 })
    }

    /// Whether it is connected now; and how many connections it has lost since it was asked last, and why.
    pub(super) fn look(&mut self) -> (bool, Option<(LoadFailure, usize)>) {
        let metrics = self.client.metrics();
        let ended = metrics.connects - u64::from(metrics.connected);
        let lost = ended.saturating_sub(self.lost);
        self.lost = self.lost.max(ended);
        let mut errors = metrics.connection_errors.iter();
        let why = errors.find(|(_, times)| *times > 0);
        let why = why.map_or("ended", |(reason, _)| reason.label());
        let failure = LoadFailure::new(FailureKind::Lost, why);
        let times = usize::try_from(lost).unwrap_or(usize::MAX);
        (metrics.connected, (times > 0).then_some((failure, times)))
    }

    /// Closes the connection in good order.
    pub(super) async fn leave(self) {
        self.client.close().await;
    }
}

fn kind_of(error: &PushError) -> FailureKind {
    match error {
        PushError::Refused { .. } => FailureKind::PushRefused,
        PushError::TooLong | PushError::Sealing => FailureKind::Seal,
        _ => FailureKind::PushUnacknowledged,
    }
}
