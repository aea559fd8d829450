//! What both ends of a connection agree on.
//!
//! [`frame`] reads and writes frames, [`session`] is the RSocket protocol without sockets,
//! [`transport`] carries its frames, and [`Connection`] joins the two. [`key`],
//! [`announcement`] and [`envelope`] are what travels inside the payloads, and [`sealing`] is how a
//! client puts them together. [`credentials`] say in the SETUP who the client is, and a
//! [`description`] for whom it answers.

pub mod announcement;
pub mod connection;
pub mod credentials;
pub mod description;
pub mod envelope;
pub mod frame;
pub mod key;
pub mod memory;
pub mod sealing;
pub mod session;
pub mod transport;

mod identifiers;
#[cfg(feature = "open")]
mod native;
mod oaep;
#[cfg(feature = "open")]
mod pages;
mod payload;

pub use announcement::{Announcement, ConnectionToken, Envelopes};
pub use connection::Connection;
pub use credentials::Credentials;
pub use description::Description;
pub use identifiers::{ErrorCode, StreamId};
pub use payload::Payload;
pub use session::{CloseReason, Event, Session};
