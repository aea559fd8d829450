//! The rules by which families are merged, one test each.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)] // A test may fail.

use std::sync::Arc;

use bytes::Bytes;
use prometheus_rsocket_exposition::{
    Encoding, Exposition, Labels, Limits, Merged, Part, merge, merge_in_front,
};

fn parse(text: &str) -> Part {
    exposition(text).into()
}

fn exposition(text: &str) -> Arc<Exposition> {
    Arc::new(Exposition::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap())
}

fn merge_texts(texts: &[&str]) -> Merged {
    merge(texts.iter().copied().map(parse).collect())
}

fn text(merged: Merged) -> String {
    String::from_utf8(merged.into_chunks(1 << 16).flatten().collect()).unwrap()
}

#[track_caller]
fn check(texts: &[&str], conflicts: usize, expected: &str) {
    let merged = merge_texts(texts);
    let samples = texts.iter().map(|text| exposition(text).samples());
    assert_eq!(merged.samples(), samples.sum::<usize>());
    let found = merged.type_conflicts();
    let served = text(merged);
    assert_eq!((found, served.as_str()), (conflicts, expected));
    // An agent merges, and so does the node.
    let again = merge_texts(&[&served]);
    assert_eq!((again.type_conflicts(), text(again)), (0, served));
}

#[test]
fn nothing_merges_to_nothing() {
    let merged = merge_texts(&["", "\n", "# only a comment"]);
    assert!(merged.is_empty());
    assert_eq!(merged.families(), 0);
    assert_eq!(merged.into_chunks(10).next(), None);
}

#[test]
fn families_are_sorted_and_each_keeps_the_order_of_the_parts() {
    check(
        &[
            "b 1\na{p=\"1\"} 1\n",
            "a{p=\"2\"} 2\nc 3\n",
            "b 4\na{p=\"3\"} 3\n",
        ],
        0,
        "a{p=\"1\"} 1\na{p=\"2\"} 2\na{p=\"3\"} 3\nb 1\nb 4\nc 3\n",
    );
}

#[test]
fn what_is_put_in_front_comes_first_and_decides_last() {
    let first = [
        "# HELP a pushed\n# TYPE a gauge\na 1\nb 1\n",
        "a{x=\"1\"} 1\n",
    ];
    let parts = [
        "# HELP a pulled\n# TYPE a counter\na 2\n",
        "b 2\na{x=\"1\"} 2\nc 2\n",
    ];
    let parsed = |texts: [&str; 2]| texts.into_iter().map(parse).collect();
    assert_eq!(
        text(merge_in_front(Encoding::TEXT, parsed(first), parsed(parts))),
        concat!(
            "# HELP a pulled\n# TYPE a counter\na 1\na{x=\"1\"} 1\na 2\na{x=\"1\"} 2\n",
            "b 1\nb 2\nc 2\n",
        ),
    );
}

#[test]
fn what_is_put_in_front_comes_first_among_moved_lines() {
    let first = vec![parse("# TYPE a summary\na_count 1\n")];
    let parts = vec![
        parse("# TYPE a gauge\na 2\n"),
        parse("# TYPE a gauge\na_count 3\n"),
        parse("# TYPE a summary\na_count 4\n"),
        parse("# TYPE a gauge\na 5\n"),
    ];
    assert_eq!(
        text(merge_in_front(Encoding::TEXT, first, parts)),
        "# TYPE a gauge\na 2\na 5\na_count 1\na_count 3\na_count 4\n",
    );
}

#[test]
fn a_family_in_several_places_of_one_text_is_put_together() {
    check(
        &["# HELP a one\n# TYPE a counter\na 1\nb 2\n# HELP a two\n# TYPE a counter\na 3\n"],
        0,
        "# HELP a one\n# TYPE a counter\na 1\na 3\nb 2\n",
    );
}

#[test]
fn a_type_after_the_samples_is_written_before_them() {
    check(
        &["a_bucket{le=\"1\"} 1\na_count 1\n# HELP a text\n# TYPE a histogram\n"],
        0,
        "# HELP a text\n# TYPE a histogram\na_bucket{le=\"1\"} 1\na_count 1\n",
    );
}

#[test]
fn most_parts_decide_the_type_and_help_comes_from_one_of_them() {
    check(
        &[
            "# HELP a first\n# TYPE a gauge\na 1\n",
            "# HELP a second\n# TYPE a counter\na 2\n",
            "# HELP a third\n# TYPE a counter\na 3\n",
        ],
        1,
        "# HELP a second\n# TYPE a counter\na 1\na 2\na 3\n",
    );
}

#[test]
fn among_equally_many_the_first_part_decides() {
    let gauge = "# TYPE a gauge\na 1\n";
    let counter = "# TYPE a counter\na 2\n";
    check(&[gauge, counter], 1, "# TYPE a gauge\na 1\na 2\n");
    check(&[counter, gauge], 1, "# TYPE a counter\na 2\na 1\n");
}

#[test]
fn texts_of_one_voter_have_one_vote_which_the_first_of_them_casts() {
    let part = |text: &str, voter| Part {
        voter,
        ..parse(text)
    };
    let gauge = |voter| part("# TYPE a gauge\na 1\n", voter);
    let counter = |voter| part("# TYPE a counter\na 2\n", voter);
    let served = |parts| text(merge(parts)).lines().next().unwrap().to_owned();
    let mut parts = vec![gauge(Some(1)), counter(Some(2))];
    parts.extend((0..10).map(|_| counter(Some(2))));
    assert_eq!(served(parts.clone()), "# TYPE a gauge");
    parts.push(counter(Some(3)));
    assert_eq!(served(parts), "# TYPE a counter");
    // Who came first decides ties, whatever the others of its texts say.
    let parts = vec![
        part("b 1\n", Some(7)),
        counter(Some(8)),
        gauge(Some(7)),
        counter(Some(7)),
    ];
    assert_eq!(served(parts), "# TYPE a gauge");
    let parts = vec![gauge(None), counter(None), counter(None)];
    assert_eq!(served(parts), "# TYPE a counter");
}

#[test]
fn texts_of_one_voter_which_differ_are_a_conflict() {
    let parts = ["# TYPE a gauge\na 1\n", "# TYPE a counter\na 2\n"];
    let parts = parts.map(|text| Part {
        voter: Some(1),
        ..parse(text)
    });
    assert_eq!(merge(parts.into()).type_conflicts(), 1);
}

#[test]
fn parts_without_a_type_do_not_vote_and_are_no_conflict() {
    check(
        &["a 1\n", "a 2\n", "# TYPE a gauge\na 3\n"],
        0,
        "# TYPE a gauge\na 1\na 2\na 3\n",
    );
}

#[test]
fn one_text_with_two_types_votes_for_the_first_and_is_a_conflict() {
    check(
        &["# TYPE a gauge\na 1\n# TYPE a counter\na 2\n"],
        1,
        "# TYPE a gauge\na 1\na 2\n",
    );
}

#[test]
fn an_empty_help_gives_way_to_one_with_text() {
    check(
        &[
            "# HELP a\n# TYPE a gauge\na 1\n",
            "# HELP a text\n# TYPE a gauge\na 2\n",
        ],
        0,
        "# HELP a text\n# TYPE a gauge\na 1\na 2\n",
    );
    check(&["# HELP a  \na 1\n"], 0, "# HELP a \na 1\n");
}

#[test]
fn help_of_a_losing_part_is_better_than_none() {
    check(
        &[
            "# TYPE a gauge\na 1\n",
            "# HELP a text\n# TYPE a counter\na 2\n",
        ],
        1,
        "# HELP a text\n# TYPE a gauge\na 1\na 2\n",
    );
}

#[test]
fn a_losing_histogram_leaves_families_of_its_sample_names() {
    check(
        &[
            "# TYPE a gauge\na 1\n",
            "# HELP a h\n# TYPE a histogram\na_bucket{le=\"1\"} 2\na_count 3\na 4\n",
        ],
        1,
        "# HELP a h\n# TYPE a gauge\na 1\na 4\na_bucket{le=\"1\"} 2\na_count 3\n",
    );
}

#[test]
fn a_losing_summary_keeps_what_fits_a_histogram() {
    check(
        &[
            "# TYPE a histogram\na_count 1\n",
            "# TYPE a summary\na{quantile=\"1\"} 2\na_count 3\na_sum 4\n",
        ],
        1,
        "# TYPE a histogram\na_count 1\na{quantile=\"1\"} 2\na_count 3\na_sum 4\n",
    );
}

#[test]
fn a_type_gives_way_to_samples_of_its_own_name_which_do_not_fit() {
    check(
        &[
            "# TYPE a histogram\na_bucket{le=\"1\"} 1\na_sum 1\na_count 1\n",
            "# TYPE a gauge\na{le=\"x\"} 1\na{le=\"2\"} -1\na{le=\"2\"} 2\n",
        ],
        1,
        "# TYPE a untyped\na{le=\"x\"} 1\na{le=\"2\"} -1\na{le=\"2\"} 2\na_bucket{le=\"1\"} 1\na_count 1\na_sum 1\n",
    );
    check(
        &[
            "# TYPE latency summary\nlatency{quantile=\"0.9\"} 1\nlatency_count 1\n",
            "# TYPE latency summary\nlatency{quantile=\"0.8\"} 2\n",
            "latency{quantile=\"p99\"} 3\n",
        ],
        1,
        "# TYPE latency untyped\nlatency{quantile=\"0.9\"} 1\nlatency{quantile=\"0.8\"} 2\n\
         latency{quantile=\"p99\"} 3\nlatency_count 1\n",
    );
}

#[test]
fn other_samples_which_do_not_fit_leave_the_histogram_and_it_stays_one() {
    check(
        &[
            "# TYPE a histogram\na_bucket{le=\"1\"} 1\na_count 1\na_sum -1\n",
            "# TYPE a histogram\na_bucket{le=\"x\"} 2\na_bucket{le=\"2\"} -2\na_bucket{le=\"2\"} 2\na_count -2\na_sum{le=\"y\"} 2\n",
        ],
        1,
        "# TYPE a_sum untyped\na_sum{le=\"y\"} 2\n# TYPE a_count untyped\na_count -2\n\
         # TYPE a_bucket untyped\na_bucket{le=\"x\"} 2\na_bucket{le=\"2\"} -2\n\
         # TYPE a histogram\na_bucket{le=\"1\"} 1\na_count 1\na_sum -1\na_bucket{le=\"2\"} 2\n",
    );
}

#[test]
fn one_text_may_have_samples_which_do_not_fit_its_types() {
    check(
        &[
            "a_bucket{le=\"x\"} 1\nb{quantile=\"x\"} 1\n# TYPE a histogram\n# TYPE b summary\nb_count 2\n",
        ],
        2,
        "a_bucket{le=\"x\"} 1\n# TYPE b untyped\nb{quantile=\"x\"} 1\nb_count 2\n",
    );
}

#[test]
fn a_family_called_like_a_histograms_count_stands_before_the_histogram() {
    check(
        &[
            "# HELP a_count own\n# TYPE a_count gauge\na_count -3\na_count{le=\"x\"} 2\n",
            "# TYPE a histogram\na_bucket{le=\"1\"} 1\na_count 3\n",
            "a_bucket{le=\"2\"} 4\nab 1\n",
        ],
        0,
        "# HELP a_count own\n# TYPE a_count gauge\na_count -3\na_count{le=\"x\"} 2\n\
         # TYPE a_bucket untyped\na_bucket{le=\"2\"} 4\n\
         # TYPE a histogram\na_bucket{le=\"1\"} 1\na_count 3\n# TYPE ab untyped\nab 1\n",
    );
}

#[test]
fn a_type_without_samples_changes_nothing_for_those_of_others() {
    let gauge = "queue_count{x=\"1\"} -3\n";
    check(&["# TYPE queue histogram\n", gauge], 0, gauge);
    check(
        &[
            "# TYPE a gauge\n",
            "# TYPE a gauge\n",
            "# TYPE a histogram\na_count 1\n",
        ],
        0,
        "# TYPE a histogram\na_count 1\n",
    );
    check(
        &["# TYPE a histogram\n", "a{le=\"x\"} 1\n"],
        0,
        "a{le=\"x\"} 1\n",
    );
    check(
        &[
            "# HELP a_count x\n# TYPE a_count gauge\n",
            "# TYPE a histogram\na_count 1\n",
        ],
        0,
        "# TYPE a histogram\na_count 1\n",
    );
    check(
        &["# TYPE a_count gauge\n", "# TYPE a histogram\n"],
        0,
        "# TYPE a histogram\n",
    );
}

#[test]
fn a_text_which_contradicts_itself_keeps_its_samples_with_labels_added() {
    let text = exposition(
        "# TYPE a histogram\na_bucket{le=\"1\"} 1\n# TYPE a_count counter\na_count{le=\"x\"} -1\n\
         # TYPE a gauge\na{le=\"y\"} 1\n# TYPE a_count histogram\na_count_sum 1\n",
    );
    let mut labels = Labels::default();
    labels.insert("job", "node").unwrap();
    let labelled = text.with_labels(&labels, false, &Limits::NONE).unwrap();
    let written = labelled.written().unwrap();
    assert_eq!(written.samples(), text.samples());
    assert_eq!(
        merge(vec![Arc::new(written).into()]).samples(),
        text.samples()
    );
}

#[test]
fn a_summary_does_not_take_buckets() {
    check(
        &[
            "# TYPE a summary\na_sum 1\n",
            "# TYPE a_bucket gauge\na_bucket 2\n",
        ],
        0,
        "# TYPE a summary\na_sum 1\n# TYPE a_bucket gauge\na_bucket 2\n",
    );
}

#[test]
fn families_called_like_samples_of_each_other_stand_from_the_longest_to_the_shortest() {
    check(
        &[
            "# TYPE a summary\na_sum 1\n",
            "# TYPE a_sum histogram\na_sum_bucket{le=\"1\"} 2\na_sum 3\n",
            "a_sum_bucket 4\na_s 5\n",
        ],
        0,
        "# TYPE a_sum_bucket untyped\na_sum_bucket 4\n\
         # TYPE a_sum histogram\na_sum_bucket{le=\"1\"} 2\na_sum 3\n\
         # TYPE a summary\na_sum 1\n# TYPE a_s untyped\na_s 5\n",
    );
}

#[test]
fn a_histogram_called_like_anothers_count_must_fit_the_others_samples() {
    // To `expfmt`, `a_count` after `# TYPE a_count` is a sample of that family.
    check(
        &[
            "# TYPE a summary\na_count{le=\"x\"} 1\n",
            "# TYPE a_count histogram\na_count_sum 2\n",
        ],
        1,
        "# TYPE a summary\na_count{le=\"x\"} 1\n# TYPE a_count_sum untyped\na_count_sum 2\n",
    );
}

#[test]
fn a_family_without_type_after_a_histogram_is_declared_untyped() {
    // Prometheus 3 would read `le="1"` as `le="1.0"`.
    check(
        &["b{le=\"1\"} 1\nc 1\n", "# TYPE a histogram\na_count 1\n"],
        0,
        "# TYPE a histogram\na_count 1\n# TYPE b untyped\nb{le=\"1\"} 1\nc 1\n",
    );
}

#[test]
fn metadata_without_samples_is_kept() {
    check(
        &["# HELP a text\n# TYPE a counter\n"],
        0,
        "# HELP a text\n# TYPE a counter\n",
    );
}

#[test]
fn lines_which_had_to_be_rewritten_stay_in_their_place() {
    check(
        &[
            "a{x=\"1\"} 1\na{x=\"\\d\"} 2 \na{x=\"3\" y=\"4\"} 3\n\ta 4 5\na{} 6",
            "a 7\n",
        ],
        0,
        "a{x=\"1\"} 1\na{x=\"\\\\d\"} 2\na{x=\"3\",y=\"4\"} 3\na 4 5\na 6\na 7\n",
    );
}

#[test]
fn help_escapes_which_mean_nothing_are_doubled() {
    check(
        &["# HELP a C:\\dir \\\\ \\n \\\"\na 1\n"],
        0,
        "# HELP a C:\\\\dir \\\\ \\n \\\\\"\na 1\n",
    );
}

#[test]
fn openmetrics_joins_the_same_family_of_the_older_format() {
    check(
        &[
            "# TYPE a_total counter\na_total{v=\"4\"} 1\n",
            "# HELP a a \\\"text\\\"\n# TYPE a counter\na_total{v=\"1\"} 2 1.5 # {t=\"x\"} 1\n# EOF\n",
        ],
        0,
        "# HELP a_total a \"text\"\n# TYPE a_total counter\na_total{v=\"4\"} 1\na_total{v=\"1\"} 2 1500\n",
    );
}

#[test]
fn counts_are_known_before_writing() {
    let merged = merge_texts(&["# TYPE a counter\na 1\na 2\nb 3\n", "b 4\n"]);
    assert_eq!((merged.families(), merged.samples()), (2, 4));
    let length = merged.about_len();
    assert_eq!(text(merged).len(), length);
}

#[test]
fn chunks_of_any_size_make_up_the_same_text() {
    let texts = ["# HELP a text\na{x=\"ä\"} 1\n", "b 2\na 3\n", "c 4 \n"];
    let whole = text(merge_texts(&texts));
    for size in 0..=whole.len() + 1 {
        let chunks = merge_texts(&texts).into_chunks(size);
        let chunks: Vec<Bytes> = chunks.collect();
        assert_eq!(chunks.len(), whole.len().div_ceil(size.max(1)));
        assert!(
            chunks
                .iter()
                .all(|chunk| !chunk.is_empty() && chunk.len() <= size.max(1))
        );
        assert_eq!(chunks.concat(), whole.as_bytes());
    }
}

#[test]
fn a_part_is_released_as_soon_as_it_has_been_copied() {
    let (early, late, unused) = (
        exposition("a 1\n"),
        exposition("b 2\n"),
        exposition("# nothing\n"),
    );
    let parts = [&early, &late, &unused];
    let merged = merge(parts.into_iter().cloned().map(Part::from).collect());
    let mut chunks = merged.into_chunks(4);
    assert_eq!(Arc::strong_count(&unused), 1);
    assert_eq!(Arc::strong_count(&early), 2);
    assert!(chunks.next().is_some());
    assert_eq!(
        (Arc::strong_count(&early), Arc::strong_count(&late)),
        (1, 2)
    );
    assert!(chunks.next().is_some());
    assert_eq!(Arc::strong_count(&late), 1);
    assert_eq!(chunks.next(), None);
}
