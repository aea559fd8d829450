//! Who pushed.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// Who pushed: whose account a push's room is charged to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pusher {
    /// An application with this identity.
    Identity(Arc<str>),
    /// One without an identity, at this address; with IPv6 its network of 64 bits.
    Address(IpAddr),
    /// A node of an older release did not say who. All of these share one account.
    Unknown,
}

impl Pusher {
    /// Bytes on the heap that one push's own copy takes.
    pub(super) fn memory(&self) -> usize {
        match self {
            Self::Identity(name) => name.len(),
            Self::Address(_) | Self::Unknown => 0,
        }
    }
}

impl fmt::Display for Pusher {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity(name) => formatter.write_str(name),
            Self::Address(address) => address.fmt(formatter),
            Self::Unknown => formatter.write_str("unknown"),
        }
    }
}
