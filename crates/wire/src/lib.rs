//! What both ends of a connection agree on.

pub mod envelope;
pub mod key;
#[cfg(feature = "open")]
mod native;
