//! The applications that are connected.

use tokio::task::JoinSet;

use super::app::App;
use super::failure::Failures;

/// Applications. Dropped, they are gone without a word.
#[derive(Default)]
pub(super) struct Fleet {
    apps: Vec<App>,
}

impl Fleet {
    pub(super) fn add(&mut self, app: App) {
        self.apps.push(app);
    }

    /// How many are connected. Connections that have been lost meanwhile are counted as failures, once; the client makes
    /// others.
    pub(super) fn count(&mut self, failures: &mut Failures) -> usize {
        let mut connected = 0;
        for app in &mut self.apps {
            let (is_connected, lost) = app.look();
            connected += usize::from(is_connected);
            if let Some((failure, times)) = lost {
                failures.add_times(failure, times);
            }
        }
        connected
    }

    /// All close their connections in good order.
    pub(super) async fn leave(mut self, failures: &mut Failures) {
        self.count(failures);
        let leaving: JoinSet<()> = self.apps.into_iter().map(App::leave).collect();
        leaving.join_all().await;
    }
}
