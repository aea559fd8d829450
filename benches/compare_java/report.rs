//! The report, in Markdown.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use crate::Result;
use crate::measure::{Figures, Lost, Run};
use crate::table::{Row, Unit};
use crate::{Options, machine, table};

/// By how much ours shall be the better one.
const SCRAPE_GOAL: f64 = 4.0;
const OUR_CLIENT_GOAL: f64 = 8.0;
const MEMORY_GOAL: f64 = 10.0;
const STORM_GOAL: f64 = 100.0;

/// `figures` are ours, then those of the Java proxy, then ours with our client.
pub(crate) async fn markdown(options: &Options, figures: &[Figures]) -> Result<String> {
    let groups = [
        ("A scrape", scrapes(figures)),
        ("Memory, resident", memory(figures)),
        ("All applications connect at once", storm(figures)),
        ("From start to ready", ready(figures)),
    ];
    let names: Vec<_> = figures.iter().map(|one| one.kind.to_string()).collect();
    let mut report = introduction(options);
    report.push_str(&circumstances(figures).await?);
    for (title, rows) in groups {
        let table = table::markdown(&names, &rows);
        write!(report, "\n## {title}\n\n{table}")?;
    }
    report.push_str(&scrapes_of_our_client(figures));
    report.push_str(&every_scrape(figures));
    Ok(report)
}

/// Beside the Java proxy with the published client, which is the only one that it knows.
fn scrapes_of_our_client(figures: &[Figures]) -> String {
    let [_, java, ours, ..] = figures else {
        return String::new();
    };
    let row = |name, of: fn(&Figures) -> Duration| seconds(name, [ours, java], of);
    let rows = [
        row("CPU, gzipped, warm", |one| one.gzip.warm().cpu).goal(OUR_CLIENT_GOAL),
        row("CPU, plain, warm", |one| one.plain.warm().cpu),
    ];
    let names = [ours.kind.to_string(), java.kind.to_string()];
    let table = table::markdown(&names, &rows);
    format!("\n## Our client beside the Java proxy with its own\n\n{table}")
}

fn introduction(options: &Options) -> String {
    let Options {
        apps,
        series,
        scrapes,
        ..
    } = options;
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let today = now.split('T').next().unwrap_or_default();
    let heap = options.java_heap.as_ref();
    let heap = heap.map_or_else(String::new, |heap| format!(" --java-heap {heap}"));
    format!(
        "# Beside the Java proxy

`prometheus-rsocket-proxy-server` 1.5.3 and this proxy (ours) under the same load, one after the other: {apps}
applications × {series} series on the published Java client 1.5.3, all in one JVM beside the proxy; then this proxy once
more with the applications on our Java client, which seals by envelope version 2. Each proxy was started twice, for
{scrapes} gzipped and for {scrapes} plain scrapes; every one was checked for all of its samples. CPU and memory are
those of the proxy's process alone. Wall times are told for information: the load takes its part of them.

Measured on {today} with

    benchmarks/compare-java --apps {apps} --series {series} --scrapes {scrapes}{heap}

"
    )
}

async fn circumstances(figures: &[Figures]) -> Result<String> {
    let mut lines = machine::describe().await?;
    lines.push((
        "one private RSA operation, in this run",
        calibration(figures),
    ));
    let mut text = "| | |\n|---|---|\n".to_owned();
    for (what, value) in lines {
        writeln!(text, "| {what} | {value} |")?;
    }
    for one in figures {
        let megabytes = |bytes| bytes as f64 / 1e6;
        let (plain, gzip) = (megabytes(one.plain.text), megabytes(one.gzip.sent));
        let kind = &one.kind;
        writeln!(
            text,
            "| a scrape of {kind} | {plain:.1} MB of text, {gzip:.1} MB gzipped |"
        )?;
        writeln!(text, "| connections lost by {kind} | {} |", lost(one))?;
    }
    Ok(text)
}

/// From the fastest to the slowest: the machine's speed changes.
fn calibration(figures: &[Figures]) -> String {
    let runs = figures.iter().flat_map(|one| [&one.gzip, &one.plain]);
    let mut times: Vec<_> = runs.map(|run| run.calibration).collect();
    times.sort();
    let at = |index: usize| times.get(index).map_or(0, Duration::as_micros);
    let (least, most) = (at(0), at(times.len().saturating_sub(1)));
    format!("{least} to {most} µs")
}

/// In both runs.
fn lost(one: &Figures) -> String {
    let sum = |of: fn(&Lost) -> usize| of(&one.gzip.lost) + of(&one.plain.lost);
    format!(
        "{} while all connected, {} during the scrapes",
        sum(|lost| lost.connecting),
        sum(|lost| lost.scraped)
    )
}

fn scrapes(figures: &[Figures]) -> Vec<Row> {
    let cpu = |name, figure: fn(&Figures) -> Duration| seconds(name, figures, figure);
    vec![
        cpu("CPU, gzipped, warm", |one| one.gzip.warm().cpu).goal(SCRAPE_GOAL),
        cpu("CPU, gzipped, first after the start", |one| {
            one.gzip.cold().cpu
        }),
        cpu("CPU, plain, warm", |one| one.plain.warm().cpu),
        cpu("CPU, plain, first after the start", |one| {
            one.plain.cold().cpu
        }),
        cpu("wall, gzipped, warm", |one| one.gzip.warm().wall),
        cpu("wall, plain, warm", |one| one.plain.warm().wall),
    ]
}

fn memory(figures: &[Figures]) -> Vec<Row> {
    let memory = |name, figure: fn(&Figures) -> u64| {
        let values = figures.iter().map(|one| figure(one) as f64);
        Row::new(name, Unit::Megabytes, values).goal(MEMORY_GOAL)
    };
    vec![
        memory("idle, nobody connected", |one| one.gzip.memory.idle),
        memory("all connected, not yet scraped", |one| {
            one.gzip.memory.connected
        }),
        memory("after gzipped scrapes", |one| one.gzip.memory.afterwards),
        memory("after plain scrapes", |one| one.plain.memory.afterwards),
        memory("peak while all connect", |one| one.gzip.memory.storm),
        memory("peak of gzipped scrapes", |one| one.gzip.memory.scrapes),
        memory("peak of plain scrapes", |one| one.plain.memory.scrapes),
    ]
}

fn storm(figures: &[Figures]) -> Vec<Row> {
    vec![
        seconds("CPU until all have their key", figures, |one| {
            mean(one, |run| run.storm.cpu)
        })
        .goal(STORM_GOAL),
        seconds("wall until all have their key", figures, |one| {
            mean(one, |run| run.storm.wall)
        }),
    ]
}

fn ready(figures: &[Figures]) -> Vec<Row> {
    vec![
        seconds("CPU", figures, |one| mean(one, |run| run.ready.cpu)),
        seconds("wall", figures, |one| mean(one, |run| run.ready.wall)),
    ]
}

fn seconds<'f>(
    name: &'static str,
    figures: impl IntoIterator<Item = &'f Figures>,
    figure: impl Fn(&Figures) -> Duration,
) -> Row {
    let values = figures.into_iter().map(|one| figure(one).as_secs_f64());
    Row::new(name, Unit::Seconds, values)
}

/// Of the two runs, which are alike up to the first scrape.
fn mean(one: &Figures, figure: impl Fn(&Run) -> Duration) -> Duration {
    (figure(&one.gzip) + figure(&one.plain)) / 2
}

fn every_scrape(figures: &[Figures]) -> String {
    let mut text = "\n## CPU seconds of every scrape\n\n".to_owned();
    for one in figures {
        for (encoding, run) in [("gzipped", &one.gzip), ("plain", &one.plain)] {
            let scrapes = run.scrapes.iter();
            let times: Vec<_> = scrapes
                .map(|cost| format!("{:.3}", cost.cpu.as_secs_f64()))
                .collect();
            let _ = writeln!(text, "- {}, {encoding}: {}", one.kind, times.join(" "));
        }
    }
    text.push_str("\nWarm is the median of the later half.\n");
    text
}
