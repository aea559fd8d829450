//! Whether the system allows as many connections as there are to be applications.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

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

/// Raises the limit of this process, and of the node that it starts, as far as needed and allowed.
pub(super) fn require(apps: usize) -> Result<(), TooFew> {
    let needed = apps as u64 + SPARE;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let Some(limit) = current.filter(|limit| *limit < needed) else {
        return Ok(());
    };
    let raised = Rlimit {
        current: Some(needed),
        maximum,
    };
    setrlimit(Resource::Nofile, raised).map_err(|_| TooFew {
        apps,
        needed,
        limit: maximum.unwrap_or(limit),
    })
}
