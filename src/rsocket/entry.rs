//! How a connection is accepted after its SETUP: its application must be known, and its identity must have room for one
//! more connection.
//!
//! No connection is refused immediately, because the published Java client would reconnect in a tight loop. A client
//! without credentials where they are required, such as that one, gets no answer until its `--rsocket.setup-timeout` is
//! over. A client with wrong credentials is told after a second, and so is one without credentials that says what it is
//! (no published client does).

use std::hash::Hash;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use prometheus_rsocket_wire::session::Setup;
use prometheus_rsocket_wire::{Credentials, ErrorCode};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, warn};

use super::admission::{MAX_UNANSWERED, Place, Shares};
use super::applications::Applications;
use super::described::{Described, Refused, description};
use super::metrics::ConnectionFault;
use super::transport::Transport;
use crate::identity::{Identity, Proof, Shown, Table, Unknown};
use crate::limits::eviction::Evictable;
use crate::limits::log_limit::LogLimit;

/// Before a client hears that its credentials are wrong, so that it cannot ask too often.
const PAUSE: Duration = Duration::from_secs(1);
/// Before a password is verified again that had to wait.
const BUSY_PAUSE: Duration = Duration::from_millis(200);

/// A connection that has come, and how.
pub(super) struct Arrival {
    pub(super) peer: SocketAddr,
    pub(super) transport: Transport,
    /// The names of its certificate.
    pub(super) certificate: Vec<String>,
    /// When its SETUP is due.
    pub(super) due: Instant,
    /// Until it is accepted, it may be closed to make room.
    pub(super) evictable: Evictable,
}

/// The identity of a connection, until the identities change.
pub(super) struct Member {
    pub(super) identity: Arc<Identity>,
    /// All identities.
    pub(super) table: Arc<Table>,
    /// What its SETUP says it is.
    pub(super) description: Option<Result<Described, Refused>>,
    proof: Proof,
    tables: watch::Receiver<Arc<Table>>,
    _place: Place<Arc<str>>,
}

impl Member {
    /// Waits until the identities change.
    pub(super) async fn changed(&mut self) {
        if self.tables.changed().await.is_err() {
            // There is no file, or the node ends.
            std::future::pending::<()>().await;
        }
    }

    /// Looks the identity up again. `false`: there is none, or it is another one, with a limit of its own.
    pub(super) fn renew(&mut self) -> bool {
        let table = Arc::clone(&self.tables.borrow_and_update());
        match table.identity(&self.proof) {
            Some(identity) if identity.terms.identity == self.identity.terms.identity => {
                self.identity = Arc::clone(identity);
                self.table = table;
                true
            }
            _ => false,
        }
    }
}

/// Why a connection is refused. It has waited long enough to be told.
pub(super) struct Denied {
    /// What it counts as.
    pub(super) exception: ConnectionFault,
    /// What the client is told.
    pub(super) message: &'static str,
    /// `REJECTED_SETUP`: the same credentials would be refused again.
    pub(super) code: ErrorCode,
}

/// What the status page says of a connection that waits for a place.
const WAITS: &str = "waits until one of the others ends";
const NO_CREDENTIALS: Denied = Denied {
    exception: ConnectionFault::NoCredentials,
    message: "the proxy requires a token, a password or a certificate",
    code: ErrorCode::REJECTED_SETUP,
};
const CREDENTIALS: Denied = Denied {
    exception: ConnectionFault::Credentials,
    message: "the proxy does not know these credentials (see its --rsocket.auth.file)",
    code: ErrorCode::REJECTED_SETUP,
};
const BUSY: Denied = Denied {
    exception: ConnectionFault::CredentialsUnverified,
    message: "the proxy has too many passwords to verify, try again later",
    code: ErrorCode::CONNECTION_ERROR,
};
const CONNECTIONS: Denied = Denied {
    exception: ConnectionFault::IdentityConnections,
    message: "too many applications of this identity are connected",
    code: ErrorCode::CONNECTION_ERROR,
};

/// Accepts a connection, or says why not.
pub(super) async fn enter(
    setup: Setup,
    arrival: &mut Arrival,
    apps: &Applications,
) -> Result<Box<Member>, Denied> {
    let mut tables = apps.identities.clone();
    let table = Arc::clone(&tables.borrow_and_update());
    let description = description(&setup);
    let proof = match shown(setup, &table, arrival) {
        Ok(shown) => identify(&table, shown, arrival.due).await,
        Err(unknown) => Err(unknown),
    };
    let known = proof.and_then(|proof| {
        let identity = table.identity(&proof).map(Arc::clone);
        identity.map(|known| (proof, known)).ok_or(Unknown::Wrong)
    });
    match known {
        Ok((proof, identity)) => {
            let description = description.map(|json| apps.descriptions.take(&json));
            let place = place(&identity, arrival, apps).await.ok_or(CONNECTIONS)?;
            Ok(Box::new(Member {
                identity,
                table,
                description,
                proof,
                tables,
                _place: place,
            }))
        }
        Err(unknown) => {
            let soon = Instant::now() + PAUSE;
            // A client that says what it is waits before it reconnects. The published Java client does not.
            let until = description.as_ref().map_or(arrival.due, |_| soon);
            // Many connections may wait here, so they keep little.
            drop(description);
            Err(match unknown {
                Unknown::Nothing => deny(NO_CREDENTIALS, until, arrival, apps).await,
                Unknown::Wrong => deny(CREDENTIALS, soon, arrival, apps).await,
                Unknown::Busy => deny(BUSY, soon, arrival, apps).await,
            })
        }
    }
}

/// The client's credentials. The rest of its SETUP is dropped, because it may have to wait.
fn shown(setup: Setup, table: &Table, arrival: &mut Arrival) -> Result<Shown, Unknown> {
    let certificate = std::mem::take(&mut arrival.certificate);
    if !table.asks() {
        return Ok(Shown::default());
    }
    let metadata = setup.payload.metadata.unwrap_or_default();
    match Credentials::read(&setup.metadata_mime, &metadata) {
        Ok(credentials) => Ok(Shown {
            credentials,
            certificate,
        }),
        Err(error) => {
            debug!(peer = %arrival.peer, %error, "cannot read the credentials");
            Err(Unknown::Wrong)
        }
    }
}

/// Waits before a connection is told why it is refused.
async fn deny(
    denied: Denied,
    until: Instant,
    arrival: &mut Arrival,
    apps: &Applications,
) -> Denied {
    note(denied.exception, denied.message, arrival, apps);
    arrival.evictable.move_to(&apps.unanswered);
    sleep_until(until).await;
    denied
}

/// Tries again while the passwords of others are being verified.
async fn identify(table: &Table, shown: Shown, due: Instant) -> Result<Proof, Unknown> {
    loop {
        match table.identify(shown.clone()).await {
            Err(Unknown::Busy) if Instant::now() < due => sleep(BUSY_PAUSE).await,
            known => return known,
        }
    }
}

/// Waits for a place among the connections of an identity.
async fn place(
    identity: &Identity,
    arrival: &mut Arrival,
    apps: &Applications,
) -> Option<Place<Arc<str>>> {
    let name = identity.terms.identity.clone().unwrap_or_default();
    let max = identity.max_connections.unwrap_or_default();
    let identities = &apps.admission.identities;
    place_among(
        identities,
        (name, max),
        CONNECTIONS.exception,
        arrival,
        apps,
    )
    .await
}

/// One of `max` places, or `None` where none gets free. Waiting for one is counted as `exception`.
pub(super) async fn place_among<K: Clone + Eq + Hash>(
    shares: &Arc<Shares<K>>,
    (key, max): (K, usize),
    exception: ConnectionFault,
    arrival: &mut Arrival,
    apps: &Applications,
) -> Option<Place<K>> {
    if let Some(place) = shares.take(&key, max) {
        return Some(place);
    }
    note(exception, WAITS, arrival, apps);
    arrival.evictable.move_to(&apps.unanswered);
    let place = shares.place_of(&key, max);
    timeout(MAX_UNANSWERED, place).await.ok()
}

fn note(exception: ConnectionFault, reason: &str, arrival: &Arrival, apps: &Applications) {
    static LOG_LIMIT: LogLimit = LogLimit::new(10);
    apps.metrics.failed(exception, arrival.transport, 1);
    apps.registry
        .refuse(arrival.peer, arrival.transport, exception, reason);
    let exception = exception.label();
    let (peer, transport) = (arrival.peer, arrival.transport.name());
    match LOG_LIMIT.due() {
        Some(suppressed) => warn!(%peer, transport, exception, suppressed, "application refused"),
        None => debug!(%peer, transport, exception, "application refused"),
    }
}
