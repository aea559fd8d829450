//! What becomes of OpenMetrics in text format 0.0.4, and of both in OpenMetrics.

#![allow(clippy::unwrap_used)] // A test may fail.

use std::sync::Arc;

use bytes::Bytes;
use prometheus_rsocket_exposition::{
    Encoding, Escaping, Exposition, Format, Labels, Limits, ParseErrorKind, Part, merge, merge_as,
};

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

fn read(text: &str) -> Part {
    Arc::new(Exposition::parse(Bytes::from(text.to_owned())).unwrap()).into()
}

fn written(encoding: Encoding, texts: &[&str]) -> String {
    let merged = merge_as(encoding, texts.iter().copied().map(read).collect());
    String::from_utf8(merged.into_chunks(7).flatten().collect()).unwrap()
}

const OPENMETRICS: Encoding = Encoding {
    format: Format::OpenMetrics,
    escaping: Escaping::AllowUtf8,
};

/// Texts of OpenMetrics, written in the order and form in which they are served.
const WHOLE: [&str; 7] = [
    "# HELP a_seconds Text with \\\"quotes\\\" and \\\\ and \\n\n# TYPE a_seconds counter\n\
     # UNIT a_seconds seconds\na_seconds_total{x=\"1\"} 1.0 1520879607.789 # {t=\"a}b\"} 0.5 1520879607.7\n\
     a_seconds_created{x=\"1\"} 1520430000.123\n",
    "# TYPE b gaugehistogram\nb_bucket{le=\"1.0\"} 1\nb_bucket{le=\"+Inf\"} 2\nb_gcount 2\nb_gsum 3\n",
    "# TYPE c histogram\nc_bucket{le=\"1.0\"} 1 # {} 0.5\nc_bucket{le=\"+Inf\"} 2\nc_count 2\nc_sum 3\n\
     c_created 1.5e9\n",
    "# TYPE d info\nd_info{version=\"1\"} 1\n",
    "# TYPE e stateset\ne{e=\"on\"} 1\ne{e=\"off\"} 0\n",
    "# TYPE f summary\nf{quantile=\"0.5\"} 1\nf_count 2\nf_sum 3\nf_created 1.5e9\n",
    "# TYPE \"g.h\" counter\n{\"g.h_total\",\"i.j\"=\"1\"} 1 # {\"k.l\"=\"m\"} 1\n{\"g.h_created\"} 5\n",
];

#[test]
fn what_came_in_openmetrics_is_written_in_openmetrics_as_it_came() {
    let mut texts: Vec<String> = WHOLE.iter().map(|text| format!("{text}# EOF\n")).collect();
    texts.push(WHOLE.concat() + "# EOF\n");
    for text in texts {
        assert_eq!(written(OPENMETRICS, &[&text]), text);
    }
}

#[test]
fn text_is_written_in_openmetrics_without_another_name_or_value() {
    let text = "# HELP a Says \"a\"\n# TYPE a_total counter\na_total{x=\"1\" , y=\"2\"} 1 1001\n\
                # TYPE b counter\nb 1\n# TYPE c untyped\nc 1 \nd\t1 1520879607000\n\
                # TYPE e counter\n# TYPE e_total counter\ne 1\ne_total 2\n";
    assert_eq!(
        written(OPENMETRICS, &[text]),
        "# HELP a Says \\\"a\\\"\n# TYPE a_total unknown\na_total{x=\"1\",y=\"2\"} 1 1.0015\n\
         # TYPE b unknown\nb 1\n# TYPE c unknown\nc 1\nd 1 1520879607\n\
         # TYPE e unknown\ne 1\n# TYPE e_total unknown\ne_total 2\n# EOF\n"
    );
}

#[test]
fn types_of_both_formats_are_one_family() {
    let texts = [
        "# TYPE a counter\na_total{x=\"1\"} 1 # {t=\"u\"} 1\na_created{x=\"1\"} 5\n# EOF\n",
        "# TYPE a_total counter\na_total{x=\"2\"} 2\n# TYPE b gauge\nb 1 5\n",
    ];
    assert_eq!(
        written(OPENMETRICS, &texts),
        "# TYPE a counter\na_total{x=\"1\"} 1 # {t=\"u\"} 1\na_created{x=\"1\"} 5\na_total{x=\"2\"} 2\n\
         # TYPE b gauge\nb 1 0.005\n# EOF\n"
    );
    let text = written(Encoding::TEXT, &texts);
    assert_eq!(
        text,
        "# TYPE a_created gauge\na_created{x=\"1\"} 5\n\
         # TYPE a_total counter\na_total{x=\"1\"} 1\na_total{x=\"2\"} 2\n# TYPE b gauge\nb 1 5\n"
    );
}

#[test]
fn start_times_stay_directly_behind_their_samples() {
    let text = "# TYPE a counter\na_total{x=\"1\"} 1\na_created{x=\"1\"} 5\na_total{x=\"2\"} 2\na_created{x=\"2\"} 6\n\
                # TYPE b summary\nb{x=\"1\",quantile=\"0.5\"} 1\nb_count{x=\"1\"} 1\nb_created{x=\"1\"} 7\n\
                b_count{x=\"2\"} 1\nb_created{x=\"2\"} 8\n# EOF\n";
    assert_eq!(written(OPENMETRICS, &[text]), text);
    let mut labels = Labels::default();
    labels.insert("y", "z").unwrap();
    let labelled = Exposition::parse(Bytes::from(text)).unwrap();
    let labelled = labelled.with_labels(&labels, false, &Limits::NONE).unwrap();
    let merged = merge_as(OPENMETRICS, vec![Arc::new(labelled).into()]);
    let served: Vec<u8> = merged.into_chunks(1 << 16).flatten().collect();
    let labelled = text.replace('{', "{y=\"z\",");
    assert_eq!(String::from_utf8(served).unwrap(), labelled);
    // Written anew, as it has a blank in front: no line overtakes one of its family.
    let untidy = text.replace("a_total{x=\"1\"}", " a_total{x=\"1\"}");
    let moved =
        "a_created{x=\"1\"} 5\na_created{x=\"2\"} 6\na_total{x=\"1\"} 1\na_total{x=\"2\"} 2\n";
    assert_eq!(
        written(OPENMETRICS, &[&untidy]).split("# ").nth(1),
        Some(&*format!("TYPE a counter\n{moved}"))
    );
}

#[test]
fn bounds_of_a_gaugehistogram_are_the_same_in_each_format() {
    let text = "# TYPE a gaugehistogram\na_bucket{x=\"1\",le=\"1\"} 1\na_bucket{x=\"1\",le=\"2.5\"} 2\n\
                a_gcount{x=\"1\",le=\"1\"} 2\na_bucket{le=\"1e6\"} 1 # {t=\"u\"} 1\n# EOF\n";
    let spelled = "a_bucket{x=\"1\",le=\"1.0\"} 1\na_bucket{x=\"1\",le=\"2.5\"} 2\n";
    let text_04 = written(Encoding::TEXT, &[text]);
    assert!(
        text_04.contains(spelled) && text_04.contains("a_bucket{le=\"1e+06\"} 1\n"),
        "{text_04}"
    );
    let openmetrics = written(OPENMETRICS, &[text]);
    assert!(
        openmetrics.starts_with("# TYPE a gaugehistogram\n"),
        "{openmetrics}"
    );
    for line in [
        "a_bucket{x=\"1\",le=\"1.0\"} 1\n",
        "a_bucket{le=\"1e+06\"} 1 # {t=\"u\"} 1\n",
    ] {
        assert!(openmetrics.contains(line), "{openmetrics}");
    }
}

#[test]
fn names_that_become_one_are_one_family_and_labels_are_kept_apart() {
    let texts = [
        "# TYPE \"a.b\" gauge\n{\"a.b\",\"c.d\"=\"1\",\"c-d\"=\"2\",c_d=\"3\"} 1\n",
        "# TYPE a_b gauge\na_b 2\n",
    ];
    let merged = merge(texts.map(read).into());
    assert_eq!(merged.name_conflicts(), 1);
    assert_eq!(
        written(Encoding::TEXT, &texts),
        "# TYPE a_b gauge\na_b{U__c_2e_d=\"1\",U__c_2d_d=\"2\",c_d=\"3\"} 1\na_b 2\n"
    );
    let merged = merge_as(Encoding::unescaped(Format::Text), texts.map(read).into());
    assert_eq!((merged.name_conflicts(), merged.families()), (0, 2));
}

#[test]
fn labels_are_added_beside_quoted_names_and_exemplars() {
    let mut labels = Labels::default();
    labels.insert("job", "j").unwrap();
    let text = "# TYPE \"a.b\" counter\n{\"a.b_total\"} 1 5 # {job=\"k\"} 1\n{\"a.b_total\",\"c.d\"=\"1\"} 1\n\
                {\"a.b_total\",\"job\"=\"l\"} 1\n# EOF\n";
    let exposition = Exposition::parse(text.into()).unwrap();
    let labelled = exposition
        .with_labels(&labels, false, &Limits::NONE)
        .unwrap();
    let expected = "# TYPE \"a.b\" counter\n{\"a.b_total\",job=\"j\"} 1 5 # {job=\"k\"} 1\n\
                    {\"a.b_total\",job=\"j\",\"c.d\"=\"1\"} 1\n\
                    {\"a.b_total\",job=\"j\",exported_job=\"l\"} 1\n# EOF\n";
    assert_eq!(
        labelled.clone().written().unwrap().text(),
        expected.as_bytes()
    );
    let merged = merge_as(OPENMETRICS, vec![Arc::new(labelled).into()]);
    let text: Vec<u8> = merged.into_chunks(1 << 10).flatten().collect();
    assert_eq!(String::from_utf8(text).unwrap(), expected);
}
