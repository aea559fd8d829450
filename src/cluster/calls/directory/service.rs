//! Answers what other nodes ask about applications.
//!
//! A call that is not for this node in its present life, or that no node of ours would send, is answered with an error.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tonic::codec::CompressionEncoding;
use tonic::{Request, Response, Status};

use super::proto::directory_server::{Directory, DirectoryServer, SERVICE_NAME};
use super::{WAIT, message, proto};
use crate::cluster::calls::message::caller;
use crate::cluster::calls::{Calling, Host, MAX_PULLS, PackedText, Unpulled, UnpulledKind};
use crate::directory::Asked;
use crate::nodes::NodeId;

/// An answer with fewer entries and removals is not compressed: it would be no shorter.
const SHORT: usize = 4;

type Answer<T> = Result<Response<T>, Status>;

/// Answers calls on behalf of a [`Host`]. Cheap to clone.
#[derive(Clone)]
pub(in super::super) struct Service {
    me: NodeId,
    host: Arc<dyn Host>,
    max_message: usize,
    pulls: Arc<Semaphore>,
}

/// Whether a call with this path is one of these.
pub(in super::super) fn is_directory(path: &str) -> bool {
    let service = path
        .strip_prefix('/')
        .and_then(|path| path.rsplit_once('/'));
    service.is_some_and(|(service, _)| service == SERVICE_NAME)
}

impl Service {
    pub(in super::super) fn new(here: &Calling) -> Self {
        Self {
            me: here.me.clone(),
            host: Arc::clone(&here.host),
            max_message: here.max_message,
            pulls: Arc::new(Semaphore::new(MAX_PULLS)),
        }
    }

    pub(in super::super) fn into_server(self) -> DirectoryServer<Self> {
        let max_message = self.max_message;
        DirectoryServer::new(self)
            .max_encoding_message_size(max_message)
            .accept_compressed(CompressionEncoding::Gzip)
            .send_compressed(CompressionEncoding::Gzip)
    }
}

#[tonic::async_trait]
impl Directory for Service {
    async fn changes(
        &self,
        request: Request<proto::ChangesRequest>,
    ) -> Answer<proto::ChangesReply> {
        let said = request.into_inner();
        caller(said.route, &self.me)?;
        let asked = Asked {
            known: said.known,
            after: said.after,
        };
        let wait = Duration::from_millis(said.wait_ms).min(WAIT);
        let changes = self.host.changes(asked, said.clock, wait).await;
        let short = changes.entries.len() + changes.removed.len() < SHORT;
        let mut response = Response::new((&changes).into());
        if short {
            response.disable_compression();
        }
        Ok(response)
    }

    async fn pull(&self, request: Request<proto::PullRequest>) -> Answer<proto::PullReply> {
        let said = request.into_inner();
        caller(said.route, &self.me)?;
        let id = message::application(&said.instance, said.job.as_deref())?;
        let outcome = match self.pulls.try_acquire() {
            Ok(_place) => {
                let left = Duration::from_millis(said.left_ms);
                let encoding = message::encoding(said.encoding);
                let packed = self.host.pull(id, encoding, left).await;
                packed.map(|packed| PackedText { packed, encoding })
            }
            Err(_) => Err(Unpulled {
                kind: UnpulledKind::TooMany,
                reason: "too many pulls for other nodes are under way".into(),
            }),
        };
        let mut response = Response::new(outcome.into());
        // The text is compressed already.
        response.disable_compression();
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::future::BoxFuture;
    use prometheus_rsocket_exposition::Encoding;
    use tonic::Code;

    use super::*;
    use crate::cluster::calls::proto::Route;
    use crate::directory::{ApplicationId, Changes};

    /// Has an application, and nothing to tell.
    struct One;

    impl Host for One {
        fn changes(&self, asked: Asked, clock: u64, _: Duration) -> BoxFuture<'_, Changes> {
            Box::pin(async move {
                Changes {
                    clock,
                    through: asked.after,
                    ..Changes::default()
                }
            })
        }

        fn pull(
            &self,
            id: ApplicationId,
            _: Encoding,
            _: Duration,
        ) -> BoxFuture<'_, Result<Bytes, Unpulled>> {
            Box::pin(async move {
                match &*id.instance {
                    "web-1" => Ok(Bytes::from_static(b"text")),
                    _ => Err(Unpulled {
                        kind: UnpulledKind::NotHere,
                        reason: String::new(),
                    }),
                }
            })
        }
    }

    fn service() -> Service {
        Service {
            me: NodeId::new("me", 2),
            host: Arc::new(One),
            max_message: 1000,
            pulls: Arc::new(Semaphore::new(1)),
        }
    }

    fn route(generation: u64) -> Option<Route> {
        let id = |name: &str, generation| Some((&NodeId::new(name, generation)).into());
        Some(Route {
            from: id("caller", 1),
            to: id("me", generation),
        })
    }

    fn pull(instance: &str, route: Option<Route>) -> Request<proto::PullRequest> {
        Request::new(proto::PullRequest {
            route,
            instance: instance.into(),
            job: None,
            left_ms: 1000,
            encoding: None,
        })
    }

    #[tokio::test]
    async fn only_what_is_meant_for_this_life_of_this_node_is_answered() {
        let service = service();
        let ask = |route| {
            Request::new(proto::ChangesRequest {
                route,
                after: 7,
                ..Default::default()
            })
        };
        let answer = service.changes(ask(route(2))).await.unwrap();
        assert_eq!(answer.into_inner().through, 7);
        for (route, code) in [
            (route(1), Code::FailedPrecondition),
            (route(3), Code::FailedPrecondition),
            (None, Code::InvalidArgument),
        ] {
            let refused = service.changes(ask(route.clone())).await.unwrap_err();
            assert_eq!(refused.code(), code);
            let refused = service.pull(pull("web-1", route)).await.unwrap_err();
            assert_eq!(refused.code(), code);
        }
    }

    #[tokio::test]
    async fn a_pull_brings_the_text_or_the_reason_and_so_many_are_answered_at_a_time() {
        let mut service = service();
        let kind = async |service: &Service, instance: &str| {
            let reply = service.pull(pull(instance, route(2))).await;
            message::pulled(reply.unwrap().into_inner()).map_err(|unpulled| unpulled.kind)
        };
        assert_eq!(
            kind(&service, "web-1").await,
            Ok(PackedText {
                packed: Bytes::from_static(b"text"),
                encoding: Encoding::TEXT,
            })
        );
        assert_eq!(kind(&service, "web-2").await, Err(UnpulledKind::NotHere));
        let invalid = service.pull(pull("", route(2))).await.unwrap_err();
        assert_eq!(invalid.code(), Code::InvalidArgument);
        service.pulls = Arc::new(Semaphore::new(0));
        assert_eq!(kind(&service, "web-1").await, Err(UnpulledKind::TooMany));
    }

    #[test]
    fn calls_are_told_apart_by_their_path() {
        let prefix = "/prometheus_rsocket_proxy";
        assert!(is_directory(&format!(
            "{prefix}.directory.v1.Directory/Pull"
        )));
        assert!(!is_directory(&format!(
            "{prefix}.directory.v2.Directory/Pull"
        )));
        assert!(!is_directory(&format!(
            "{prefix}.replication.v1.Replication/Claim"
        )));
        assert!(!is_directory(""));
    }
}
