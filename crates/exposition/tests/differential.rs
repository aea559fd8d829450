//! Compares verdicts with those of Prometheus's own parsers: the scrape parser and `expfmt`, each
//! as of Prometheus 2.42 and of a current Prometheus 3.
//!
//! - What the scrape parser refuses, we refuse, unless the corpus says `lenient` and why.
//! - What we refuse, it refuses, unless the corpus says `stricter` and why.
//! - What we accept is, once merged, accepted by all four, with the samples which the scrape parser
//!   reads from the text as it came: in each format that is written, exemplars included where it has them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)] // A test may fail.

#[path = "differential/corpus.rs"]
mod corpus;
#[path = "differential/oracle.rs"]
mod oracle;
#[path = "differential/published.rs"]
mod published;
#[path = "properties/texts.rs"]
mod texts;

use std::collections::{BTreeSet, HashSet};
use std::io::Write as _;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use corpus::Case;
use oracle::{Oracle, Reading, Verdict};
use prometheus_rsocket_exposition::{
    Encoding, Escaping, Exposition, Format, Merged, Part, merge, merge_as,
};
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;

const VERSIONS: [&str; 2] = ["prometheus-2.42", "prometheus-3"];
/// What is written, and whether Prometheus 2 reads it.
const ENCODINGS: [(Encoding, bool); 6] = [
    (Encoding::TEXT, true),
    (encoding(Format::OpenMetrics, Escaping::Underscores), true),
    (encoding(Format::OpenMetrics, Escaping::Values), true),
    (encoding(Format::Text, Escaping::Dots), true),
    (encoding(Format::Text, Escaping::AllowUtf8), false),
    (encoding(Format::OpenMetrics, Escaping::AllowUtf8), false),
];

/// Valid texts that are refused: one with a NUL, as everywhere; one with a time that no `int64` of milliseconds holds.
const STRICTER: [&str; 2] = ["null_byte", "timestamps"];
/// An invalid text in which Prometheus 3 carries the type of one family over to the next.
const CARRIED_OVER: &str = "bad_grouping_or_ordering_3";

const fn encoding(format: Format, escaping: Escaping) -> Encoding {
    Encoding { format, escaping }
}

#[test]
fn every_case_has_the_verdict_which_the_corpus_gives_it() {
    let mut faults = Vec::new();
    for case in corpus::read() {
        let result = case
            .texts
            .iter()
            .map(|text| parse(text))
            .find_map(Result::err);
        let kind = result.map(|error| error.kind().as_str().to_owned());
        if kind != case.rejected {
            faults.push(format!(
                "{}: {result:?}, corpus says {:?}",
                case.name, case.rejected
            ));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn prometheus_reads_what_we_accept_and_nothing_we_refuse() {
    let Some(oracles) = oracles() else {
        return;
    };
    let cases = corpus::read();
    let raw: Vec<Vec<Verdict>> = oracles
        .iter()
        .map(|oracle| ask_raw(oracle, &cases))
        .collect();
    let mut faults = check_marks(&cases, &raw);
    for (oracle, raw) in oracles.iter().zip(&raw) {
        for (encoding, by_prometheus_2) in ENCODINGS {
            if by_prometheus_2 || oracle.name == "prometheus-3" {
                faults.extend(check_encoding(oracle, encoding, &cases, raw));
            }
        }
    }
    assert!(
        faults.is_empty(),
        "{} faults:\n{}",
        faults.len(),
        faults.join("\n")
    );
}

fn check_encoding(
    oracle: &Oracle,
    encoding: Encoding,
    cases: &[Case],
    raw: &[Verdict],
) -> Vec<String> {
    let served: Vec<Option<Served>> = cases
        .iter()
        .map(|case| Served::of(case, encoding))
        .collect();
    let openmetrics = encoding.format == Format::OpenMetrics;
    let texts: Vec<_> = served
        .iter()
        .flatten()
        .map(|served| (served.text.as_slice(), openmetrics))
        .collect();
    let verdicts = oracle.ask(&texts);
    let (mut raw, mut verdicts) = (raw.iter(), verdicts.iter());
    let mut faults = Vec::new();
    for (case, served) in cases.iter().zip(&served) {
        let raw: Vec<&Verdict> = raw.by_ref().take(case.texts.len()).collect();
        let may_differ = oracle.name == "prometheus-3" && case.differs.is_some();
        let Some(served) = served else { continue };
        if openmetrics && case.rounded.is_some() {
            let error = &verdicts.next().unwrap().scrape.error;
            faults.extend(error.clone());
            continue;
        }
        let verdict = verdicts.next().unwrap();
        let declared = match case.retyped {
            Some(_) => Ok(()),
            None => check_declared(served, &raw, verdict),
        };
        let checked = check_served(served, &raw, verdict, may_differ);
        for fault in [checked, declared].into_iter().filter_map(Result::err) {
            faults.push(format!(
                "{}: {encoding:?}: {}: {fault}",
                oracle.name, case.name
            ));
        }
    }
    faults
}

#[test]
fn prometheus_reads_every_sample_of_whatever_clashing_applications_are_merged_to() {
    let Some(oracles) = oracles() else { return };
    let mut runner = TestRunner::deterministic();
    let applications = proptest::collection::vec(texts::text(), 1..5);
    let sets: Vec<Vec<Part>> = (0..1_000)
        .map(|_| {
            let texts = applications.new_tree(&mut runner).unwrap().current();
            let parse = |text: &String| Arc::new(parse(text.as_bytes()).unwrap()).into();
            texts.iter().map(parse).collect()
        })
        .collect();
    let merged_as = |format: Format| -> Vec<Vec<u8>> {
        let encoding = encoding(format, Escaping::Underscores);
        let merged = sets
            .iter()
            .map(|parts| text(merge_as(encoding, parts.clone())));
        merged.collect()
    };
    let merged = merged_as(Format::Text);
    let openmetrics = merged_as(Format::OpenMetrics);
    let alone: Vec<Vec<u8>> = sets
        .iter()
        .flatten()
        .map(|part| text(merge(vec![part.clone()])))
        .collect();
    for oracle in oracles {
        let ask = |texts: &[Vec<u8>], openmetrics: bool| {
            let texts: Vec<_> = texts
                .iter()
                .map(|text| (text.as_slice(), openmetrics))
                .collect();
            oracle.ask(&texts)
        };
        let samples = |verdict: &Verdict| -> Vec<String> {
            verdict
                .scrape
                .samples
                .iter()
                .map(|sample| respelled(sample))
                .collect()
        };
        let verdicts = ask(&alone, false);
        let mut alone = verdicts.iter();
        let merged_verdicts = ask(&merged, false);
        for ((verdict, by_text), text) in ask(&openmetrics, true)
            .iter()
            .zip(&merged_verdicts)
            .zip(&openmetrics)
        {
            let text = String::from_utf8_lossy(text);
            assert_eq!(verdict.scrape.error, None, "{} of\n{text}", oracle.name);
            let (mut one, mut other) = (samples(verdict), samples(by_text));
            one.sort();
            other.sort();
            assert_eq!(one, other, "{} of\n{text}", oracle.name);
        }
        for ((verdict, text), parts) in merged_verdicts.iter().zip(&merged).zip(&sets) {
            let text = String::from_utf8_lossy(text);
            for reading in [&verdict.scrape, &verdict.expfmt] {
                assert_eq!(reading.error, None, "{} of\n{text}", oracle.name);
            }
            let mut before: Vec<String> =
                alone.by_ref().take(parts.len()).flat_map(samples).collect();
            let mut after = samples(verdict);
            before.sort();
            after.sort();
            assert_eq!(before, after, "{} of\n{text}", oracle.name);
        }
    }
}

#[test]
fn the_texts_that_the_openmetrics_project_publishes_are_read_as_prometheus_reads_them() {
    let Some(oracles) = oracles() else { return };
    let published = published::read();
    assert!(published.len() > 200, "{} texts", published.len());
    let refused = published.iter().filter(|one| one.is_valid);
    let refused = refused.filter(|one| parse(&one.case.texts[0]).is_err());
    let refused: Vec<&str> = refused.map(|one| one.case.name.as_str()).collect();
    assert_eq!(refused, STRICTER);
    let cases = published.into_iter().map(|one| Case {
        retyped: (!one.is_valid).then(|| "its samples may not fit it".to_owned()),
        ..one.case
    });
    let cases: Vec<Case> = cases.filter(|case| case.name != CARRIED_OVER).collect();
    let mut faults = Vec::new();
    for oracle in oracles {
        let raw = ask_raw(oracle, &cases);
        for (encoding, by_prometheus_2) in ENCODINGS {
            if by_prometheus_2 || oracle.name == "prometheus-3" {
                faults.extend(check_encoding(oracle, encoding, &cases, &raw));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The parsers to ask; none, and a visible word of it, without Go. Built once for all tests.
fn oracles() -> Option<&'static [Oracle]> {
    static ORACLES: LazyLock<Option<Vec<Oracle>>> =
        LazyLock::new(|| VERSIONS.into_iter().map(Oracle::build).collect());
    if ORACLES.is_none() {
        let required = std::env::var_os("PROXY_TEST_REQUIRE_ALL").is_some_and(|value| value == "1");
        assert!(!required, "go is absent, and PROXY_TEST_REQUIRE_ALL=1");
        // Past the capture of test output, which would hide it.
        let word = "SKIPPED: differential test against Prometheus's parsers, as go is absent\n";
        let _ = std::io::stderr().write_all(word.as_bytes());
    }
    ORACLES.as_deref()
}

/// What is served for a case.
struct Served {
    text: Vec<u8>,
    encoding: Encoding,
    /// What the first text was.
    is_of: Format,
    /// Whether some names are escaped.
    renamed: bool,
}

impl Served {
    fn of(case: &Case, encoding: Encoding) -> Option<Self> {
        let parts = case
            .texts
            .iter()
            .map(|text| parse(text).map(|part| Arc::new(part).into()));
        let parts: Vec<Part> = parts.collect::<Result<_, _>>().ok()?;
        let is_of = parts.first()?.exposition.format();
        let unescaped = Encoding {
            escaping: Escaping::AllowUtf8,
            ..encoding
        };
        let as_it_came = text(merge_as(unescaped, parts.clone()));
        let text = text(merge_as(encoding, parts));
        Some(Self {
            renamed: text != as_it_came,
            text,
            encoding,
            is_of,
        })
    }
}

fn parse(text: &[u8]) -> Result<Exposition, prometheus_rsocket_exposition::ParseError> {
    Exposition::parse(Bytes::copy_from_slice(text))
}

fn text(merged: Merged) -> Vec<u8> {
    merged.into_chunks(4_096).flatten().collect()
}

/// Verdicts on every text as it came.
fn ask_raw(oracle: &Oracle, cases: &[Case]) -> Vec<Verdict> {
    let raw: Vec<(&[u8], bool)> = cases
        .iter()
        .flat_map(|case| {
            case.texts
                .iter()
                .map(|text| (text.as_slice(), corpus::is_openmetrics(text)))
        })
        .collect();
    oracle.ask(&raw)
}

fn check_served(
    served: &Served,
    raw: &[&Verdict],
    verdict: &Verdict,
    may_differ: bool,
) -> Result<(), String> {
    let mut readings = vec![("scrape", &verdict.scrape)];
    if served.encoding.format == Format::Text {
        readings.push(("expfmt", &verdict.expfmt));
    }
    for (parser, reading) in readings {
        if let Some(error) = &reading.error {
            let text = String::from_utf8_lossy(&served.text);
            return Err(format!("{parser} refuses what is served: {error}\n{text}"));
        }
    }
    let mut after = verdict.scrape.samples.clone();
    after.sort();
    // To `expfmt`, a bucket is of a family of its own if there is one of its name: it does not spell its bound anew.
    let spelled: HashSet<String> = after.iter().map(|sample| respelled(sample)).collect();
    let by_expfmt = match served.encoding.format {
        Format::Text => verdict.expfmt.samples.as_slice(),
        Format::OpenMetrics => &[],
    };
    for sample in by_expfmt {
        if !spelled.contains(&respelled(sample)) {
            return Err(format!("expfmt reads {sample}, the scrape parser does not"));
        }
    }
    let mut before: Vec<String> = raw
        .iter()
        .flat_map(|raw| raw.scrape.samples.clone())
        .collect();
    for sample in &mut before {
        let has_none = match served.encoding {
            Encoding {
                format: Format::Text,
                ..
            } => true,
            Encoding {
                escaping: Escaping::AllowUtf8,
                ..
            } => false,
            // Prometheus 2 may be the one that asks.
            _ => !sample.contains("_total{") && !sample.contains("_bucket{"),
        };
        let end = sample.find("\t# ").filter(|_| has_none);
        sample.truncate(end.unwrap_or(sample.len()));
    }
    before.sort();
    let refused = raw.iter().any(|raw| raw.scrape.error.is_some());
    if may_differ && before == after {
        return Err("`differs` is not needed".to_owned());
    }
    if refused || may_differ || before == after {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&served.text);
    if served.renamed && before.len() == after.len() {
        return Ok(());
    }
    Err(format!(
        "samples differ:\n  before {before:?}\n  after  {after:?}\n{text}"
    ))
}

/// In the format in which it came, a text declares what it declared, but what its samples do not fit.
fn check_declared(served: &Served, raw: &[&Verdict], verdict: &Verdict) -> Result<(), String> {
    let [raw] = raw else { return Ok(()) };
    if served.is_of != served.encoding.format || served.renamed || raw.scrape.error.is_some() {
        return Ok(());
    }
    let (before, after) = (declared(&raw.scrape), declared(&verdict.scrape));
    if before == after {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&served.text);
    Err(format!(
        "types, units or start times differ:\n  before {before:?}\n  after  {after:?}\n{text}"
    ))
}

/// Types and units that say something, and start times.
fn declared(reading: &Reading) -> BTreeSet<&str> {
    let metadata = reading.metadata.iter().map(String::as_str);
    metadata
        .filter(|line| !line.ends_with(" unknown") && !line.ends_with(' '))
        .collect()
}

/// A sample, whether Prometheus 3 spelled its bounds anew or not.
fn respelled(sample: &str) -> String {
    sample.replace(".0\"", "\"")
}

/// Each mark must be there where it is needed, and only there.
fn check_marks(cases: &[Case], verdicts: &[Vec<Verdict>]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut from = 0;
    for case in cases {
        let to = from + case.texts.len();
        let errors: Vec<&str> = verdicts
            .iter()
            .flat_map(|raw| &raw[from..to])
            .filter_map(|verdict| verdict.scrape.error.as_deref())
            .collect();
        from = to;
        let accepted = case.texts.iter().all(|text| parse(text).is_ok());
        if (accepted && !errors.is_empty()) != case.lenient.is_some() {
            faults.push(format!(
                "{}: `lenient` should say otherwise: {errors:?}",
                case.name
            ));
        }
        if (!accepted && errors.len() < verdicts.len()) != case.stricter.is_some() {
            faults.push(format!(
                "{}: `stricter` should say otherwise: {errors:?}",
                case.name
            ));
        }
    }
    faults
}
