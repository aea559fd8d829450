//! This proxy beside the published Java proxy, one after the other, each under the same load of the published Java
//! client, and this proxy once more under that load of our Java client, on the same machine. `benchmarks/compare-java`
//! builds what it needs and runs it.
//!
//! Each proxy is started once for gzipped and once for plain scrapes, so that the first scrape of either kind is that of a
//! process that never served one. Figures are the proxy's CPU time and memory as the system accounts them: of wall times
//! the load takes its part.

#![allow(clippy::print_stdout, reason = "it prints what it measured")]

mod calibration;
mod load;
mod machine;
mod measure;
mod proxy;
mod report;
mod scrape;
mod table;

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use crate::measure::{Figures, Run};
use crate::proxy::Kind;
use crate::scrape::Encoding;

/// What fails says why, and ends the run.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Compares this proxy with the published Java proxy
#[derive(Debug, Parser)]
struct Options {
    /// Applications, all in one JVM
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    apps: u32,
    /// Series of each application
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    series: u32,
    /// Scrapes of each proxy, plain and gzipped each; the later half counts as warm
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(2..))]
    scrapes: u32,
    /// Measures the Java proxy once more, with this greatest heap, as in `1g`
    #[arg(long)]
    java_heap: Option<String>,
    /// Where the report goes, in Markdown
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/benchmarks/RESULTS.md"))]
    output: PathBuf,
    /// `cargo bench` says it
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<()> {
    let options = Options::parse();
    if cfg!(debug_assertions) {
        return Err("built without optimisation: run benchmarks/compare-java".into());
    }
    let mut terminate = signal(SignalKind::terminate())?;
    // What is dropped on the way ends the processes that were started.
    tokio::select! {
        end = compare(&options) => end,
        _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
        _ = terminate.recv() => Err("terminated".into()),
    }
}

async fn compare(options: &Options) -> Result<()> {
    let mut kinds = vec![
        Kind::Ours,
        Kind::Java { heap: None },
        Kind::OursWithOurClient,
    ];
    if let Some(heap) = &options.java_heap {
        let heap = Some(heap.clone());
        kinds.push(Kind::Java { heap });
    }
    let started = Instant::now();
    let gzip = runs(&kinds, Encoding::Gzip, options, started).await?;
    let plain = runs(&kinds, Encoding::Plain, options, started).await?;
    let figures: Vec<_> = kinds
        .into_iter()
        .zip(gzip.into_iter().zip(plain))
        .map(|(kind, (gzip, plain))| Figures { kind, gzip, plain })
        .collect();
    let report = report::markdown(options, &figures).await?;
    println!("\n{report}");
    write(&options.output, &report)
}

async fn runs(
    kinds: &[Kind],
    encoding: Encoding,
    options: &Options,
    started: Instant,
) -> Result<Vec<Run>> {
    let mut runs = Vec::new();
    for kind in kinds {
        let name = format!("{kind}, {encoding}");
        let progress = |what: String| {
            println!("{:4.0} s  {name}: {what}", started.elapsed().as_secs_f64());
        };
        let run = measure::measure(kind, encoding, options, &progress).await;
        runs.push(run.map_err(|error| format!("{name}: {error}"))?);
    }
    Ok(runs)
}

fn write(output: &Path, report: &str) -> Result<()> {
    let error = |error| format!("{}: {error}", output.display());
    std::fs::write(output, report).map_err(error)?;
    println!("written to {}", output.display());
    Ok(())
}
