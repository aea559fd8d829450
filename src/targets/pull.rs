//! One application, pulled wherever it is.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prometheus_rsocket_exposition::{Encoding, Exposition, Limits, Part, merge_as};
use prometheus_rsocket_wire::session::StreamError;
use tokio::time::{Instant, timeout_at};

use super::{Pulled, Targets, Unserved};
use crate::cluster::calls::{PackedText, Unpulled, UnpulledKind, unpack, unpacked_length};
use crate::directory::{ApplicationId, End, Ended, Missing, Place};
use crate::nodes::NodeId;
use crate::rsocket::{ConnectionId, Keep, Opened, PullError, run};
use crate::scrape::PullFailure;

/// How long after its connection broke an application is waited for.
const RETURNS: Duration = Duration::from_secs(10);
/// Bytes of text in one piece.
const CHUNK: usize = 64 << 10;
/// Bytes of text up to which writing it, or unpacking it, takes less than handing the work to another thread does.
const SHORT: usize = 256 << 10;
/// A text as it is served, with the labels of an identity, may be longer than `--scrape.max-payload` by this factor.
const GROWTH: usize = 2;

/// What an attempt came to.
enum Attempt {
    /// There is nothing more to try.
    Over(Result<Pulled, Unserved>),
    /// The application may be elsewhere soon; this is the reason if not.
    Wait(Unserved),
}

impl Targets {
    /// Pulls it where it is, and where it is not any more, waits for the directory to know better.
    pub(super) async fn find_and_pull(
        &self,
        id: &ApplicationId,
        encoding: Encoding,
        deadline: Instant,
    ) -> Result<Pulled, Unserved> {
        let mut changes = self.directory.changes();
        let mut tried: Option<(Place, Unserved)> = None;
        loop {
            changes.borrow_and_update();
            let place = self
                .directory
                .with(|directory, now| directory.find(id, now));
            let attempt = match tried.take() {
                Some((before, reason)) if before == place => Attempt::Wait(reason),
                _ => self.attempt(id, encoding, &place, deadline).await,
            };
            let reason = match attempt {
                Attempt::Over(result) => return result,
                Attempt::Wait(reason) => reason,
            };
            let Some(_place) = self.places.wait() else {
                return Err(reason);
            };
            match timeout_at(deadline, changes.changed()).await {
                Ok(Ok(())) => tried = Some((place, reason)),
                Ok(Err(_)) | Err(_) => return Err(reason),
            }
        }
    }

    async fn attempt(
        &self,
        id: &ApplicationId,
        encoding: Encoding,
        place: &Place,
        deadline: Instant,
    ) -> Attempt {
        match place {
            Place::Here { connection } => {
                let Some(_place) = self.places.pull() else {
                    return Attempt::Over(Err(too_many()));
                };
                let opened = self.pull_here(*connection, id, deadline, Keep::Text).await;
                match opened {
                    Ok(opened) => Attempt::Over(written(opened, encoding).await),
                    Err(gone @ Unserved::Disconnected(_)) => Attempt::Wait(gone),
                    Err(unserved) => Attempt::Over(Err(unserved)),
                }
            }
            Place::There { node, .. } => {
                let Some(_place) = self.places.pull() else {
                    return Attempt::Over(Err(too_many()));
                };
                self.pull_there(node, id, encoding, deadline).await
            }
            Place::Ended(ended) => {
                let ago = ended.at.elapsed();
                let reason = Unserved::Disconnected(disconnected(ended, ago));
                match ended.end {
                    End::Moved => Attempt::Wait(reason),
                    End::Lost if ago < RETURNS => Attempt::Wait(reason),
                    End::Lost | End::Left => Attempt::Over(Err(reason)),
                }
            }
            Place::Unknown => {
                let missing = self.directory.with(|directory, now| directory.missing(now));
                match missing {
                    None | Some(Missing::OlderRelease(_)) => Attempt::Over(Err(Unserved::Unknown)),
                    Some(Missing::Silent(node)) => Attempt::Wait(Unserved::Disconnected(format!(
                        "the applications of node {node} are not known yet"
                    ))),
                }
            }
        }
    }

    /// Pulls an application that is connected to this node.
    pub(super) async fn pull_here(
        &self,
        connection: ConnectionId,
        id: &ApplicationId,
        deadline: Instant,
        keep: Keep,
    ) -> Result<Arc<Opened>, Unserved> {
        let began = Instant::now();
        let pulled = self.scraper.pull_one(connection, id, deadline, keep);
        let pulled = pulled.await;
        pulled.map_err(|failure| unserved(&failure, began.elapsed()))
    }

    async fn pull_there(
        &self,
        node: &NodeId,
        id: &ApplicationId,
        encoding: Encoding,
        deadline: Instant,
    ) -> Attempt {
        match self.peers.pull(node, id, encoding, deadline).await {
            Ok(text) => Attempt::Over(self.unpacked(text, encoding).await),
            Err(Unpulled { kind, reason }) => match kind {
                UnpulledKind::NotHere | UnpulledKind::Disconnected | UnpulledKind::Unreachable => {
                    Attempt::Wait(Unserved::Disconnected(reason))
                }
                UnpulledKind::Timeout => Attempt::Over(Err(Unserved::Timeout(reason))),
                UnpulledKind::Invalid => Attempt::Over(Err(Unserved::Invalid(reason))),
                UnpulledKind::TooMany => Attempt::Over(Err(Unserved::TooMany(reason))),
            },
        }
    }

    /// What another node has validated: nothing else is in the response, so nothing else could suffer from it. A node of
    /// an earlier release writes another encoding than it was asked for.
    async fn unpacked(&self, text: PackedText, encoding: Encoding) -> Result<Pulled, Unserved> {
        let max = self.max_text();
        let length = unpacked_length(&text.packed).unwrap_or_default();
        let unpacking = run_if_long(length, move || {
            let unpacked = unpack(&text.packed, max)?;
            if text.encoding == encoding {
                return Some(unpacked);
            }
            rewritten(unpacked, text.encoding, encoding)
        });
        let text = unpacking.await.flatten();
        let text = text.ok_or_else(|| {
            Unserved::Invalid("another node answered with what cannot be read".into())
        })?;
        let held = self.opener.hold(text.len()).ok_or_else(no_memory)?;
        Ok(Pulled {
            chunks: vec![Bytes::from_owner(Held(text, held))],
        })
    }

    /// Bytes of a text that one node serves for another.
    pub(super) fn max_text(&self) -> usize {
        self.opener.max_text().saturating_mul(GROWTH)
    }
}

/// A piece of text with what keeps it counted.
struct Held<T>(Bytes, T);

impl<T> AsRef<[u8]> for Held<T> {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// A text in another encoding; `None`: it is not what it is said to be.
fn rewritten(text: Bytes, is: Encoding, encoding: Encoding) -> Option<Bytes> {
    let exposition = Exposition::parse_as(text, is.format, &Limits::NONE).ok()?;
    let merged = merge_as(encoding, vec![Arc::new(exposition).into()]);
    Some(merged.into_chunks(usize::MAX).next().unwrap_or_default())
}

/// An application's text as it is served.
async fn written(opened: Arc<Opened>, encoding: Encoding) -> Result<Pulled, Unserved> {
    let chunks = run_if_long(opened.bytes, move || {
        let chunks = write(&opened, encoding, CHUNK);
        chunks
            .map(|chunk| Bytes::from_owner(Held(chunk, Arc::clone(&opened))))
            .collect()
    });
    let chunks = chunks.await.ok_or_else(stopping)?;
    Ok(Pulled { chunks })
}

/// Pieces of about this size of the text that is served.
pub(super) fn write(
    opened: &Opened,
    encoding: Encoding,
    chunk: usize,
) -> impl Iterator<Item = Bytes> + use<> {
    let parts = opened.expositions().cloned().map(Part::from).collect();
    merge_as(encoding, parts).into_chunks(chunk)
}

/// Does CPU work for a text of so many bytes.
pub(super) async fn run_if_long<R: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> R + Send + 'static,
) -> Option<R> {
    match bytes <= SHORT {
        true => Some(work()),
        false => run(work).await,
    }
}

pub(super) fn stopping() -> Unserved {
    Unserved::Disconnected("the node is stopping".into())
}

fn too_many() -> Unserved {
    Unserved::TooMany("too many pulls are under way".into())
}

fn no_memory() -> Unserved {
    Unserved::TooMany("the running scrapes hold as much text as --scrape.max-memory allows".into())
}

fn unserved(failure: &PullFailure, after: Duration) -> Unserved {
    // The code says nothing that people need.
    if let PullFailure::Pull(PullError::Stream(StreamError::Application { message, .. })) = failure
        && !message.is_empty()
    {
        return Unserved::Invalid(format!("application answered with an error: {message}"));
    }
    match failure.labels().0 {
        "closed" => Unserved::Disconnected("application disconnected during the scrape".into()),
        "timeout" => Unserved::Timeout(format!(
            "application did not answer in {:.1} s",
            after.as_secs_f64()
        )),
        _ if failure.is_of_the_node() => Unserved::TooMany(failure.to_string()),
        _ => Unserved::Invalid(format!("application answered: {failure}")),
    }
}

fn disconnected(ended: &Ended, ago: Duration) -> String {
    let verb = match ended.end {
        End::Lost => "disconnected",
        End::Left => "left",
        End::Moved => "sent to another node",
    };
    format!(
        "application {verb} {} s ago: {}",
        ago.as_secs(),
        ended.reason
    )
}
