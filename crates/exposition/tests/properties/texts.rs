//! Makes up texts in which families clash more often than not.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// Few names, and such as captured each other's samples.
const NAMES: &[&str] = &[
    "a",
    "a_count",
    "a_sum",
    "a_bucket",
    "a_count_count",
    "a_count_bucket",
    "a_sum_count",
    "a_bucket_sum",
    "a_total",
    "a_created",
    "a_info",
    "a_gcount",
    "a_gsum",
    "b",
    "b_count",
    "b_bucket",
    "c:d",
    "\"a.b\"",
    "\"a.b_count\"",
];
const KINDS: &[&str] = &["counter", "gauge", "histogram", "summary", "untyped"];
const LABELS: &[&str] = &[
    "x=\"1\"",
    "y=\"ä \\\\ \\\" \\n\"",
    "z=\"C:\\dir\"",
    "w=\"\"",
];
const BOUNDS: &[&str] = &[
    "le=\"0.5\"",
    "le=\"1\"",
    "le=\"NaN\"",
    "le=\"x\"",
    "le=\"\"",
];
const QUANTILES: &[&str] = &[
    "quantile=\"0.5\"",
    "quantile=\"NaN\"",
    "quantile=\"p99\"",
    "quantile=\"\"",
];
const VALUES: &[&str] = &[
    "1",
    "0.5",
    "+Inf",
    "NaN",
    "1e9",
    "17 1395066363000",
    "3  5 ",
    "-3",
    "-0",
    "-Inf",
];

fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => (select(NAMES), select(KINDS)).prop_map(|(name, kind)| format!("# TYPE {name} {kind}\n")),
        1 => (select(NAMES), "[a-z\\\\\" ]{0,8}").prop_map(|(name, text)| format!("# HELP {name} {text}\n")),
        8 => sample(),
        1 => select(&["\n", "# comment\n", "#HELP a\n", " \t\n"][..]).prop_map(str::to_owned),
    ]
}

fn sample() -> impl Strategy<Value = String> {
    let some = proptest::sample::subsequence(LABELS, 0..=LABELS.len());
    let special = |labels| proptest::option::of(select(labels));
    let labels = (some, special(BOUNDS), special(QUANTILES))
        .prop_map(|(some, bound, quantile)| {
            some.into_iter()
                .chain(bound)
                .chain(quantile)
                .collect::<Vec<_>>()
        })
        .prop_shuffle();
    let blank = || select(&["", "", "", " ", "\t"][..]);
    let separator = select(&[",", ", ", " ,\t", " "][..]);
    let end = select(&["", ",", " , "][..]);
    (
        select(NAMES),
        labels,
        separator,
        end,
        select(VALUES),
        blank(),
        blank(),
    )
        .prop_map(|(name, labels, separator, end, value, before, between)| {
            let end = if labels.is_empty() { "" } else { end };
            let name_in_braces = name.starts_with('"').then_some(name);
            let labels: Vec<&str> = name_in_braces.into_iter().chain(labels).collect();
            // A quoted name needs its comma.
            let (name, separator) = match name_in_braces {
                Some(_) => ("", ","),
                None => (name, separator),
            };
            let labels = labels.join(separator);
            format!("{before}{name}{between}{{{labels}{end}}} {value}\n")
        })
}

/// A text of format 0.0.4 which is accepted.
pub(crate) fn text() -> impl Strategy<Value = String> {
    vec(line(), 0..25).prop_map(|lines| lines.concat())
}
