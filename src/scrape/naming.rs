//! Pulls applications that do not say who they are, so that they can be known by their samples. Only while targets are in
//! use: otherwise nobody asks for their names.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::Scraper;
use crate::directory::SharedDirectory;
use crate::rsocket::{ConnectionId, Handle, Keep};

/// Applications that are pulled for their names at a time,
const AT_A_TIME: usize = 4;
/// without those that have not answered within this: a few that hang do not keep the others waiting.
const PATIENCE: Duration = Duration::from_secs(1);

impl Scraper {
    /// Pulls each connection once whose application is known by no name, as soon as targets are in use. A pull takes no
    /// longer than `most`.
    pub async fn name_applications(&self, directory: &SharedDirectory, most: Duration) {
        let places = Semaphore::new(AT_A_TIME);
        let mut next: ConnectionId = 0;
        let mut pulls = FuturesUnordered::new();
        loop {
            tokio::select! {
                () = directory.used() => {}
                Some(()) = pulls.next() => continue,
            }
            let newcomers = self.registry.since(next);
            next = newcomers.last().map_or(next, |last| last.id + 1);
            pulls.extend(
                newcomers
                    .into_iter()
                    .map(|handle| self.name_application(handle, &places, most)),
            );
            tokio::select! {
                () = self.registry.arrived() => {}
                () = async { while pulls.next().await.is_some() {} std::future::pending().await } => {}
            }
        }
    }

    async fn name_application(&self, handle: Arc<Handle>, places: &Semaphore, most: Duration) {
        // Never closed.
        let place = places.acquire().await;
        if !handle.needs_name() {
            return;
        }
        let pull = self.pull(&handle, None, Instant::now() + most, Keep::Text);
        let mut pull = Box::pin(pull);
        if timeout(PATIENCE, &mut pull).await.is_err() {
            drop(place);
            // What came of it is noted.
            let _ = pull.await;
        }
    }
}
