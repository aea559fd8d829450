//! `GET /api/v1/status`: what the node knows, as JSON.

use std::net::SocketAddr;
use std::time::SystemTime;

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use super::Site;
use crate::cluster::{self, Load, Me};
use crate::rebalance::{Report, Tally};
use crate::rsocket::{Handle, Left};
use crate::store::Counts;

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

#[derive(Debug, Serialize)]
pub(super) struct Status {
    node: Node,
    drain: Option<Drain>,
    members: Vec<Member>,
    connections: Vec<Connection>,
    left: Vec<Gone>,
    pushes: Pushes,
    rebalance: Rebalance,
}

#[derive(Debug, Serialize)]
struct Node {
    id: String,
    version: &'static str,
    state: &'static str,
    started_at: String,
    web_address: SocketAddr,
}

#[derive(Debug, Serialize)]
struct Drain {
    stage: &'static str,
    connections: usize,
    deadline: String,
}

#[derive(Debug, Serialize)]
struct Member {
    id: String,
    state: &'static str,
    version: String,
    generation: u64,
    http_address: SocketAddr,
    gossip_address: Option<SocketAddr>,
    grpc_address: Option<SocketAddr>,
    connections: usize,
    pushes: usize,
}

#[derive(Debug, Serialize)]
struct Connection {
    id: String,
    peer: SocketAddr,
    transport: &'static str,
    connected_at: String,
    last_scrape: Option<LastScrape>,
}

#[derive(Debug, Serialize)]
struct LastScrape {
    outcome: &'static str,
    reason: String,
    seconds: f64,
    bytes: usize,
    envelope: &'static str,
}

#[derive(Debug, Serialize)]
struct Gone {
    id: String,
    peer: SocketAddr,
    transport: &'static str,
    connected_at: String,
    left_at: String,
    reason: String,
}

#[derive(Debug, Serialize)]
struct Pushes {
    pending: usize,
    claimed: usize,
    retained: usize,
    replicas: usize,
    bytes: usize,
}

/// Whether this node has more connections than its share, and what it has done about that.
#[derive(Debug, Serialize)]
struct Rebalance {
    phase: &'static str,
    target: f64,
    surplus: f64,
    shed: u64,
    came_back: u64,
    rounds: u64,
    ineffective: u64,
    yields: u64,
}

pub(super) async fn status(State(site): State<Site>) -> Json<Status> {
    let state = site.lifecycle.state().name();
    let version = env!("CARGO_PKG_VERSION");
    let identity = &site.identity;
    let connections: Vec<_> = site
        .registry
        .snapshot()
        .iter()
        .map(|handle| connection(handle))
        .collect();
    let Counts {
        pending,
        claimed,
        retained,
        replicas,
        bytes,
    } = site.pushes.counts();
    let members = site.members.borrow().clone();
    let load = Load {
        connections: connections.len(),
        pushes: pending + claimed,
    };
    let me = this_member(&members.me, state, load);
    Json(Status {
        node: Node {
            id: identity.id.clone(),
            version,
            state,
            started_at: time(identity.started_at),
            web_address: identity.web_address,
        },
        drain: site.lifecycle.progress().map(|progress| Drain {
            stage: progress.stage.name(),
            connections: connections.len(),
            deadline: time(progress.deadline),
        }),
        members: std::iter::once(me)
            .chain(members.others.iter().map(member))
            .collect(),
        connections,
        left: site.registry.left().into_iter().map(gone).collect(),
        pushes: Pushes {
            pending,
            claimed,
            retained,
            replicas,
            bytes,
        },
        rebalance: rebalance(&site.rebalancing.borrow()),
    })
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
        pushes: profile.load.pushes,
    }
}

fn connection(handle: &Handle) -> Connection {
    Connection {
        id: handle.id.to_string(),
        peer: handle.peer,
        transport: handle.transport.name(),
        connected_at: time(handle.connected_at),
        last_scrape: handle.last_scrape().map(|scrape| LastScrape {
            outcome: scrape.outcome,
            reason: scrape.reason,
            seconds: scrape.duration.as_secs_f64(),
            bytes: scrape.bytes,
            envelope: scrape.envelope,
        }),
    }
}

fn gone(left: Left) -> Gone {
    Gone {
        id: left.id.to_string(),
        peer: left.peer,
        transport: left.transport.name(),
        connected_at: time(left.connected_at),
        left_at: time(left.left_at),
        reason: left.reason,
    }
}

fn time(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}
