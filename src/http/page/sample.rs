//! Status as tests need it.

use std::time::{Duration, SystemTime};

use crate::http::applications::Counts;
use crate::http::status::{
    Connection, Consumer, Disk, Gone, LastScrape, Member, Node, Pusher, Pushes, Rebalance, Refusal,
    Refused, Status, TargetFailure, Targets,
};

/// When everything in here happened.
pub(super) fn noon() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_014_400)
}

/// A connection that no scrape has pulled yet; greater numbers came later.
pub(super) fn connection(number: usize) -> Connection {
    let address = [10, 0, (number / 256) as u8, (number % 256) as u8];
    Connection {
        id: number.to_string(),
        peer: (address, 50_000).into(),
        transport: if number.is_multiple_of(2) {
            "tcp"
        } else {
            "websocket"
        },
        identity: None,
        connected_at: noon() + Duration::from_secs(number as u64),
        last_scrape: None,
        targets: None,
    }
}

/// One that was pulled; greater numbers took longer and brought more.
pub(super) fn pulled(number: usize, outcome: &'static str, reason: &str) -> Connection {
    let success = outcome == "success";
    let scrape = LastScrape {
        at: noon() + Duration::from_secs(number as u64),
        outcome,
        reason: reason.to_owned(),
        seconds: (number + 1) as f64 / 1000.0,
        bytes: if success { 100_000 + number } else { 0 },
        envelope: if success { "2" } else { "" },
    };
    Connection {
        last_scrape: Some(scrape),
        ..connection(number)
    }
}

/// An agent of 30 targets, of which so many are down for this reason.
pub(super) fn agent(number: usize, failed: usize, reason: &str) -> Connection {
    let failure = |target: usize| TargetFailure {
        target: format!("{{instance=\"web-{target}\"}}").into(),
        outcome: "down",
        reason: reason.into(),
    };
    Connection {
        targets: Some(Targets {
            total: 30,
            failed,
            failures: (0..failed.min(20)).map(failure).collect(),
        }),
        ..pulled(number, "success", "")
    }
}

/// A connection that ended.
pub(super) fn gone(number: usize, reason: &str) -> Gone {
    let Connection {
        id,
        peer,
        transport,
        identity,
        connected_at,
        ..
    } = connection(number);
    Gone {
        id,
        peer,
        transport,
        identity,
        connected_at,
        left_at: noon() + Duration::from_secs(1000),
        reason: reason.to_owned(),
    }
}

fn consumer(name: &str, interval_seconds: Option<f64>, waiting: usize) -> Consumer {
    Consumer {
        name: name.to_owned(),
        interval_seconds,
        last_scrape: noon(),
        counts: interval_seconds.is_some(),
        waiting,
    }
}

/// A node, the only one.
pub(super) fn status(connections: Vec<Connection>) -> Status {
    let node = Node {
        id: "host-1:8080".into(),
        version: "1.2.3",
        state: "active",
        waiting_for: None,
        started_at: noon(),
        web_address: ([10, 1, 0, 1], 8080).into(),
    };
    let pushes = Pushes {
        pending: 3,
        partly_served: 1,
        claimed: 1,
        retained: 0,
        replicas: 2,
        bytes: 4096,
        consumers: vec![
            consumer("a", Some(15.0), 3),
            consumer("10.1.0.9 curl", None, 5),
        ],
        pushers: vec![
            pusher("backup", 5, 3072, None),
            pusher("192.0.2.1", 1, 1024, Some((1, 120))),
        ],
        disk: Some(Disk {
            bytes: 2048,
            free_bytes: 1 << 20,
            failing: true,
            last_error: Some("No space left on device".into()),
        }),
    };
    let rebalance = Rebalance {
        phase: "alone",
        target: 0.0,
        surplus: 0.0,
        shed: 0,
        came_back: 0,
        rounds: 0,
        ineffective: 0,
        yields: 0,
    };
    Status {
        members: vec![member("host-1:8080", 1, "active", connections.len())],
        node,
        drain: None,
        connections,
        applications: Counts::default(),
        duplicates: Vec::new(),
        left: Vec::new(),
        refused: Vec::new(),
        pushes,
        rebalance,
    }
}

/// One from this address that came again and again.
pub(super) fn refusal(number: u8, reason: &str) -> Refusal {
    Refusal {
        peer: ([192, 0, 2, number], 50_000).into(),
        transport: "tcp",
        exception: "credentials",
        reason: reason.to_owned(),
        at: noon(),
        times: 12,
    }
}

fn pusher(name: &str, pushes: usize, bytes: usize, refused: Option<(u64, u64)>) -> Pusher {
    Pusher {
        pusher: name.to_owned(),
        pushes,
        bytes,
        refused: refused.map(|(share, backlog)| Refused {
            full: 0,
            share,
            backlog,
            last: noon(),
        }),
    }
}

/// A node of the cluster.
pub(super) fn member(id: &str, number: u8, state: &'static str, connections: usize) -> Member {
    Member {
        id: id.to_owned(),
        state,
        version: "1.2.3".into(),
        generation: 1,
        http_address: ([10, 1, 0, number], 8080).into(),
        gossip_address: None,
        grpc_address: None,
        connections,
        full: false,
        pushes: 0,
    }
}
