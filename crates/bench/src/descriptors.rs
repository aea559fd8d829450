//! Whether the system allows as many connections as there are to be applications.

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

/// Whether so many open files are enough; a node that is started has the same limit.
pub(super) fn require(apps: usize, limit: Option<u64>) -> Result<(), TooFew> {
    let needed = apps as u64 + SPARE;
    match limit {
        Some(limit) if limit < needed => Err(TooFew {
            apps,
            needed,
            limit,
        }),
        // Where the system does not say, it will say when it is too much.
        _ => Ok(()),
    }
}
