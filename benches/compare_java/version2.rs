//! The same for applications that use version 2 of the envelope, which the Java client does not know: `bench` is the load.

use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;

use crate::{Options, Result};

/// What a node cost under that load.
pub(crate) struct Version2 {
    pub(crate) gzip: Duration,
    pub(crate) plain: Duration,
    /// Bytes of a scrape's text.
    pub(crate) text: usize,
}

pub(crate) async fn measure(options: &Options) -> Result<Version2> {
    let number = |flag: &str, value: u32| format!("--{flag}={value}");
    let output = Command::new(env!("CARGO_BIN_EXE_prometheus-rsocket-proxy"))
        .args(["bench", "--mix=scrape", "--envelope=2", "--format=json"])
        .args([
            number("apps", options.apps),
            number("series", options.series),
            number("scrapes", options.scrapes),
        ])
        .args(["--timeout=2m", "--scrape-timeout=1m"])
        .kill_on_drop(true)
        .output()
        .await?;
    if !output.status.success() {
        let log = String::from_utf8_lossy(&output.stderr);
        return Err(format!("bench failed: {log}").into());
    }
    let report: Value = serde_json::from_slice(&output.stdout)?;
    let (plain, text) = phase(&report, "scrape_plain")?;
    let (gzip, _) = phase(&report, "scrape_gzip")?;
    Ok(Version2 { gzip, plain, text })
}

/// CPU time of the node and received bytes, both for one scrape.
fn phase(report: &Value, name: &str) -> Result<(Duration, usize)> {
    let phases = report["phases"].as_array().ok_or("no phases")?;
    let phase = phases.iter().find(|phase| phase["name"] == name);
    let phase = phase.ok_or("a phase is missing")?;
    let count = phase["count"].as_f64().ok_or("no count")?;
    let cpu = phase["node"]["cpu_seconds"].as_f64().ok_or("no CPU time")?;
    let bytes = phase["received_bytes"].as_f64().ok_or("no bytes")?;
    Ok((
        Duration::try_from_secs_f64(cpu / count)?,
        (bytes / count) as usize,
    ))
}
