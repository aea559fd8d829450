//! A node alone; nodes that talk; any interleaving; a simulated cluster.

mod alone;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prometheus_rsocket_exposition::Exposition;

use super::*;

const TTL: Duration = Duration::from_secs(60);

fn limits() -> Limits {
    Limits {
        ttl: TTL,
        retention: Duration::ZERO,
        max_bytes: usize::MAX,
    }
}

fn node(number: u64) -> NodeId {
    NodeId::new(&format!("node-{number}"), 1)
}

/// A push of which only the series matter.
fn content(series: &[u64]) -> Content {
    let first = series.first().copied().unwrap_or_default();
    let text = Bytes::from(format!("series_{first} 1\n"));
    Content {
        text: Arc::new(Exposition::parse(text).expect("a valid text")),
        series: series.to_vec(),
    }
}
