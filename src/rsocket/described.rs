//! What an application says it is, kept as it came: it means something else when the file of identities changes.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use prometheus_rsocket_wire::Payload;
use prometheus_rsocket_wire::description::{Description, DescriptionError, MIME};
use prometheus_rsocket_wire::session::Setup;
use tokio::time::Instant;

/// Bytes of a description for which every connection has room.
const SHORT: usize = 4 << 10;
/// Bytes of all longer descriptions together. Past it a further one is refused.
const MAX_LONG: usize = 32 << 20;
/// Of the updates of one connection, one is taken in this time: the newest.
const UPDATE_PAUSE: Duration = Duration::from_secs(1);

/// A valid description.
pub(super) struct Described {
    json: Box<[u8]>,
    _long: Option<LongBytes>,
}

impl Described {
    /// What it says.
    pub(super) fn read(&self) -> Description {
        // It was valid when it came.
        Description::decode(&self.json).unwrap_or_default()
    }
}

impl fmt::Debug for Described {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Described").field(&self.json.len()).finish()
    }
}

/// Why a description is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    /// It is none, or exceeds a limit.
    #[error(transparent)]
    Invalid(#[from] DescriptionError),
    /// The long ones of other connections take all the room.
    #[error("too many long descriptions are held")]
    Memory,
}

/// Holds the descriptions of all connections.
#[derive(Debug, Default)]
pub(super) struct Descriptions {
    long: Arc<AtomicUsize>,
}

impl Descriptions {
    /// Takes a description that is valid.
    pub(super) fn take(&self, json: &[u8]) -> Result<Described, Refused> {
        Description::decode(json)?;
        let long = match json.len() > SHORT {
            true => Some(LongBytes::new(&self.long, json.len()).ok_or(Refused::Memory)?),
            false => None,
        };
        Ok(Described {
            json: json.into(),
            _long: long,
        })
    }
}

/// Bytes of a long description, counted until dropped.
struct LongBytes {
    all: Arc<AtomicUsize>,
    bytes: usize,
}

impl LongBytes {
    fn new(all: &Arc<AtomicUsize>, bytes: usize) -> Option<Self> {
        let with = |held: usize| Some(held + bytes).filter(|&held| held <= MAX_LONG);
        let added = all.fetch_update(Ordering::Relaxed, Ordering::Relaxed, with);
        added.is_ok().then(|| Self {
            all: Arc::clone(all),
            bytes,
        })
    }
}

impl Drop for LongBytes {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What a SETUP says of its application, where it says anything; not looked at.
pub(super) fn description(setup: &Setup) -> Option<Bytes> {
    (setup.data_mime == MIME).then(|| setup.payload.data.clone())
}

/// Whether a fireAndForget is an update of the description: no push has such metadata.
pub(super) fn is_update(payload: &Payload) -> bool {
    payload.metadata.as_deref() == Some(MIME.as_bytes())
}

/// The updates of one connection, at the pace at which they are taken.
#[derive(Debug, Default)]
pub(super) struct Updates {
    taken: Option<Instant>,
    /// The newest that has come since.
    waiting: Option<Payload>,
}

impl Updates {
    /// One has come.
    pub(super) fn came(&mut self, update: Payload) {
        self.waiting = Some(update);
    }

    /// The newest, once there is one and its time has come. Cancel safe.
    pub(super) async fn due(&mut self) -> Payload {
        if self.waiting.is_some()
            && let Some(taken) = self.taken
        {
            tokio::time::sleep_until(taken + UPDATE_PAUSE).await;
        }
        match self.waiting.take() {
            Some(update) => {
                self.taken = Some(Instant::now());
                update
            }
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    /// A description of so many bytes.
    fn json(bytes: usize) -> Vec<u8> {
        let mut json = br#"{"targets":[{"instance":"web-1"}]}"#.to_vec();
        json.resize(bytes, b' ');
        json
    }

    #[test]
    fn long_descriptions_leave_room_for_everybodys_short_ones() {
        let descriptions = Descriptions::default();
        let long = || descriptions.take(&json(64 << 10));
        let held: Vec<_> = std::iter::from_fn(|| long().ok()).collect();
        assert_eq!(held.len(), MAX_LONG / (64 << 10));
        assert_eq!(long().err(), Some(Refused::Memory));
        let short = descriptions.take(&json(SHORT)).unwrap();
        assert_eq!(short.read().targets[0].instance, "web-1");
        drop(held);
        assert!(long().is_ok());
    }

    #[test]
    fn what_is_no_description_is_refused() {
        let descriptions = Descriptions::default();
        let refused = |json: &[u8]| descriptions.take(json).err();
        let too_long = refused(&json((64 << 10) + 1));
        assert_eq!(too_long, Some(DescriptionError::TooLong.into()));
        assert!(matches!(refused(b"up 1\n"), Some(Refused::Invalid(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn of_a_flood_of_updates_one_is_taken_in_a_second_and_it_is_the_newest() {
        let mut updates = Updates::default();
        let due = |updates: &mut Updates| updates.due().now_or_never().map(|update| update.data);
        assert_eq!(due(&mut updates), None);
        updates.came(Payload::of_data("1"));
        assert_eq!(due(&mut updates).as_deref(), Some(&b"1"[..]));
        for number in 2..1000 {
            updates.came(Payload::of_data(number.to_string()));
            assert_eq!(due(&mut updates), None);
        }
        tokio::time::advance(UPDATE_PAUSE).await;
        assert_eq!(due(&mut updates).as_deref(), Some(&b"999"[..]));
        assert_eq!(due(&mut updates), None);
    }
}
