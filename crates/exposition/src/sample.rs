//! Reads one sample line: `name{label="value",…} value timestamp`.
//!
//! The grammar is that of Prometheus's scrape parser (`model/textparse/promlex.l` and
//! `promparse.go`). What that parser allows and `expfmt` does not, or reads differently, makes a
//! line *untidy*: it is accepted, and rewritten by [`crate::tidy`].

use crate::class::{is_blank, part, skip_blanks};
use crate::error::{Fault, ParseErrorKind, fault};
use crate::number;
use crate::series::{Series, SeriesReader};

/// When a sample was taken, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Timestamp<'a> {
    /// As it stands in the line.
    Written(&'a [u8]),
    /// Read from seconds.
    Milliseconds(u64),
}

/// One sample line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample<'a> {
    pub(crate) series: Series<'a>,
    pub(crate) value: &'a [u8],
    pub(crate) timestamp: Option<Timestamp<'a>>,
    pub(crate) tidy: bool,
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
    let to = value(line, from)?;
    let mut sample = Sample {
        series,
        value: part(line, from, to),
        timestamp: None,
        tidy: series.tidy && start == 0,
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
    sample.timestamp = Some(Timestamp::Written(part(line, from, to)));
    sample.tidy &= to == line.len();
    Ok(sample)
}

/// The end of the value at `at`.
#[inline]
pub(crate) fn value(line: &[u8], at: usize) -> Result<usize, Fault> {
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
