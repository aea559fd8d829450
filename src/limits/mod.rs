//! What bounds what comes from outside, for all who listen: how often, how many, how long, and how much of it is logged.

pub(crate) mod descriptors;
pub(crate) mod eviction;
pub(crate) mod log_limit;
pub mod rate;
