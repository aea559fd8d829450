//! Reads one sample line: `name{label="value",…} value timestamp`.
//!
//! The grammar is that of Prometheus's scrape parser (`model/textparse/promlex.l` and
//! `promparse.go`). What that parser allows and `expfmt` does not, or reads differently, makes a
//! line *untidy*: it is accepted, and rewritten by [`crate::tidy`].

use crate::class::{is_blank, part, skip_blanks};
use crate::error::{Fault, ParseErrorKind, fault};
use crate::needs::Needs;
use crate::number;
use crate::series::{Series, SeriesReader};

/// One sample line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample<'a> {
    pub(crate) series: Series<'a>,
    pub(crate) value: &'a [u8],
    /// As it stands in the line: milliseconds, in OpenMetrics seconds.
    pub(crate) timestamp: Option<&'a [u8]>,
    /// What follows the value, if it has an exemplar; only in OpenMetrics.
    pub(crate) exemplar: Option<&'a [u8]>,
    pub(crate) tidy: bool,
    /// Why its line cannot be served as it stands.
    pub(crate) needs: Needs,
}

/// Reads a sample line of text format 0.0.4. `line` is without its line feed.
#[inline]
pub(crate) fn sample<'a>(
    line: &'a [u8],
    reader: &mut SeriesReader<'a>,
) -> Result<Sample<'a>, Fault> {
    let start = skip_blanks(line, 0);
    let series = reader.read(line, start)?;
    let from = skip_blanks(line, series.end);
    let to = value_after(line, series.end, from)?;
    let mut sample = Sample {
        series,
        value: part(line, from, to),
        timestamp: None,
        exemplar: None,
        tidy: series.tidy && start == 0,
        needs: series.needs | Needs::NOT_OPENMETRICS.when(!is_space(line, series.end, from)),
    };
    if to == line.len() {
        return Ok(sample);
    }
    let from = skip_blanks(line, to);
    if from == line.len() {
        // expfmt takes a blank after the value for the start of a timestamp.
        sample.tidy = false;
        return Ok(sample);
    }
    let to = timestamp(line, from)?;
    sample.timestamp = Some(part(line, from, to));
    sample.needs.add(Needs::NOT_OPENMETRICS);
    sample.tidy &= to == line.len();
    Ok(sample)
}

/// Whether exactly one space is between these.
#[inline]
pub(crate) fn is_space(line: &[u8], from: usize, to: usize) -> bool {
    to == from + 1 && line.get(from) == Some(&b' ')
}

/// The end of the value at `at`, which follows a series that ends at `series_to`.
#[inline]
pub(crate) fn value_after(line: &[u8], series_to: usize, at: usize) -> Result<usize, Fault> {
    value(line, at).map_err(|fault| match fault.kind {
        // What stands right behind a name was meant to be part of it.
        ParseErrorKind::InvalidValue if at == series_to && !part(line, 0, at).ends_with(b"}") => {
            Fault {
                kind: ParseErrorKind::InvalidMetricName,
                ..fault
            }
        }
        _ => fault,
    })
}

/// The end of the value at `at`.
#[inline]
fn value(line: &[u8], at: usize) -> Result<usize, Fault> {
    if let Some(end) = number::plain_decimal_end(line, at)
        && line.get(end).is_none_or(|&byte| is_blank(byte))
    {
        return Ok(end);
    }
    let end = token_end(line, at);
    if end == at {
        return fault(at, ParseErrorKind::MissingValue);
    }
    if !number::is_float(part(line, at, end)) {
        return fault(at, ParseErrorKind::InvalidValue);
    }
    Ok(end)
}

/// The end of the timestamp at `at`, which must be the last thing in the line.
fn timestamp(line: &[u8], at: usize) -> Result<usize, Fault> {
    let end = number::digits_end(line, at);
    match line.get(at) {
        Some(b'#') => return fault(at, ParseErrorKind::UnexpectedExemplar),
        _ if !number::is_timestamp(part(line, at, end)) => {
            return fault(at, ParseErrorKind::InvalidTimestamp);
        }
        _ => {}
    }
    let rest = skip_blanks(line, end);
    match line.get(rest) {
        None => Ok(end),
        Some(b'#') => fault(rest, ParseErrorKind::UnexpectedExemplar),
        Some(_) => fault(rest, ParseErrorKind::TrailingText),
    }
}

/// The end of a run of bytes which are neither blank nor `{`, as the scrape parser delimits values.
pub(crate) fn token_end(line: &[u8], mut at: usize) -> usize {
    while line
        .get(at)
        .is_some_and(|&byte| !is_blank(byte) && byte != b'{')
    {
        at += 1;
    }
    at
}
