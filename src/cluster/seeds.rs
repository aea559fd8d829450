//! Where to look for the cluster: the peers that the operator named, their names looked up again and again.
//!
//! Gossip finds the rest of a cluster once it has found one node of it. A name is looked up as often as it may matter:
//! every [`ALONE`] without any peer, so that a cluster of containers forms, and finds itself again after all of them got
//! new addresses; every [`INCOMPLETE`] while a peer is missing that the names stand for, so that two halves that do not
//! know of each other meet; else every [`COMPLETE`].

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{info, warn};

use super::members::{Members, Peering};
use super::peer::Peer;

/// Between lookups without any peer.
const ALONE: Duration = Duration::from_secs(2);
/// Between lookups while a peer is missing.
const INCOMPLETE: Duration = Duration::from_secs(5);
/// Between lookups while all are there.
const COMPLETE: Duration = Duration::from_secs(30);
/// One lookup of one name.
const LOOKUP: Duration = Duration::from_secs(5);
/// Addresses kept; to find a cluster, one is enough.
const MAX_ADDRESSES: usize = 256;

/// Looks the peers up again and again, and tells their addresses.
pub(super) async fn look_up(
    peers: Vec<Peer>,
    mut members: watch::Receiver<Members>,
    found: watch::Sender<Vec<SocketAddr>>,
) {
    let mut failing = HashSet::new();
    loop {
        let mut addresses = Vec::new();
        for peer in &peers {
            addresses.extend(resolve(peer, &mut failing).await);
        }
        addresses.sort_unstable();
        addresses.dedup();
        addresses.truncate(MAX_ADDRESSES);
        found.send_replace(addresses);
        let looked_up_at = Instant::now();
        loop {
            let due = looked_up_at + pace(&members.borrow_and_update(), &found.borrow());
            tokio::select! {
                () = sleep_until(due) => break,
                changed = members.changed() => if changed.is_err() { return },
            }
        }
    }
}

/// The addresses of a peer; none if its name cannot be looked up, which is logged when it begins and when it ends.
async fn resolve(peer: &Peer, failing: &mut HashSet<String>) -> Vec<SocketAddr> {
    let (host, port) = match peer {
        Peer::Address(address) => return vec![*address],
        Peer::Name { host, port } => (host, *port),
    };
    let looked_up: io::Result<Vec<_>> =
        match timeout(LOOKUP, lookup_host((host.as_str(), port))).await {
            Ok(looked_up) => looked_up.map(Iterator::collect),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
    match looked_up {
        Ok(addresses) => {
            if failing.remove(host) {
                info!(%peer, addresses = addresses.len(), "peer found again");
            }
            addresses
        }
        Err(error) => {
            if failing.insert(host.clone()) {
                warn!(%peer, %error, "peer not found, trying again");
            }
            Vec::new()
        }
    }
}

fn pace(members: &Members, found: &[SocketAddr]) -> Duration {
    if members.alive().next().is_none() {
        ALONE
    } else if missing(members, found).is_empty() {
        COMPLETE
    } else {
        INCOMPLETE
    }
}

/// The addresses at which no live member is known.
pub(super) fn missing(members: &Members, found: &[SocketAddr]) -> Vec<SocketAddr> {
    let known: HashSet<_> = members
        .alive()
        .map(|member| member.gossip_address)
        .chain(
            members
                .me
                .peering
                .map(|Peering { gossip_address, .. }| gossip_address),
        )
        .collect();
    found
        .iter()
        .copied()
        .filter(|address| !known.contains(address))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::members::{Load, Me, Member, Presence, Profile};
    use crate::nodes::{NodeId, NodeState};

    fn address(host: u8) -> SocketAddr {
        ([10, 0, 0, host], 7946).into()
    }

    fn members(others: &[u8]) -> Members {
        let id = |host: u8| NodeId {
            name: format!("host-{host}").into(),
            generation: 1,
        };
        let member = |host: &u8| Member {
            id: id(*host),
            gossip_address: address(*host),
            profile: Profile {
                generation: 1,
                http_address: address(*host),
                grpc_address: address(*host),
                version: "1.0.0".into(),
                state: NodeState::Active,
                load: Load::default(),
            },
            presence: Presence::Alive {
                since: std::time::Instant::now(),
            },
        };
        Members {
            me: Me {
                id: id(1),
                http_address: address(1),
                peering: Some(Peering {
                    gossip_address: address(1),
                    grpc_address: address(1),
                }),
            },
            others: others.iter().map(member).collect(),
        }
    }

    #[test]
    fn names_are_looked_up_more_often_the_fewer_peers_are_there() {
        let all = [address(1), address(2), address(3)];
        assert_eq!(pace(&members(&[]), &all), ALONE);
        assert_eq!(pace(&members(&[2]), &all), INCOMPLETE);
        assert_eq!(pace(&members(&[2, 3]), &all), COMPLETE);
    }

    #[test]
    fn a_dead_member_is_missing_and_this_node_is_not() {
        let mut members = members(&[2, 3]);
        members.others[0].presence = Presence::Dead {
            since: std::time::Instant::now(),
        };
        let all = [address(1), address(2), address(3)];
        assert_eq!(missing(&members, &all), [address(2)]);
    }

    #[tokio::test]
    async fn a_name_gives_all_its_addresses_and_an_unknown_one_none() {
        let mut failing = HashSet::new();
        let localhost = "localhost:1234".parse().unwrap();
        let addresses = resolve(&localhost, &mut failing).await;
        assert!(!addresses.is_empty());
        assert!(addresses.iter().all(|address| address.port() == 1234));
        let unknown = "nobody.invalid".parse().unwrap();
        assert!(resolve(&unknown, &mut failing).await.is_empty());
        assert_eq!(failing.len(), 1);
    }
}
