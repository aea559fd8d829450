//! Exposes the metrics of an application through Prometheus RSocket Proxy: for applications that can open connections
//! only outwards, or that end before anyone scrapes them.
//!
//! A [`Client`] holds one connection to the proxy and answers each pull with what a closure of the application renders.
//! It reconnects by itself, with a growing and jittered delay. What was rendered can also be pushed: the proxy holds it
//! until the next scrape.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use prometheus_rsocket_client::Client;
//!
//! let client = Client::builder(|| "jobs_done_total 1\n".to_owned())
//!     .proxy("tcp://localhost:7001".parse()?)
//!     .connect();
//! client.ready().await?;
//! // … the application does its work, and at the end:
//! client.push_and_close().await?;
//! # Ok(())
//! # }
//! ```
//!
//! Without a tokio runtime the same works in a plain `fn main`: [`Builder::connect`] starts a thread of its own there,
//! and the methods whose names end in `_blocking` wait without `async`.
//!
//! # What the closure gives
//!
//! Text in the exposition format 0.0.4, or OpenMetrics with its `# EOF`; see [`IntoText`] for the types. Several
//! registries are joined by putting their texts one behind the other:
//!
//! ```
//! # use prometheus_rsocket_client::Client;
//! # let (http, jobs) = (|| String::from("http_requests_total 1\n"), || String::from("jobs_done_total 1\n"));
//! let builder = Client::builder(move || http() + &jobs());
//! ```
//!
//! A closure that panics or gives an error costs that one pull or push, not the connection. At most four texts are
//! rendered at a time ([`Builder::max_renders`]); a further pull is refused, a further push waits.
//!
//! # Who the application is
//!
//! The proxy can serve each application as a target of its own. [`Builder::instance`] says what Prometheus is to call it,
//! [`Builder::job`] and [`Builder::label`] say more. The name should stay the same when the application starts again; if
//! none is given, it is host name and process id.
//!
//! # At least once
//!
//! A push is tried until the proxy acknowledges it, refuses it, or its time is over ([`Builder::timeout`]). If the
//! connection ends before the acknowledgement came, the same text is sent again over the next one, although the proxy
//! may hold it already: a push that was acknowledged has been taken once or more. One that failed with
//! [`PushError::Timeout`] may have been taken too.
//!
//! # Features
//!
//! None is on by itself.
//!
//! | feature | |
//! |---|---|
//! | `websocket` | addresses that begin with `ws://` |
//! | `tls` | `tls://`, and `wss://` where `websocket` is on too |
//! | `signal` | `Builder::push_on_sigterm` |
//! | `prometheus`, `prometheus-client`, `metrics` | [`adapter`]s for the registries of these crates |
//!
//! # Coming from the Java client
//!
//! Its one metric, `prometheus_connection_error_errors_total{exception}`, is
//! `prometheus_rsocket_client_connection_errors_total{reason}` here; see [`Builder::own_metrics`]. The properties of the
//! Spring Boot starter are environment variables; see [`Builder::env`].

pub mod adapter;

mod address;
mod attempt;
mod builder;
mod client;
mod connection;
mod credentials;
mod description;
mod diagnosis;
mod env;
mod errors;
mod failure;
mod http_proxy;
mod link;
mod metrics;
mod no_proxy;
mod push;
mod reconnect;
mod render;
mod runtime;
mod schedule;
#[cfg(feature = "signal")]
mod signal;
mod socket;
mod state;
mod supervisor;
#[cfg(feature = "tls")]
mod tls;
mod tunnel;

pub use address::{Address, AddressError};
pub use builder::Builder;
pub use client::Client;
pub use env::EnvError;
pub use errors::{ConnectError, PushError};
pub use http_proxy::{HttpProxy, HttpProxyError};
pub use metrics::{Metrics, Reason};
pub use prometheus_rsocket_wire::Description;
pub use prometheus_rsocket_wire::description::{DescriptionError, TargetDescription, TargetName};
pub use render::{IntoText, RenderError, Request};
#[cfg(feature = "signal")]
pub use signal::AfterSigterm;
#[cfg(feature = "tls")]
pub use tls::TlsError;
