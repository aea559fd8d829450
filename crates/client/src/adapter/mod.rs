//! Closures for the registries of other crates: `Client::builder(adapter::prometheus(registry))`.
//!
//! An error while encoding is the render's error: the pull is answered with an ERROR, a push fails, nothing panics.

#[cfg(feature = "metrics")]
mod metrics;
#[cfg(feature = "prometheus")]
mod prometheus;
#[cfg(feature = "prometheus-client")]
mod prometheus_client;

#[cfg(feature = "metrics")]
pub use metrics::metrics;
#[cfg(feature = "prometheus")]
pub use prometheus::prometheus;
#[cfg(feature = "prometheus-client")]
pub use prometheus_client::prometheus_client;
