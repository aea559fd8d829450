//! Answers the calls of other nodes.
//!
//! A call that is not for this node in its present life, or that no node of ours would send, is answered with an error and
//! leaves no trace. Texts are unpacked and validated before anything else is done: they become part of what Prometheus is
//! answered.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Semaphore;
use tonic::codec::CompressionEncoding;
use tonic::{Request, Response, Status};

use super::message::{Invalid, all, each, handed_without_text, need};
use super::proto::replication_server::{Replication, ReplicationServer};
use super::{Calling, Holder, proto};
use crate::store::{self, Handed, NodeId, Replica, Reply};

/// Keys unwrapped at a time, each a quarter of a millisecond of CPU; more are refused.
const MAX_OPENINGS: usize = 16;
/// Bytes of a wrapped key: the modulus of the longest RSA key that clients seal to.
const MAX_WRAPPED: usize = 1024;

type Answer<T> = Result<Response<T>, Status>;

/// Answers calls on behalf of a [`Holder`]. Cheap to clone.
#[derive(Clone)]
pub(super) struct Service {
    me: NodeId,
    holder: Arc<dyn Holder>,
    max_message: usize,
    /// `None` where callers are not authenticated: whoever could ask for a key could read what applications encrypt.
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

    /// The node that calls this one.
    fn caller(&self, route: Option<proto::Route>) -> Result<NodeId, Status> {
        let route = route.ok_or(Invalid("a route"))?;
        let to: NodeId = need(route.to, "the node that is called")?;
        if to != self.me {
            return Err(Status::failed_precondition("another node is here now"));
        }
        Ok(need(route.from, "the node that calls")?)
    }

    /// As it travels, with the texts that the claimant lacks. A push whose text cannot be packed is left out; the
    /// claimant gives back what it does not name when it renews.
    async fn hand(&self, handed: Vec<Handed>) -> Vec<proto::Handed> {
        let lacking = handed.iter().filter_map(|handed| handed.content.clone());
        let packed = self.holder.pack(lacking.collect()).await;
        let mut packed = packed.into_iter();
        let said = handed.iter().filter_map(|handed| {
            let mut said = handed_without_text(handed);
            if handed.content.is_some() {
                said.text = Some(proto::Text {
                    snappy: packed.next()?,
                });
            }
            Some(said)
        });
        said.collect()
    }

    async fn unpack(&self, text: Option<proto::Text>) -> Result<Arc<store::Content>, Status> {
        let packed: Bytes = text.ok_or(Invalid("a text"))?.snappy;
        let unpacked = self.holder.unpack(vec![packed]).await;
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
        let from = self.caller(said.route)?;
        let push = need(said.push, "a push")?;
        let entry = need(said.entry, "an entry")?;
        let replica = Replica {
            push,
            content: self.unpack(said.text).await?,
            left: std::time::Duration::from_millis(said.left_ms),
            entry,
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
        let from = self.caller(said.route)?;
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
        let from = self.caller(said.route)?;
        let claim = need(said.claim, "a claim")?;
        match self.holder.serve(&from, store::Request::Claim { claim }) {
            Reply::Claim {
                handed, deferred, ..
            } => {
                let mut response = Response::new(proto::ClaimReply {
                    handed: self.hand(handed).await,
                    deferred: deferred as u64,
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
        let from = self.caller(said.route)?;
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
        let from = self.caller(said.route)?;
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
        let from = self.caller(said.route)?;
        let served = store::Request::Served {
            ticket: 0,
            over: need(said.over, "what is over")?,
        };
        self.tell(&from, served)?;
        Ok(Response::new(proto::ServedReply {}))
    }

    async fn owed(&self, request: Request<proto::OwedRequest>) -> Answer<proto::OwedReply> {
        let from = self.caller(request.into_inner().route)?;
        match self.holder.serve(&from, store::Request::Owed) {
            Reply::Owed(pushes) => Ok(Response::new(proto::OwedReply {
                pushes: pushes.map(|pushes| pushes as u64),
            })),
            _ => Err(mismatch()),
        }
    }

    async fn open(&self, request: Request<proto::OpenRequest>) -> Answer<proto::OpenReply> {
        let said = request.into_inner();
        self.caller(said.route)?;
        let openings = self.openings.as_ref().ok_or_else(|| {
            Status::permission_denied("keys are unwrapped only for nodes that authenticate")
        })?;
        let place = openings.try_acquire();
        let _place = place.map_err(|_| Status::resource_exhausted("too many keys to unwrap"))?;
        if said.wrapped.len() > MAX_WRAPPED {
            return Err(Invalid("a wrapped key").into());
        }
        let secret = self.holder.unwrap_key(said.wrapped).await;
        let secret = secret.map(|secret| Bytes::copy_from_slice(&secret));
        let mut response = Response::new(proto::OpenReply { secret });
        response.disable_compression();
        Ok(response)
    }
}
