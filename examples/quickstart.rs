//! The main job in one process: a node on its default ports, an application connected to it through RSocket, and a
//! scrape over HTTP as Prometheus makes it.
//!
//! ```text
//! cargo run --release --example quickstart
//! ```
//!
//! The application is this very process; its metrics are what the system says of it.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it shows what it does"
)]

use std::error::Error;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use prometheus::{Encoder, Registry, TextEncoder};
use prometheus_rsocket_client::Client;
use prometheus_rsocket_proxy::{cli, logging, node::Node};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    logging::init(&logging::Settings {
        level: "info".parse()?,
        format: logging::Format::Logfmt,
    });
    let flags: Vec<_> = std::env::args().skip(1).collect();
    let node = Node::bind(cli::settings(flags.iter().map(String::as_str))?).await?;

    let registry = Registry::new();
    #[cfg(target_os = "linux")]
    registry.register(Box::new(
        prometheus::process_collector::ProcessCollector::for_self(),
    ))?;
    let jobs = prometheus::IntCounter::new(
        "quickstart_jobs_total",
        "Jobs that the application has done.",
    )?;
    registry.register(Box::new(jobs.clone()))?;
    jobs.inc();

    let proxy = format!("tcp://localhost:{}", node.tcp_address.port());
    let app = Client::builder(move || render(&registry))
        .proxy(proxy.parse()?)
        .connect();
    app.ready().await?;

    let web = SocketAddr::from(([127, 0, 0, 1], node.web_address.port()));
    println!("GET http://{web}/metrics/connected\n");
    print!(
        "{}",
        tokio::task::spawn_blocking(move || get(web, "/metrics/connected")).await??
    );

    app.push().await?;
    app.close().await;
    println!(
        "\nThe application pushed its metrics and is gone; the next scrape serves them, once:\n"
    );
    print!(
        "{}",
        tokio::task::spawn_blocking(move || get(web, "/metrics/connected")).await??
    );
    node.drain(Duration::from_secs(5)).await;
    Ok(())
}

fn render(registry: &Registry) -> Vec<u8> {
    let mut text = Vec::new();
    if let Err(error) = TextEncoder::new().encode(&registry.gather(), &mut text) {
        eprintln!("metrics could not be written: {error}");
    }
    text
}

/// What `curl` would print.
fn get(web: SocketAddr, path: &str) -> Result<String, std::io::Error> {
    let mut stream = TcpStream::connect(web)?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    let body = response
        .split_once("\r\n\r\n")
        .map(|(_, body)| body.to_owned());
    body.ok_or_else(|| std::io::Error::other("no HTTP response"))
}
