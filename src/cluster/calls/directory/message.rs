//! Between what nodes mean, [`crate::directory`], and what travels, `proto/directory.proto`.
//!
//! Nothing of what travels is trusted: what lacks a part, or has one that no node of ours would send, is [`Invalid`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use prometheus_rsocket_exposition::{Encoding, Escaping, Format};

use super::proto::{self, encoding, ended, failure, pull_reply};
use crate::cluster::calls::message::{Invalid, millis, need};
use crate::cluster::calls::{PackedText, Unpulled, UnpulledKind};
use crate::directory::{About, ApplicationId, Changes, End, Ended, Entry, Named, Outcome, Target};

/// Bytes of a reason.
const MAX_REASON: usize = 1000;
/// Outcomes of pulls that this release knows; another is an error.
const OUTCOMES: [&str; 5] = ["success", "closed", "timeout", "invalid", "error"];

/// The name of an application.
pub(super) fn application(instance: &str, job: Option<&str>) -> Result<ApplicationId, Invalid> {
    ApplicationId::new(instance, job).ok_or(Invalid("an application's name"))
}

fn reason(said: &str) -> Result<Arc<str>, Invalid> {
    if said.len() > MAX_REASON {
        return Err(Invalid("a reason"));
    }
    Ok(said.into())
}

/// As the time passes on this node's clock.
fn ago(at: Instant) -> u64 {
    millis(at.elapsed())
}

impl From<&Changes> for proto::ChangesReply {
    fn from(changes: &Changes) -> Self {
        Self {
            clock: changes.clock,
            in_use: changes.in_use,
            from_start: changes.from_start,
            more: changes.more,
            known: changes.known,
            through: changes.through,
            entries: changes.entries.iter().map(Into::into).collect(),
            removed: changes.removed.clone(),
        }
    }
}

/// What a node answered.
pub(super) fn changes(said: proto::ChangesReply) -> Result<Changes, Invalid> {
    let entries = said.entries.into_iter().map(entry);
    Ok(Changes {
        clock: said.clock,
        in_use: said.in_use,
        from_start: said.from_start,
        more: said.more,
        known: said.known,
        through: said.through,
        entries: entries.collect::<Result<_, _>>()?,
        removed: said.removed,
    })
}

impl From<&Entry> for proto::Entry {
    fn from(entry: &Entry) -> Self {
        let Target { id, about } = &entry.target;
        let owned = |text: &Option<Arc<str>>| text.as_deref().map(Into::into);
        let labels = about.labels.iter();
        let connected = about.connected_at.elapsed().unwrap_or_default();
        Self {
            number: entry.number,
            instance: id.instance.to_string(),
            job: owned(&id.job),
            named: match about.named {
                Named::Description => proto::Named::Description,
                Named::Identity => proto::Named::Identity,
                Named::Labels => proto::Named::Labels,
                Named::Address => proto::Named::Address,
            }
            .into(),
            client: owned(&about.client),
            identity: owned(&about.identity),
            peer: about.peer.to_string(),
            transport: match about.transport {
                "tcp" => proto::Transport::Tcp,
                _ => proto::Transport::Websocket,
            }
            .into(),
            connected_ms: millis(connected),
            labels: labels
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .collect(),
            stamp: entry.stamp,
            claimed: entry.claimed,
            at: entry.at.as_ref().map(Into::into),
            ended: entry.ended.as_ref().map(Into::into),
            last: entry.last.as_ref().map(|last| proto::Outcome {
                outcome: last.outcome.into(),
                reason: last.reason.to_string(),
            }),
        }
    }
}

fn entry(said: proto::Entry) -> Result<Entry, Invalid> {
    let peer: SocketAddr = said.peer.parse().map_err(|_| Invalid("a peer's address"))?;
    let now = SystemTime::now();
    let connected_at = now.checked_sub(Duration::from_millis(said.connected_ms));
    let labels = said.labels.into_iter();
    let about = About {
        // What a newer release tells them apart by: known to last, as far as this one can tell.
        named: match proto::Named::try_from(said.named) {
            Ok(proto::Named::Identity) => Named::Identity,
            Ok(proto::Named::Labels) => Named::Labels,
            Ok(proto::Named::Address) => Named::Address,
            Ok(proto::Named::Description | proto::Named::Unspecified) | Err(_) => {
                Named::Description
            }
        },
        client: said.client.map(Into::into),
        identity: said.identity.map(Into::into),
        peer,
        transport: match proto::Transport::try_from(said.transport) {
            Ok(proto::Transport::Websocket) => "websocket",
            _ => "tcp",
        },
        connected_at: connected_at.unwrap_or(now),
        labels: labels
            .map(|(name, value)| (name.into(), value.into()))
            .collect(),
    };
    let entry = Entry {
        number: said.number,
        target: Target {
            id: application(&said.instance, said.job.as_deref())?,
            about: Arc::new(about),
        },
        at: match said.at {
            None => None,
            at => Some(need(at, "the node where it was")?),
        },
        stamp: said.stamp,
        claimed: said.claimed,
        ended: said.ended.as_ref().map(ended).transpose()?,
        last: said.last.as_ref().map(outcome).transpose()?,
    };
    if !entry.fits() {
        return Err(Invalid("an entry"));
    }
    Ok(entry)
}

impl From<&Ended> for proto::Ended {
    fn from(ended: &Ended) -> Self {
        Self {
            end: match ended.end {
                End::Lost => ended::End::Lost,
                End::Left => ended::End::Left,
                End::Moved => ended::End::Moved,
            }
            .into(),
            ago_ms: ago(ended.at),
            reason: ended.reason.to_string(),
        }
    }
}

fn ended(said: &proto::Ended) -> Result<Ended, Invalid> {
    let now = Instant::now();
    let at = now.checked_sub(Duration::from_millis(said.ago_ms));
    Ok(Ended {
        end: match ended::End::try_from(said.end) {
            Ok(ended::End::Left) => End::Left,
            Ok(ended::End::Moved) => End::Moved,
            Ok(ended::End::Lost | ended::End::Unspecified) | Err(_) => End::Lost,
        },
        at: at.unwrap_or(now),
        reason: reason(&said.reason)?,
    })
}

fn outcome(said: &proto::Outcome) -> Result<Outcome, Invalid> {
    let known = OUTCOMES.into_iter().find(|known| *known == said.outcome);
    Ok(Outcome {
        outcome: known.unwrap_or("error"),
        reason: reason(&said.reason)?,
    })
}

impl From<Encoding> for proto::Encoding {
    fn from(encoding: Encoding) -> Self {
        Self {
            format: match encoding.format {
                Format::Text => encoding::Format::Text,
                Format::OpenMetrics => encoding::Format::Openmetrics,
            }
            .into(),
            escaping: match encoding.escaping {
                Escaping::Underscores => encoding::Escaping::Underscores,
                Escaping::AllowUtf8 => encoding::Escaping::AllowUtf8,
                Escaping::Dots => encoding::Escaping::Dots,
                Escaping::Values => encoding::Escaping::Values,
            }
            .into(),
        }
    }
}

/// What a text is to be written in, or is: where that is not said or not known, what every release writes.
pub(super) fn encoding(said: Option<proto::Encoding>) -> Encoding {
    let read = |said: proto::Encoding| {
        Some(Encoding {
            format: match encoding::Format::try_from(said.format).ok()? {
                encoding::Format::Text => Format::Text,
                encoding::Format::Openmetrics => Format::OpenMetrics,
                encoding::Format::Unspecified => return None,
            },
            escaping: match encoding::Escaping::try_from(said.escaping).ok()? {
                encoding::Escaping::Underscores => Escaping::Underscores,
                encoding::Escaping::AllowUtf8 => Escaping::AllowUtf8,
                encoding::Escaping::Dots => Escaping::Dots,
                encoding::Escaping::Values => Escaping::Values,
                encoding::Escaping::Unspecified => return None,
            },
        })
    };
    said.and_then(read).unwrap_or(Encoding::TEXT)
}

impl From<Result<PackedText, Unpulled>> for proto::PullReply {
    fn from(pulled: Result<PackedText, Unpulled>) -> Self {
        let encoding = pulled.as_ref().ok().map(|text| text.encoding.into());
        let outcome = match pulled {
            Ok(text) => pull_reply::Outcome::Snappy(text.packed),
            Err(unpulled) => pull_reply::Outcome::Failure((&unpulled).into()),
        };
        Self {
            outcome: Some(outcome),
            encoding,
        }
    }
}

impl From<&Unpulled> for proto::Failure {
    fn from(unpulled: &Unpulled) -> Self {
        let reason = &unpulled.reason;
        Self {
            kind: match unpulled.kind {
                UnpulledKind::NotHere => failure::Kind::NotHere,
                UnpulledKind::Disconnected => failure::Kind::Disconnected,
                UnpulledKind::Timeout => failure::Kind::Timeout,
                UnpulledKind::Invalid => failure::Kind::Invalid,
                UnpulledKind::TooMany => failure::Kind::TooMany,
                UnpulledKind::Unreachable => failure::Kind::Unspecified,
            }
            .into(),
            reason: reason[..reason.floor_char_boundary(MAX_REASON)].into(),
        }
    }
}

/// What came of a pull at another node.
pub(super) fn pulled(said: proto::PullReply) -> Result<PackedText, Unpulled> {
    let failure = match said.outcome {
        Some(pull_reply::Outcome::Snappy(packed)) => {
            return Ok(PackedText {
                packed,
                encoding: encoding(said.encoding),
            });
        }
        Some(pull_reply::Outcome::Failure(failure)) => failure,
        None => proto::Failure::default(),
    };
    Err(Unpulled {
        kind: match failure::Kind::try_from(failure.kind) {
            Ok(failure::Kind::NotHere) => UnpulledKind::NotHere,
            Ok(failure::Kind::Disconnected) => UnpulledKind::Disconnected,
            Ok(failure::Kind::Timeout) => UnpulledKind::Timeout,
            Ok(failure::Kind::Invalid) => UnpulledKind::Invalid,
            Ok(failure::Kind::TooMany) => UnpulledKind::TooMany,
            Ok(failure::Kind::Unspecified) | Err(_) => UnpulledKind::Unreachable,
        },
        reason: reason(&failure.reason)
            .map_or_else(|invalid| invalid.to_string(), |it| it.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::nodes::NodeId;

    fn some(end: Option<End>) -> Entry {
        let about = About {
            named: Named::Identity,
            client: Some("rust 1".into()),
            identity: Some("payments".into()),
            peer: ([192, 0, 2, 1], 7).into(),
            transport: "websocket",
            connected_at: SystemTime::now(),
            labels: BTreeMap::from([("team".into(), "a".into())]),
        };
        Entry {
            number: 7,
            target: Target {
                id: ApplicationId::new("web-1", Some("shop")).unwrap(),
                about: Arc::new(about),
            },
            at: Some(NodeId::new("gone", 3)),
            stamp: 9,
            claimed: 8,
            ended: end.map(|end| Ended {
                end,
                at: Instant::now(),
                reason: "why".into(),
            }),
            last: Some(Outcome {
                outcome: "timeout",
                reason: "slow".into(),
            }),
        }
    }

    /// Less the times, which pass on the way.
    fn timeless(mut entry: Entry, like: &Entry) -> Entry {
        let about = Arc::make_mut(&mut entry.target.about);
        about.connected_at = like.target.about.connected_at;
        if let Some((ended, like)) = entry.ended.as_mut().zip(like.ended.as_ref()) {
            ended.at = like.at;
        }
        entry
    }

    #[test]
    fn an_entry_comes_through_as_it_was() {
        for end in [None, Some(End::Lost), Some(End::Left), Some(End::Moved)] {
            let sent = some(end);
            let read = entry((&sent).into()).unwrap();
            assert_eq!(timeless(read, &sent), sent);
        }
    }

    #[test]
    fn what_no_node_of_ours_would_send_is_refused() {
        let valid = proto::Entry::from(&some(Some(End::Lost)));
        let with = |change: fn(&mut proto::Entry)| {
            let mut said = valid.clone();
            change(&mut said);
            entry(said)
        };
        assert!(with(|_| {}).is_ok());
        assert!(with(|said| said.instance.clear()).is_err());
        assert!(with(|said| said.instance = "x".repeat(256)).is_err());
        assert!(with(|said| said.job = Some("a\nb".into())).is_err());
        assert!(with(|said| said.peer = "nowhere".into()).is_err());
        assert!(with(|said| said.client = Some("x".repeat(9000))).is_err());
        assert!(with(|said| said.at = Some(Default::default())).is_err());
        let long = |said: &mut proto::Entry| {
            let ended = said.ended.get_or_insert_default();
            ended.reason = "x".repeat(MAX_REASON + 1);
        };
        assert!(with(long).is_err());
    }

    #[test]
    fn an_encoding_is_understood_as_it_was_meant() {
        for format in [Format::Text, Format::OpenMetrics] {
            for escaping in Escaping::ALL {
                let meant = Encoding { format, escaping };
                assert_eq!(encoding(Some(meant.into())), meant);
            }
        }
        assert_eq!(encoding(None), Encoding::TEXT);
    }

    #[test]
    fn what_a_newer_release_says_is_taken_for_what_is_nearest() {
        let mut newer = proto::Entry::from(&some(Some(End::Left)));
        newer.named = 99;
        newer.transport = 99;
        newer.last.get_or_insert_default().outcome = "newer".into();
        newer.ended.get_or_insert_default().end = 99;
        let read = entry(newer).unwrap();
        assert_eq!(read.target.about.named, Named::Description);
        assert_eq!(read.last.unwrap().outcome, "error");
        assert_eq!(read.ended.unwrap().end, End::Lost);
        let newer = proto::Encoding {
            format: 99,
            escaping: 1,
        };
        assert_eq!(encoding(Some(newer)), Encoding::TEXT);
        let unknown = proto::PullReply::default();
        let unpulled = pulled(unknown).unwrap_err();
        assert_eq!(unpulled.kind, UnpulledKind::Unreachable);
    }
}
