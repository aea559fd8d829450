//! Whole nodes, reached over real sockets. One binary; the files follow the flows.

mod app;
mod compat;
mod limits;
mod operation;
mod peers;
mod prometheus;
mod push;
mod sandbox;
mod scrape;
