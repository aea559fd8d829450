//! What becomes of OpenMetrics in text format 0.0.4.

#![allow(clippy::unwrap_used)] // A test may fail.

use std::sync::Arc;

use bytes::Bytes;
use prometheus_rsocket_exposition::{Exposition, ParseErrorKind, merge};

#[track_caller]
fn check(text: &str, expected: &str) {
    let exposition = Exposition::parse(Bytes::from(format!("{text}# EOF\n"))).unwrap();
    let served: Vec<u8> = merge(vec![Arc::new(exposition).into()])
        .into_chunks(1 << 16)
        .flatten()
        .collect();
    assert_eq!(String::from_utf8(served).unwrap(), expected);
}

#[test]
fn a_counter_is_named_like_its_samples_and_created_is_a_gauge_of_its_own() {
    check(
        "# TYPE a counter\n# UNIT a s\n# HELP a text\na_total{x=\"1\"} 1\na_created{x=\"1\"} 1.5e9\n",
        concat!(
            "# HELP a_created text\n# TYPE a_created gauge\na_created{x=\"1\"} 1.5e9\n",
            "# HELP a_total text\n# TYPE a_total counter\na_total{x=\"1\"} 1\n",
        ),
    );
}

#[test]
fn metadata_after_the_samples_counts_as_well() {
    check(
        "a_created 5\na_total 1\n# HELP a text\n# TYPE a counter\n",
        concat!(
            "# HELP a_created text\n# TYPE a_created gauge\na_created 5\n",
            "# HELP a_total text\n# TYPE a_total counter\na_total 1\n",
        ),
    );
}

#[test]
fn a_counter_which_has_the_suffix_keeps_its_name() {
    check(
        "# TYPE a_total counter\na_total 1\n",
        "# TYPE a_total counter\na_total 1\n",
    );
}

#[test]
fn info_and_stateset_become_gauges() {
    check(
        "# TYPE b info\nb_info{v=\"1\"} 1\n# TYPE s stateset\ns{s=\"on\"} 1\n",
        "# TYPE b_info gauge\nb_info{v=\"1\"} 1\n# TYPE s gauge\ns{s=\"on\"} 1\n",
    );
}

#[test]
fn unknown_becomes_untyped() {
    check("# TYPE a unknown\na 1\n", "# TYPE a untyped\na 1\n");
}

#[test]
fn a_gaugehistogram_becomes_a_histogram_and_gauges() {
    check(
        "# HELP g text\n# TYPE g gaugehistogram\ng_bucket{le=\"+Inf\"} 2\ng_gcount 2\ng_gsum -3\n",
        concat!(
            "# HELP g text\n# TYPE g histogram\ng_bucket{le=\"+Inf\"} 2\n",
            "# HELP g_gcount text\n# TYPE g_gcount gauge\ng_gcount 2\n",
            "# HELP g_gsum text\n# TYPE g_gsum gauge\ng_gsum -3\n",
        ),
    );
}

#[test]
fn created_of_histograms_and_summaries_become_gauges_and_a_gauge_called_so_stays() {
    check(
        concat!(
            "# TYPE h histogram\nh_count 1\nh_created 5\n# TYPE s summary\ns_created 6\ns_count 1\n",
            "# TYPE t gauge\nt_created 1\n# TYPE u counter\n# TYPE u_created untyped\nu_created 2\n",
        ),
        concat!(
            "# TYPE h histogram\nh_count 1\n# TYPE h_created gauge\nh_created 5\n",
            "# TYPE s summary\ns_count 1\n# TYPE s_created gauge\ns_created 6\n",
            "# TYPE t gauge\nt_created 1\n# TYPE u_created untyped\nu_created 2\n# TYPE u_total counter\n",
        ),
    );
}

#[test]
fn seconds_become_milliseconds_and_exemplars_are_left_out() {
    check(
        concat!(
            "a{x=\"1\"} 1 1520879607.789 # {trace_id=\"a}b\\\"\"} 0.5 1\n",
            "a{x=\"2\"} 1 # {} NaN\na{x=\"3\"} 1 1e9\na{x=\"4\"} 1 0.0009\n",
        ),
        "a{x=\"1\"} 1 1520879607789\na{x=\"2\"} 1\na{x=\"3\"} 1 1000000000000\na{x=\"4\"} 1 0\n",
    );
}

#[test]
fn an_escaped_quote_in_help_needs_no_escape() {
    check(
        "# HELP a a \\\"b\\\" \\\\ \\n \\\\\\\" C:\\d\na 1\n",
        "# HELP a a \"b\" \\\\ \\n \\\\\" C:\\\\d\na 1\n",
    );
}

#[test]
fn a_line_which_only_looks_like_eof_makes_no_openmetrics() {
    for line in ["# EOF ", "#EOF", " # EOF", "# EOFX", "x# EOF"] {
        let text = format!("a 1 # {{}} 1\n{line}\n");
        let error = Exposition::parse(Bytes::from(text)).unwrap_err();
        assert_eq!(error.kind(), ParseErrorKind::UnexpectedExemplar, "{line}");
    }
}
