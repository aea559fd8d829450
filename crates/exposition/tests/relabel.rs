//! Labels added to samples, and families left out.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)] // A test may fail.

#[path = "../fuzz/check.rs"]
mod check;
#[path = "properties/texts.rs"]
mod texts;

use std::sync::Arc;

use prometheus_rsocket_exposition::{
    Encoding, Exposition, Format, Labels, Limits, ParseErrorKind, merge, merge_as,
};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use texts::text;

const ADDED: &[(&str, &str)] = &[
    ("job", "node"),
    ("x", "C:\\dir \"ä\"\n{},"),
    ("y", "2"),
    ("exported_x", "1"),
    ("w", "full"),
];

fn labels(pairs: &[(&str, &str)]) -> Labels {
    let mut labels = Labels::default();
    for (name, value) in pairs {
        labels.insert(name, value).unwrap();
    }
    labels
}

fn parse(text: &str) -> Exposition {
    Arc::unwrap_or_clone(check::parse(text.as_bytes()).unwrap())
}

fn served(part: Exposition) -> String {
    let text: Vec<u8> = merge(vec![Arc::new(part).into()])
        .into_chunks(1 << 16)
        .flatten()
        .collect();
    String::from_utf8(text).unwrap()
}

#[track_caller]
fn check(text: &str, pairs: &[(&str, &str)], honor_labels: bool, expected: &str) {
    let part = parse(text)
        .with_labels(&labels(pairs), honor_labels, &Limits::NONE)
        .unwrap();
    check::serve(vec![Arc::new(part.clone())]);
    assert_eq!(served(part), expected);
}

#[test]
fn labels_stand_before_a_samples_own() {
    check(
        "# HELP a C:\\q\n# TYPE a gauge\na 1\na{} 2\na {x=\"1\", } 3 4\na{x=\"}\"}5\n",
        &[("job", "n\"1\"")],
        false,
        "# HELP a C:\\\\q\n# TYPE a gauge\na{job=\"n\\\"1\\\"\"} 1\na{job=\"n\\\"1\\\"\"} 2\n\
         a{job=\"n\\\"1\\\"\",x=\"1\"} 3 4\na{job=\"n\\\"1\\\"\",x=\"}\"}5\n",
    );
}

#[test]
fn a_label_name_in_quotes_is_escaped_where_that_is_asked_for() {
    let added = labels(&[("team.name", "a")]);
    let part = parse("a{x=\"1\"} 1\nb 2\n");
    let part = part.with_labels(&added, false, &Limits::NONE).unwrap();
    check::serve(vec![Arc::new(part.clone())]);
    assert_eq!(
        served(part.clone()),
        "a{team_name=\"a\",x=\"1\"} 1\nb{team_name=\"a\"} 2\n"
    );
    let parts = vec![Arc::new(part).into()];
    let merged = merge_as(Encoding::unescaped(Format::Text), parts);
    let text: Vec<u8> = merged.into_chunks(100).flatten().collect();
    assert_eq!(
        String::from_utf8(text).unwrap(),
        "a{\"team.name\"=\"a\",x=\"1\"} 1\nb{\"team.name\"=\"a\"} 2\n"
    );
}

#[test]
fn without_honor_labels_a_samples_own_is_exported() {
    check(
        "a{job=\"own\",x=\"1\"} 1\na{job=\"\"} 2\na{exported_job=\"far\",job=\"own\"} 3\n",
        &[("job", "node")],
        false,
        "a{job=\"node\",exported_job=\"own\",x=\"1\"} 1\na{job=\"node\"} 2\n\
         a{job=\"node\",exported_job=\"far\",exported_exported_job=\"own\"} 3\n",
    );
}

#[test]
fn an_empty_label_is_none_whose_name_an_exported_label_takes() {
    check(
        "jobs_done{job=\"batch\",exported_job=\"\"} 1\n",
        &[("job", "j")],
        false,
        "jobs_done{job=\"j\",exported_job=\"batch\"} 1\n",
    );
}

#[test]
fn the_shorter_name_is_exported_first() {
    // `exported_x` is added, so both clash, and `x` takes the next name before `exported_x` does.
    check(
        "a{exported_x=\"far\",x=\"own\"} 1\n",
        &[("x", "1"), ("exported_x", "2")],
        false,
        "a{exported_x=\"2\",x=\"1\",exported_exported_exported_x=\"far\",exported_exported_x=\"own\"} 1\n",
    );
}

#[test]
fn samples_past_a_limit_with_their_labels_added_are_refused() {
    use ParseErrorKind::{LabelValueTooLong, NameTooLong, TooManyLabels};
    let limits = Limits {
        max_name_len: 13,
        max_label_value_len: 4,
        max_labels: 2,
        ..Limits::NONE
    };
    for (text, added, refused) in [
        ("a 1\n", &[("x", "1"), ("y", "2")][..], None),
        ("a{z=\"1\"} 1\n", &[("x", "1")], None),
        ("a{z=\"\"} 1\n", &[("x", "1"), ("y", "2")], None),
        (
            "a{z=\"1\"} 1\n",
            &[("x", "1"), ("y", "2")],
            Some(TooManyLabels),
        ),
        // Renamed, it is one more.
        ("a{x=\"1\",z=\"1\"} 1\n", &[("x", "1")], Some(TooManyLabels)),
        ("a{abcd=\"1\"} 1\n", &[("abcd", "2")], None),
        ("a{abcde=\"1\"} 1\n", &[("abcde", "2")], Some(NameTooLong)),
        ("a 1\n", &[("x", "1234")], None),
        ("a 1\n", &[("x", "12345")], Some(LabelValueTooLong)),
        ("a 1\n", &[("x", "12\n4")], Some(LabelValueTooLong)),
        ("a 1\n", &[("abcdefghijklmn", "1")], Some(NameTooLong)),
        ("# TYPE a gauge\n", &[("x", "12345")], None),
    ] {
        let part = parse(text).with_labels(&labels(added), false, &limits);
        assert_eq!(part.err().map(|error| error.kind()), refused, "{text}");
    }
}

#[test]
fn a_sample_past_a_limit_is_named_by_its_line() {
    let limits = Limits {
        max_labels: 1,
        ..Limits::NONE
    };
    let refused = |text| {
        let error = parse(text).with_labels(&labels(&[("x", "1")]), false, &limits);
        error.unwrap_err().to_string()
    };
    assert_eq!(
        refused("# TYPE a gauge\na 1\na{y=\"1\"} 1\n"),
        "line 3, column 1: too many labels"
    );
    // The line that is served is not in the text.
    assert_eq!(
        refused("b 1\na 1\na{y=\"1\" } 1 \n"),
        "line 2, column 1: too many labels"
    );
}

#[test]
fn with_honor_labels_a_samples_own_stays() {
    check(
        "a{job=\"own\"} 1\na{job=\"\"} 2\na{x=\"1\"} 3\n",
        &[("job", "node"), ("site", "1")],
        true,
        "a{site=\"1\",job=\"own\"} 1\na{site=\"1\",job=\"\"} 2\na{job=\"node\",site=\"1\",x=\"1\"} 3\n",
    );
}

#[test]
fn a_family_left_out_takes_all_its_samples_along() {
    let mut part = parse(
        "# TYPE took histogram\ntook_bucket{le=\"+Inf\"} 1\ntook_sum 1\ntook_count 1\n\
         # TYPE took_max gauge\ntook_max 3\nother 1 2\n",
    );
    part.retain_families(|name| name != "took");
    assert_eq!(part.samples(), 2);
    assert_eq!(
        served(part.clone()),
        "other 1 2\n# TYPE took_max gauge\ntook_max 3\n"
    );
    part.retain_families(|_| false);
    assert_eq!((part.samples(), served(part)), (0, String::new()));
}

/// The labels of a line, in which no value has a brace, comma, quote or `=` that is not escaped.
fn count_of(label: &str, line: &str) -> usize {
    line.matches(&format!("{{{label}=\"")).count() + line.matches(&format!(",{label}=\"")).count()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn samples_with_labels_added_are_served_and_read_again(
        text in text(),
        added in subsequence(ADDED, 0..=ADDED.len()),
        honor_labels in any::<bool>(),
    ) {
        let part = parse(&text);
        let more = part.with_labels(&labels(&added), honor_labels, &Limits::NONE).unwrap();
        prop_assert_eq!(more.samples(), part.samples());
        let names = |part: &Exposition| -> Vec<String> {
            let text = served(part.clone());
            let samples = text.lines().filter(|line| !line.starts_with('#'));
            samples.map(|line| line.split(['{', ' ', '\t']).next().unwrap().to_owned()).collect()
        };
        prop_assert_eq!(names(&more), names(&part));
        let lines = served(more.clone());
        for line in lines.lines().filter(|line| !line.starts_with('#')) {
            for (name, _) in &added {
                prop_assert_eq!(count_of(name, line), 1, "{}", line);
            }
        }
        check::serve(vec![Arc::new(more)]);
    }

    #[test]
    fn labels_of_new_names_can_be_taken_away_again(text in text(), name in select(&["job", "A"][..])) {
        let part = parse(&text);
        let label = format!("{name}=\"1\"");
        let more = part.with_labels(&labels(&[(name, "1")]), false, &Limits::NONE).unwrap();
        let less = served(more).replace(&format!("{{{label},"), "{").replace(&format!("{{{label}}}"), "{}");
        let hashes = |text: &str| {
            let mut series: Vec<u64> = parse(text).series(&foldless()).collect();
            series.sort_unstable();
            series
        };
        prop_assert_eq!(hashes(&less), hashes(&served(part)));
    }

    #[test]
    fn families_kept_are_served_with_exactly_their_samples(text in text(), seed in any::<u64>()) {
        let whole = parse(&text);
        let kept = |name: &str| name.bytes().fold(seed, |hash, byte| hash.rotate_left(7) ^ u64::from(byte)) % 2 == 0;
        let (mut one, mut other) = (whole.clone(), whole.clone());
        one.retain_families(kept);
        other.retain_families(|name| !kept(name));
        let mut halves: Vec<u64> = one.series(&foldless()).chain(other.series(&foldless())).collect();
        let mut all: Vec<u64> = whole.series(&foldless()).collect();
        halves.sort_unstable();
        all.sort_unstable();
        prop_assert_eq!(halves, all);
        prop_assert_eq!(one.samples() + other.samples(), whole.samples());
        check::serve(vec![Arc::new(one)]);
        check::serve(vec![Arc::new(other)]);
    }
}

fn foldless() -> std::hash::BuildHasherDefault<std::hash::DefaultHasher> {
    Default::default()
}
