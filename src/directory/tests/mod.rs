//! One node; nodes that tell each other; any interleaving of what applications, nodes and the network may do.

mod alone;
mod cluster;
mod interleavings;

use std::net::SocketAddr;

use super::*;

const LINGER: Duration = Duration::from_secs(300);

fn node(number: u64) -> NodeId {
    NodeId::new(&format!("node-{number}"), 1)
}

fn id(instance: &str) -> ApplicationId {
    ApplicationId::new(instance, None).expect("a name")
}

/// An application that says its name, and what else there is to say of it.
fn target(instance: &str, identity: Option<&str>) -> Target {
    named(instance, identity, Named::Description)
}

fn named(instance: &str, identity: Option<&str>, named: Named) -> Target {
    Target {
        id: id(instance),
        about: Arc::new(About {
            named,
            client: None,
            identity: identity.map(Into::into),
            peer: SocketAddr::from(([192, 0, 2, 1], 1)),
            transport: "tcp",
            connected_at: SystemTime::UNIX_EPOCH,
            labels: BTreeMap::new(),
        }),
    }
}

/// What a node says of its applications: name, node, and how it is.
fn said(directory: &Directory, now: Instant) -> Vec<String> {
    let all = directory.targets(now, SystemTime::now()).into_iter();
    all.map(|application| {
        let state = match application.state {
            State::Connected => "connected",
            State::Ended { end, .. } => end.name(),
        };
        format!("{} {state} {}", application.id, application.node)
    })
    .collect()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
