//! The gossip's task: tells the peers of this node, and this node of its peers.
//!
//! chitchat does the spreading. It is taken as something that may end or panic at any time: then it is started again, as
//! another instance of the same member, and meanwhile nobody is forgotten, because the [`Roster`] stays.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use chitchat::{
    Chitchat, ChitchatConfig, ChitchatHandle, ChitchatId, FailureDetectorConfig, ProtocolVersion,
    spawn_chitchat,
};
use parking_lot::Mutex;
use rand::seq::IndexedRandom;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info, warn};

use super::members::{Member, Members, Peering, Profile};
use super::roster::{Change, FORGET_AFTER, Instance, Roster, Sighting};
use super::seeds::missing;
use super::transport::{Port, now};
use super::values;
use super::{Metrics, Vitals};

/// Between two rounds. A node hears of another within a few of them, and [`DEAD_AFTER`](super::roster::DEAD_AFTER) is ten.
const ROUND: Duration = Duration::from_millis(200);
/// Counts change all the time: they are told no more often than this. A state is told at once.
const LOAD_EVERY: Duration = Duration::from_secs(1);
/// Between attempts to reach peers that are missing: without any peer, and with some.
const KNOCK_ALONE: Duration = Duration::from_millis(500);
const KNOCK: Duration = Duration::from_secs(2);
/// Peers that are sent a message at a time, besides those that each round picks.
const MAX_GREETED: usize = 32;
/// What the last words have to get through.
const FAREWELL: Duration = Duration::from_millis(500);
/// How many of its usual intervals chitchat lets a node be silent before it talks to it less. It decides no more than that.
const PHI: f64 = 20.0;
/// The first pause before the gossip is started again, doubled up to the longest while it does not last.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A gossip that ran for this long had been well.
const WELL_AFTER: Duration = Duration::from_secs(30);

/// What every start of the gossip works with.
pub(super) struct Gossip {
    pub(super) cluster_name: String,
    pub(super) port: Port,
    pub(super) peering: Peering,
    pub(super) vitals: Vitals,
    pub(super) seeds: watch::Receiver<Vec<SocketAddr>>,
    pub(super) members: watch::Sender<Members>,
    pub(super) roster: Mutex<Roster>,
    pub(super) metrics: Arc<Metrics>,
}

impl Gossip {
    /// Gossips until `leaving`, whatever happens.
    pub(super) async fn run(self: Arc<Self>, leaving: CancellationToken) {
        let mut number = 0;
        let mut pause = FIRST_PAUSE;
        loop {
            // Greater than that of the start before, even where the clock was set back.
            number = now().max(number + 1);
            let started_at = Instant::now();
            let life = tokio::spawn(Arc::clone(&self).live(number, leaving.clone()));
            let failure = match AbortOnDropHandle::new(life).await {
                Ok(Ok(())) => return,
                Ok(Err(failure)) => format!("{failure:#}"),
                Err(failure) => failure.to_string(),
            };
            if started_at.elapsed() >= WELL_AFTER {
                pause = FIRST_PAUSE;
            }
            self.metrics.gossip_restarts.inc();
            error!(error = failure, pause = %humantime::format_duration(pause), "gossip failed, restarting it");
            tokio::select! {
                () = sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
                () = leaving.cancelled() => return,
            }
        }
    }

    /// One start of the gossip, to its end: `Ok` when it was meant.
    async fn live(self: Arc<Self>, number: u64, leaving: CancellationToken) -> anyhow::Result<()> {
        let told = values::write(&self.profile());
        let told = told.into_iter().map(|(key, value)| (key.to_owned(), value));
        let chitchat = spawn_chitchat(self.config(number), told.collect(), &self.port)
            .await
            .context("cannot start")?;
        let mut state = self.vitals.state.clone();
        let mut round = Round::new();
        let mut rounds = interval(ROUND);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.greet(&chitchat, &self.known());
        loop {
            tokio::select! {
                ended = chitchat.termination_watcher() => {
                    return Err(ended.err().unwrap_or_else(|| anyhow!("ended")));
                }
                () = leaving.cancelled() => {
                    self.take_leave(&chitchat).await;
                    return chitchat.shutdown().await;
                }
                Ok(()) = state.changed() => {
                    chitchat.with_chitchat(|chitchat| self.tell(chitchat)).await;
                    self.greet(&chitchat, &self.known());
                }
                _ = rounds.tick() => self.round(&chitchat, &mut round).await,
            }
        }
    }

    /// A node that has nothing to do drains faster than gossip spreads: without this it would be declared dead.
    async fn take_leave(&self, chitchat: &ChitchatHandle) {
        chitchat.with_chitchat(|chitchat| self.tell(chitchat)).await;
        self.greet(chitchat, &self.known());
        sleep(FAREWELL).await;
    }

    fn config(&self, number: u64) -> ChitchatConfig {
        let name = Arc::clone(&self.vitals.id.name);
        ChitchatConfig {
            chitchat_id: ChitchatId::new(name, number, self.peering.gossip_address),
            cluster_id: self.cluster_name.clone(),
            gossip_interval: ROUND,
            listen_addr: self.port.address(),
            // Looked up here, and more often.
            seed_nodes: Vec::new(),
            failure_detector_config: FailureDetectorConfig {
                phi_threshold: PHI,
                initial_interval: ROUND,
                dead_node_grace_period: FORGET_AFTER,
                ..FailureDetectorConfig::default()
            },
            // No key is ever deleted.
            marked_for_deletion_grace_period: FORGET_AFTER,
            catchup_callback: None,
            extra_liveness_predicate: None,
            protocol_version: ProtocolVersion::V1,
        }
    }

    async fn round(&self, chitchat: &ChitchatHandle, round: &mut Round) {
        let now = Instant::now();
        let load_is_due = now >= round.load_due;
        if load_is_due {
            round.load_due = now + LOAD_EVERY;
        }
        let sightings = chitchat
            .with_chitchat(|chitchat| {
                if load_is_due {
                    self.tell(chitchat);
                }
                sightings(chitchat)
            })
            .await;
        self.observe(now, sightings);
        if now >= round.knock_due {
            let alone = self.members.borrow().alive().next().is_none();
            round.knock_due = now + if alone { KNOCK_ALONE } else { KNOCK };
            let missing = missing(&self.members.borrow(), &self.seeds.borrow());
            self.greet(chitchat, &missing);
        }
    }

    fn profile(&self) -> Profile {
        self.vitals.profile(self.peering.grpc_address)
    }

    /// Sets what the peers are to know. What is the same as before is not told again.
    fn tell(&self, chitchat: &mut Chitchat) {
        let me = chitchat.self_node_state();
        for (key, value) in values::write(&self.profile()) {
            me.set(key, value);
        }
    }

    /// Where the members that are alive gossip.
    fn known(&self) -> Vec<SocketAddr> {
        let members = self.members.borrow();
        members
            .alive()
            .map(|member| member.gossip_address)
            .collect()
    }

    /// Talks to these at once; to some of them if they are many.
    fn greet(&self, chitchat: &ChitchatHandle, addresses: &[SocketAddr]) {
        for address in addresses.sample(&mut rand::rng(), MAX_GREETED) {
            // Fails when the gossip has ended, which is seen elsewhere.
            let _ = chitchat.gossip(*address);
        }
    }

    fn observe(&self, now: Instant, sightings: Vec<Sighting>) {
        let (changes, others) = {
            let mut roster = self.roster.lock();
            (roster.observe(now, sightings), roster.members())
        };
        changes.iter().for_each(log);
        self.metrics.see_members(
            others
                .iter()
                .map(Member::state_name)
                .chain([self.vitals.state.borrow().name()]),
        );
        self.members.send_if_modified(|members| {
            let modified = members.others != others;
            members.others = others;
            modified
        });
    }
}

/// When what is not done in every round is due.
struct Round {
    load_due: Instant,
    knock_due: Instant,
}

impl Round {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            load_due: now + LOAD_EVERY,
            knock_due: now,
        }
    }
}

fn sightings(chitchat: &mut Chitchat) -> Vec<Sighting> {
    let me = chitchat.self_chitchat_id();
    chitchat
        .node_states()
        .iter()
        // An earlier instance of this node is not a peer.
        .filter(|(id, _)| {
            id.node_id != me.node_id || id.gossip_advertise_addr != me.gossip_advertise_addr
        })
        .map(|(id, state)| Sighting {
            instance: Instance {
                name: Arc::clone(&id.node_id),
                number: id.generation_id,
                gossip_address: id.gossip_advertise_addr,
            },
            heartbeat: state.heartbeat().into(),
            profile: values::read(|key| state.get(key)),
        })
        .collect()
}

fn log(change: &Change) {
    match change {
        Change::Joined(member) => {
            info!(member = %member.id, generation = member.id.generation, gossip = %member.gossip_address,
                version = member.profile.version, "member joined");
        }
        Change::Returned(member) => {
            info!(member = %member.id, generation = member.id.generation, "member returned");
        }
        Change::Left(member) => {
            info!(member = %member.id, generation = member.id.generation, "member left");
        }
        Change::Died(member) => {
            warn!(member = %member.id, generation = member.id.generation, gossip = %member.gossip_address,
                "member declared dead");
        }
        Change::Forgotten(member) => {
            info!(member = %member.id, generation = member.id.generation, "member forgotten");
        }
    }
}
