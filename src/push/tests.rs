//! Which pushes are taken while nodes leave.

use futures_util::FutureExt;
use prometheus_rsocket_wire::Envelopes;

use super::*;
use crate::metrics::OwnMetrics;
use crate::nodes::{NodeId, NodeState};
use crate::rsocket;

fn pushes() -> Pushes {
    let own = OwnMetrics::new().unwrap();
    let rsocket = rsocket::Metrics::register(&own).unwrap();
    let metrics = Arc::new(Metrics::register(&own, &rsocket, 1 << 20).unwrap());
    let keys = Arc::new(KeyRing::new(Envelopes::default(), Duration::ZERO));
    let limits = Limits {
        ttl: Duration::from_secs(60),
        retention: Duration::ZERO,
        consumers: 1,
        max_bytes: 1 << 20,
    };
    Pushes::new(
        NodeId::new("me", 1),
        limits,
        Replication::default(),
        Opener::new(Arc::default(), keys.envelopes(), 1 << 20, 1 << 20),
        keys,
        Arc::default(),
        metrics,
    )
}

/// Whether a push is taken in, acknowledged or not.
fn are_taken(pushes: &Pushes) -> bool {
    let text = Exposition::parse("up 1\n".into()).unwrap();
    let (content, _) = content_of(Arc::new(text), Tenant::Unknown, &pushes.hasher);
    let held = pushes.hold(content).now_or_never();
    !matches!(held, Some(Err(_)))
}

#[test]
fn once_no_scrape_is_answered_pushes_are_taken_only_where_another_node_stays() {
    let pushes = pushes();
    let see = |state| {
        let other = Peer {
            id: NodeId::new("other", 1),
            grpc: ([127, 0, 0, 1], 1).into(),
            state,
        };
        pushes.see(NodeState::Draining, &[other]);
    };
    see(NodeState::Draining);
    assert!(are_taken(&pushes), "a scrape may yet come");
    pushes.end_scrapes();
    assert!(!are_taken(&pushes));
    for stays in [NodeState::Active, NodeState::Starting] {
        see(stays);
        assert!(are_taken(&pushes), "{stays:?}");
    }
    see(NodeState::Draining);
    assert!(!are_taken(&pushes));
}
