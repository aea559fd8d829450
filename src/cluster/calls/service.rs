//! Answers the calls of other nodes.
//!
//! A call that is not for this node in its present life, or that no node of ours would send, is answered with an error and
//! leaves no trace. Texts are unpacked and validated before anything else is done: they become part of what Prometheus is
//! answered.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prometheus_rsocket_wire::key::WRAPPED_BYTES;
use tokio::sync::Semaphore;
use tonic::codec::CompressionEncoding;
use tonic::{Request, Response, Status};

use super::message::{
    Invalid, all, caller, consumers, each, handed_without_text, known, need, pusher,
};
use super::proto::replication_server::{Replication, ReplicationServer};
use super::{Calling, Holder, proto};
use crate::nodes::NodeId;
use crate::store::{self, Handed, Replica, Reply};

/// Keys unwrapped at a time, each a quarter of a millisecond of CPU; more are refused.
const MAX_OPENINGS: usize = 16;

type Answer<T> = Result<Response<T>, Status>;

/// Answers calls on behalf of a [`Holder`]. Cheap to clone.
#[derive(Clone)]
pub(super) struct Service {
    me: NodeId,
    holder: Arc<dyn Holder>,
    max_message: usize,
    /// `None` where callers are not authenticated: anyone could ask for a key, and read what applications encrypt.
    openings: Option<Arc<Semaphore>>,
}

impl Service {
    /// Keys are unwrapped only where callers are authenticated.
    pub(super) fn new(here: &Calling) -> Self {
        let authenticated = here.identity.is_some();
        Self {
            me: here.me.clone(),
            holder: Arc::clone(&here.holder),
            max_message: here.max_message,
            openings: authenticated.then(|| Arc::new(Semaphore::new(MAX_OPENINGS))),
        }
    }

    pub(super) fn into_server(self) -> ReplicationServer<Self> {
        let max_message = self.max_message;
        ReplicationServer::new(self)
            .max_decoding_message_size(max_message)
            .max_encoding_message_size(max_message)
            .accept_compressed(CompressionEncoding::Gzip)
            .send_compressed(CompressionEncoding::Gzip)
    }

    /// As it travels, with the texts that the claimant lacks. A push whose text cannot be packed is left out; the
    /// claimant gives back what it does not name when it renews.
    async fn hand(&self, handed: Vec<Handed>) -> Vec<proto::Handed> {
        let lacking = handed.iter().filter_map(|handed| handed.content.clone());
        let packed = self.holder.pack(lacking.collect()).await;
        let mut packed = packed.into_iter();
        let said = handed.iter().filter_map(|handed| {
            let mut said = handed_without_text(handed);
            if let Some(content) = &handed.content {
                said.text = Some(proto::Text {
                    snappy: packed.next()?,
                });
                said.pusher = Some((&content.pusher).into());
            }
            Some(said)
        });
        said.collect()
    }

    async fn unpack(
        &self,
        text: Option<proto::Text>,
        said: Option<proto::Pusher>,
    ) -> Result<Arc<store::Content>, Status> {
        let packed: Bytes = text.ok_or(Invalid("a text"))?.snappy;
        let unpacked = self.holder.unpack(vec![(packed, pusher(said)?)]).await;
        let content = unpacked.into_iter().next().flatten();
        content.ok_or_else(|| Invalid("a valid text").into())
    }

    fn tell(&self, from: &NodeId, request: store::Request) -> Result<(), Status> {
        match self.holder.serve(from, request) {
            Reply::Told { .. } => Ok(()),
            _ => Err(mismatch()),
        }
    }
}

/// The store answers each request with its own kind of reply; anything else is a mistake in this program.
fn mismatch() -> Status {
    Status::internal("the reply is of another kind than the request")
}

#[tonic::async_trait]
impl Replication for Service {
    async fn replicate(
        &self,
        request: Request<proto::ReplicateRequest>,
    ) -> Answer<proto::ReplicateReply> {
        let said = request.into_inner();
        let from = caller(said.route, &self.me)?;
        let push = need(said.push, "a push")?;
        let entry = need(said.entry, "an entry")?;
        let replica = Replica {
            push,
            content: self.unpack(said.text, said.pusher).await?,
            left: Duration::from_millis(said.left_ms),
            entry,
            order: said.order,
        };
        match self.holder.serve(&from, store::Request::Replicate(replica)) {
            Reply::Replicate(_, standing) => Ok(Response::new(proto::ReplicateReply {
                standing: Some((&standing).into()),
            })),
            _ => Err(mismatch()),
        }
    }

    async fn sync(&self, request: Request<proto::SyncRequest>) -> Answer<proto::SyncReply> {
        let said = request.into_inner();
        let from = caller(said.route, &self.me)?;
        let entries = each(said.pushes)?;
        match self.holder.serve(&from, store::Request::Sync(entries)) {
            Reply::Sync(standings) => Ok(Response::new(proto::SyncReply {
                pushes: all(&standings),
            })),
            _ => Err(mismatch()),
        }
    }

    async fn claim(&self, request: Request<proto::ClaimRequest>) -> Answer<proto::ClaimReply> {
        let said = request.into_inner();
        let from = caller(said.route, &self.me)?;
        let asked = store::Request::Claim {
            claim: need(said.claim, "a claim")?,
            clock: said.clock,
            consumer: said.consumer.map(TryInto::try_into).transpose()?,
            known: known(said.known.unwrap_or_default())?,
        };
        match self.holder.serve(&from, asked) {
            Reply::Claim {
                lent, clock, known, ..
            } => {
                let mut response = Response::new(proto::ClaimReply {
                    deferred: lent.deferred as u64,
                    waiting: all(&lent.waiting),
                    clock,
                    known: known.as_ref().map(consumers),
                    handed: self.hand(lent.handed).await,
                });
                // Its texts are compressed already.
                response.disable_compression();
                Ok(response)
            }
            _ => Err(mismatch()),
        }
    }

    async fn renew(&self, request: Request<proto::RenewRequest>) -> Answer<proto::RenewReply> {
        let said = request.into_inner();
        let from = caller(said.route, &self.me)?;
        let renew = store::Request::Renew {
            claim: need(said.claim, "a claim")?,
            kept: each(said.kept)?,
        };
        match self.holder.serve(&from, renew) {
            Reply::Renew => Ok(Response::new(proto::RenewReply {})),
            _ => Err(mismatch()),
        }
    }

    async fn close(&self, request: Request<proto::CloseRequest>) -> Answer<proto::CloseReply> {
        let said = request.into_inner();
        let from = caller(said.route, &self.me)?;
        let close = store::Request::Close {
            ticket: 0,
            claim: need(said.claim, "a claim")?,
            over: need(said.over, "what is over")?,
        };
        self.tell(&from, close)?;
        Ok(Response::new(proto::CloseReply {}))
    }

    async fn served(&self, request: Request<proto::ServedRequest>) -> Answer<proto::ServedReply> {
        let said = request.into_inner();
        let from = caller(said.route, &self.me)?;
        let served = store::Request::Served {
            ticket: 0,
            over: need(said.over, "what is over")?,
        };
        self.tell(&from, served)?;
        Ok(Response::new(proto::ServedReply {}))
    }

    async fn owed(&self, request: Request<proto::OwedRequest>) -> Answer<proto::OwedReply> {
        let from = caller(request.into_inner().route, &self.me)?;
        match self.holder.serve(&from, store::Request::Owed) {
            Reply::Owed {
                pushes,
                clock,
                known,
            } => Ok(Response::new(proto::OwedReply {
                pushes: pushes.map(|pushes| pushes as u64),
                clock,
                known: Some(consumers(&known)),
            })),
            _ => Err(mismatch()),
        }
    }

    async fn open(&self, request: Request<proto::OpenRequest>) -> Answer<proto::OpenReply> {
        let said = request.into_inner();
        caller(said.route, &self.me)?;
        let openings = self.openings.as_ref().ok_or_else(|| {
            Status::permission_denied("keys are unwrapped only for nodes that authenticate")
        })?;
        if !WRAPPED_BYTES.contains(&said.wrapped.len()) {
            return Err(Invalid("a wrapped key").into());
        }
        let place = openings.try_acquire();
        let _place = place.map_err(|_| Status::resource_exhausted("too many keys to unwrap"))?;
        let secret = self.holder.unwrap_key(said.wrapped).await;
        let secret = secret.map(|secret| Bytes::copy_from_slice(&secret));
        let mut response = Response::new(proto::OpenReply { secret });
        response.disable_compression();
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures_util::future::BoxFuture;
    use prometheus_rsocket_exposition::Exposition;
    use tonic::Code;

    use super::*;
    use crate::cluster::Metrics;
    use crate::cluster::calls::{Host, Secret, Unpulled, unpack};
    use crate::directory::{ApplicationId, Asked, Changes};
    use crate::metrics::OwnMetrics;
    use crate::store::{Content, Standing};
    use crate::tenant::Tenant;

    /// Takes down what it is asked.
    #[derive(Default)]
    struct Recorder(Mutex<Vec<store::Request>>);

    impl Holder for Recorder {
        fn serve(&self, _: &NodeId, request: store::Request) -> Reply {
            let reply = match &request {
                store::Request::Replicate(replica) => {
                    Reply::Replicate(replica.push.clone(), Standing::Full { share: false })
                }
                store::Request::Sync(_) => Reply::Sync(Vec::new()),
                _ => Reply::Renew,
            };
            self.0.lock().unwrap().push(request);
            reply
        }

        fn answered(&self, _: &NodeId, _: Reply) {}

        fn unanswered(&self, _: &NodeId, _: &store::Request) {}

        fn pack(&self, _: Vec<Arc<Content>>) -> BoxFuture<'static, Vec<Bytes>> {
            Box::pin(async { Vec::new() })
        }

        fn unpack(
            &self,
            packed: Vec<(Bytes, Tenant)>,
        ) -> BoxFuture<'static, Vec<Option<Arc<Content>>>> {
            let read = |(packed, pusher): &(Bytes, Tenant)| {
                let text = Exposition::parse(unpack(packed, 1000)?).ok()?;
                Some(Arc::new(Content {
                    text: Arc::new(text),
                    series: Vec::new(),
                    pusher: pusher.clone(),
                }))
            };
            let unpacked = packed.iter().map(read).collect();
            Box::pin(async { unpacked })
        }

        fn unwrap_key(&self, _: Bytes) -> BoxFuture<'static, Option<Secret>> {
            Box::pin(async { Some(Secret::new(vec![7; 16])) })
        }
    }

    struct NoApplications;

    impl Host for NoApplications {
        fn changes(&self, _: Asked, _: u64, _: Duration) -> BoxFuture<'_, Changes> {
            Box::pin(async { Changes::default() })
        }

        fn pull(
            &self,
            _: ApplicationId,
            _: prometheus_rsocket_exposition::Encoding,
            _: Duration,
        ) -> BoxFuture<'_, Result<Bytes, Unpulled>> {
            Box::pin(std::future::pending())
        }
    }

    fn id(name: &str, generation: u64) -> proto::NodeId {
        proto::NodeId {
            name: name.into(),
            generation,
        }
    }

    fn route(generation: u64) -> Option<proto::Route> {
        Some(proto::Route {
            from: Some(id("caller", 1)),
            to: Some(id("me", generation)),
        })
    }

    fn service() -> (Service, Arc<Recorder>) {
        let recorder = Arc::new(Recorder::default());
        let here = Calling {
            me: NodeId::new("me", 2),
            identity: None,
            holder: Arc::clone(&recorder) as _,
            host: Arc::new(NoApplications),
            metrics: Arc::new(Metrics::register(&OwnMetrics::new().unwrap()).unwrap()),
            max_message: 1000,
        };
        (Service::new(&here), recorder)
    }

    fn replicate(text: &[u8]) -> proto::ReplicateRequest {
        proto::ReplicateRequest {
            route: route(2),
            push: Some(proto::PushId {
                acceptor: Some(id("caller", 1)),
                sequence: 0,
            }),
            text: Some(proto::Text {
                snappy: crate::cluster::calls::pack(text).unwrap(),
            }),
            left_ms: u64::MAX,
            entry: Some(proto::Entry {
                ownership: Some(proto::Ownership {
                    term: 0,
                    owner: Some(id("caller", 1)),
                    lost_before: false,
                }),
                holders: vec![id("caller", 1)],
                retained_ms: None,
                had: Vec::new(),
            }),
            pusher: None,
            order: None,
        }
    }

    /// The code of the answer; none of what is refused may have reached the holder.
    async fn code(said: proto::ReplicateRequest) -> Code {
        let (service, recorder) = service();
        let answer = service.replicate(Request::new(said)).await;
        let reached = recorder.0.lock().unwrap().len();
        assert_eq!(reached, usize::from(answer.is_ok()));
        answer.map_or_else(|status| status.code(), |_| Code::Ok)
    }

    #[tokio::test]
    async fn only_what_is_meant_for_this_life_of_this_node_reaches_it() {
        assert_eq!(code(replicate(b"up 1\n")).await, Code::Ok);
        for generation in [1, 3] {
            let stale = proto::ReplicateRequest {
                route: route(generation),
                ..replicate(b"up 1\n")
            };
            assert_eq!(code(stale).await, Code::FailedPrecondition);
        }
    }

    #[tokio::test]
    async fn what_is_not_whole_or_no_valid_exposition_reaches_nobody() {
        let whole = replicate(b"up 1\n");
        let long = "up 1\n".repeat(1000);
        let faulty = [
            replicate(b"up{ 1\n"),
            replicate(long.as_bytes()),
            proto::ReplicateRequest {
                text: Some(proto::Text {
                    snappy: Bytes::from_static(b"\xff\xff\xff\xff\x0f rubbish"),
                }),
                ..whole.clone()
            },
            proto::ReplicateRequest {
                text: None,
                ..whole.clone()
            },
            proto::ReplicateRequest {
                route: None,
                ..whole.clone()
            },
            proto::ReplicateRequest {
                push: None,
                ..whole.clone()
            },
            proto::ReplicateRequest {
                entry: None,
                ..whole
            },
        ];
        for said in faulty {
            assert_eq!(code(said).await, Code::InvalidArgument);
        }
    }

    #[tokio::test]
    async fn a_key_is_unwrapped_only_for_callers_that_authenticate() {
        let open = |service: &Service, bytes| {
            let said = proto::OpenRequest {
                route: route(2),
                wrapped: vec![1; bytes].into(),
            };
            let service = service.clone();
            async move { service.open(Request::new(said)).await }
        };
        let (mut service, _) = service();
        let refused = open(&service, 256).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
        service.openings = Some(Arc::new(Semaphore::new(1)));
        let secret = open(&service, 256).await.unwrap().into_inner().secret;
        assert_eq!(secret, Some(Bytes::from_static(&[7; 16])));
        for length_of_no_key in [0, 255, 1025] {
            let refused = open(&service, length_of_no_key).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument);
        }
        service.openings = Some(Arc::new(Semaphore::new(0)));
        let refused = open(&service, 256).await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
    }
}
