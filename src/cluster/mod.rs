//! Nodes that know each other: who is there, who is alive, who has how much to do.
//!
//! [`Cluster`] is a node's part in it. Without peers it is a cluster of one and opens no port. With peers:
//!
//! ```text
//! gossip (chitchat, supervised) ─► roster (who is alive) ─► members, a watch for the rest of the node
//!    │   ▲
//!    ▼   │ messages
//! transport: codec (bytes) · packet (seal, open) · replay (once) · vet (size) · drops (the rest)
//!    │   ▲
//!    ▼   │ UDP                                        seeds: where to look for peers
//! ```
//!
//! [`members`], `roster`, `values`, `packet`, `replay` and `vet` are plain data: no socket, no clock.

pub mod calls;
mod codec;
mod drops;
mod gossip;
pub mod members;
mod metrics;
mod packet;
pub mod peer;
mod replay;
pub mod roster;
pub mod secret;
mod seeds;
mod settings;
mod transport;
mod values;
mod vet;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

pub use members::{Load, Me, Member, Members, Peering, Presence, Profile};
pub use metrics::Metrics;
use parking_lot::Mutex;
pub use peer::{Advertised, Peer};
pub use secret::Secrets;
pub use settings::{Introduction, Settings};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use self::gossip::Gossip;
use self::roster::Roster;
use self::seeds::missing;
use self::transport::Port;
use crate::nodes::{NodeId, NodeState};

/// A node that starts waits no longer than this for peers that may not be there.
const FIND_WITHIN: Duration = Duration::from_secs(2);

/// Where the cluster learns of this node.
#[derive(Clone)]
pub struct Vitals {
    /// Which one it is.
    pub id: NodeId,
    /// Where its HTTP is reached.
    pub http_address: SocketAddr,
    /// What it is doing; told at once.
    pub state: watch::Receiver<NodeState>,
    /// What it has to do; asked for and told from time to time.
    pub load: Arc<dyn Fn() -> Load + Send + Sync>,
}

impl Vitals {
    /// The node of the moment.
    pub fn profile(&self, grpc_address: SocketAddr) -> Profile {
        Profile {
            generation: self.id.generation,
            http_address: self.http_address,
            grpc_address,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            state: *self.state.borrow(),
            load: (self.load)(),
        }
    }
}

/// A node's part in a cluster. Dropped, it falls silent, as if it had died; [`Cluster::leave`] is the friendly way.
pub struct Cluster {
    /// Where it gossips; `None` for a cluster of one.
    pub gossip_address: Option<SocketAddr>,
    members: watch::Receiver<Members>,
    /// Where peers are looked for; `None` for a cluster of one.
    seeds: Option<watch::Receiver<Vec<SocketAddr>>>,
    leaving: CancellationToken,
    gossip: JoinSet<()>,
    /// Ends when this is dropped.
    _seeds: JoinSet<()>,
}

impl Cluster {
    /// A cluster of one.
    pub fn alone(vitals: Vitals, metrics: Arc<Metrics>) -> Self {
        let me = Me {
            id: vitals.id.clone(),
            http_address: vitals.http_address,
            peering: None,
        };
        let leaving = CancellationToken::new();
        let mut task = JoinSet::new();
        let (told, members) = watch::channel(Members::alone(me));
        task.spawn({
            let leaving = leaving.clone();
            async move {
                let counting = count_alone(vitals.state, metrics);
                leaving.run_until_cancelled(counting).await;
                drop(told);
            }
        });
        Self {
            gossip_address: None,
            members,
            seeds: None,
            leaving,
            gossip: task,
            _seeds: JoinSet::new(),
        }
    }

    /// Opens the gossip's port and looks for the peers, until the process ends.
    pub async fn join(
        settings: &Settings,
        introduction: &Introduction,
        mut vitals: Vitals,
        metrics: Arc<Metrics>,
    ) -> io::Result<Self> {
        let address = settings.listen_address;
        if introduction.secrets.is_empty() {
            warn_of_strangers(address);
        }
        let port = Port::bind(
            address,
            &settings.name,
            &introduction.secrets,
            Arc::clone(&metrics),
        )
        .await?;
        let gossip_address = port.address();
        info!(listener = "gossip", address = %gossip_address, "listening");
        let ip = introduction.advertised.ip;
        let gossip_port = introduction.advertised.gossip_port;
        let peering = Peering {
            gossip_address: (ip, gossip_port.unwrap_or(gossip_address.port())).into(),
            grpc_address: (ip, settings.grpc_listen_address.port()).into(),
        };
        vitals.http_address = reachable(vitals.http_address, ip);
        let me = Me {
            id: vitals.id.clone(),
            http_address: vitals.http_address,
            peering: Some(peering),
        };
        let (told, members) = watch::channel(Members::alone(me));
        let (found, seeds) = watch::channel(Vec::new());
        let mut lookups = JoinSet::new();
        lookups.spawn(seeds::look_up(
            settings.peers.clone(),
            members.clone(),
            found,
        ));
        let leaving = CancellationToken::new();
        let mut gossip = JoinSet::new();
        let shared = Arc::new(Gossip {
            cluster_name: settings.name.clone(),
            port,
            peering,
            roster: Mutex::new(Roster::new(vitals.id.clone())),
            vitals,
            seeds: seeds.clone(),
            members: told,
            metrics,
        });
        gossip.spawn(shared.run(leaving.clone()));
        Ok(Self {
            gossip_address: Some(gossip_address),
            members,
            seeds: Some(seeds),
            leaving,
            gossip,
            _seeds: lookups,
        })
    }

    /// The members of the moment, and each change.
    pub fn members(&self) -> watch::Receiver<Members> {
        self.members.clone()
    }

    /// Waits until all peers that the operator named have been heard, two seconds at most for those that are not there.
    pub fn found(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut members = self.members.clone();
        let seeds = self.seeds.clone();
        async move {
            let Some(mut seeds) = seeds else {
                return;
            };
            let all = async {
                if seeds.changed().await.is_ok() {
                    let addresses = seeds.borrow_and_update().clone();
                    let none_missing = |members: &Members| missing(members, &addresses).is_empty();
                    let _ = members.wait_for(none_missing).await;
                }
            };
            if timeout(FIND_WITHIN, all).await.is_err() {
                debug!("some peers did not answer");
            }
        }
    }

    /// Stops gossiping. The peers say that this node left, if it told them that it drains.
    pub async fn leave(mut self) {
        self.leaving.cancel();
        while self.gossip.join_next().await.is_some() {}
    }
}

async fn count_alone(mut state: watch::Receiver<NodeState>, metrics: Arc<Metrics>) {
    loop {
        metrics.see_members([state.borrow_and_update().name()]);
        if state.changed().await.is_err() {
            return;
        }
    }
}

fn warn_of_strangers(address: SocketAddr) {
    if !address.ip().is_loopback() {
        warn!(
            %address,
            "no --cluster.secret-file: anyone who can send packets to this address can join or disturb the cluster"
        );
    }
}

/// An address that is listened on, as others reach it.
fn reachable(address: SocketAddr, advertised: IpAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        (advertised, address.port()).into()
    } else {
        address
    }
}

/// What a fuzz target enters by.
#[cfg(fuzzing)]
pub mod fuzzing {
    use super::packet::{Opener, Sealer};
    use super::secret::{Purpose, Secrets};
    use super::vet::is_bounded;

    /// How many secrets there are in a text that is the file of a secret.
    pub fn secrets(text: &str) -> Option<usize> {
        let mut secrets = Secrets::default();
        secrets.add_lines(text).ok()?;
        Some(secrets.keys(Purpose::Gossip).len())
    }

    /// One end of a gossip, without its socket.
    pub struct Gossip {
        sealer: Sealer,
        opener: Opener,
    }

    impl Gossip {
        /// With a secret, or, where `secret` is empty, without.
        pub fn new(secret: &str) -> Self {
            let mut secrets = Secrets::default();
            if !secret.is_empty() {
                #[expect(clippy::expect_used, reason = "the fuzz target's own secret")]
                secrets.add_lines(secret).expect("a secret");
            }
            Self {
                sealer: Sealer::new("metrics", &secrets),
                opener: Opener::new("metrics", &secrets),
            }
        }

        /// The packet of a message, at `now` in milliseconds since 1970.
        pub fn seal(&mut self, message: &[u8], now: u64) -> Option<Vec<u8>> {
            self.sealer.seal(message, now).ok()
        }

        /// The message of a packet, as it would reach the decoder, at `now` in milliseconds since 1970.
        pub fn open(&mut self, packet: &[u8], now: u64) -> Option<Vec<u8>> {
            let message = self.opener.open(packet, now).ok()?;
            is_bounded(&message).then_some(message)
        }
    }
}
