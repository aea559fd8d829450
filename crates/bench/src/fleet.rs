//! The applications that are connected.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::app::{App, Load};
use super::failure::{FailureKind, Failures, LoadFailure};
use super::text::Source;

/// How long an application took to get its key.
type Connected = Result<Duration, LoadFailure>;

/// Applications, a task each. Dropped, they are gone without a word.
pub(super) struct Fleet {
    tasks: JoinSet<Result<(), LoadFailure>>,
    stop: CancellationToken,
}

impl Fleet {
    /// Connects all at once. The receiver gets an outcome of each, and ends.
    pub(super) fn connect(load: &Arc<Load>, apps: usize) -> (Self, mpsc::Receiver<Connected>) {
        let (report, connected) = mpsc::channel(apps);
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        for number in 0..apps {
            tasks.spawn(live(number, Arc::clone(load), report.clone(), stop.clone()));
        }
        (Self { tasks, stop }, connected)
    }

    /// How many are connected. Those that have been lost meanwhile are counted as failures, once.
    pub(super) fn count(&mut self, failures: &mut Failures) -> usize {
        while let Some(ended) = self.tasks.try_join_next() {
            count_lost(ended, failures);
        }
        self.tasks.len()
    }

    /// All close their connections in good order.
    pub(super) async fn leave(mut self, failures: &mut Failures) {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            count_lost(ended, failures);
        }
    }
}

/// An application that never connected has ended as well, and its failure has been told already.
async fn live(
    number: usize,
    load: Arc<Load>,
    report: mpsc::Sender<Connected>,
    stop: CancellationToken,
) -> Result<(), LoadFailure> {
    let started = Instant::now();
    let connected = App::connect(&load).await;
    let time = started.elapsed();
    // There is room for all; nobody listens any more once the run is over.
    match connected {
        Ok(app) => {
            let _ = report.send(Ok(time)).await;
            drop(report);
            app.answer(load, Source::Application(number), stop).await
        }
        Err(failure) => {
            let _ = report.send(Err(failure)).await;
            Ok(())
        }
    }
}

fn count_lost(ended: Result<Result<(), LoadFailure>, JoinError>, failures: &mut Failures) {
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(failure)) => failures.add(failure),
        Err(error) => failures.add(LoadFailure::new(FailureKind::Lost, error)),
    }
}
