//! Whether the system allows as many connections as there are to be applications.

use crate::limits::descriptors;

/// For what is open besides the connections.
const SPARE: u64 = 64;

/// The limit on open files is too low, and may not be raised as far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{apps} applications take {needed} open files, the limit is {limit} (ulimit -n); raise it or lower --apps"
)]
pub struct TooFew {
    apps: usize,
    needed: u64,
    limit: u64,
}

/// Raises the limit of this process, and of the node that it starts, as far as allowed.
pub(super) fn require(apps: usize) -> Result<(), TooFew> {
    let needed = apps as u64 + SPARE;
    match descriptors::raise() {
        Some(limit) if limit < needed => Err(TooFew {
            apps,
            needed,
            limit,
        }),
        // Where the system does not say, it will say when it is too much.
        _ => Ok(()),
    }
}
