//! Calls to one other node: so many at a time, so many waiting, each with a deadline.
//!
//! Texts have a lane of their own, so that they hold up neither claims nor their ends. A call that finds its lane full,
//! that has waited in it for too long, or that fails is given up and counted: the store makes it again if need be.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, timeout};
use tokio_util::either::Either;
use tokio_util::task::AbortOnDropHandle;
use tonic::codec::CompressionEncoding;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tracing::{debug, info, warn};

use super::message::{
    Invalid, all, consumers, each, handed, known, millis, pusher, standing, standings,
};
use super::proto::replication_client::ReplicationClient;
use super::{CallIdentity, Holder, Host, MAX_PULLS, Peer, Secret, proto};
use crate::cluster::Metrics;
use crate::nodes::NodeId;
use crate::store::{ClaimId, Lent, Replica, Reply, Request};

/// Calls with texts at a time, and waiting for their turn.
const TEXTS: (usize, usize) = (8, 256);
/// Other calls at a time, and waiting for their turn.
const WORDS: (usize, usize) = (16, 1024);
/// A call takes no longer, nor waits for its turn for longer.
const WITHIN: Duration = Duration::from_secs(5);
/// For each so many bytes of text, a second more.
const BYTES_PER_SECOND: usize = 1 << 20;
/// The answer to a claim brings texts.
const CLAIM_WITHIN: Duration = Duration::from_secs(10);
/// A connection is made within this.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// The other end is asked for a sign of life after this, and has [`PONG`] for it.
const PING: Duration = Duration::from_secs(5);
const PONG: Duration = Duration::from_secs(3);

/// What all calls of a node have in common.
#[derive(Clone)]
pub struct Calling {
    /// Who calls.
    pub me: NodeId,
    /// Shown to others and demanded of them.
    pub identity: Option<CallIdentity>,
    /// Where replies go.
    pub holder: Arc<dyn Holder>,
    /// Who has applications.
    pub host: Arc<dyn Host>,
    /// Where failures are counted.
    pub metrics: Arc<Metrics>,
    /// Bytes of a message.
    pub max_message: usize,
}

/// Why a call was given up.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallFailure {
    #[error("too many calls to it wait")]
    Queue,
    #[error("no answer in time")]
    Timeout,
    #[error("the node cannot be reached: {0}")]
    Unreachable(String),
    #[error("refused: {0}")]
    Refused(Status),
    #[error("the answer cannot be understood: {0}")]
    Invalid(#[from] Invalid),
    #[error("the answer is from a newer release")]
    Unknown,
    #[error("the node is stopping")]
    Stopping,
}

impl CallFailure {
    /// Whether the other node knows no such call.
    pub(super) fn is_unimplemented(&self) -> bool {
        matches!(self, Self::Refused(status) if status.code() == Code::Unimplemented)
    }

    /// The label `reason`.
    fn label(&self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Timeout => "timeout",
            Self::Unreachable(_) => "unreachable",
            Self::Refused(_) => "refused",
            Self::Invalid(_) | Self::Unknown => "invalid",
            Self::Stopping => "stopping",
        }
    }
}

impl From<Status> for CallFailure {
    fn from(status: Status) -> Self {
        match status.code() {
            Code::Unavailable | Code::Unknown => Self::Unreachable(cause(&status)),
            Code::DeadlineExceeded | Code::Cancelled => Self::Timeout,
            _ => Self::Refused(status),
        }
    }
}

/// What the connection or the system said: a status says only that it is the transport.
fn cause(status: &Status) -> String {
    let mut error: &dyn std::error::Error = status;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// The way to one other node; dropped, every call under way is given up and the connection closed.
pub(super) struct Link {
    pub(super) address: SocketAddr,
    caller: Arc<Caller>,
    texts: mpsc::Sender<WaitingCall>,
    words: mpsc::Sender<WaitingCall>,
    _lanes: [AbortOnDropHandle<()>; 2],
}

struct WaitingCall {
    request: Request,
    since: Instant,
}

impl Link {
    /// The connection is made with the first call.
    pub(super) fn new(peer: &Peer, common: &Calling) -> Self {
        let caller = Arc::new(Caller::new(peer, common));
        let (texts, texts_lane) = lane(&caller, TEXTS);
        let (words, words_lane) = lane(&caller, WORDS);
        Self {
            address: peer.grpc,
            caller,
            texts,
            words,
            _lanes: [texts_lane, words_lane],
        }
    }

    /// Makes a call when its turn comes; the reply goes to the holder.
    pub(super) fn call(&self, request: Request) {
        let lane = match request {
            Request::Replicate(_) => &self.texts,
            _ => &self.words,
        };
        let waiting = WaitingCall {
            request,
            since: Instant::now(),
        };
        if let Err(error) = lane.try_send(waiting) {
            self.caller
                .give_up(&error.into_inner().request, &CallFailure::Queue);
        }
    }

    /// Whether both ends know who the other one is.
    pub(super) fn is_authenticated(&self) -> bool {
        self.caller.common.identity.is_some()
    }

    /// What makes calls about applications.
    pub(super) fn caller(&self) -> Arc<Caller> {
        Arc::clone(&self.caller)
    }

    /// Asks the node to unwrap a key.
    pub(super) fn open(
        &self,
        wrapped: Bytes,
    ) -> impl Future<Output = Option<Secret>> + Send + 'static {
        let caller = Arc::clone(&self.caller);
        async move { caller.open(wrapped).await }
    }

    /// Asks the node how many pushes are on their way to holders, if it knows this one.
    pub(super) fn owed(&self) -> impl Future<Output = Option<usize>> + Send + 'static {
        let caller = Arc::clone(&self.caller);
        async move { caller.owed().await }
    }
}

fn lane(
    caller: &Arc<Caller>,
    (at_a_time, waiting): (usize, usize),
) -> (mpsc::Sender<WaitingCall>, AbortOnDropHandle<()>) {
    let (sender, queue) = mpsc::channel(waiting);
    let caller = Arc::clone(caller);
    let carrying = tokio::spawn(async move { caller.carry_all(queue, at_a_time).await });
    (sender, AbortOnDropHandle::new(carrying))
}

pub(super) struct Caller {
    pub(super) peer: NodeId,
    address: SocketAddr,
    pub(super) common: Calling,
    pub(super) channel: Channel,
    /// Pulls of applications.
    pub(super) pulls: Semaphore,
    client: ReplicationClient<Channel>,
    reached: AtomicBool,
}

impl Caller {
    fn new(peer: &Peer, common: &Calling) -> Self {
        let channel = channel(peer.grpc, common.identity.clone());
        let client = ReplicationClient::new(channel.clone())
            .max_decoding_message_size(common.max_message)
            .max_encoding_message_size(common.max_message)
            .accept_compressed(CompressionEncoding::Gzip);
        Self {
            peer: peer.id.clone(),
            address: peer.grpc,
            common: common.clone(),
            channel,
            pulls: Semaphore::new(MAX_PULLS),
            client,
            reached: AtomicBool::new(true),
        }
    }

    async fn carry_all(&self, mut queue: mpsc::Receiver<WaitingCall>, at_a_time: usize) {
        let mut under_way = FuturesUnordered::new();
        loop {
            tokio::select! {
                Some(waiting) = queue.recv(), if under_way.len() < at_a_time => {
                    under_way.push(self.carry(waiting));
                }
                Some(()) = under_way.next() => {}
                else => return,
            }
        }
    }

    async fn carry(&self, waiting: WaitingCall) {
        let WaitingCall { request, since } = waiting;
        let answer = if since.elapsed() > WITHIN {
            Err(CallFailure::Timeout)
        } else {
            self.make(&request).await
        };
        match answer {
            Ok(reply) => {
                self.note_reached();
                self.common.holder.answered(&self.peer, reply);
            }
            Err(failure) => self.give_up(&request, &failure),
        }
    }

    async fn make(&self, request: &Request) -> Result<Reply, CallFailure> {
        match request {
            Request::Replicate(replica) => self.replicate(replica).await,
            Request::Claim {
                claim,
                clock,
                consumer,
                known,
            } => {
                let request = proto::ClaimRequest {
                    route: self.route(),
                    claim: Some(claim.into()),
                    clock: *clock,
                    consumer: consumer.as_ref().map(Into::into),
                    known: Some(consumers(known)),
                };
                self.claim(claim, request).await
            }
            Request::Sync(entries) => {
                let request = proto::SyncRequest {
                    route: self.route(),
                    pushes: all(entries),
                };
                let mut client = self.compressing();
                let reply = within(WITHIN, client.sync(asking(WITHIN, request))).await?;
                Ok(Reply::Sync(standings(reply.pushes)?))
            }
            Request::Renew { claim, kept } => {
                let request = proto::RenewRequest {
                    route: self.route(),
                    claim: Some(claim.into()),
                    kept: all(kept),
                };
                let mut client = self.compressing();
                within(WITHIN, client.renew(asking(WITHIN, request))).await?;
                Ok(Reply::Renew)
            }
            Request::Close {
                ticket,
                claim,
                over,
            } => {
                let request = proto::CloseRequest {
                    route: self.route(),
                    claim: Some(claim.into()),
                    over: Some(over.into()),
                };
                let mut client = self.compressing();
                within(WITHIN, client.close(asking(WITHIN, request))).await?;
                Ok(Reply::Told { ticket: *ticket })
            }
            Request::Served { ticket, over } => {
                let request = proto::ServedRequest {
                    route: self.route(),
                    over: Some(over.into()),
                };
                let mut client = self.compressing();
                within(WITHIN, client.served(asking(WITHIN, request))).await?;
                Ok(Reply::Told { ticket: *ticket })
            }
            Request::Owed => self.ask_owed().await,
        }
    }

    async fn replicate(&self, replica: &Replica) -> Result<Reply, CallFailure> {
        let packed = self.common.holder.pack(vec![Arc::clone(&replica.content)]);
        let snappy = packed.await.pop().ok_or(CallFailure::Stopping)?;
        let seconds = snappy.len() / BYTES_PER_SECOND;
        let limit = WITHIN + Duration::from_secs(seconds as u64);
        let request = proto::ReplicateRequest {
            route: self.route(),
            push: Some((&replica.push).into()),
            text: Some(proto::Text { snappy }),
            left_ms: millis(replica.left),
            entry: Some((&replica.entry).into()),
            pusher: Some((&replica.content.pusher).into()),
            order: replica.order,
        };
        let mut client = self.client.clone();
        let reply = within(limit, client.replicate(asking(limit, request))).await?;
        let standing = standing(reply.standing)?.ok_or(CallFailure::Unknown)?;
        Ok(Reply::Replicate(replica.push.clone(), standing))
    }

    async fn claim(
        &self,
        claim: &ClaimId,
        request: proto::ClaimRequest,
    ) -> Result<Reply, CallFailure> {
        let mut client = self.client.clone();
        let reply = within(CLAIM_WITHIN, client.claim(asking(CLAIM_WITHIN, request))).await?;
        let deferred = usize::try_from(reply.deferred).unwrap_or(usize::MAX);
        Ok(Reply::Claim {
            claim: claim.clone(),
            clock: reply.clock,
            known: reply.known.map(known).transpose()?,
            lent: Lent {
                deferred,
                waiting: each(reply.waiting)?,
                handed: self.unpack(reply.handed).await?,
            },
        })
    }

    /// What was handed, less what is not fit to be served: not named when the claim is renewed, it is given back.
    async fn unpack(
        &self,
        mut said: Vec<proto::Handed>,
    ) -> Result<Vec<crate::store::Handed>, CallFailure> {
        let mut packed = Vec::new();
        for said in &mut said {
            if let Some(text) = &mut said.text {
                let snappy = std::mem::take(&mut text.snappy);
                packed.push((snappy, pusher(said.pusher.take())?));
            }
        }
        let sent = packed.len();
        let unpacked = self.common.holder.unpack(packed).await;
        if unpacked.len() < sent {
            return Err(CallFailure::Stopping);
        }
        let mut unpacked = unpacked.into_iter();
        let mut pushes = Vec::with_capacity(said.len());
        for said in said {
            let content = match said.text {
                None => None,
                Some(_) => match unpacked.next().flatten() {
                    Some(content) => Some(content),
                    None => continue,
                },
            };
            pushes.push(handed(said, content)?);
        }
        Ok(pushes)
    }

    async fn open(&self, wrapped: Bytes) -> Option<Secret> {
        let request = proto::OpenRequest {
            route: self.route(),
            wrapped,
        };
        let mut client = self.client.clone();
        let reply = within(WITHIN, client.open(asking(WITHIN, request))).await;
        match reply {
            Ok(reply) => reply.secret.map(|secret| Secret::new(secret.to_vec())),
            Err(failure) => {
                self.note_failure("open", &failure);
                None
            }
        }
    }

    async fn owed(&self) -> Option<usize> {
        match self.ask_owed().await {
            Ok(reply) => {
                let pushes = match reply {
                    Reply::Owed { pushes, .. } => pushes,
                    _ => None,
                };
                self.common.holder.answered(&self.peer, reply);
                pushes
            }
            Err(failure) => {
                self.note_failure("owed", &failure);
                None
            }
        }
    }

    async fn ask_owed(&self) -> Result<Reply, CallFailure> {
        let request = proto::OwedRequest {
            route: self.route(),
        };
        let mut client = self.client.clone();
        let reply = within(WITHIN, client.owed(asking(WITHIN, request))).await?;
        let pushes = reply.pushes;
        Ok(Reply::Owed {
            pushes: pushes.map(|pushes| usize::try_from(pushes).unwrap_or(usize::MAX)),
            clock: reply.clock,
            known: known(reply.known.unwrap_or_default())?,
        })
    }

    /// For messages that name many pushes, which compress well. Texts are compressed already.
    fn compressing(&self) -> ReplicationClient<Channel> {
        self.client
            .clone()
            .send_compressed(CompressionEncoding::Gzip)
    }

    /// From this node to that one.
    pub(super) fn route(&self) -> Option<proto::Route> {
        Some(proto::Route {
            from: Some((&self.common.me).into()),
            to: Some((&self.peer).into()),
        })
    }

    fn give_up(&self, request: &Request, failure: &CallFailure) {
        let call = label(request);
        if matches!(request, Request::Replicate(_)) {
            self.common
                .metrics
                .replications_failed
                .with_label_values(&[failure.label()])
                .inc();
        }
        self.note_failure(call, failure);
        self.common.holder.unanswered(&self.peer, request);
    }

    pub(super) fn note_failure(&self, call: &'static str, failure: &CallFailure) {
        let labels = [call, failure.label()];
        self.common
            .metrics
            .calls_failed
            .with_label_values(&labels)
            .inc();
        let (peer, address) = (&self.peer.name, self.address);
        debug!(%peer, %address, call, %failure, "call to another node failed");
        let silent = matches!(failure, CallFailure::Timeout | CallFailure::Unreachable(_));
        if silent && self.reached.swap(false, Ordering::Relaxed) {
            warn!(%peer, %address, reason = %failure, "another node cannot be reached");
        }
    }

    pub(super) fn note_reached(&self) {
        if !self.reached.swap(true, Ordering::Relaxed) {
            info!(peer = %self.peer.name, address = %self.address, "another node can be reached again");
        }
    }
}

/// The label `call`.
fn label(request: &Request) -> &'static str {
    match request {
        Request::Replicate(_) => "replicate",
        Request::Sync(_) => "sync",
        Request::Claim { .. } => "claim",
        Request::Renew { .. } => "renew",
        Request::Close { .. } => "close",
        Request::Served { .. } => "served",
        Request::Owed => "owed",
    }
}

/// A request with the deadline that the other end is told.
pub(super) fn asking<M>(limit: Duration, message: M) -> tonic::Request<M> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(limit);
    request
}

pub(super) async fn within<R>(
    limit: Duration,
    call: impl Future<Output = Result<tonic::Response<R>, Status>>,
) -> Result<R, CallFailure> {
    let response = timeout(limit, call).await;
    Ok(response.map_err(|_| CallFailure::Timeout)??.into_inner())
}

fn channel(address: SocketAddr, identity: Option<CallIdentity>) -> Channel {
    let uri = hyper::Uri::builder()
        .scheme("http")
        .authority(address.to_string())
        .path_and_query("/")
        .build()
        .unwrap_or_default();
    Endpoint::from(uri)
        .connect_timeout(CONNECT_WITHIN)
        .http2_keep_alive_interval(PING)
        .keep_alive_timeout(PONG)
        .keep_alive_while_idle(true)
        .connect_with_connector_lazy(tower::service_fn(move |_: hyper::Uri| {
            connect(address, identity.clone())
        }))
}

async fn connect(
    address: SocketAddr,
    identity: Option<CallIdentity>,
) -> io::Result<TokioIo<impl AsyncRead + AsyncWrite + Unpin>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let Some(identity) = identity else {
        return Ok(TokioIo::new(Either::Left(stream)));
    };
    let (connector, name) = identity.connector();
    let stream = connector.connect(name, stream).await?;
    Ok(TokioIo::new(Either::Right(stream)))
}
