//! A node alone; nodes that talk; who gets a push; whose room a push takes, and in what order pushes go out; what is listed; any interleaving; a simulated cluster.

mod alone;
mod cluster;
mod consumers;
mod disk;
mod durable;
mod figures;
mod interleavings;
mod listing;
mod nodes;
mod order;
mod room;
mod simulation;

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use prometheus_rsocket_exposition::Exposition;

use super::*;
use crate::nodes::{NodeId, NodeState};
use crate::tenant::Tenant;

const TTL: Duration = Duration::from_secs(60);
const TEXT: &str = "series 1\n";

fn limits() -> Limits {
    Limits {
        ttl: TTL,
        retention: Duration::ZERO,
        consumers: 1,
        max_bytes: usize::MAX,
    }
}

fn node(number: u64) -> NodeId {
    NodeId::new(&format!("node-{number}"), 1)
}

fn consumer(name: &str) -> ConsumerName {
    ConsumerName::new(name).unwrap()
}

/// Who scrapes where a test is about something else.
fn prometheus() -> ConsumerName {
    consumer("prometheus")
}

/// The store of a node that knows that Prometheus scrapes, and nobody else.
fn known_store(id: NodeId, limits: Limits, replication: Replication) -> Store {
    let known = KnownConsumers {
        consumers: vec![KnownConsumer {
            name: prometheus(),
            interval: Some(Duration::from_secs(1)),
            silent: Duration::ZERO,
        }],
        watched: replication.watch + TTL,
    };
    let mut store = Store::new(id, limits, replication);
    store.hear_of_consumers(&known, Instant::now());
    store
}

fn view(numbers: &[u64]) -> View {
    let nodes = numbers.iter();
    nodes
        .map(|number| (node(*number), NodeState::Active))
        .collect()
}

/// A push of which only the series matter, each by a pusher of its own.
fn content(series: &[u64]) -> Content {
    let pusher = series.first().map_or(0, |series| *series as u32);
    content_of(Tenant::Address(IpAddr::V4(pusher.into())), series)
}

fn content_of(pusher: Tenant, series: &[u64]) -> Content {
    static PARSED: LazyLock<Arc<Exposition>> = LazyLock::new(|| {
        let text = Bytes::from_static(TEXT.as_bytes());
        Arc::new(Exposition::parse(text).expect("a valid text"))
    });
    Content {
        text: Arc::clone(&PARSED),
        series: series.to_vec(),
        pusher,
    }
}
