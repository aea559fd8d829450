//! A node: every part made, joined and started here.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{info, warn};

use crate::cluster::calls::{self, Calling, Joining, Peers};
use crate::cluster::secret::Purpose;
use crate::cluster::{Cluster, Load, MemberId, Vitals};
use crate::drain::{self, Leaving, Lifecycle};
use crate::http::{self, Identity, Site};
use crate::metrics::Metrics;
use crate::push::{Pushes, Sink};
use crate::rsocket::{Applications, KeyRing, Listener, Opener, Registry, Transport};
use crate::scrape::Scraper;
use crate::settings::{self, Settings};
use crate::store::NodeId;

/// A node that joins waits no longer than this for others to know it.
const JOIN_WITHIN: Duration = Duration::from_secs(5);
/// Between two questions whether they do.
const JOIN_PAUSE: Duration = Duration::from_millis(100);
/// Bytes of a message between nodes beside its text, which Snappy may lengthen by a sixth: names of pushes, mostly.
const MESSAGE_OVERHEAD: usize = 16 << 20;

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A port could not be opened.
    #[error("cannot listen on {address} ({flag}): {error}")]
    Listen {
        /// The flag that named the address.
        flag: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
    /// The metrics do not fit together: a mistake in this program.
    #[error("own metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// The system gives no more threads.
    #[error("threads: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
    /// The cluster's secret cannot be made use of.
    #[error("identity between nodes: {0}")]
    Identity(#[from] calls::IdentityError),
    /// Signals cannot be listened for.
    #[error("signals: {0}")]
    Signals(#[from] io::Error),
}

/// A running node. Dropped, it stops at once; [`Node::drain`] is the friendly way.
pub struct Node {
    /// Where HTTP is served.
    pub web_address: SocketAddr,
    /// Where RSocket over TCP is served.
    pub tcp_address: SocketAddr,
    /// Where RSocket over WebSocket is served.
    pub websocket_address: SocketAddr,
    /// Where it gossips with other nodes; `None` for a cluster of one.
    pub gossip_address: Option<SocketAddr>,
    /// Where other nodes call, in a cluster.
    pub grpc_address: Option<SocketAddr>,
    apps: Arc<Applications>,
    pushes: Arc<Pushes>,
    cluster: Cluster,
    metrics: Arc<Metrics>,
    lifecycle: Arc<Lifecycle>,
    web: http::Server,
    stop_accepting: CancellationToken,
    background: JoinSet<()>,
    ended: DropGuard,
}

impl Node {
    /// Opens the ports and starts serving, alone. Real addresses are in the fields, where port 0 was asked for.
    pub async fn bind(settings: Settings) -> Result<Self, StartError> {
        Self::start(settings, None).await
    }

    /// As [`Node::bind`], as one of several.
    pub async fn join(settings: Settings, joining: Joining) -> Result<Self, StartError> {
        Self::start(settings, Some(joining)).await
    }

    async fn start(settings: Settings, joining: Option<Joining>) -> Result<Self, StartError> {
        let started_at = SystemTime::now();
        let web_address = settings.web.listen_address;
        let tcp_address = settings.rsocket.tcp_listen_address;
        let websocket_address = settings.rsocket.websocket_listen_address;
        let web = http::Listener::bind(settings.web)
            .await
            .map_err(listen_error("--web.listen-address", web_address))?;
        let tcp = Listener::bind(tcp_address, Transport::Tcp)
            .map_err(listen_error("--rsocket.tcp.listen-address", tcp_address))?;
        let websocket = Listener::bind(websocket_address, Transport::WebSocket).map_err(
            listen_error("--rsocket.websocket.listen-address", websocket_address),
        )?;
        let mut clustering = settings.cluster;
        let grpc = match grpc_wanted(joining.as_ref(), clustering.as_ref()) {
            None => None,
            Some(address) => {
                let failed = listen_error("--cluster.grpc.listen-address", address);
                Some(calls::Listener::bind(address).await.map_err(failed)?)
            }
        };
        info!(listener = "web", address = %web.address, "listening");
        info!(listener = "rsocket-tcp", address = %tcp.address, "listening");
        info!(listener = "rsocket-websocket", address = %websocket.address, "listening");
        if let Some(grpc) = &grpc {
            info!(listener = "grpc", address = %grpc.address, "listening");
        }
        let grpc_address = grpc.as_ref().map(|grpc| grpc.address);
        if let Some((clustering, address)) = clustering.as_mut().zip(grpc_address) {
            // What the peers are told, where port 0 was asked for.
            clustering.grpc_listen_address = address;
        }
        let (web_address, tcp_address, websocket_address) =
            (web.address, tcp.address, websocket.address);

        let max_payload = settings.scrape.max_payload;
        let ended = CancellationToken::new();
        let metrics = Arc::new(Metrics::new()?);
        let lifecycle = Arc::new(Lifecycle::new());
        let registry = Arc::new(Registry::new(metrics.active_connections.clone()));
        let keys = Arc::new(KeyRing::new(
            settings.rsocket.envelope,
            settings.rsocket.key_rotation,
        ));
        let opener = Opener::new(
            keys.envelopes(),
            settings.scrape.max_payload,
            settings.scrape.max_memory,
        )?;
        let peers = Arc::new(Peers::default());
        let member = member_id(web_address, started_at);
        let me = joining.as_ref().map_or_else(
            || NodeId::new(&member.name, member.generation),
            |joining| joining.me.clone(),
        );
        let pushes = Arc::new(Pushes::new(
            me.clone(),
            settings.push,
            settings.replication,
            opener.clone(),
            Arc::clone(&keys),
            Arc::clone(&peers),
            Arc::clone(&metrics),
        ));
        let apps = Arc::new(Applications::new(
            &settings.rsocket,
            settings.scrape.max_payload,
            Arc::clone(&registry),
            Arc::clone(&keys),
            Arc::new(Sink(Arc::clone(&pushes))),
            Arc::clone(&metrics),
            ended.clone(),
        ));
        let scraper = Arc::new(Scraper::new(
            Arc::clone(&registry),
            opener,
            Arc::clone(&pushes),
            Arc::clone(&metrics),
            settings.scrape.max_concurrent,
        ));
        let vitals = Vitals {
            id: member,
            http_address: web_address,
            state: lifecycle.subscribe(),
            load: load(&registry, &pushes),
        };
        let cluster = join_cluster(clustering.as_ref(), vitals, Arc::clone(&metrics)).await?;
        let mut background = JoinSet::new();
        let joining = match (joining, clustering) {
            (None, Some(clustering)) => Some(Joining {
                me,
                listen_address: clustering.grpc_listen_address,
                identity: calls::Identity::new(&clustering.secrets.keys(Purpose::Calls))?,
                peers: calls::live_peers(cluster.members(), &mut background),
            }),
            (joining, _) => joining,
        };
        let site = Site {
            members: cluster.members(),
            identity: Arc::new(Identity {
                id: node_id(web_address),
                started_at,
                web_address,
            }),
            scraper,
            scrape: Arc::new(settings.scrape),
            metrics: Arc::clone(&metrics),
            registry,
            pushes: Arc::clone(&pushes),
            lifecycle: Arc::clone(&lifecycle),
        };

        let stop_accepting = CancellationToken::new();
        let ready = activate(
            Arc::clone(&keys),
            Arc::clone(&peers),
            Arc::clone(&lifecycle),
        );
        background.spawn(async move { keys.run().await });
        background.spawn(ready);
        let (members, calling) = match joining {
            None => (watch::channel(Arc::from([])).1, None),
            Some(joining) => {
                let calling = Calling {
                    me: joining.me,
                    identity: joining.identity,
                    holder: Arc::clone(&pushes) as _,
                    metrics: Arc::clone(&metrics),
                    max_message: 2 * max_payload + MESSAGE_OVERHEAD,
                };
                (joining.peers, Some(calling))
            }
        };
        if let Some((calling, grpc)) = calling.as_ref().zip(grpc) {
            background.spawn(grpc.run(calling, ended.clone()));
        }
        background.spawn({
            let pushes = Arc::clone(&pushes);
            let state = lifecycle.subscribe();
            async move { pushes.run(state, members, calling).await }
        });
        background.spawn(tcp.run(Arc::clone(&apps), stop_accepting.clone()));
        background.spawn(websocket.run(Arc::clone(&apps), stop_accepting.clone()));
        Ok(Self {
            web_address,
            tcp_address,
            websocket_address,
            gossip_address: cluster.gossip_address,
            grpc_address,
            apps,
            pushes,
            cluster,
            metrics,
            lifecycle,
            web: web.serve(http::router(site), ended.clone()),
            stop_accepting,
            background,
            ended: ended.drop_guard(),
        })
    }

    /// Leaves within `grace_period`, stage by stage: see [`drain::run`].
    pub async fn drain(self, grace_period: Duration) {
        let leaving = Leaving {
            lifecycle: self.lifecycle,
            metrics: self.metrics,
            stop_accepting: self.stop_accepting,
            apps: self.apps,
            pushes: self.pushes,
            cluster: self.cluster,
            finish_requests: self.web.finish(),
        };
        drain::run(leaving, grace_period).await;
        drop((self.background, self.ended));
    }
}

/// Ready means that an application that connects gets its key, and that other nodes know this one: what they push from now
/// on is held here too, and their scrapes ask here. A node that does not answer is not waited for any longer than
/// [`JOIN_WITHIN`].
async fn activate(keys: Arc<KeyRing>, peers: Arc<Peers>, lifecycle: Arc<Lifecycle>) {
    let made = keys
        .subscribe()
        .wait_for(|keys| !keys.is_empty())
        .await
        .is_ok();
    if !made {
        return;
    }
    let known = async {
        while !peers.owe_nothing().await {
            tokio::time::sleep(JOIN_PAUSE).await;
        }
    };
    if timeout(JOIN_WITHIN, known).await.is_err() {
        warn!("not every other node knows this one yet, ready without");
    }
    lifecycle.activate();
    info!("ready");
}

fn grpc_wanted(
    joining: Option<&Joining>,
    clustering: Option<&settings::Cluster>,
) -> Option<SocketAddr> {
    let joining = joining.map(|joining| joining.listen_address);
    joining.or(clustering.map(|clustering| clustering.grpc_listen_address))
}

/// What the peers are told of the work that this node has.
fn load(registry: &Arc<Registry>, pushes: &Arc<Pushes>) -> Arc<dyn Fn() -> Load + Send + Sync> {
    let (registry, pushes) = (Arc::clone(registry), Arc::clone(pushes));
    Arc::new(move || {
        let held = pushes.counts();
        Load {
            connections: registry.len(),
            pushes: held.pending + held.claimed,
        }
    })
}

async fn join_cluster(
    settings: Option<&settings::Cluster>,
    vitals: Vitals,
    metrics: Arc<Metrics>,
) -> Result<Cluster, StartError> {
    let Some(settings) = settings else {
        return Ok(Cluster::alone(vitals, metrics));
    };
    Cluster::join(settings, vitals, metrics)
        .await
        .map_err(listen_error(
            "--cluster.listen-address",
            settings.listen_address,
        ))
}

fn member_id(web_address: SocketAddr, started_at: SystemTime) -> MemberId {
    let since_1970 = started_at
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    MemberId {
        name: node_id(web_address).into(),
        generation: u64::try_from(since_1970.as_micros()).unwrap_or(u64::MAX),
    }
}

fn listen_error(flag: &'static str, address: SocketAddr) -> impl FnOnce(io::Error) -> StartError {
    move |error| StartError::Listen {
        flag,
        address,
        error,
    }
}

/// The host's name and the HTTP port: stable over restarts, different for nodes on one host.
fn node_id(web_address: SocketAddr) -> String {
    let host = gethostname::gethostname();
    format!("{}:{}", host.to_string_lossy(), web_address.port())
}
