//! Writes one line of a text in another format, or with names escaped.

use std::collections::HashMap;

use crate::class::{part, skip_blanks};
use crate::encoding::{Encoding, Escaping};
use crate::format::Format;
use crate::line::{Line, word_end};
use crate::needs::takes_exemplar;
use crate::number;
use crate::openmetrics::Rest;
use crate::sample::is_space;
use crate::series::read_labels;
use crate::tidy::{write_exemplar, write_labels, write_metric_name};

/// Appends a line that has been read before as `from`, with its line feed. What both formats have alike stays as it is.
pub(crate) fn convert(out: &mut Vec<u8>, line: &[u8], from: Format, to: Encoding) {
    let series = Line::of(line);
    let value_at = skip_blanks(line, series.end);
    let value_to = word_end(line, value_at);
    // It has been read before, so this cannot fail.
    let rest = match from {
        Format::Text => text_rest(line, value_to),
        Format::OpenMetrics => Rest::read(line, value_to).unwrap_or_default(),
    };
    let refused = to.is_for_prometheus_2() && !takes_exemplar(series.name);
    let exemplar = rest.exemplar.filter(|_| !refused);
    let quoted = series.quoted || exemplar.is_some_and(|exemplar| exemplar.quoted);
    let escapes = match to.escaping {
        Escaping::AllowUtf8 => false,
        Escaping::Underscores | Escaping::Values => quoted,
        Escaping::Dots => true,
    };
    let strict = series.canonical && is_space(line, series.end, value_at) && rest.strict;
    let stays = match (from, to.format) {
        (Format::Text, Format::Text) => true,
        (Format::OpenMetrics, Format::Text) => value_to == line.len(),
        (Format::Text, Format::OpenMetrics) => strict && rest.timestamp.is_none(),
        (Format::OpenMetrics, Format::OpenMetrics) => {
            strict && exemplar.is_some() == rest.exemplar.is_some()
        }
    };
    if stays && !escapes {
        out.extend_from_slice(line);
        out.push(b'\n');
        return;
    }
    if escapes {
        let open = write_metric_name(out, &to.escaping.metric(series.name));
        write_labels(out, open, named(&escaped(series.labels, to.escaping)));
    } else if series.canonical {
        out.extend_from_slice(part(line, 0, series.end));
    } else {
        let open = write_metric_name(out, series.name);
        write_labels(out, open, read_labels(series.labels));
    }
    out.push(b' ');
    out.extend_from_slice(part(line, value_at, value_to));
    if let Some(timestamp) = rest.timestamp {
        out.push(b' ');
        match (from, to.format) {
            (Format::Text, Format::OpenMetrics) => number::write_seconds(out, timestamp),
            (Format::OpenMetrics, Format::Text) => number::write_milliseconds(out, timestamp),
            _ => out.extend_from_slice(timestamp),
        }
    }
    if let Some(exemplar) = exemplar.filter(|_| to.format == Format::OpenMetrics) {
        if escapes {
            let labels = escaped(exemplar.labels, to.escaping);
            write_exemplar(out, &exemplar, named(&labels));
        } else {
            write_exemplar(out, &exemplar, read_labels(exemplar.labels));
        }
    }
    out.push(b'\n');
}

/// Appends a line of format 0.0.4 without the comma behind its last label, with its line feed.
pub(crate) fn without_last_comma(out: &mut Vec<u8>, line: &[u8]) {
    // No brace follows the labels.
    let close = memchr::memrchr(b'}', line).unwrap_or_default();
    let labels = part(line, 0, close);
    out.extend_from_slice(labels.strip_suffix(b",").unwrap_or(labels));
    out.extend_from_slice(part(line, close, line.len()));
    out.push(b'\n');
}

/// What follows a value in text format 0.0.4.
fn text_rest(line: &[u8], value_to: usize) -> Rest<'_> {
    let at = skip_blanks(line, value_to);
    let to = word_end(line, at);
    Rest {
        timestamp: (to > at).then(|| part(line, at, to)),
        exemplar: None,
        strict: value_to == line.len(),
    }
}

fn named<'l>(labels: &'l [(Vec<u8>, &'l [u8])]) -> impl Iterator<Item = (&'l [u8], &'l [u8])> {
    labels.iter().map(|(name, value)| (name.as_slice(), *value))
}

/// Labels with the names that they are written with. Prometheus refuses a scrape in which a sample has a label twice:
/// where two names would become one, those that are not so by themselves are escaped by their values.
fn escaped(labels: &[u8], escaping: Escaping) -> Vec<(Vec<u8>, &[u8])> {
    let mut written = Vec::new();
    let mut times: HashMap<Vec<u8>, u32, foldhash::fast::RandomState> = HashMap::default();
    for (name, value) in read_labels(labels) {
        let name = escaping.label(name);
        *times.entry(name.clone()).or_default() += 1;
        written.push((name, value));
    }
    if times.len() == written.len() {
        return written;
    }
    for ((name, _), (raw, _)) in written.iter_mut().zip(read_labels(labels)) {
        let is_shared = times.get(name).is_some_and(|&times| times > 1);
        if is_shared && name != raw {
            let mut other = Escaping::Values.label(raw);
            while times.contains_key(&other) {
                other.push(b'_');
            }
            times.insert(other.clone(), 1);
            *name = other;
        }
    }
    written
}
