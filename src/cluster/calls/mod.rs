//! The other nodes of a cluster: calls between them over gRPC, authenticated where there is a secret.
//!
//! This edge knows addresses, protobuf, TLS and deadlines; what is said in the calls belongs to [`crate::store`] and
//! [`crate::directory`], and to the flows around them, which are a [`Holder`] and a [`Host`] here.
//!
//! | | |
//! |---|---|
//! | `identity` | who may call |
//! | `listener` | takes connections, within bounds |
//! | `live` | which members can be called |
//! | `service` | answers calls about pushes |
//! | `peers` | the links to them |
//! | `link` | makes the calls to one node, within bounds |
//! | `message`, `text` | what travels |
//! | `directory` | calls about applications |

mod certificates;
mod directory;
mod identity;
mod link;
mod listener;
mod live;
mod message;
mod peers;
mod service;
mod text;

mod generated {
    //! Made of `proto/`, a module for each part of a package's name.
    #![allow(
        missing_docs,
        unreachable_pub,
        clippy::all,
        reason = "the code is generated"
    )]
    pub mod replication {
        pub mod v1 {
            tonic::include_proto!("prometheus_rsocket_proxy.replication.v1");
        }
    }
    pub mod directory {
        pub mod v1 {
            tonic::include_proto!("prometheus_rsocket_proxy.directory.v1");
        }
    }
}

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
pub use certificates::Certificates;
use futures_util::future::BoxFuture;
use generated::replication::v1 as proto;
pub use identity::{CallIdentity, IdentityError};
pub use link::Calling;
pub use listener::Listener;
pub use live::live_peers;
pub use peers::Peers;
use prometheus_rsocket_exposition::Encoding;
pub use text::{pack, unpack, unpacked_length};
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::directory::{ApplicationId, Asked, Changes};
use crate::nodes::{NodeId, NodeState};
use crate::store::{Content, Reply, Request};
use crate::tenant::Tenant;

/// Pulls of applications under way at a time for other nodes, and at one.
const MAX_PULLS: usize = 256;

/// Another live node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Which life of which node.
    pub id: NodeId,
    /// Where it takes calls.
    pub grpc: SocketAddr,
    /// What it is up to.
    pub state: NodeState,
}

/// What makes a node one of several.
#[derive(Debug)]
pub struct Joining {
    /// This node, in this life.
    pub me: NodeId,
    /// Shown to others and demanded of them; `None`: anyone who reaches the address may call.
    pub identity: Option<CallIdentity>,
    /// The other live nodes, and word of each change.
    pub peers: watch::Receiver<Arc<[Peer]>>,
}

/// What unwraps the key of a push.
pub type Secret = Zeroizing<Vec<u8>>;

/// Takes what other nodes say.
pub trait Holder: Send + Sync {
    /// Answers a call.
    fn serve(&self, from: &NodeId, request: Request) -> Reply;

    /// Takes the reply to a call.
    fn answered(&self, from: &NodeId, reply: Reply);

    /// A call will not be answered.
    fn unanswered(&self, by: &NodeId, request: &Request);

    /// Brings texts into the form in which they travel, off the async threads; fewer if the node is stopping.
    fn pack(&self, texts: Vec<Arc<Content>>) -> BoxFuture<'static, Vec<Bytes>>;

    /// Unpacks and validates texts that came from another node, with who pushed them, off the async threads; `None` stands for one that is not
    /// fit to be served.
    fn unpack(&self, packed: Vec<(Bytes, Tenant)>)
    -> BoxFuture<'static, Vec<Option<Arc<Content>>>>;

    /// Undoes the wrapping of a push's key, if one of this node's keys does.
    fn unwrap_key(&self, wrapped: Bytes) -> BoxFuture<'static, Option<Secret>>;
}

/// Takes what other nodes ask about applications.
pub trait Host: Send + Sync {
    /// What has changed in this node's list; waits that long for a change. `clock` is the cluster's own time at the other
    /// node.
    fn changes(&self, asked: Asked, clock: u64, wait: Duration) -> BoxFuture<'_, Changes>;

    /// Pulls an application that is connected to this node and packs its text in this encoding, within what is left of
    /// the time.
    fn pull(
        &self,
        id: ApplicationId,
        encoding: Encoding,
        left: Duration,
    ) -> BoxFuture<'_, Result<Bytes, Unpulled>>;
}

/// An application's text, packed by another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedText {
    /// The text.
    pub packed: Bytes,
    /// What it is written in.
    pub encoding: Encoding,
}

/// Why another node did not say what has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unchanged {
    /// The node is not a member, does not answer, or not in a way that can be understood.
    Failed,
    /// Its release knows no directory.
    OlderRelease,
}

/// Why a node does not answer with an application's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpulled {
    /// What it is.
    pub kind: UnpulledKind,
    /// For people.
    pub reason: String,
}

/// What is wrong where an application's text does not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnpulledKind {
    /// The application is not connected to that node.
    NotHere,
    /// Its connection ended.
    Disconnected,
    /// It did not answer in time.
    Timeout,
    /// It answered with what cannot be served.
    Invalid,
    /// Too much is under way.
    TooMany,
    /// The node did not answer.
    Unreachable,
}

/// What a fuzz target enters by.
#[cfg(fuzzing)]
pub mod fuzzing {
    pub use super::directory::fuzzing as directory;
    use prost::Message;
    use tonic::{Request, Status};

    use super::Calling;
    use super::proto::replication_server::Replication;
    use super::service::Service;

    /// What the node `here` does with a call whose message has arrived: one of eight, chosen by `method`.
    pub async fn answer(here: &Calling, method: u8, message: &[u8]) -> Result<(), Status> {
        let service = Service::new(here);
        match method % 8 {
            0 => service.replicate(read(message)?).await.map(drop),
            1 => service.sync(read(message)?).await.map(drop),
            2 => service.claim(read(message)?).await.map(drop),
            3 => service.renew(read(message)?).await.map(drop),
            4 => service.close(read(message)?).await.map(drop),
            5 => service.served(read(message)?).await.map(drop),
            6 => service.owed(read(message)?).await.map(drop),
            _ => service.open(read(message)?).await.map(drop),
        }
    }

    fn read<M: Message + Default>(message: &[u8]) -> Result<Request<M>, Status> {
        let message = M::decode(message).map_err(|error| Status::internal(error.to_string()))?;
        Ok(Request::new(message))
    }
}
