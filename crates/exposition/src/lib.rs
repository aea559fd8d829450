//! Prometheus text exposition: strict validation and zero-copy merge.

mod class;
mod error;
mod exposition;
mod merge;
mod metadata;
mod number;
mod openmetrics;
mod parse;
mod regroup;
mod sample;
mod tidy;
mod write;

pub use error::{ParseError, ParseErrorKind};
pub use exposition::Exposition;
pub use merge::merge;
pub use write::{Chunks, Merged};
