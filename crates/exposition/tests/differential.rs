//! Compares verdicts with those of Prometheus's own parsers: the scrape parser and `expfmt`, each
//! as of Prometheus 2.42 and of a current Prometheus 3.
//!
//! - What the scrape parser refuses, we refuse, unless the corpus says `lenient` and why.
//! - What we refuse, it refuses, unless the corpus says `stricter` and why.
//! - What we accept is, once merged, accepted by all four, with the samples which the scrape parser
//!   reads from the text as it came.

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
#[path = "properties/texts.rs"]
mod texts;

use std::collections::HashSet;
use std::io::Write as _;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use corpus::Case;
use oracle::{Oracle, Verdict};
use prometheus_rsocket_exposition::{Exposition, Merged, Part, merge};
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;

const VERSIONS: [&str; 2] = ["prometheus-2.42", "prometheus-3"];

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
    let merged: Vec<Option<Served>> = cases.iter().map(Served::of).collect();
    let verdicts: Vec<(Vec<Verdict>, Vec<Verdict>)> = oracles
        .iter()
        .map(|oracle| ask(oracle, &cases, &merged))
        .collect();
    let mut faults = Vec::new();
    for (oracle, (raw, served)) in oracles.iter().zip(&verdicts) {
        let (mut raw, mut served) = (raw.iter(), served.iter());
        for (case, merged) in cases.iter().zip(&merged) {
            let raw: Vec<&Verdict> = raw.by_ref().take(case.texts.len()).collect();
            let may_differ = oracle.name == "prometheus-3" && case.differs.is_some();
            let result = match merged {
                Some(merged) => check_served(merged, &raw, served.next().unwrap(), may_differ),
                None => Ok(()),
            };
            if let Err(fault) = result {
                faults.push(format!("{}: {}: {fault}", oracle.name, case.name));
            }
        }
    }
    faults.extend(check_marks(&cases, &merged, &verdicts));
    assert!(
        faults.is_empty(),
        "{} faults:\n{}",
        faults.len(),
        faults.join("\n")
    );
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
    let merged: Vec<Vec<u8>> = sets
        .iter()
        .map(|parts| text(merge(parts.clone())))
        .collect();
    let alone: Vec<Vec<u8>> = sets
        .iter()
        .flatten()
        .map(|part| text(merge(vec![part.clone()])))
        .collect();
    for oracle in oracles {
        let ask = |texts: &[Vec<u8>]| {
            let texts: Vec<_> = texts.iter().map(|text| (text.as_slice(), false)).collect();
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
        let verdicts = ask(&alone);
        let mut alone = verdicts.iter();
        for ((verdict, text), parts) in ask(&merged).iter().zip(&merged).zip(&sets) {
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
}

impl Served {
    fn of(case: &Case) -> Option<Self> {
        let parts = case
            .texts
            .iter()
            .map(|text| parse(text).map(|part| Arc::new(part).into()));
        let merged = merge(parts.collect::<Result<_, _>>().ok()?);
        Some(Self { text: text(merged) })
    }
}

fn parse(text: &[u8]) -> Result<Exposition, prometheus_rsocket_exposition::ParseError> {
    Exposition::parse(Bytes::copy_from_slice(text))
}

fn text(merged: Merged) -> Vec<u8> {
    merged.into_chunks(4_096).flatten().collect()
}

/// Verdicts on every text as it came, and on what is served of them.
fn ask(oracle: &Oracle, cases: &[Case], served: &[Option<Served>]) -> (Vec<Verdict>, Vec<Verdict>) {
    let raw: Vec<(&[u8], bool)> = cases
        .iter()
        .flat_map(|case| {
            case.texts
                .iter()
                .map(|text| (text.as_slice(), case.is_openmetrics()))
        })
        .collect();
    let served: Vec<(&[u8], bool)> = served
        .iter()
        .flatten()
        .map(|served| (served.text.as_slice(), false))
        .collect();
    (oracle.ask(&raw), oracle.ask(&served))
}

fn check_served(
    served: &Served,
    raw: &[&Verdict],
    verdict: &Verdict,
    may_differ: bool,
) -> Result<(), String> {
    for (parser, reading) in [("scrape", &verdict.scrape), ("expfmt", &verdict.expfmt)] {
        if let Some(error) = &reading.error {
            let text = String::from_utf8_lossy(&served.text);
            return Err(format!("{parser} refuses what is served: {error}\n{text}"));
        }
    }
    let mut after = verdict.scrape.samples.clone();
    after.sort();
    // To `expfmt`, a bucket is of a family of its own if there is one of its name: it does not spell its bound anew.
    let spelled: HashSet<String> = after.iter().map(|sample| respelled(sample)).collect();
    for sample in &verdict.expfmt.samples {
        if !spelled.contains(&respelled(sample)) {
            return Err(format!("expfmt reads {sample}, the scrape parser does not"));
        }
    }
    let mut before: Vec<String> = raw
        .iter()
        .flat_map(|raw| raw.scrape.samples.clone())
        .collect();
    before.sort();
    let refused = raw.iter().any(|raw| raw.scrape.error.is_some());
    if may_differ && before == after {
        return Err("`differs` is not needed".to_owned());
    }
    if refused || may_differ || before == after {
        return Ok(());
    }
    Err(format!(
        "samples differ:\n  before {before:?}\n  after  {after:?}"
    ))
}

/// A sample, whether Prometheus 3 spelled its bounds anew or not.
fn respelled(sample: &str) -> String {
    sample.replace(".0\"", "\"")
}

/// Each mark must be there where it is needed, and only there.
fn check_marks(
    cases: &[Case],
    served: &[Option<Served>],
    verdicts: &[(Vec<Verdict>, Vec<Verdict>)],
) -> Vec<String> {
    let mut faults = Vec::new();
    let mut from = 0;
    for (case, served) in cases.iter().zip(served) {
        let to = from + case.texts.len();
        let errors: Vec<&str> = verdicts
            .iter()
            .flat_map(|(raw, _)| &raw[from..to])
            .filter_map(|verdict| verdict.scrape.error.as_deref())
            .collect();
        from = to;
        let accepted = served.is_some();
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
