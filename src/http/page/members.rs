//! Where the other nodes serve their pages.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::http::Site;

/// The addresses of other nodes, by name.
pub(super) type Nodes = HashMap<Arc<str>, SocketAddr>;

/// Those that are there.
pub(super) fn others(site: &Site) -> Nodes {
    let members = site.members.borrow();
    let alive = members.alive();
    alive
        .map(|member| (Arc::clone(&member.id.name), member.profile.http_address))
        .collect()
}
