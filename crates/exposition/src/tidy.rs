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

use std::io::Write as _;

use crate::exposition::Format;
use crate::sample::{Sample, Timestamp};
use crate::series::read_labels;

/// Appends the sample with canonical blanks, commas and escapes, and a line feed.
pub(crate) fn write_sample(out: &mut Vec<u8>, sample: &Sample<'_>) {
    write_series(out, sample.series.name(), sample.series.labels());
    out.push(b' ');
    out.extend_from_slice(sample.value);
    match sample.timestamp {
        None => {}
        Some(Timestamp::Written(timestamp)) => {
            out.push(b' ');
            out.extend_from_slice(timestamp);
        }
        Some(Timestamp::Milliseconds(timestamp)) => {
            // To a `Vec`, writing cannot fail.
            let _ = write!(out, " {timestamp}");
        }
    }
    out.push(b'\n');
}

/// Appends a name and its labels.
fn write_series(out: &mut Vec<u8>, name: &[u8], labels: &[u8]) {
    out.extend_from_slice(name);
    let mut open = b'{';
    for (label, value) in read_labels(labels) {
        out.push(open);
        out.extend_from_slice(label);
        out.extend_from_slice(b"=\"");
        write_escaped(out, value, b"\\\"n");
        out.push(b'"');
        open = b',';
    }
    if open == b',' {
        out.push(b'}');
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
