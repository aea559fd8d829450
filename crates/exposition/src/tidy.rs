//! Rewrites accepted lines into the one form which every reader takes alike.
//!
//! - Blanks before a sample: the scrape parser makes them part of the metric name
//!   (`p.offsets = append(p.offsets, p.start, …)` in `promparse.go`).
//! - Blanks after a value or timestamp: `expfmt` takes them for the start of a timestamp.
//! - Labels without a comma between them, and a backslash in a label value which starts none of
//!   `\\`, `\"`, `\n`: the scrape parser allows both, `expfmt` neither. Such a backslash stands for
//!   itself, so it is doubled.
//! - In the text of a `# HELP`, the same for a backslash which starts none of `\\`, `\n`; in OpenMetrics
//!   `\"` stands for a quote, which needs no backslash here.
//! - Bounds of a gaugehistogram, which is a histogram in text: of that, Prometheus 3 spells them anew
//!   (`normalizeFloatsInLabelValues` in `openmetricsparse.go`), of a gaugehistogram it does not.

use crate::class::{is_classic, is_classic_label};
use crate::exemplar::{Exemplar, exemplar};
use crate::format::Format;
use crate::number;
use crate::sample::Sample;
use crate::series::read_labels;

/// The label that has the bound of a bucket.
const BOUND: &[u8] = b"le";

/// Appends the sample with canonical blanks, commas and escapes, and a line feed; with another bound, if there is one.
pub(crate) fn write_sample(out: &mut Vec<u8>, sample: &Sample<'_>, bound: Option<&str>) {
    let open = write_metric_name(out, sample.series.name());
    let labels = read_labels(sample.series.labels());
    let labels = labels.map(|(label, value)| match bound {
        Some(bound) if label == BOUND => (label, bound.as_bytes()),
        _ => (label, value),
    });
    write_labels(out, open, labels);
    out.push(b' ');
    out.extend_from_slice(sample.value);
    if let Some(timestamp) = sample.timestamp {
        out.push(b' ');
        out.extend_from_slice(timestamp);
    }
    if let Some(rest) = sample.exemplar {
        let hash = memchr::memchr(b'#', rest).unwrap_or_default();
        // It has been read before, so this cannot fail.
        if let Ok(exemplar) = exemplar(rest, hash, &mut true) {
            write_exemplar(out, &exemplar, read_labels(exemplar.labels));
        }
    }
    out.push(b'\n');
}

/// The bound of a bucket as Prometheus 3 spells it, if it stands otherwise.
pub(crate) fn other_bound(sample: &Sample<'_>) -> Option<String> {
    let mut labels = read_labels(sample.series.labels());
    let (_, bound) = labels.find(|&(label, _)| label == BOUND)?;
    number::as_bound(bound).filter(|spelled| spelled.as_bytes() != bound)
}

/// Appends a metric name as it stands in `# HELP`.
pub(crate) fn write_metric(out: &mut Vec<u8>, name: &[u8]) {
    write_name(out, name, is_classic(name));
}

fn write_name(out: &mut Vec<u8>, name: &[u8], is_classic: bool) {
    if is_classic {
        out.extend_from_slice(name);
    } else {
        out.push(b'"');
        out.extend_from_slice(name);
        out.push(b'"');
    }
}

/// Appends a metric name, and returns what the first label has in front of it.
pub(crate) fn write_metric_name(out: &mut Vec<u8>, name: &[u8]) -> u8 {
    if is_classic(name) {
        out.extend_from_slice(name);
        return b'{';
    }
    out.push(b'{');
    write_metric(out, name);
    b','
}

/// Appends labels with the brace after them; the first has `open` in front of it.
pub(crate) fn write_labels<'l>(
    out: &mut Vec<u8>,
    mut open: u8,
    labels: impl Iterator<Item = (&'l [u8], &'l [u8])>,
) {
    for (label, value) in labels {
        out.push(open);
        write_label_name(out, label);
        out.extend_from_slice(b"=\"");
        write_escaped(out, value, b"\\\"n");
        out.push(b'"');
        open = b',';
    }
    if open == b',' {
        out.push(b'}');
    }
}

/// Appends the name of a label, in quotes if it needs them.
pub(crate) fn write_label_name(out: &mut Vec<u8>, name: &[u8]) {
    write_name(out, name, is_classic_label(name));
}

/// Appends an exemplar that has these labels.
pub(crate) fn write_exemplar<'l>(
    out: &mut Vec<u8>,
    exemplar: &Exemplar<'_>,
    labels: impl Iterator<Item = (&'l [u8], &'l [u8])>,
) {
    out.extend_from_slice(b" # {");
    let from = out.len();
    write_labels(out, b',', labels);
    // The first label has a comma in front of it.
    if out.get(from) == Some(&b',') {
        out.remove(from);
    }
    out.push(b' ');
    out.extend_from_slice(exemplar.value);
    if let Some(timestamp) = exemplar.timestamp {
        out.push(b' ');
        out.extend_from_slice(timestamp);
    }
}

/// Whether the text of a `# HELP` has known escapes only.
pub(crate) fn is_tidy_help(text: &[u8]) -> bool {
    let mut rest = text;
    while let Some(escape) = memchr::memchr(b'\\', rest) {
        if !matches!(rest.get(escape + 1), Some(b'\\' | b'n')) {
            return false;
        }
        rest = rest.get(escape + 2..).unwrap_or_default();
    }
    true
}

/// Appends the text of a `# HELP`.
pub(crate) fn write_help(out: &mut Vec<u8>, text: &[u8], format: Format) {
    match format {
        Format::Text => write_escaped(out, text, b"\\n"),
        Format::OpenMetrics => {
            let mut rest = text;
            while let Some(at) = memchr::memchr(b'\\', rest).filter(|at| at + 1 < rest.len()) {
                let (plain, escape) = rest.split_at(at);
                out.extend_from_slice(plain);
                let (escape, after) = escape.split_at(2);
                match escape {
                    b"\\\"" => out.push(b'"'),
                    escape => write_escaped(out, escape, b"\\n"),
                }
                rest = after;
            }
            write_escaped(out, rest, b"\\n");
        }
    }
}

/// Appends text in which a backslash stands for itself unless one of `known` follows.
fn write_escaped(out: &mut Vec<u8>, text: &[u8], known: &[u8]) {
    let mut bytes = text.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        out.push(byte);
        if byte == b'\\' {
            // The pair belongs together: the second backslash of `\\` starts nothing.
            out.push(bytes.next_if(|next| known.contains(next)).unwrap_or(b'\\'));
        }
    }
}
