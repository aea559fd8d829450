//! What a text is counted for covers what it costs, at the worst that was found.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)] // A test may fail.

use std::process::Command;
use std::sync::Arc;
use std::{env, fs};

use bytes::Bytes;
use prometheus_rsocket_exposition::{Exposition, Part, merge};

/// One more than a hash table of 2^16 places takes: it has just grown, which costs most for each name.
const NAMES: usize = (1 << 16) / 8 * 7 + 1;
/// What else a process may take meanwhile.
const SLACK: usize = 2 << 20;
/// Texts, each as what stands in it for each of the names, and the factor on what they are counted for.
const CASES: [(&[&str], f64); 6] = [
    (&["NAME 1\n"], 1.0),
    (&["# HELP NAME\n"], 1.0),
    (&["# HELP NAME help\n# TYPE NAME gauge\nNAME 1\n"], 1.0),
    (&["a 1\nb 1\na 1\nb 1\na 1\nb 1\na 1\nb 1\n"], 1.0),
    (&["# TYPE \"NAME.\" histogram\n{\"NAME._count\"} 1\n"], 1.0),
    // Every sample becomes a family of its own.
    (
        &[
            "# TYPE NAME gauge\n",
            "# TYPE NAME histogram\nNAME 1\nNAME_count 1\nNAME_sum 1\nNAME_bucket 1\n",
        ],
        1.5,
    ),
];
/// Says which case a process is to try: only a new one has nothing yet.
const CASE: &str = "MEMORY_TEST_CASE";

#[test]
fn a_text_is_counted_for_what_it_costs() {
    if let Ok(case) = env::var(CASE) {
        let &(texts, factor) = CASES.get(case.parse::<usize>().unwrap()).unwrap();
        return a_case_is_counted_for_what_it_costs(texts, factor);
    }
    for case in 0..CASES.len() {
        let mut test = Command::new(env::current_exe().unwrap());
        test.args(["--exact", "a_text_is_counted_for_what_it_costs"]);
        // glibc then gives back all that is freed, at once.
        test.env("MALLOC_MMAP_THRESHOLD_", "131072");
        let output = test.env(CASE, case.to_string()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}");
    }
}

fn a_case_is_counted_for_what_it_costs(texts: &[&str], factor: f64) {
    let before = memory("VmRSS");
    let texts = texts.iter().map(|lines| Bytes::from(of_each_name(lines)));
    let parts = texts.map(|text| Arc::new(Exposition::parse(text).unwrap()));
    let parts: Vec<_> = parts.collect();
    let counted = parts.iter().map(|part| part.memory()).sum::<usize>() as f64 * factor;
    // From here on, the most is counted anew.
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let merged = merge(parts.into_iter().map(Part::from).collect());
    let most = memory("VmHWM") - before;
    assert!(!merged.is_empty());
    assert!(
        most <= counted as usize + SLACK,
        "{most}, counted for {counted}"
    );
}

fn of_each_name(lines: &str) -> String {
    let names = (0..NAMES).map(|number| format!("A{number:05x}"));
    names.map(|name| lines.replace("NAME", &name)).collect()
}

/// Bytes that this process has in memory now (`VmRSS`), or has had at most (`VmHWM`).
fn memory(field: &str) -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let mut lines = status.lines();
    let line = lines.find(|line| line.starts_with(field)).unwrap();
    let kilobytes: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kilobytes * 1024
}
