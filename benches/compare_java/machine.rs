//! The machine, in words.

use std::fs;

use tokio::process::Command;

use crate::Result;

/// `(what, value)`, a line of the report each.
pub(crate) async fn describe() -> Result<Vec<(&'static str, String)>> {
    let cores = std::thread::available_parallelism()?;
    let model = field("/proc/cpuinfo", "model name")?;
    let memory = field("/proc/meminfo", "MemTotal")?;
    let kilobytes: f64 = memory.trim_end_matches(" kB").parse()?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    Ok(vec![
        ("CPU", format!("{model}, {cores} cores")),
        ("memory", format!("{:.1} GB", kilobytes * 1024.0 / 1e9)),
        ("kernel", kernel.trim().to_owned()),
        ("JDK", jdk().await?),
        ("JVM's own choice of heap", heap().await?),
    ])
}

/// The value of the first `name : value` line.
fn field(file: &str, name: &str) -> Result<String> {
    let text = fs::read_to_string(file)?;
    let value = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find_map(|(key, value)| (key.trim() == name).then(|| value.trim().to_owned()));
    value.ok_or_else(|| format!("{file} has no {name}").into())
}

async fn jdk() -> Result<String> {
    let output = Command::new("java").arg("-version").output().await?;
    let text = String::from_utf8(output.stderr)?;
    Ok(text.lines().nth(1).unwrap_or_default().to_owned())
}

/// The JVM chooses by the machine's size.
async fn heap() -> Result<String> {
    let mut java = Command::new("java");
    java.args(["-XX:+PrintFlagsFinal", "-version"]);
    let flags = String::from_utf8(java.output().await?.stdout)?;
    let flag = |name: &str| {
        let mut words = flags.lines().map(|line| line.split_whitespace().skip(1));
        let value = words.find_map(|mut words| (words.next()? == name).then(|| words.nth(1))?);
        value.unwrap_or_default().to_owned()
    };
    let megabytes = flag("MaxHeapSize").parse::<f64>()? / 1e6;
    let collector = ["G1", "Serial", "Parallel"]
        .into_iter()
        .find(|name| flag(&format!("Use{name}GC")) == "true");
    let collector = collector.unwrap_or("unknown");
    Ok(format!("up to {megabytes:.0} MB, {collector} collector"))
}
