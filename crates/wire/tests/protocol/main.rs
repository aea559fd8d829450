//! The wire protocol from outside: hand-made frames, recorded Java sessions, other people's
//! clients.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test may panic")]

mod connection;
mod frames;
mod malformed;
mod memory;
mod properties;
mod rust_codec;
mod rust_peer;
mod session;
mod vectors;
#[cfg(feature = "websocket")]
mod websocket;
