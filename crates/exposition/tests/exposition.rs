//! What is known of one text: counts, series, and where its fault is.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)] // A test may fail.

use std::cell::Cell;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use bytes::Bytes;
use prometheus_rsocket_exposition::{
    Exposition, Format, Limits, ParseError, ParseErrorKind, merge,
};

fn parse(text: &str) -> Result<Exposition, ParseError> {
    Exposition::parse(Bytes::copy_from_slice(text.as_bytes()))
}

fn parse_as(text: &str, format: Format) -> Result<Exposition, ParseError> {
    Exposition::parse_as(
        Bytes::copy_from_slice(text.as_bytes()),
        format,
        &Limits::NONE,
    )
}

fn series(text: &str) -> Vec<u64> {
    parse(text)
        .unwrap()
        .series(&BuildHasherDefault::<DefaultHasher>::new())
        .collect()
}

#[track_caller]
fn check_error(text: &str, expected: &str) {
    assert_eq!(parse(text).unwrap_err().to_string(), expected);
}

#[test]
fn samples_are_counted_and_timestamps_noticed() {
    let exposition = parse("# TYPE a counter\na 1\nb 2\n").unwrap();
    assert_eq!(
        (exposition.samples(), exposition.has_timestamps()),
        (2, false)
    );
    assert_eq!(exposition.text_len(), "# TYPE a counter\na 1\nb 2\n".len());
    assert!(parse("a 1\nb 2 3\n").unwrap().has_timestamps());
    assert_eq!(parse("").unwrap().samples(), 0);
}

#[test]
fn the_text_is_not_copied() {
    let text = Bytes::from("a 1\n".repeat(1_000));
    let exposition = Exposition::parse(text.clone()).unwrap();
    assert_eq!(exposition.text_len(), text.len());
    assert!(!text.is_unique());
}

#[test]
fn the_order_of_labels_and_empty_labels_do_not_change_a_series() {
    let hashes =
        series("a{x=\"1\",y=\"2\"} 1\na{y=\"2\",x=\"1\",} 2 3\na{z=\"\",x=\"1\" , y=\"2\"} 4\n");
    assert_eq!(hashes.len(), 3);
    assert!(hashes.iter().all(|hash| *hash == hashes[0]));
    assert_eq!(series("a 1\n"), series("a{} 1\n"));
}

#[test]
fn series_which_look_alike_are_told_apart() {
    let hashes = series(concat!(
        "a 1\nb 1\na{x=\"1\"} 1\na{y=\"1\"} 1\na{x=\"y\",y=\"x\"} 1\na{x=\"x\",y=\"y\"} 1\n",
        "a{x=\"1\",y=\"2\"} 1\na{x=\"2\",y=\"1\"} 1\na{xx=\"1\"} 1\na{x=\"x1\"} 1\nax 1\n",
    ));
    let mut unique = hashes.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), hashes.len());
}

#[test]
fn a_series_written_with_needless_escapes_is_the_same() {
    assert_eq!(series("a{x=\"\\d\"} 1\n"), series("a{x=\"\\\\d\"} 1\n"));
}

#[test]
fn errors_name_line_and_column() {
    check_error(
        "a 1\n\nb{x=\"1\",x=\"2\"} 1\n",
        "line 3, column 9: duplicate label name",
    );
    check_error("a", "line 1, column 2: missing value");
    check_error("a 1\nb 1e999", "line 2, column 3: invalid value");
    check_error(
        "a 1 # {} 1\n",
        "line 1, column 5: exemplar outside OpenMetrics",
    );
    check_error("# TYPE a b\n", "line 1, column 10: invalid metric type");
    check_error("a{x=\"ä\u{0}\"}", "line 1, column 8: NUL byte");
}

#[test]
fn a_fault_at_the_end_of_a_line_names_that_line() {
    check_error(
        "a 1\n# TYPE test_metric\ntest_metric 1\n",
        "line 2, column 19: invalid metric type",
    );
    check_error("# TYPE a", "line 1, column 9: invalid metric type");
    check_error(
        "# TYPE a\na 1\n# EOF\n",
        "line 1, column 9: invalid metric type",
    );
    check_error("a\nb 1\n", "line 1, column 2: missing value");
    check_error("a{\nb 1\n", "line 1, column 3: unterminated labels");
    check_error(
        "a{x=\"\nb 1\n",
        "line 1, column 6: unterminated label value",
    );
    check_error(
        "a{x=\"\\\nb 1\n",
        "line 1, column 7: unterminated label value",
    );
    check_error(
        "a{x\nb 1\n",
        "line 1, column 4: missing equals sign after label name",
    );
    check_error(
        "a{x=\nb 1\n",
        "line 1, column 5: missing quote before label value",
    );
    check_error(
        "# HELP \nb 1\n",
        "line 1, column 8: invalid metric name in metadata",
    );
    check_error("a 1 # {\n# EOF\n", "line 1, column 8: invalid exemplar");
    check_error(
        "a 1\nbad-metric{x=\"1\"} 1\n",
        "line 2, column 4: invalid metric name",
    );
    check_error(
        "a{bad-label=\"1\"} 1\n",
        "line 1, column 6: invalid label name",
    );
    check_error(
        "a 1\r\nb 2\r\n",
        "line 1, column 4: carriage return before the line feed",
    );
    check_error(
        "# TYPE a gauge\na 1 5 # {x=\"y\"} 1\nb 1 -5\n# EOF\n",
        "line 3, column 5: invalid timestamp",
    );
}

#[test]
fn what_is_no_exposition_at_all_is_called_by_its_name() {
    let json = "JSON instead of an exposition";
    let markup = "HTML or XML instead of an exposition";
    for (text, place, expected) in [
        (
            "{\"kind\":\"Status\",\"status\":\"Failure\",\"code\":404}",
            "line 1, column 1",
            json,
        ),
        ("\n {\n  \"a\\\"b\" : 1\n}\n", "line 2, column 2", json),
        ("{}", "line 1, column 1", json),
        ("[1]\n", "line 1, column 1", json),
        ("<!DOCTYPE html>\n", "line 1, column 1", markup),
        ("<?xml version=\"1.0\"?>", "line 1, column 1", markup),
    ] {
        check_error(text, &format!("{place}: {expected}"));
        for format in [Format::Text, Format::OpenMetrics] {
            let error = parse_as(text, format).unwrap_err();
            assert_eq!(error.kind().as_str(), expected);
        }
    }
}

#[test]
fn a_format_that_is_known_counts_more_than_the_texts_shape() {
    let served = |text: &str, format| {
        let parts = vec![Arc::new(parse_as(text, format).unwrap()).into()];
        let merged: Vec<u8> = merge(parts).into_chunks(1 << 10).flatten().collect();
        String::from_utf8(merged).unwrap()
    };
    let text = "# TYPE a counter\na{x=\"1\"} 21 1700000000000\n# EOF\n";
    assert_eq!(
        served(text, Format::Text),
        "# TYPE a counter\na{x=\"1\"} 21 1700000000000\n"
    );
    let text = "# TYPE a counter\na_total 1 1700000000\n# EOF\n";
    assert_eq!(
        served(text, Format::OpenMetrics),
        "# TYPE a_total counter\na_total 1 1700000000000\n"
    );
}

#[test]
fn openmetrics_which_does_not_end_with_eof_is_refused() {
    for (text, expected) in [
        (
            "# TYPE a counter\na_total 1 1700000000\n",
            Some("line 2, column 21"),
        ),
        ("", Some("line 1, column 1")),
        ("a 1\n# EOF\nb 1", Some("line 3, column 4")),
        ("a 1\n# EOF\n\n", Some("line 3, column 1")),
        ("a 1\n# EO", Some("line 2, column 5")),
        ("a 1\n# EOF", None),
        ("a 1\n# EOF\n", None),
        ("# EOF", None),
        ("a 1\n# EOF\nb 1\n# EOF\n", None),
    ] {
        let error = parse_as(text, Format::OpenMetrics).err();
        let place = expected.map(|place| format!("{place}: data does not end with # EOF"));
        assert_eq!(error.map(|error| error.to_string()), place, "{text}");
    }
}

#[test]
fn errors_in_openmetrics_name_the_line_of_the_text_as_it_came() {
    check_error(
        "# TYPE c counter\n# UNIT c s\nc_created 1\n# TYPE h histogram\nh_bucket{le=\"1\"} x\n# EOF",
        "line 5, column 18: invalid value",
    );
    check_error("a 1\n# EOF\nb{", "line 3, column 3: unterminated labels");
}

#[test]
fn invalid_utf8_is_located() {
    let error = Exposition::parse(Bytes::from_static(b"a 1\n# ab\xff\n")).unwrap_err();
    assert_eq!(error.to_string(), "line 2, column 5: invalid UTF-8");
    assert_eq!(
        (error.line(), error.column(), error.kind().as_str()),
        (2, 5, "invalid UTF-8")
    );
}

#[test]
fn a_hundred_thousand_labels_are_read_in_no_time() {
    let mut text = String::from("a{");
    for label in 0..100_000 {
        text.push_str(&format!("l{label}=\"\","));
    }
    assert_eq!(parse(&format!("{text}}} 1\n")).unwrap().samples(), 1);
    let error = parse(&format!("{text}l77=\"\"}} 1\n")).unwrap_err();
    assert_eq!(error.kind().as_str(), "duplicate label name");
}

#[test]
fn reading_stops_where_the_text_is_not_wanted_any_more() {
    let text = Bytes::from("a 1\n".repeat(10_000));
    let asked = Cell::new(0);
    let wanted = || {
        asked.set(asked.get() + 1);
        asked.get() <= 3
    };
    let read = Exposition::parse_while(text, None, &Limits::NONE, &wanted);
    let error = read.unwrap_err();
    assert_eq!(error.kind(), ParseErrorKind::NotWanted);
    assert_eq!((error.line(), asked.get()), (3001, 4));
}

#[test]
fn a_label_that_every_sample_has_with_one_value_is_found() {
    let common = |text: &str| {
        let text = Bytes::copy_from_slice(text.as_bytes());
        Exposition::parse(text).unwrap().common_label("instance")
    };
    for text in [
        "a{instance=\"web-1\"} 1\n",
        "a{x=\"1\",instance=\"web-1\"} 1\na { instance = \"web-1\" , x=\"2\" } 2\nb{instance=\"web-1\"} 1\n",
        "# TYPE h histogram\nh_bucket{le=\"+Inf\",instance=\"web-1\"} 1\nh_sum{instance=\"web-1\"} 1\n",
    ] {
        assert_eq!(common(text).as_deref(), Some("web-1"), "{text}");
    }
    for text in [
        "",
        "# TYPE a counter\n",
        "a 1\n",
        "a{x=\"instance\"} 1\n",
        "a{instance=\"\"} 1\n",
        "a{instance=\"web-1\"} 1\nb 1\n",
        "a{instance=\"web-1\"} 1\na{instance=\"web-2\"} 1\n",
        "instance{x=\"1\"} 1\n",
    ] {
        assert_eq!(common(text), None, "{text}");
    }
    let quoted = r#"a{instance="C:\\\\dir \"é\""} 1"#;
    let expected = r#"C:\\dir "é""#;
    assert_eq!(common(&format!("{quoted}\n")).as_deref(), Some(expected));
    // A backslash which starts no escape is one.
    assert_eq!(
        common("a{instance=\"C:\\dir\"} 1\n").as_deref(),
        Some("C:\\dir")
    );
}
