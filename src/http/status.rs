//! What the node knows of itself, its cluster and its applications: made here once, shown by the page, and as JSON at
//! `GET /api/v1/status`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use super::Site;
use super::applications::Counts;
use super::pushes::pushes_of;
use super::timestamp::rfc3339;
use crate::cluster::{self, Load, Me};
use crate::nodes::NodeState;
use crate::push::DiskReport;
use crate::rebalance::{Report, Tally};
use crate::rsocket::{self, Handle, Left};
use crate::scrape::Duplicates;
use crate::store::{self, ConsumerStatus, Holdings};

/// Pushers listed: the greatest, and as many of those refused last.
const PUSHERS: usize = 10;

/// Who a node is.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Unique among nodes: the host's name and the HTTP port.
    pub id: String,
    /// When the process began to serve.
    pub started_at: SystemTime,
    /// Where the status is asked for.
    pub web_address: SocketAddr,
}

/// What the node knew at one moment.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    pub(super) node: Node,
    /// While it leaves.
    pub(super) drain: Option<Drain>,
    /// This node is the first.
    pub(super) members: Vec<Member>,
    /// Oldest first.
    pub(super) connections: Vec<Connection>,
    /// Those of the whole cluster.
    pub(super) applications: Counts,
    /// Applications that serve the same series; the latest first.
    pub(super) duplicates: Vec<Duplicate>,
    /// The latest first.
    pub(super) left: Vec<Gone>,
    /// Who was refused before it was an application; the latest first.
    pub(super) refused: Vec<Refusal>,
    pub(super) pushes: Pushes,
    pub(super) rebalance: Rebalance,
}

#[derive(Debug, Serialize)]
pub(super) struct Node {
    pub(super) id: String,
    pub(super) version: &'static str,
    pub(super) state: &'static str,
    /// What a starting node lacks.
    pub(super) waiting_for: Option<&'static str>,
    #[serde(serialize_with = "rfc3339")]
    pub(super) started_at: SystemTime,
    pub(super) web_address: SocketAddr,
}

/// Two applications that serve the same series.
#[derive(Debug, Serialize)]
pub(super) struct Duplicate {
    pub(super) connections: [Application; 2],
    #[serde(serialize_with = "rfc3339")]
    pub(super) seen_at: SystemTime,
}

impl Duplicate {
    /// Whether two targets of one agent serve them.
    pub(super) fn is_of_one_agent(&self) -> bool {
        let [one, other] = &self.connections;
        one.id == other.id
    }

    /// Each once.
    pub(super) fn applications(&self) -> &[Application] {
        let [one, _] = &self.connections;
        match self.is_of_one_agent() {
            true => std::slice::from_ref(one),
            false => &self.connections,
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Application {
    pub(super) id: String,
    pub(super) peer: SocketAddr,
    pub(super) identity: Option<Arc<str>>,
}

#[derive(Debug, Serialize)]
pub(super) struct Drain {
    pub(super) stage: &'static str,
    pub(super) connections: usize,
    #[serde(serialize_with = "rfc3339")]
    pub(super) deadline: SystemTime,
}

#[derive(Debug, Serialize)]
pub(super) struct Member {
    pub(super) id: String,
    pub(super) state: &'static str,
    pub(super) version: String,
    pub(super) generation: u64,
    pub(super) http_address: SocketAddr,
    pub(super) gossip_address: Option<SocketAddr>,
    pub(super) grpc_address: Option<SocketAddr>,
    pub(super) connections: usize,
    pub(super) full: bool,
    pub(super) pushes: usize,
}

#[derive(Debug, Serialize)]
pub(super) struct Connection {
    pub(super) id: String,
    pub(super) peer: SocketAddr,
    pub(super) transport: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) identity: Option<Arc<str>>,
    #[serde(serialize_with = "rfc3339")]
    pub(super) connected_at: SystemTime,
    pub(super) last_scrape: Option<LastScrape>,
    /// In its last answer that was taken, where it is an agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) targets: Option<Targets>,
}

/// How an agent's targets fared.
#[derive(Debug, Serialize)]
pub(super) struct Targets {
    pub(super) total: usize,
    pub(super) failed: usize,
    /// The first of those that failed.
    pub(super) failures: Vec<TargetFailure>,
}

#[derive(Debug, Serialize)]
pub(super) struct TargetFailure {
    /// The labels of its `up`.
    pub(super) target: Arc<str>,
    pub(super) outcome: &'static str,
    pub(super) reason: Arc<str>,
}

#[derive(Debug, Serialize)]
pub(super) struct LastScrape {
    /// When it was over.
    #[serde(serialize_with = "rfc3339")]
    pub(super) at: SystemTime,
    pub(super) outcome: &'static str,
    pub(super) reason: String,
    pub(super) seconds: f64,
    pub(super) bytes: usize,
    pub(super) envelope: &'static str,
}

#[derive(Debug, Serialize)]
pub(super) struct Gone {
    pub(super) id: String,
    pub(super) peer: SocketAddr,
    pub(super) transport: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) identity: Option<Arc<str>>,
    #[serde(serialize_with = "rfc3339")]
    pub(super) connected_at: SystemTime,
    #[serde(serialize_with = "rfc3339")]
    pub(super) left_at: SystemTime,
    pub(super) reason: String,
}

/// Connections from one address that were refused for the same reason.
#[derive(Debug, Serialize)]
pub(super) struct Refusal {
    pub(super) peer: SocketAddr,
    pub(super) transport: &'static str,
    pub(super) exception: &'static str,
    pub(super) reason: String,
    #[serde(serialize_with = "rfc3339")]
    pub(super) at: SystemTime,
    pub(super) times: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Pushes {
    pub(super) pending: usize,
    /// Had by some consumers, and waiting for others.
    pub(super) partly_served: usize,
    pub(super) claimed: usize,
    pub(super) retained: usize,
    pub(super) replicas: usize,
    pub(super) bytes: usize,
    /// By name.
    pub(super) consumers: Vec<Consumer>,
    /// Those who have most, and those that were refused something lately.
    pub(super) pushers: Vec<Pusher>,
    /// Where `--push.dir` is set.
    pub(super) disk: Option<Disk>,
}

/// How the disk that has the pushes does.
#[derive(Debug, Serialize)]
pub(super) struct Disk {
    pub(super) bytes: usize,
    pub(super) free_bytes: usize,
    pub(super) failing: bool,
    pub(super) last_error: Option<String>,
}

/// Who scrapes pushes, as this node sees it.
#[derive(Debug, Serialize)]
pub(super) struct Consumer {
    pub(super) name: String,
    /// The longest of its last gaps; of one that has scraped once, none.
    pub(super) interval_seconds: Option<f64>,
    #[serde(serialize_with = "rfc3339")]
    pub(super) last_scrape: SystemTime,
    /// Whether pushes wait for it.
    pub(super) counts: bool,
    /// Pushes owned here that it has not had.
    pub(super) waiting: usize,
}

/// What one who pushes has here.
#[derive(Debug, Serialize)]
pub(super) struct Pusher {
    /// The identity, or the address.
    pub(super) pusher: String,
    pub(super) pushes: usize,
    pub(super) bytes: usize,
    pub(super) refused: Option<Refused>,
}

impl Pusher {
    /// Where its pushes are listed.
    pub(super) fn held(&self) -> String {
        pushes_of(&self.pusher)
    }
}

/// Pushes that were refused, none of them more than 15 minutes after the one before.
#[derive(Debug, Serialize)]
pub(super) struct Refused {
    pub(super) full: u64,
    pub(super) share: u64,
    pub(super) backlog: u64,
    #[serde(serialize_with = "rfc3339")]
    pub(super) last: SystemTime,
}

/// Whether this node has more connections than its share, and what it has done about that.
#[derive(Debug, Serialize)]
pub(super) struct Rebalance {
    pub(super) phase: &'static str,
    pub(super) target: f64,
    pub(super) surplus: f64,
    pub(super) shed: u64,
    pub(super) came_back: u64,
    pub(super) rounds: u64,
    pub(super) ineffective: u64,
    pub(super) yields: u64,
}

impl Refused {
    /// How many for which reason.
    pub(super) fn reasons(&self) -> String {
        let reasons = [
            ("full", self.full),
            ("share", self.share),
            ("backlog", self.backlog),
        ];
        let counted = reasons.iter().filter(|(_, pushes)| *pushes > 0);
        let told: Vec<_> = counted
            .map(|(reason, pushes)| format!("{pushes} {reason}"))
            .collect();
        told.join(", ")
    }
}

pub(super) async fn status(State(site): State<Site>) -> Json<Status> {
    Json(Status::of(&site))
}

impl Status {
    /// What the node knows now.
    pub(super) fn of(site: &Site) -> Self {
        let connections: Vec<_> = site
            .registry
            .snapshot()
            .iter()
            .map(|handle| connection(handle))
            .collect();
        let pushes = pushes(
            site.pushes.counts(),
            &site.pushes.consumers(),
            &site.pushes.pushers(PUSHERS),
            site.pushes.disk(),
        );
        let load = Load {
            connections: connections.len(),
            full: site.registry.is_full(),
            pushes: pushes.pending + pushes.claimed,
        };
        let node = node(site);
        let members = site.members.borrow().clone();
        let me = this_member(&members.me, node.state, load);
        let others = members.others.iter().map(member);
        Self {
            node,
            drain: drain(site, connections.len()),
            members: std::iter::once(me).chain(others).collect(),
            connections,
            applications: Counts::of(&site.targets.applications()),
            duplicates: duplicates(site.scraper.duplicates()),
            left: site.registry.left().into_iter().map(gone).collect(),
            refused: site.registry.refused().into_iter().map(refusal).collect(),
            pushes,
            rebalance: rebalance(&site.rebalancing.borrow()),
        }
    }
}

fn node(site: &Site) -> Node {
    let state = site.lifecycle.state();
    let starting = state == NodeState::Starting;
    Node {
        id: site.identity.id.clone(),
        version: env!("CARGO_PKG_VERSION"),
        state: state.name(),
        waiting_for: starting.then(|| if site.keys.is_empty() { "key" } else { "peers" }),
        started_at: site.identity.started_at,
        web_address: site.identity.web_address,
    }
}

fn duplicates(duplicates: &Duplicates) -> Vec<Duplicate> {
    let pairs = duplicates.pairs().into_iter();
    pairs
        .map(|pair| Duplicate {
            connections: pair.connections.map(|handle| Application {
                id: handle.id.to_string(),
                peer: handle.peer,
                identity: handle.identity.clone(),
            }),
            seen_at: pair.seen_at,
        })
        .collect()
}

fn drain(site: &Site, connections: usize) -> Option<Drain> {
    let progress = site.lifecycle.progress()?;
    Some(Drain {
        stage: progress.stage.name(),
        connections,
        deadline: progress.deadline,
    })
}

fn pushes(
    counts: store::Counts,
    consumers: &[ConsumerStatus],
    pushers: &[Holdings],
    disk: Option<DiskReport>,
) -> Pushes {
    let store::Counts {
        pending,
        partly_served,
        claimed,
        retained,
        replicas,
        bytes,
    } = counts;
    Pushes {
        pending,
        partly_served,
        claimed,
        retained,
        replicas,
        bytes,
        consumers: consumers.iter().map(consumer).collect(),
        pushers: pushers.iter().map(pusher).collect(),
        disk: disk.map(|disk| Disk {
            bytes: usize::try_from(disk.bytes).unwrap_or(usize::MAX),
            free_bytes: usize::try_from(disk.free).unwrap_or(usize::MAX),
            failing: disk.failing,
            last_error: disk.last_error,
        }),
    }
}

fn consumer(consumer: &ConsumerStatus) -> Consumer {
    Consumer {
        name: consumer.name.as_str().to_owned(),
        interval_seconds: consumer.interval.map(|interval| interval.as_secs_f64()),
        last_scrape: SystemTime::now() - consumer.last.elapsed(),
        counts: consumer.counts,
        waiting: consumer.waiting,
    }
}

fn pusher(holdings: &Holdings) -> Pusher {
    Pusher {
        pusher: holdings.pusher.to_string(),
        pushes: holdings.pushes,
        bytes: holdings.bytes,
        refused: holdings.refused.map(|refused| Refused {
            full: refused.full,
            share: refused.share,
            backlog: refused.backlog,
            last: SystemTime::now() - refused.last.elapsed(),
        }),
    }
}

fn rebalance(report: &Report) -> Rebalance {
    let Tally {
        shed,
        came_back,
        rounds,
        ineffective,
        yields,
    } = report.tally;
    Rebalance {
        phase: report.phase,
        target: report.target,
        surplus: report.surplus,
        shed,
        came_back,
        rounds,
        ineffective,
        yields,
    }
}

fn this_member(me: &Me, state: &'static str, load: Load) -> Member {
    Member {
        id: me.id.to_string(),
        state,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        generation: me.id.generation,
        http_address: me.http_address,
        gossip_address: me.peering.map(|peering| peering.gossip_address),
        grpc_address: me.peering.map(|peering| peering.grpc_address),
        connections: load.connections,
        full: load.full,
        pushes: load.pushes,
    }
}

fn member(member: &cluster::Member) -> Member {
    let profile = &member.profile;
    Member {
        id: member.id.to_string(),
        state: member.state_name(),
        version: profile.version.clone(),
        generation: member.id.generation,
        http_address: profile.http_address,
        gossip_address: Some(member.gossip_address),
        grpc_address: Some(profile.grpc_address),
        connections: profile.load.connections,
        full: profile.load.full,
        pushes: profile.load.pushes,
    }
}

fn connection(handle: &Handle) -> Connection {
    Connection {
        id: handle.id.to_string(),
        peer: handle.peer,
        transport: handle.transport.name(),
        identity: handle.identity.clone(),
        connected_at: handle.connected_at,
        last_scrape: handle.last_scrape().map(|scrape| LastScrape {
            at: scrape.at,
            outcome: scrape.outcome,
            reason: scrape.reason,
            seconds: scrape.duration.as_secs_f64(),
            bytes: scrape.bytes,
            envelope: scrape.envelope,
        }),
        targets: targets(handle.targets()),
    }
}

fn targets(targets: rsocket::Targets) -> Option<Targets> {
    let failed = targets.all_failed();
    let failures = targets.failures.into_iter().map(|failure| TargetFailure {
        target: failure.target,
        outcome: failure.outcome.name(),
        reason: failure.reason,
    });
    (targets.total > 0).then(|| Targets {
        total: targets.total,
        failed,
        failures: failures.collect(),
    })
}

fn gone(left: Left) -> Gone {
    Gone {
        id: left.id.to_string(),
        peer: left.peer,
        transport: left.transport.name(),
        identity: left.identity,
        connected_at: left.connected_at,
        left_at: left.left_at,
        reason: left.reason,
    }
}

fn refusal(refused: rsocket::Refused) -> Refusal {
    Refusal {
        peer: refused.peer,
        transport: refused.transport.name(),
        exception: refused.exception,
        reason: refused.reason,
        at: refused.at,
        times: refused.times,
    }
}
