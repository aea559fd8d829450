//! A node: every part made, joined and started here.

mod metrics;
mod settings;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use prometheus_rsocket_wire::memory::Memory;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{info, warn};

use self::metrics::Metrics;
pub use self::settings::{Checked, Settings};
use crate::cluster::calls::{self, Calling, Joining, Peers};
use crate::cluster::secret::Purpose;
use crate::cluster::{Cluster, Introduction, Load, Members, Vitals};
use crate::directory::SharedDirectory;
use crate::drain::{self, Leaving, Lifecycle};
use crate::files::Rereads;
use crate::http::{self, Identity, PushReceiver, Senders, Site};
use crate::identity::Table;
use crate::limits::rate::Rate;
use crate::metrics::{ConfigFile, FileMetrics};
use crate::nodes::{NodeId, NodeState};
use crate::push::{Directory, DirectoryError, Pushes, Sink};
use crate::rebalance;
use crate::rsocket::{Applications, KeyRing, Listener, Opener, Registry, Shared, Transport};
use crate::scrape::{self, Scraper};
use crate::sockets::{BindError, first};
use crate::store::Replication;
use crate::targets::Targets;

/// A node that joins waits no longer than this for others to know it.
const JOIN_WITHIN: Duration = Duration::from_secs(5);
/// Between two questions whether they do.
const JOIN_PAUSE: Duration = Duration::from_millis(100);
/// The longest that a payload of more than a few kilobytes may be half received; an answer that takes longer comes too
/// late for any scrape.
const PAYLOAD_TIMEOUT: Duration = Duration::from_secs(60);
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
    /// The cluster's secret cannot be made use of.
    #[error("identity between nodes: {0}")]
    Identity(#[from] calls::IdentityError),
    /// The directory for pushes cannot be used.
    #[error("{0}")]
    Directory(#[from] DirectoryError),
    /// Signals cannot be listened for.
    #[error("signals: {0}")]
    Signals(#[from] io::Error),
}

/// A running node. Dropped, it stops at once; [`Node::drain`] is the friendly way.
pub struct Node {
    /// Where HTTP is served: the first of the addresses.
    pub web_address: SocketAddr,
    /// Where RSocket over TCP is served: the first of the addresses.
    pub tcp_address: SocketAddr,
    /// Where RSocket over WebSocket is served: the first of the addresses.
    pub websocket_address: SocketAddr,
    /// Where it gossips with other nodes; `None` for a cluster of one.
    pub gossip_address: Option<SocketAddr>,
    /// Where other nodes call, in a cluster.
    pub grpc_address: Option<SocketAddr>,
    apps: Arc<Applications>,
    pushes: Arc<Pushes>,
    cluster: Cluster,
    metrics: drain::Metrics,
    lifecycle: Arc<Lifecycle>,
    shutdown: drain::Settings,
    web: http::Server,
    rereads: Rereads,
    stop_accepting: CancellationToken,
    background: JoinSet<()>,
    ended: DropGuard,
}

impl Node {
    /// Opens the ports and starts serving, alone. Real addresses are in the fields, where port 0 was asked for.
    pub async fn bind(checked: Checked) -> Result<Self, StartError> {
        Self::start(checked, None).await
    }

    /// As [`Node::bind`], as one of several.
    pub async fn join(checked: Checked, joining: Joining) -> Result<Self, StartError> {
        Self::start(checked, Some(joining)).await
    }

    async fn start(checked: Checked, joining: Option<Joining>) -> Result<Self, StartError> {
        let started_at = SystemTime::now();
        let Checked {
            mut settings,
            access,
            tls,
            identities,
            introduction,
        } = checked;
        let in_cluster = joining.is_some() || introduction.is_some();
        let ports = Ports::open(&settings, in_cluster).await?;
        let grpc_address = ports.grpc.as_ref().map(|grpc| grpc.address);
        let web_address = first(ports.web.addresses());
        let tcp_address = first(ports.tcp.addresses());
        let websocket_address = first(ports.websocket.addresses());

        let directory = settings.push.dir.as_deref().map(Directory::open);
        let directory = directory.transpose()?;
        let mut member = member_id(web_address, started_at);
        if let Some(directory) = &directory {
            member.generation = directory.begin_life(member.generation)?;
        }
        let me = match &joining {
            Some(joining) => joining.me.clone(),
            None => NodeId::new(&member.name, member.generation),
        };
        let parts = Parts::new(&settings, me, directory)?;
        let vitals = Vitals {
            id: member,
            http_address: web_address,
            state: parts.lifecycle.subscribe(),
            load: load(&parts.registry, &parts.pushes),
        };
        if let Some(address) = grpc_address {
            // What the peers are told, where port 0 was asked for.
            settings.cluster.grpc_listen_address = address;
        }
        let metrics = Arc::clone(&parts.metrics.cluster);
        let cluster = match &introduction {
            None => Cluster::alone(vitals, metrics),
            Some(introduction) => Cluster::join(&settings.cluster, introduction, vitals, metrics)
                .await
                .map_err(listen_error(
                    "--cluster.listen-address",
                    settings.cluster.listen_address,
                ))?,
        };
        let mut background = JoinSet::new();
        let rereads = Rereads::default();
        let joining = match (joining, introduction) {
            (None, Some(introduction)) => Some(Joining {
                me: parts.me.clone(),
                identity: identity(
                    introduction,
                    &parts.metrics.files,
                    &rereads,
                    &mut background,
                )?,
                peers: calls::live_peers(cluster.members(), &mut background),
            }),
            (joining, _) => joining,
        };
        let rebalance = parts.rebalance(&settings, &cluster);
        let rebalancing = rebalance.report.subscribe();
        let ended = CancellationToken::new();
        let stop_accepting = CancellationToken::new();
        parts.work_together(
            joining,
            ports.grpc,
            &settings.scrape,
            &mut background,
            &ended,
        );
        let keys = Arc::clone(&parts.keys);
        background.spawn(async move { keys.run().await });
        background.spawn(parts.activate(&cluster));
        background.spawn(parts.name_applications(settings.scrape.timeout));
        background.spawn(rebalance.run());
        let identities = match identities {
            Some(identities) => {
                let (table, file) = identities.followed();
                background.spawn(file.run(
                    parts.metrics.files.reloads(ConfigFile::Identities),
                    rereads.asked(),
                ));
                table
            }
            None => watch::channel(Arc::new(Table::of_everybody(settings.scrape.terms()))).1,
        };
        let site = parts.site(
            &settings,
            &cluster,
            rebalancing,
            parts.push_receiver(&settings, &identities),
            web_address,
            started_at,
        );
        let mut apps = parts.applications(&settings, identities, &ended);
        if let Some(tls) = tls {
            let mutual = tls.is_mutual();
            let (offer, files) = tls.followed();
            background.spawn(files.run(
                parts.metrics.files.reloads(ConfigFile::RSocketTls),
                rereads.asked(),
            ));
            apps = apps.with_tls(offer, mutual);
        }
        let apps = Arc::new(apps);
        let access = access.map(|access| {
            let (active, file) = access.followed();
            background.spawn(file.run(
                parts.metrics.files.reloads(ConfigFile::WebConfig),
                rereads.asked(),
            ));
            active
        });
        background.spawn(ports.tcp.run(Arc::clone(&apps), stop_accepting.clone()));
        background.spawn(
            ports
                .websocket
                .run(Arc::clone(&apps), stop_accepting.clone()),
        );
        let web_metrics = Arc::clone(&parts.metrics.http);
        let own_credentials = site.own_credentials();
        Ok(Self {
            web_address,
            tcp_address,
            websocket_address,
            gossip_address: cluster.gossip_address,
            grpc_address,
            apps,
            pushes: parts.pushes,
            cluster,
            metrics: parts.metrics.drain,
            lifecycle: parts.lifecycle,
            shutdown: settings.shutdown,
            web: ports.web.serve(
                http::router(site),
                access,
                own_credentials,
                web_metrics,
                ended.clone(),
            ),
            rereads,
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
            members: self.cluster.members(),
        };
        let times = drain::Settings {
            grace_period,
            ..self.shutdown
        };
        drain::run(&leaving, self.web.finish(), self.cluster, times).await;
        let pushes = Arc::clone(&leaving.pushes);
        // The ends of what was served last are on disk before the process is gone.
        let _ = tokio::task::spawn_blocking(move || pushes.close_disk()).await;
        drop((self.background, self.ended));
    }

    /// Reads the files that it follows at once. Gives how many parts follow some.
    pub fn read_files(&self) -> usize {
        self.rereads.ask()
    }

    /// Waits until somebody asks over HTTP for a drain.
    pub async fn drain_asked(&self) {
        let mut state = self.lifecycle.subscribe();
        // The node itself keeps the sender.
        let _ = state.wait_for(|state| *state == NodeState::Draining).await;
    }
}

/// A node's open ports; nobody is answered yet.
struct Ports {
    web: http::Listener,
    tcp: Listener,
    websocket: Listener,
    grpc: Option<calls::Listener>,
}

impl Ports {
    async fn open(settings: &Settings, in_cluster: bool) -> Result<Self, StartError> {
        let web = http::Listener::bind(settings.web.clone())
            .map_err(bind_error("--web.listen-address"))?;
        log_listening("web", web.addresses());
        let addresses = &settings.rsocket.tcp_listen_addresses;
        let tcp = Listener::bind(addresses, Transport::Tcp)
            .map_err(bind_error("--rsocket.tcp.listen-address"))?;
        log_listening("rsocket-tcp", tcp.addresses());
        let addresses = &settings.rsocket.websocket_listen_addresses;
        let websocket = Listener::bind(addresses, Transport::WebSocket)
            .map_err(bind_error("--rsocket.websocket.listen-address"))?;
        log_listening("rsocket-websocket", websocket.addresses());
        let grpc = if in_cluster {
            Some(open_grpc(settings.cluster.grpc_listen_address).await?)
        } else {
            None
        };
        Ok(Self {
            web,
            tcp,
            websocket,
            grpc,
        })
    }
}

async fn open_grpc(address: SocketAddr) -> Result<calls::Listener, StartError> {
    let grpc = calls::Listener::bind(address)
        .await
        .map_err(listen_error("--cluster.grpc.listen-address", address))?;
    log_listening("grpc", &[grpc.address]);
    Ok(grpc)
}

/// What the flows and the edges of a node share.
struct Parts {
    me: NodeId,
    metrics: Metrics,
    lifecycle: Arc<Lifecycle>,
    registry: Arc<Registry>,
    memory: Arc<Memory>,
    keys: Arc<KeyRing>,
    peers: Arc<Peers>,
    pushes: Arc<Pushes>,
    directory: Arc<SharedDirectory>,
    scraper: Arc<Scraper>,
    targets: Arc<Targets>,
}

impl Parts {
    fn new(
        settings: &Settings,
        me: NodeId,
        directory: Option<Directory>,
    ) -> Result<Self, StartError> {
        let metrics = Metrics::register(settings.push.limits.max_bytes)?;
        let keys = Arc::new(KeyRing::new(
            settings.rsocket.envelopes(),
            settings.rsocket.key_rotation,
        ));
        let registry = Arc::new(Registry::new(
            metrics.rsocket.active_connections.clone(),
            settings.rsocket.max_connections,
        ));
        let opener = Opener::new(
            registry.size(),
            keys.envelopes(),
            settings.scrape.max_payload,
            settings.scrape.max_memory,
        );
        let peers = Arc::new(Peers::default());
        let pushes = Pushes::new(
            me.clone(),
            settings.push.limits.clone(),
            Replication {
                replicas: settings.push.replicas,
                watch: settings.push.watch,
                max_claim_bytes: settings.scrape.max_payload,
                ..Replication::default()
            },
            opener.clone(),
            Arc::clone(&keys),
            Arc::clone(&peers),
            Arc::clone(&metrics.push),
        );
        let pushes = match directory {
            Some(directory) => Arc::new(pushes.keep_in(directory)?),
            None => Arc::new(pushes),
        };
        let lifecycle = Arc::new(Lifecycle::new());
        let directory = Arc::new(SharedDirectory::new(me.clone(), settings.targets.linger));
        let scraper = Arc::new(Scraper::new(
            Arc::clone(&registry),
            opener.clone(),
            Arc::clone(&pushes),
            Arc::clone(&metrics.scrape),
            settings.scrape.max_concurrent,
        ));
        let targets = Arc::new(Targets::new(
            Arc::clone(&directory),
            Arc::clone(&scraper),
            opener,
            Arc::clone(&peers),
            Arc::clone(&lifecycle),
            Arc::clone(&metrics.targets),
        ));
        Ok(Self {
            me,
            lifecycle,
            registry,
            memory: Memory::new(settings.rsocket.max_unfinished, PAYLOAD_TIMEOUT),
            keys,
            peers,
            pushes,
            directory,
            scraper,
            targets,
            metrics,
        })
    }

    fn applications(
        &self,
        settings: &Settings,
        identities: watch::Receiver<Arc<Table>>,
        ended: &CancellationToken,
    ) -> Applications {
        let shared = Shared {
            registry: Arc::clone(&self.registry),
            keys: Arc::clone(&self.keys),
            pushes: Arc::new(Sink(Arc::clone(&self.pushes))),
            identities,
            memory: Arc::clone(&self.memory),
            metrics: Arc::clone(&self.metrics.rsocket),
            directory: Arc::clone(&self.directory),
            name_by: settings.targets.by.clone().into(),
        };
        let max_text = settings.scrape.max_payload;
        let push_rate = Rate::per_second(settings.push.max_rate);
        Applications::new(
            &settings.rsocket,
            max_text,
            push_rate,
            shared,
            ended.clone(),
        )
    }

    /// An application that does not say what it is, is known by what it answers.
    fn name_applications(&self, most: Duration) -> impl Future<Output = ()> + use<> {
        let (scraper, directory) = (Arc::clone(&self.scraper), Arc::clone(&self.directory));
        async move { scraper.name_applications(&directory, most).await }
    }

    fn rebalance(&self, settings: &Settings, cluster: &Cluster) -> rebalance::Task {
        rebalance::Task {
            settings: settings.rebalance.clone(),
            registry: Arc::clone(&self.registry),
            members: cluster.members(),
            state: self.lifecycle.subscribe(),
            metrics: self.metrics.rebalance.clone(),
            report: watch::channel(rebalance::Report::default()).0,
        }
    }

    fn site(
        &self,
        settings: &Settings,
        cluster: &Cluster,
        rebalancing: watch::Receiver<rebalance::Report>,
        push_receiver: Option<PushReceiver>,
        web_address: SocketAddr,
        started_at: SystemTime,
    ) -> Site {
        Site {
            members: cluster.members(),
            rebalancing,
            identity: Arc::new(Identity {
                id: node_id(web_address),
                started_at,
                web_address,
            }),
            scraper: Arc::clone(&self.scraper),
            scrape: Arc::new(settings.scrape.clone()),
            metrics: self.metrics.own.clone(),
            unfinished_bytes: self.metrics.rsocket.unfinished_bytes.clone(),
            memory: Arc::clone(&self.memory),
            registry: Arc::clone(&self.registry),
            keys: Arc::clone(&self.keys),
            targets: Arc::clone(&self.targets),
            targets_address: settings.targets.address.clone(),
            pushes: Arc::clone(&self.pushes),
            lifecycle: Arc::clone(&self.lifecycle),
            lifecycle_enabled: settings.web.enable_lifecycle,
            push_receiver: push_receiver.map(Arc::new),
        }
    }

    fn push_receiver(
        &self,
        settings: &Settings,
        identities: &watch::Receiver<Arc<Table>>,
    ) -> Option<PushReceiver> {
        let senders = || Senders {
            pushes: Arc::clone(&self.pushes),
            identities: identities.clone(),
            memory: Arc::clone(&self.memory),
            rate: Rate::per_second(settings.push.max_rate),
        };
        let enabled = settings.web.enable_push_receiver;
        enabled.then(|| PushReceiver::new(&settings.web, senders()))
    }

    /// Keeps pushes and the directory going, with the other nodes where there are any.
    fn work_together(
        &self,
        joining: Option<Joining>,
        grpc: Option<calls::Listener>,
        scrape: &scrape::Settings,
        background: &mut JoinSet<()>,
        ended: &CancellationToken,
    ) {
        let (peers, calling) = match joining {
            None => (watch::channel(Arc::from([])).1, None),
            Some(joining) => {
                let calling = Calling {
                    me: joining.me,
                    identity: joining.identity,
                    holder: Arc::clone(&self.pushes) as _,
                    host: Arc::clone(&self.targets) as _,
                    metrics: Arc::clone(&self.metrics.cluster),
                    max_message: 2 * scrape.max_payload + MESSAGE_OVERHEAD,
                };
                (joining.peers, Some(calling))
            }
        };
        if let Some((calling, grpc)) = calling.as_ref().zip(grpc) {
            background.spawn(grpc.run(calling, ended.clone()));
        }
        background.spawn(Arc::clone(&self.targets).run(peers.clone()));
        let pushes = Arc::clone(&self.pushes);
        let state = self.lifecycle.subscribe();
        background.spawn(async move { pushes.run(state, peers, calling).await });
        let pushes = Arc::clone(&self.pushes);
        background.spawn(async move { pushes.follow_disk().await });
    }

    /// Ready means that an application that connects gets its key, and that other nodes know this one: what they push from
    /// now on is held here too, and their scrapes ask here; and that this one knows their applications. A node that does not answer is not waited for any longer than
    /// [`JOIN_WITHIN`].
    fn activate(&self, cluster: &Cluster) -> impl Future<Output = ()> + Send + use<> {
        let mut keys = self.keys.subscribe();
        let peers = Arc::clone(&self.peers);
        let targets = Arc::clone(&self.targets);
        let lifecycle = Arc::clone(&self.lifecycle);
        let (found, members) = (cluster.found(), cluster.members());
        async move {
            if keys.wait_for(|keys| !keys.is_empty()).await.is_err() {
                return;
            }
            let known = async {
                found.await;
                while !(reaches_all(&peers, &members)
                    && peers.owe_nothing().await
                    && targets.are_known())
                {
                    tokio::time::sleep(JOIN_PAUSE).await;
                }
            };
            if timeout(JOIN_WITHIN, known).await.is_err() {
                warn!("not every other node knows this one yet, ready anyway");
            }
            lifecycle.activate();
            info!("ready");
        }
    }
}

fn reaches_all(peers: &Peers, members: &watch::Receiver<Members>) -> bool {
    let members = members.borrow();
    members
        .alive()
        .map(|member| NodeId::new(&member.id.name, member.id.generation))
        .all(|node| peers.reaches(&node))
}

/// What the peers are told of the work that this node has.
fn load(registry: &Arc<Registry>, pushes: &Arc<Pushes>) -> Arc<dyn Fn() -> Load + Send + Sync> {
    let (registry, pushes) = (Arc::clone(registry), Arc::clone(pushes));
    Arc::new(move || {
        let held = pushes.counts();
        Load {
            connections: registry.len(),
            full: registry.is_full(),
            pushes: held.pending + held.claimed,
        }
    })
}

/// By what nodes know each other.
fn identity(
    introduction: Introduction,
    files: &FileMetrics,
    rereads: &Rereads,
    background: &mut JoinSet<()>,
) -> Result<Option<calls::CallIdentity>, calls::IdentityError> {
    let Some(certificates) = introduction.certificates else {
        return calls::CallIdentity::new(&introduction.secrets.keys(Purpose::Calls));
    };
    let (identity, followed) = certificates.followed();
    background.spawn(followed.run(files.reloads(ConfigFile::ClusterTls), rereads.asked()));
    Ok(Some(identity))
}

fn member_id(web_address: SocketAddr, started_at: SystemTime) -> NodeId {
    let since_1970 = started_at
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    NodeId {
        name: node_id(web_address).into(),
        generation: u64::try_from(since_1970.as_micros()).unwrap_or(u64::MAX),
    }
}

fn log_listening(listener: &str, addresses: &[SocketAddr]) {
    for address in addresses {
        info!(listener, %address, "listening");
    }
}

fn bind_error(flag: &'static str) -> impl FnOnce(BindError) -> StartError {
    move |failed| listen_error(flag, failed.address)(failed.error)
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
