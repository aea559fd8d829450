//! Series which stand in more than one part.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)] // A test may fail.

use std::sync::Arc;

use bytes::Bytes;
use prometheus_rsocket_exposition::{
    Encoding, EqualSeries, Exposition, Merged, Part, merge, merge_in_front,
};

fn parts(texts: &[&str]) -> Vec<Part> {
    let parse = |text: &&str| Exposition::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap();
    texts
        .iter()
        .map(parse)
        .map(|text| Arc::new(text).into())
        .collect()
}

fn merged(texts: &[&str]) -> Merged {
    merge(parts(texts))
}

fn found(merged: &Merged, start: usize, budget: usize) -> EqualSeries {
    merged.equal_series(0..usize::MAX, start, budget)
}

#[test]
fn equal_series_are_counted_once_and_their_parts_named() {
    let merged = merged(&[
        "a{x=\"1\",y=\"2\"} 1\nb 1\nown 1\n",
        "a{x=\"2\"} 1\n",
        "a{y=\"2\",x=\"1\"} 2\nb{x=\"\"} 2\n",
        "b 3\nb 4\n",
    ]);
    let equal = found(&merged, 0, 100);
    assert_eq!(equal.series, 2);
    assert_eq!(equal.pairs, [(0, 2), (0, 3)]);
    assert_eq!(equal.samples, 7);
}

#[test]
fn a_series_twice_in_one_part_is_not_counted() {
    let equal = found(&merged(&["a 1\na 2\n", "a{x=\"1\"} 1\n"]), 0, 100);
    assert_eq!((equal.series, equal.pairs), (0, vec![]));
}

#[test]
fn families_of_one_part_cost_nothing() {
    let equal = found(&merged(&["a 1\nb 1\n", "c 1\n", "d 1\n"]), 0, 100);
    assert_eq!(equal.samples, 0);
    assert_eq!(found(&merged(&[]), 5, 100).samples, 0);
}

#[test]
fn only_the_parts_asked_for_are_looked_at() {
    let texts = ["a 1\n", "b 1\n", "a 2\nb 2\n"];
    assert_eq!(merged(&texts).equal_series(0..2, 0, 100).series, 0);
    assert_eq!(merged(&texts).equal_series(1..3, 0, 100).pairs, [(1, 2)]);
    let in_front = merge_in_front(Encoding::TEXT, parts(&texts[..1]), parts(&texts[1..]));
    assert_eq!(found(&in_front, 0, 100).pairs, [(1, 2), (0, 1)]);
    assert_eq!(in_front.equal_series(0..2, 0, 100).pairs, [(0, 1)]);
}

#[test]
fn one_search_after_the_other_goes_round_all_families() {
    let text = (10..30).map(|family| format!("f{family}{{x=\"1\"}} 1\nf{family}{{x=\"2\"}} 1\n"));
    let text: String = text.collect();
    let merged = merged(&[&text, &text]);
    let (mut start, mut series) = (7, 0);
    for _ in 0..10 {
        let equal = found(&merged, start, 8);
        assert_eq!((equal.samples, equal.series), (8, 4));
        series += equal.series;
        start = equal.next;
    }
    assert_eq!((start % 20, series), (7, 40));
    assert_eq!(found(&merged, 0, 1_000).series, 40);
}

#[test]
fn of_a_family_past_the_budget_each_part_is_looked_at() {
    let text: String = (0..100)
        .map(|series| format!("a{{x=\"{series}\"}} 1\n"))
        .collect();
    let texts: Vec<String> = (0..20)
        .map(|part| match part % 10 {
            3 => text.clone(),
            _ => format!("a{{y=\"{part}\"}} 1\n").repeat(100),
        })
        .collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let equal = found(&merged(&texts), 0, 40);
    assert_eq!(equal.samples, 40);
    assert_eq!((equal.pairs, equal.series), (vec![(3, 13)], 2));
    // One of each at least.
    assert_eq!(found(&merged(&texts), 0, 1).samples, 20);
}

#[test]
fn pairs_are_bounded() {
    let texts = vec!["a 1\n"; 100];
    let equal = found(&merged(&texts), 0, 1_000);
    assert_eq!((equal.series, equal.pairs.len()), (1, 16));
}
