//! The members that are alive, as those who can be called.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Peer;
use crate::cluster::{Member, Members};

/// Follows the membership, in a task among `tasks`.
pub fn live_peers(
    mut members: watch::Receiver<Members>,
    tasks: &mut JoinSet<()>,
) -> watch::Receiver<Arc<[Peer]>> {
    let (told, peers) = watch::channel(of(&members.borrow_and_update()));
    tasks.spawn(async move {
        while members.changed().await.is_ok() {
            let now = of(&members.borrow_and_update());
            told.send_if_modified(|before| {
                let changed = *before != now;
                *before = now;
                changed
            });
        }
    });
    peers
}

fn of(members: &Members) -> Arc<[Peer]> {
    members.alive().map(peer).collect()
}

fn peer(member: &Member) -> Peer {
    Peer {
        id: member.id.clone(),
        grpc: member.profile.grpc_address,
        state: member.profile.state,
    }
}
