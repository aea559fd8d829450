//! Which applications the cluster has, by name, and which node each is connected to.
//!
//! Plain data: no clock, no socket. [`SharedDirectory`] puts it behind a lock, for the connections, which say who they
//! are, and for the flow [`targets`](crate::targets), which finds applications.

mod application;
mod shared;

pub use application::{About, ApplicationId, End, Named, Outcome, State, Target};
pub use shared::SharedDirectory;
