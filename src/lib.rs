//! Prometheus RSocket Proxy: applications that can only open connections outwards hold one RSocket connection to it, and
//! it pulls their metrics over these connections whenever Prometheus scrapes it.
//!
//! Where to find what: [`scrape`], [`push`] and [`drain`] are the flows, one file each. [`http`], [`rsocket`] and
//! [`cluster`] each speak one protocol. [`store`] is plain data, like the crates beside this one: `exposition`
//! (validation and merge of text) and `wire` (frames, session, envelope). [`node`] joins the parts.

pub mod access;
pub mod cli;
pub mod cluster;
pub mod directory;
pub mod drain;
mod files;
pub mod http;
pub mod identity;
pub mod limits;
pub mod logging;
pub mod metrics;
pub mod node;
pub mod nodes;
mod passwords;
pub mod push;
pub mod rebalance;
pub mod rsocket;
pub mod scrape;
mod sockets;
pub mod store;
pub mod targets;
pub mod tenant;
pub mod tls;
