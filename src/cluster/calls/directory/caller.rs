//! Asks another node about its applications.

use std::time::Duration;

use prometheus_rsocket_exposition::Encoding;
use tokio::time::Instant;
use tonic::codec::CompressionEncoding;
use tonic::transport::Channel;

use super::proto::directory_client::DirectoryClient;
use super::{WAIT, message, proto};
use crate::cluster::calls::link::{CallFailure, Caller, asking, within};
use crate::cluster::calls::{PackedText, Unchanged, Unpulled, UnpulledKind};
use crate::directory::{ApplicationId, Asked, Changes};

/// How long an answer takes that is not waited for.
const WITHIN: Duration = Duration::from_secs(5);
/// The other node has this much less time than there is, so that its reason arrives.
const MARGIN: Duration = Duration::from_millis(100);

fn client(caller: &Caller) -> DirectoryClient<Channel> {
    DirectoryClient::new(caller.channel.clone())
        .max_decoding_message_size(caller.common.max_message)
        .accept_compressed(CompressionEncoding::Gzip)
}

/// What has changed in the node's list, as soon as it has, or after a while.
pub(in super::super) async fn changes(
    caller: &Caller,
    asked: Asked,
    clock: u64,
) -> Result<Changes, Unchanged> {
    let request = proto::ChangesRequest {
        route: caller.route(),
        known: asked.known,
        after: asked.after,
        wait_ms: WAIT.as_millis() as u64,
        clock,
    };
    let limit = WAIT + WITHIN;
    let mut client = client(caller);
    let reply = within(limit, client.changes(asking(limit, request))).await;
    let changes = reply.and_then(|reply| Ok(message::changes(reply)?));
    if changes.is_ok() {
        caller.note_reached();
    }
    changes.map_err(|failure| {
        if failure.is_unimplemented() {
            return Unchanged::OlderRelease;
        }
        caller.note_failure("changes", &failure);
        Unchanged::Failed
    })
}

/// The text of an application that is connected to the node, compressed.
pub(in super::super) async fn pull(
    caller: &Caller,
    id: &ApplicationId,
    encoding: Encoding,
    deadline: Instant,
) -> Result<PackedText, Unpulled> {
    let Ok(_place) = caller.pulls.try_acquire() else {
        return Err(Unpulled {
            kind: UnpulledKind::TooMany,
            reason: "too many pulls from another node are under way".into(),
        });
    };
    let left = deadline.saturating_duration_since(Instant::now());
    let request = proto::PullRequest {
        route: caller.route(),
        instance: id.instance.to_string(),
        job: id.job.as_deref().map(Into::into),
        left_ms: (left - MARGIN.min(left / 10)).as_millis() as u64,
        encoding: Some(encoding.into()),
    };
    let mut client = client(caller);
    match within(left, client.pull(asking(left, request))).await {
        Ok(reply) => {
            caller.note_reached();
            message::pulled(reply)
        }
        Err(failure) => {
            // What an application takes too long for says nothing about the node.
            if !matches!(failure, CallFailure::Timeout) {
                caller.note_failure("pull", &failure);
            }
            Err(Unpulled {
                kind: match failure {
                    CallFailure::Timeout => UnpulledKind::Timeout,
                    _ => UnpulledKind::Unreachable,
                },
                reason: format!("node {}: {failure}", caller.peer),
            })
        }
    }
}
