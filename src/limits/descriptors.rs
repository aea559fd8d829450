//! How many files, sockets included, this process may have open.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the limit as far as an ordinary process may: that for which a shell or a service manager starts programs is
/// often 1024, for the sake of those that `select` breaks. Gives what it is then; `None` where the system does not say.
pub(crate) fn raise() -> Option<u64> {
    let (limit, maximum) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    match setrlimit(Resource::RLIMIT_NOFILE, maximum, maximum) {
        Ok(()) => Some(maximum),
        // Where there is a limit besides, as on macOS.
        Err(_) => Some(limit),
    }
}
