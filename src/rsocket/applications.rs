//! What all connections of applications share.

use std::sync::Arc;

use ipnet::IpNet;
use prometheus_rsocket_wire::memory::Memory;
use prometheus_rsocket_wire::session::Limits;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::admission::Admission;
use super::described::Descriptions;
use super::registry::Registry;
use super::{KeyRing, Metrics, PushSink, Settings};
use crate::directory::SharedDirectory;
use crate::identity::Table;
use crate::limits::eviction::EvictionQueue;
use crate::limits::rate::Rate;
use crate::tls::Offer;

/// Frames queued to one connection: more than an application ever has to be sent while it reads.
const MAX_QUEUED_FRAMES: usize = 64;

/// What all connections share.
pub struct Applications {
    /// The connected ones.
    pub registry: Arc<Registry>,
    /// What they seal with.
    pub keys: Arc<KeyRing>,
    /// Where their pushes go.
    pub pushes: Arc<dyn PushSink>,
    /// What is counted of them.
    pub metrics: Arc<Metrics>,
    /// Who is connected, by name.
    pub directory: Arc<SharedDirectory>,
    /// What to offer to the next client, and whether it is to show a certificate; `None`: no TLS.
    pub(super) tls: Option<Secured>,
    /// Who applications are.
    pub(super) identities: watch::Receiver<Arc<Table>>,
    /// How often a connection may push whose identity says nothing of that; `None`: as often as it likes.
    pub(super) push_rate: Option<Rate>,
    pub(super) limits: Limits,
    /// What they hold of payloads that are not opened yet.
    pub(super) memory: Arc<Memory>,
    /// What they say they are.
    pub(super) descriptions: Descriptions,
    /// The labels that are the name of one that does not say.
    pub(super) name_by: Arc<[String]>,
    pub(super) admission: Admission,
    /// Connections that are not set up.
    pub(super) handshakes: Arc<EvictionQueue>,
    /// Connections that are left unanswered for a while, instead of being closed at once. Apart from the handshakes, lest they
    /// keep those out, and because they would be back at once if they had to go.
    pub(super) unanswered: Arc<EvictionQueue>,
    /// Of web pages that may connect.
    pub(super) allowed_origins: Vec<String>,
    /// Who is believed where a connection comes from, with the PROXY protocol.
    pub(super) balancers: Vec<IpNet>,
    /// Who is believed where a WebSocket comes from, with `X-Forwarded-For`.
    pub(super) reverse_proxies: Vec<IpNet>,
    pub(super) tasks: TaskTracker,
    /// The node leaves: connections end in good order.
    pub(super) leaving: CancellationToken,
    /// The node has ended: connections end.
    pub(super) ended: CancellationToken,
}

/// What connections have in common with the rest of the node.
pub struct Shared {
    /// Those that are connected.
    pub registry: Arc<Registry>,
    /// What they seal with.
    pub keys: Arc<KeyRing>,
    /// Where their pushes go.
    pub pushes: Arc<dyn PushSink>,
    /// Who they are.
    pub identities: watch::Receiver<Arc<Table>>,
    /// What they hold of payloads that are not opened yet.
    pub memory: Arc<Memory>,
    /// What is counted of them.
    pub metrics: Arc<Metrics>,
    /// Who is connected, by name.
    pub directory: Arc<SharedDirectory>,
    /// The labels that are the name of an application that does not say what it is.
    pub name_by: Arc<[String]>,
}

/// How a listener does TLS.
#[derive(Debug)]
pub(super) struct Secured {
    /// The newest certificate, and what is asked of clients.
    pub(super) offer: watch::Receiver<Arc<Offer>>,
    /// Clients are to show one, too.
    pub(super) mutual: bool,
}

impl Applications {
    /// Once `ended`, every connection ends at once. `max_text` is the longest decompressed text, in bytes; what travels may
    /// be a little longer.
    pub fn new(
        settings: &Settings,
        max_text: usize,
        push_rate: Option<Rate>,
        shared: Shared,
        ended: CancellationToken,
    ) -> Self {
        let Shared {
            registry,
            keys,
            pushes,
            identities,
            memory,
            metrics,
            directory,
            name_by,
        } = shared;
        // Snappy lets text that does not compress grow by a sixth; the rest is for padding and the wrapped key.
        let max_payload = max_text
            .saturating_add(max_text / 6)
            .saturating_add(4 << 10);
        Self {
            registry,
            keys,
            pushes,
            metrics,
            directory,
            tls: None,
            identities,
            push_rate,
            limits: Limits {
                max_frame: settings.max_frame,
                max_payload,
                max_queued_frames: MAX_QUEUED_FRAMES,
                setup_timeout: settings.setup_timeout,
                ..Limits::default()
            },
            memory,
            descriptions: Descriptions::default(),
            name_by,
            admission: Admission::new(
                settings.max_connections,
                settings.max_connections_per_address,
            ),
            handshakes: EvictionQueue::new(settings.max_handshakes),
            unanswered: EvictionQueue::new(usize::MAX),
            allowed_origins: settings.allowed_origins.clone(),
            balancers: settings.proxy_protocol_trusted.clone(),
            reverse_proxies: settings.forwarded_for_trusted.clone(),
            tasks: TaskTracker::new(),
            leaving: CancellationToken::new(),
            ended,
        }
    }

    /// With TLS, to whose next client this is offered; `mutual`: clients are to show a certificate, too.
    pub fn with_tls(mut self, offer: watch::Receiver<Arc<Offer>>, mutual: bool) -> Self {
        self.tls = Some(Secured { offer, mutual });
        self
    }

    /// Those that may have to make room for others, first those that go first.
    pub(super) fn eviction_queues(&self) -> [&EvictionQueue; 2] {
        [&self.handshakes, &self.unanswered]
    }

    /// Ends every connection once its pull is over, and waits until all have ended and every push that came is held or
    /// refused. No listener runs any more.
    pub async fn leave(&self) {
        self.leaving.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
