//! Whole nodes, reached over real sockets. One binary; the files follow the flows.

mod app;
mod limits;
mod operation;
mod push;
mod sandbox;
mod scrape;
