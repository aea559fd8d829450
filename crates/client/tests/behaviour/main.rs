//! The client against scripted proxies on loopback.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod description;
mod proxy;
mod push;
mod reconnect;
mod runtime;
#[cfg(all(unix, feature = "signal"))]
mod sigterm;
