//! Where a client's task runs: on the application's tokio runtime, or on a thread of its own.

use std::thread;

use tokio::runtime::{self, Handle};
use tracing::error;

/// Starts the task that `task` makes, on the current runtime if there is one and it may be used.
pub(crate) fn start<F>(task: impl FnOnce() -> F + Send + 'static, own_thread: bool)
where
    F: Future<Output = ()> + Send + 'static,
{
    match Handle::try_current() {
        Ok(runtime) if !own_thread => drop(runtime.spawn(task())),
        _ => start_thread(task),
    }
}

/// Where no thread can be started, the task is dropped: the client is closed from the beginning.
fn start_thread<F: Future<Output = ()>>(task: impl FnOnce() -> F + Send + 'static) {
    let thread = thread::Builder::new().name("prometheus-rsocket".into());
    let started = thread.spawn(move || {
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        match runtime {
            Ok(runtime) => {
                runtime.block_on(task());
                // A closure that never returns must not hold up the thread.
                runtime.shutdown_background();
            }
            Err(error) => error!(%error, "cannot start the client's runtime"),
        }
    });
    if let Err(error) = started {
        error!(%error, "cannot start the client's thread");
    }
}
