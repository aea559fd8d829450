//! Where the subcommands run what is asynchronous.

use std::io;

use tokio::runtime::Builder;

/// Runs `task` to its end on threads for every processor.
pub(super) fn block_on<T>(task: impl Future<Output = T>) -> io::Result<T> {
    run(&mut Builder::new_multi_thread(), task)
}

/// Runs `task` to its end on this thread.
pub(super) fn block_on_one<T>(task: impl Future<Output = T>) -> io::Result<T> {
    run(&mut Builder::new_current_thread(), task)
}

fn run<T>(builder: &mut Builder, task: impl Future<Output = T>) -> io::Result<T> {
    let runtime = builder.enable_all().build();
    let runtime =
        runtime.map_err(|error| io::Error::other(format!("cannot start a runtime: {error}")))?;
    let result = runtime.block_on(task);
    // A name that is being looked up or a file on a share that is away can hold a thread for minutes. Nobody waits for
    // it any more: dropped, the runtime would.
    runtime.shutdown_background();
    Ok(result)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::*;

    async fn leave_a_thread_behind() {
        tokio::task::spawn_blocking(|| {
            loop {
                thread::park();
            }
        });
    }

    #[test]
    fn the_end_does_not_wait_for_threads_that_hang() {
        let (ended, end) = mpsc::channel();
        thread::spawn(move || {
            block_on(leave_a_thread_behind()).unwrap();
            block_on_one(leave_a_thread_behind()).unwrap();
            ended.send(()).unwrap();
        });
        end.recv_timeout(Duration::from_secs(60)).unwrap();
    }
}
