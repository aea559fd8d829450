//! Reads one sample line: `name{label="value",…} value timestamp`.
//!
//! The grammar is that of Prometheus's scrape parser (`model/textparse/promlex.l` and
//! `promparse.go`). What that parser allows and `expfmt` does not, or reads differently, makes a
//! line *untidy*: it is accepted, and rewritten by [`crate::tidy`].

use std::collections::HashSet;

use crate::class::{is_blank, label_end, name_end, part, skip_blanks};
use crate::error::ParseErrorKind;
use crate::number;

/// Where in a line reading stopped, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) at: usize,
    pub(crate) kind: ParseErrorKind,
}

pub(crate) fn fault<T>(at: usize, kind: ParseErrorKind) -> Result<T, Fault> {
    Err(Fault { at, kind })
}

/// The part of a sample which names its series.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Series<'a> {
    pub(crate) name: &'a [u8],
    /// What stands between the braces.
    pub(crate) labels: &'a [u8],
    /// The raw value of the label `le`.
    pub(crate) le: Option<&'a [u8]>,
    /// The raw value of the label `quantile`.
    pub(crate) quantile: Option<&'a [u8]>,
    pub(crate) tidy: bool,
    /// The first byte after the series.
    pub(crate) end: usize,
}

/// One sample line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample<'a> {
    pub(crate) series: Series<'a>,
    pub(crate) value: &'a [u8],
    pub(crate) timestamp: Option<&'a [u8]>,
    pub(crate) tidy: bool,
}

/// The label names of the line being read, kept to find one which comes twice.
#[derive(Debug, Default)]
pub(crate) struct LabelNames<'a> {
    few: Vec<&'a [u8]>,
    /// One bit per name, chosen by its length and last byte: a bit not yet set is a new name.
    filter: u64,
    many: HashSet<&'a [u8], foldhash::fast::RandomState>,
}

/// With more labels than this, names are looked up in a hash set instead of one by one.
const FEW_LABELS: usize = 32;

impl<'a> LabelNames<'a> {
    fn clear(&mut self) {
        self.few.clear();
        self.filter = 0;
        if !self.many.is_empty() {
            self.many.clear();
        }
    }

    /// Adds a name; false if the line has it already.
    #[inline]
    fn insert(&mut self, name: &'a [u8]) -> bool {
        if self.few.len() == FEW_LABELS {
            return self.insert_many(name);
        }
        let last = name.last().copied().map_or(0, usize::from);
        let bit = 1_u64 << ((name.len().wrapping_mul(7) ^ last) & 63);
        let new = self.filter & bit == 0 || !self.few.contains(&name);
        self.filter |= bit;
        self.few.push(name);
        new
    }

    #[cold]
    fn insert_many(&mut self, name: &'a [u8]) -> bool {
        if self.many.is_empty() {
            self.many.extend(&self.few);
        }
        self.many.insert(name)
    }
}

/// Reads the name and the labels which start at `at`.
pub(crate) fn series<'a>(
    line: &'a [u8],
    at: usize,
    names: &mut LabelNames<'a>,
) -> Result<Series<'a>, Fault> {
    let after_name = name_end(line, at);
    if after_name == at {
        let quoted = matches!(line.get(at), Some(b'{' | b'"'));
        let kind = if quoted {
            ParseErrorKind::QuotedName
        } else {
            ParseErrorKind::InvalidMetricName
        };
        return fault(at, kind);
    }
    let mut series = Series {
        name: part(line, at, after_name),
        labels: &[],
        le: None,
        quantile: None,
        tidy: true,
        end: after_name,
    };
    let brace = skip_blanks(line, after_name);
    if line.get(brace) == Some(&b'{') {
        names.clear();
        labels(line, brace + 1, names, &mut series)?;
    }
    Ok(series)
}

fn labels<'a>(
    line: &'a [u8],
    first: usize,
    names: &mut LabelNames<'a>,
    series: &mut Series<'a>,
) -> Result<(), Fault> {
    let mut at = first;
    loop {
        at = skip_blanks(line, at);
        let name_from = at;
        at = label_end(line, at);
        if at == name_from {
            return match line.get(at) {
                Some(b'}') => {
                    series.labels = part(line, first, at);
                    series.end = at + 1;
                    Ok(())
                }
                Some(b'"') => fault(at, ParseErrorKind::QuotedName),
                Some(_) => fault(at, ParseErrorKind::InvalidLabelName),
                None => fault(at, ParseErrorKind::UnterminatedLabels),
            };
        }
        let name = part(line, name_from, at);
        let value_from = value_start(line, at)?;
        let value_to = value_end(line, value_from, &mut series.tidy)?;
        let value = part(line, value_from, value_to);
        if !names.insert(name) {
            return fault(name_from, ParseErrorKind::DuplicateLabelName);
        }
        match name {
            b"le" => series.le = Some(value),
            b"quantile" => series.quantile = Some(value),
            b"__name__" => return fault(name_from, ParseErrorKind::ReservedLabelName),
            _ => {}
        }
        at = skip_blanks(line, value_to + 1);
        match line.get(at) {
            Some(b',') => at += 1,
            Some(b'}') => {}
            // Prometheus needs no comma between labels, expfmt does.
            _ => series.tidy = false,
        }
    }
}

#[inline]
fn value_start(line: &[u8], name_to: usize) -> Result<usize, Fault> {
    let equals = skip_blanks(line, name_to);
    if line.get(equals) != Some(&b'=') {
        return fault(equals, ParseErrorKind::MissingEquals);
    }
    let quote = skip_blanks(line, equals + 1);
    if line.get(quote) != Some(&b'"') {
        return fault(quote, ParseErrorKind::MissingQuote);
    }
    Ok(quote + 1)
}

/// The closing quote of the label value which starts at `at`.
#[inline]
pub(crate) fn value_end(line: &[u8], mut at: usize, tidy: &mut bool) -> Result<usize, Fault> {
    loop {
        at = quote_or_escape(line, at);
        match line.get(at) {
            Some(b'"') => return Ok(at),
            Some(_) => {
                match line.get(at + 1) {
                    Some(b'\\' | b'"' | b'n') => {}
                    // Prometheus keeps an unknown escape as it stands, expfmt refuses it.
                    Some(_) => *tidy = false,
                    None => return fault(line.len(), ParseErrorKind::UnterminatedLabelValue),
                }
                at += 2;
            }
            None => return fault(line.len(), ParseErrorKind::UnterminatedLabelValue),
        }
    }
}

/// The first `"` or `\` at or after `at`, eight bytes at a time.
#[inline]
fn quote_or_escape(line: &[u8], mut at: usize) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    const QUOTES: u64 = ONES * b'"' as u64;
    const ESCAPES: u64 = ONES * b'\\' as u64;
    while let Some(chunk) = line.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*chunk);
        let quote = word ^ QUOTES;
        let escape = word ^ ESCAPES;
        // A byte is zero where the needle stands; the lowest bit set marks the first zero byte.
        let found =
            (quote.wrapping_sub(ONES) & !quote | escape.wrapping_sub(ONES) & !escape) & HIGHS;
        if found != 0 {
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while line
        .get(at)
        .is_some_and(|&byte| byte != b'"' && byte != b'\\')
    {
        at += 1;
    }
    at
}

/// Reads a sample line of text format 0.0.4. `line` is without its line feed.
#[inline]
pub(crate) fn sample<'a>(line: &'a [u8], names: &mut LabelNames<'a>) -> Result<Sample<'a>, Fault> {
    let start = skip_blanks(line, 0);
    let series = series(line, start, names)?;
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
    sample.timestamp = Some(part(line, from, to));
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

/// The labels of a line which has been read before: names and raw values.
pub(crate) fn read_labels(labels: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        while labels
            .get(at)
            .is_some_and(|&byte| is_blank(byte) || byte == b',')
        {
            at += 1;
        }
        let name_to = label_end(labels, at);
        let name = part(labels, at, name_to);
        let value_from = value_start(labels, name_to).ok()?;
        let value_to = value_end(labels, value_from, &mut false).ok()?;
        at = value_to + 1;
        Some((name, part(labels, value_from, value_to)))
    })
}
