//! Calls about applications, beside those about pushes and over the same connections.
//!
//! | | |
//! |---|---|
//! | `service` | answers calls |
//! | `caller` | makes them |
//! | `message` | what travels |

mod caller;
mod message;
mod service;

use std::time::Duration;

use super::generated::directory::v1 as proto;
pub(super) use caller::{changes, pull};
pub(super) use service::{Service, is_directory};

/// A question for changes waits no longer for one.
pub(super) const WAIT: Duration = Duration::from_secs(1);

/// What a fuzz target enters by.
#[cfg(fuzzing)]
pub mod fuzzing {
    use prost::Message;
    use tonic::{Request, Status};

    use super::proto::directory_server::Directory;
    use super::service::Service;
    use crate::cluster::calls::Calling;

    /// What the node `here` does with a call whose message has arrived: one of two, chosen by `method`.
    pub async fn answer(here: &Calling, method: u8, message: &[u8]) -> Result<(), Status> {
        let service = Service::new(here);
        match method % 2 {
            0 => service.changes(read(message)?).await.map(drop),
            _ => service.pull(read(message)?).await.map(drop),
        }
    }

    /// Whether a node would take this answer to a question for changes.
    pub fn takes(message: &[u8]) -> bool {
        let reply = super::proto::ChangesReply::decode(message);
        reply.is_ok_and(|reply| super::message::changes(reply).is_ok())
    }

    fn read<M: Message + Default>(message: &[u8]) -> Result<Request<M>, Status> {
        let message = M::decode(message).map_err(|error| Status::internal(error.to_string()))?;
        Ok(Request::new(message))
    }
}
