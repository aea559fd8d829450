//! Time to validate, merge and write 1,000 applications of about 100 kB each; with `dearest` as argument, of
//! texts that are made to cost much.
//!
//! A plain program: the figures wanted are bytes per second of processor time over a working set far
//! larger than any cache, measured a few times each. `cargo bench -p prometheus-rsocket-exposition`

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)] // A test may fail.

mod dearest;

use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prometheus_rsocket_exposition::{
    Encoding, Escaping, Exposition, Format, Labels, Limits, Part, merge, merge_as,
};

const APPS: usize = 1_000;
const ROUNDS: usize = 7;
const CHUNK: usize = 64 * 1024;
/// How often each of the dearest texts is read at a time.
const REPEATED: u32 = 20;

fn main() {
    let rounds = if std::env::args().any(|arg| arg == "--test") {
        1
    } else {
        ROUNDS
    };
    let texts: Vec<Bytes> = (0..APPS).map(|app| Bytes::from(application(app))).collect();
    let total: usize = texts.iter().map(Bytes::len).sum();
    let parse = || -> Vec<Part> { texts.iter().map(part).collect() };
    let parts = parse();
    let samples: usize = parts.iter().map(|part| part.exposition.samples()).sum();
    println!("{APPS} applications, {samples} samples, {total} bytes");

    if std::env::args().any(|arg| arg == "dearest") {
        return dearest(rounds);
    }
    report("validate", total, rounds, parse);
    report("merge", total, rounds, || merge(parts.clone()));
    report("merge and write", total, rounds, || {
        merge(parts.clone())
            .into_chunks(CHUNK)
            .map(|chunk| black_box(chunk).len())
            .sum::<usize>()
    });
    formats("Java's text", &parts, total, rounds);
    for (what, rewrite) in KINDS_OF_TEXT {
        let texts: Vec<Bytes> = texts.iter().map(rewrite).collect();
        let total = texts.iter().map(Bytes::len).sum();
        report(&format!("{what}: validate"), total, rounds, || {
            texts.iter().map(part).collect::<Vec<_>>()
        });
        let parts: Vec<Part> = texts.iter().map(part).collect();
        drop(texts);
        formats(what, &parts, total, rounds);
    }
    report("hash every series", total, rounds, || {
        let hasher = foldhash::fast::RandomState::default();
        parts
            .iter()
            .flat_map(|part| part.exposition.series(&hasher))
            .fold(0, u64::wrapping_add)
    });
    let merged = merge(parts.clone());
    let mut start = 0;
    let mut looked_at = 0;
    let search = || {
        for _ in 0..10 {
            let equal = merged.equal_series(0..APPS, start, 10_000);
            (start, looked_at) = (equal.next, looked_at + equal.samples);
        }
    };
    let best = best_of(rounds, search).as_secs_f64() * 1e3 / 10.0;
    let samples = looked_at / rounds / 10;
    println!("equal series: {best:.2} ms for {samples} samples looked at");
    drop(merged);
    let clashing = clashing(&texts);
    report(
        "merge with clashes in 6 families of 60",
        total,
        rounds,
        || merge(clashing.clone()),
    );
    drop(clashing);
    let distinct = distinct(&texts);
    report(
        "merge 60,000 families of one app each",
        total,
        rounds,
        || merge(distinct.clone()),
    );
}

type Rewrite = fn(&Bytes) -> Bytes;

/// Texts of other applications, made of those of Java's.
const KINDS_OF_TEXT: [(&str, Rewrite); 3] = [
    ("text", |text| rewritten(text, "} ", "", "")),
    ("text with times", |text| {
        rewritten(text, "} ", " 1700000000123", "")
    }),
    ("OpenMetrics with exemplars", |text| {
        let exemplar = " # {trace_id=\"0af7651916cd43dd\"} 0.067 1700000000.123";
        rewritten(text, "} ", exemplar, "# EOF\n")
    }),
];

/// The text without the comma behind the last label, and with this after each line of a bucket.
fn rewritten(text: &Bytes, close: &str, after_bucket: &str, end: &str) -> Bytes {
    let text = std::str::from_utf8(text).unwrap().replace(",} ", close);
    let mut other = String::with_capacity(text.len() * 2);
    for line in text.lines() {
        other.push_str(line);
        if line.contains("_bucket{") {
            other.push_str(after_bucket);
        }
        other.push('\n');
    }
    other.push_str(end);
    other.into()
}

/// What it takes to merge and write in each format.
fn formats(what: &str, parts: &[Part], total: usize, rounds: usize) {
    for format in [Format::Text, Format::OpenMetrics] {
        for escaping in [Escaping::Underscores, Escaping::AllowUtf8] {
            let encoding = Encoding { format, escaping };
            let name = format!("{what}: as {format:?}, {}", escaping.name());
            report(&name, total, rounds, || {
                merge_as(encoding, parts.to_vec())
                    .into_chunks(CHUNK)
                    .map(|chunk| black_box(chunk).len())
                    .sum::<usize>()
            });
        }
    }
}

/// What each of the dearest texts takes: to be validated, merged alone, and given a label.
fn dearest(rounds: usize) {
    println!(
        "{:30} {:>9} {:>9} {:>9}  ms per MB",
        "", "validate", "merge", "label"
    );
    let mut added = Labels::default();
    added.insert("job", "node").unwrap();
    for (what, text) in dearest::texts() {
        let megabytes = text.len() as f64 / 1e6;
        let text = Bytes::from(text);
        let merged = part(&text);
        // Linux counts processor time in ticks of a few milliseconds.
        let measure = |work: &mut dyn FnMut()| {
            let mut repeat = || (0..REPEATED).for_each(|_| work());
            best_of(rounds, &mut repeat).as_secs_f64() * 1e3 / megabytes / f64::from(REPEATED)
        };
        let validate = measure(&mut || drop(black_box(part(&text))));
        let merge = measure(&mut || drop(black_box(merge(vec![merged.clone()]))));
        let label = measure(&mut || {
            let labelled = merged.exposition.with_labels(&added, false, &Limits::NONE);
            drop(black_box(labelled.unwrap().written()));
        });
        println!("{what:30} {validate:9.1} {merge:9.1} {label:9.1}");
    }
}

fn part(text: &Bytes) -> Part {
    Arc::new(Exposition::parse(text.clone()).unwrap()).into()
}

/// The same texts, but every other application declares one of its timers a summary.
fn clashing(texts: &[Bytes]) -> Vec<Part> {
    let declare = |(app, text): (usize, &Bytes)| {
        let text = std::str::from_utf8(text).unwrap();
        let text = match app % 2 {
            0 => text.to_owned(),
            _ => text.replace("_requests_seconds histogram", "_requests_seconds summary"),
        };
        part(&Bytes::from(text))
    };
    texts.iter().enumerate().map(declare).collect()
}

/// The same texts, but no application has a family in common with another.
fn distinct(texts: &[Bytes]) -> Vec<Part> {
    let rename = |(app, text): (usize, &Bytes)| {
        let text = std::str::from_utf8(text).unwrap();
        let text = text
            .replace("jvm_", &format!("jvm{app}_"))
            .replace("http_", &format!("http{app}_"));
        part(&Bytes::from(text))
    };
    texts.iter().enumerate().map(rename).collect()
}

fn report<T>(what: &str, bytes: usize, rounds: usize, mut work: impl FnMut() -> T) {
    let best = best_of(rounds, &mut work);
    let rate = bytes as f64 / best.as_secs_f64() / 1e9;
    let per_100_mb = best.as_secs_f64() * 1e3 * 100e6 / bytes as f64;
    println!("{what:60} {rate:8.2} GB/s {per_100_mb:10.1} ms per 100 MB");
}

fn best_of<T>(rounds: usize, mut work: impl FnMut() -> T) -> Duration {
    (0..rounds)
        .map(|_| time(&mut work))
        .min()
        .unwrap_or_default()
}

fn time<T>(mut work: impl FnMut() -> T) -> Duration {
    let start = Instant::now();
    let cpu = cpu_time();
    let result = black_box(work());
    let wall = start.elapsed();
    let cpu = cpu.and_then(|before| cpu_time()?.checked_sub(before));
    drop(result);
    cpu.unwrap_or(wall)
}

/// The time this thread has been on a processor, where Linux tells: other work on the machine
/// must not count.
fn cpu_time() -> Option<Duration> {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(Duration::from_nanos(
        schedstat.split(' ').next()?.parse().ok()?,
    ))
}

/// What a Spring application with Micrometer writes: JVM gauges, counters, timers with and without
/// buckets, common tags on every series.
fn application(app: usize) -> String {
    let tags = format!(
        "application=\"shop-{}\",instance=\"10.0.{}.{}\"",
        app % 50,
        app / 250,
        app % 250
    );
    let mut text = String::with_capacity(110_000);
    for family in 0..40 {
        let kind = if family % 3 == 0 { "counter" } else { "gauge" };
        let name = format!(
            "jvm_{}_{family}_bytes",
            ["memory_used", "gc_pause", "threads_states"][family % 3]
        );
        let _ = write!(
            text,
            "# HELP {name} The amount of memory or time that something has used\n# TYPE {name} {kind}\n"
        );
        for series in 0..8 {
            let area = ["heap", "nonheap"][series % 2];
            let _ = writeln!(
                text,
                "{name}{{{tags},area=\"{area}\",id=\"G1 Survivor Space {series}\",}} {}.0",
                (app * 7_919 + series * 104_729 + family) * 1_000
            );
        }
    }
    for family in 0..20 {
        let name = format!("http_server_{family}_requests_seconds");
        let kind = if family < 6 { "histogram" } else { "summary" };
        let _ = write!(
            text,
            "# HELP {name} Duration of HTTP server request handling\n# TYPE {name} {kind}\n"
        );
        for series in 0..(if family < 6 { 4 } else { 7 }) {
            let tags = format!(
                "{tags},exception=\"none\",method=\"{}\",outcome=\"SUCCESS\",status=\"200\",uri=\"/api/v1/orders/{{id}}/{series}\",",
                ["GET", "POST"][series % 2]
            );
            if family < 6 {
                for bound in [
                    "0.001", "0.005", "0.01", "0.05", "0.1", "0.5", "1.0", "2.5", "5.0", "10.0",
                    "30.0", "+Inf",
                ] {
                    let _ = writeln!(
                        text,
                        "{name}_bucket{{{tags}le=\"{bound}\",}} {}.0",
                        app + series
                    );
                }
            }
            let _ = writeln!(text, "{name}_count{{{tags}}} {}.0", app + series);
            let _ = writeln!(
                text,
                "{name}_sum{{{tags}}} {}.{}",
                app,
                123_456_789 + series
            );
        }
    }
    text
}
