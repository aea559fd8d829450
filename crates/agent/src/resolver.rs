//! Looks the names of targets up, so many at a time.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::vec;

use hyper_util::client::legacy::connect::dns::Name;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tower_service::Service;

/// Look-ups at a time: half of the threads that tokio has for what blocks. The system's resolver takes a thread for as
/// long as it likes, also when nobody waits for it any more: 80 s for a name whose servers are all away. Without a
/// bound such look-ups would in the end take the threads on which the texts of other targets are validated.
const MAX_LOOKUPS: usize = 256;

type Addresses = vec::IntoIter<SocketAddr>;
type Lookup = dyn Fn(&str) -> io::Result<Addresses> + Send + Sync;

/// The system's resolver.
#[derive(Clone)]
pub(super) struct Resolver {
    places: Arc<Semaphore>,
    lookup: Arc<Lookup>,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

impl Resolver {
    pub(super) fn new() -> Self {
        // The caller sets the port when it connects.
        Self::with(MAX_LOOKUPS, |name| (name, 0).to_socket_addrs())
    }

    fn with(
        places: usize,
        lookup: impl Fn(&str) -> io::Result<Addresses> + Send + Sync + 'static,
    ) -> Self {
        Self {
            places: Arc::new(Semaphore::new(places)),
            lookup: Arc::new(lookup),
        }
    }
}

impl Service<Name> for Resolver {
    type Response = Addresses;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Addresses>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let Self { places, lookup } = self.clone();
        Box::pin(async move {
            let place = places.acquire_owned().await.map_err(io::Error::other)?;
            let addresses = spawn_blocking(move || {
                let addresses = lookup(name.as_str());
                // Not before, although the caller may have gone.
                drop(place);
                addresses
            });
            addresses.await?
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::RwLock;
    use std::time::Duration;

    use futures_util::poll;
    use tokio::runtime::Builder;
    use tokio::time::timeout;

    use super::*;

    #[test]
    fn lookups_that_hang_leave_threads_to_others() {
        let mut builder = Builder::new_current_thread();
        let runtime = builder.enable_time().max_blocking_threads(2).build();
        let runtime = runtime.unwrap();
        let gate = Arc::new(RwLock::new(()));
        let closed = gate.write().unwrap();
        let at_the_gate = Arc::clone(&gate);
        let mut resolver = Resolver::with(1, move |_| {
            drop(at_the_gate.read());
            Ok(Vec::new().into_iter())
        });
        runtime.block_on(async {
            for _ in 0..3 {
                // Given up at once.
                let lookup = resolver.call("localhost".parse().unwrap());
                assert!(poll!(lookup).is_pending());
            }
            let other = timeout(Duration::from_secs(60), spawn_blocking(|| ()));
            other.await.unwrap().unwrap();
        });
        drop(closed);
        assert!(
            runtime
                .block_on(resolver.call("localhost".parse().unwrap()))
                .is_ok()
        );
    }

    #[tokio::test]
    async fn names_have_addresses() {
        let addresses = Resolver::new().call("localhost".parse().unwrap()).await;
        assert!(addresses.unwrap().all(|address| address.ip().is_loopback()));
    }
}
