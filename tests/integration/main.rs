//! Whole nodes, reached over real sockets. One binary; the files follow the flows.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod agent;
mod agent_targets;
mod app;
mod applications;
mod applications_page;
mod balancer;
mod browser;
mod cli_bench;
mod cli_push;
mod client;
mod client_adapters;
mod client_credentials;
mod client_java;
mod cluster;
mod cluster_gossip;
mod cluster_partition;
mod cluster_push;
mod cluster_tls;
mod compat;
mod consumers;
mod docs;
mod drain;
mod durable;
mod envelope;
mod formats;
mod forwarded_for;
mod hardened;
mod healthcheck;
mod hostile;
mod hostile_pushes;
mod http_proxy;
mod identities;
mod java_client;
mod java_client_moves;
mod limits;
mod neighbours;
mod network;
mod nodes;
mod operation;
mod peers;
mod prometheus;
mod proxy_protocol;
mod push;
mod push_receiver;
mod pushes_page;
mod rebalance;
mod sandbox;
mod scrape;
mod ship;
mod spring_boot;
mod status_page;
mod targets;
mod targets_balancer;
mod targets_cluster;
mod targets_partition;
mod tls;
mod web_config;
