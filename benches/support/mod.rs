//! What the benchmarks of a whole node share.

pub(crate) mod calibration;
pub(crate) mod process;

/// A benchmark that fails says why and ends.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
