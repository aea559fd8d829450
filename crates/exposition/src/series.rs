//! Reads the part of a sample line which names its series: `name{label="value",…}`.

use crate::class::{
    is_blank, is_classic, is_classic_label, label_end, name_end, offset_in, part, skip_blanks,
};
use crate::error::{Fault, ParseErrorKind, fault};
use crate::limits::Limits;
use crate::names::LabelNames;
use crate::needs::Needs;

/// What is in quotes where a label name may be.
enum Quoted {
    /// The name of a label: where it begins and ends.
    Label(usize, usize),
    /// The metric name: where reading goes on.
    Metric(usize),
}

/// A range of a line.
type Range = (u32, u32);

/// The part of a sample line which names its series.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Series<'a> {
    line: &'a [u8],
    name: Range,
    /// What stands between the braces.
    labels: Range,
    le: Option<Range>,
    quantile: Option<Range>,
    /// Whether `expfmt` reads it as Prometheus does.
    pub(crate) tidy: bool,
    /// Why its line cannot be served as it stands.
    pub(crate) needs: Needs,
    /// The first byte after the series.
    pub(crate) end: usize,
}

impl<'a> Series<'a> {
    pub(crate) fn name(&self) -> &'a [u8] {
        self.part(self.name)
    }

    /// The labels, as [`read_labels`] reads them.
    pub(crate) fn labels(&self) -> &'a [u8] {
        self.part(self.labels)
    }

    /// The raw value of the label `le`.
    pub(crate) fn le(&self) -> Option<&'a [u8]> {
        self.le.map(|range| self.part(range))
    }

    /// The raw value of the label `quantile`.
    pub(crate) fn quantile(&self) -> Option<&'a [u8]> {
        self.quantile.map(|range| self.part(range))
    }

    #[inline]
    fn part(&self, (from, to): Range) -> &'a [u8] {
        part(self.line, from as usize, to as usize)
    }
}

/// Reads series, line after line.
///
/// A line mostly begins like the one before it: same name, same first labels. What was read there
/// need not be read again, as the same bytes mean the same.
#[derive(Debug, Default)]
pub(crate) struct SeriesReader<'a> {
    names: LabelNames<'a>,
    /// The line before.
    last: Series<'a>,
    /// Where in it reading may be resumed.
    marks: Vec<Mark>,
    limits: Limits,
}

impl Default for Series<'_> {
    fn default() -> Self {
        Self {
            line: &[],
            name: (0, 0),
            labels: (0, 0),
            le: None,
            quantile: None,
            tidy: true,
            needs: Needs::default(),
            end: 0,
        }
    }
}

/// A place in a line before a label, and what is known there.
#[derive(Debug, Clone, Copy)]
struct Mark {
    at: u32,
    names: (usize, u64),
    le: Option<Range>,
    quantile: Option<Range>,
    needs: Needs,
}

impl<'a> SeriesReader<'a> {
    pub(crate) fn within(limits: &Limits) -> Self {
        Self {
            limits: *limits,
            ..Self::default()
        }
    }

    /// Reads the name and the labels which start at `at`.
    #[inline]
    pub(crate) fn read(&mut self, line: &'a [u8], at: usize) -> Result<Series<'a>, Fault> {
        let common = common_prefix(self.last.line, line);
        while self
            .marks
            .last()
            .is_some_and(|mark| mark.at as usize > common)
        {
            self.marks.pop();
        }
        let series = match self.marks.last() {
            Some(&mark) => self.resume(line, mark),
            None => self.start(line, at),
        };
        match series {
            Ok(series) => self.last = series,
            // Marks mean nothing without the line.
            Err(_) => self.marks.clear(),
        }
        series
    }

    #[inline]
    fn resume(&mut self, line: &'a [u8], mark: Mark) -> Result<Series<'a>, Fault> {
        let (count, filter) = mark.names;
        self.names.keep(count, filter);
        let series = Series {
            line,
            le: mark.le,
            quantile: mark.quantile,
            tidy: true,
            needs: mark.needs,
            ..self.last
        };
        self.labels(series, mark.at as usize)
    }

    fn start(&mut self, line: &'a [u8], at: usize) -> Result<Series<'a>, Fault> {
        let name_to = name_end(line, at);
        if name_to == at {
            return self.start_quoted(line, at);
        }
        if name_to - at > self.limits.max_name_len {
            return fault(at, ParseErrorKind::NameTooLong);
        }
        let series = Series {
            line,
            name: (at as u32, name_to as u32),
            end: name_to,
            ..Series::default()
        };
        let brace = skip_blanks(line, name_to);
        if line.get(brace) != Some(&b'{') {
            return Ok(series);
        }
        let from = brace + 1;
        self.names.keep(0, 0);
        self.mark(from, &series);
        self.labels(
            Series {
                labels: (from as u32, from as u32),
                needs: Needs::NOT_OPENMETRICS.when(brace > name_to),
                ..series
            },
            from,
        )
    }

    /// Reads a series that has its name between the braces.
    #[cold]
    fn start_quoted(&mut self, line: &'a [u8], at: usize) -> Result<Series<'a>, Fault> {
        if line.get(at) != Some(&b'{') {
            return fault(at, ParseErrorKind::InvalidMetricName);
        }
        let from = at + 1;
        self.names.keep(0, 0);
        let series = Series {
            line,
            labels: (from as u32, from as u32),
            ..Series::default()
        };
        let series = self.labels(series, from)?;
        if series.name.1 == 0 {
            return fault(at, ParseErrorKind::InvalidMetricName);
        }
        Ok(series)
    }

    /// Reads what begins with a quote where a label name may be: a label name, whose range is returned with the
    /// position after its quote, or the metric name, after which reading goes on.
    #[cold]
    fn quoted(&mut self, series: &mut Series<'a>, at: usize) -> Result<Quoted, Fault> {
        let line = series.line;
        let from = at + 1;
        let mut known = true;
        let to = value_end(line, from, &mut known)?;
        let after = skip_blanks(line, to + 1);
        let is_metric = matches!(line.get(after), Some(b',' | b'}'));
        let kind = match is_metric {
            true => ParseErrorKind::InvalidMetricName,
            false => ParseErrorKind::InvalidLabelName,
        };
        // An escape that means nothing would make two names of one.
        if from == to || !known || (is_metric && series.name.1 > 0) {
            return fault(at, kind);
        }
        series.needs.add(Needs::QUOTED);
        let name = part(line, from, to);
        if !is_metric {
            series.tidy &= !is_classic_label(name);
            return Ok(Quoted::Label(from, to));
        }
        if name.len() > self.limits.max_name_len {
            return fault(at, ParseErrorKind::NameTooLong);
        }
        series.tidy &= !is_classic(name) && at == series.labels.0 as usize;
        series
            .needs
            .add(Needs::NOT_OPENMETRICS.when(after > to + 1));
        series.name = (from as u32, to as u32);
        if line.get(after) != Some(&b',') {
            return Ok(Quoted::Metric(after));
        }
        self.mark(after + 1, series);
        Ok(Quoted::Metric(after + 1))
    }

    /// Notes that a line which is the same up to `at` may be read from there.
    #[inline]
    fn mark(&mut self, at: usize, series: &Series<'a>) {
        if let Some(names) = self.names.state()
            && series.tidy
            && series.name.1 > 0
        {
            self.marks.push(Mark {
                at: at as u32,
                names,
                le: series.le,
                quantile: series.quantile,
                needs: series.needs,
            });
        }
    }

    /// Reads labels from `at` on.
    #[inline]
    fn labels(&mut self, mut series: Series<'a>, mut at: usize) -> Result<Series<'a>, Fault> {
        let line = series.line;
        loop {
            let mut name_to = label_end(line, at);
            if name_to == at {
                let before = at;
                at = skip_blanks(line, at);
                series.needs.add(Needs::NOT_OPENMETRICS.when(at > before));
                name_to = label_end(line, at);
            }
            let (mut name_from, mut after_name) = (at, name_to);
            if name_to == name_from {
                if line.get(at) != Some(&b'"') {
                    let series = end_labels(series, at)?;
                    return self.check_count(series);
                }
                match self.quoted(&mut series, at)? {
                    Quoted::Label(from, to) => {
                        (name_from, name_to, after_name) = (from, to, to + 1);
                    }
                    Quoted::Metric(after) => {
                        at = after;
                        continue;
                    }
                }
            }
            let value_from = if part(line, after_name, after_name + 2) == b"=\"" {
                after_name + 2
            } else {
                series.needs.add(Needs::NOT_OPENMETRICS);
                value_start(line, after_name)?
            };
            let value_to = value_end(line, value_from, &mut series.tidy)?;
            let name = part(line, name_from, name_to);
            if name.len() > self.limits.max_name_len {
                return fault(name_from, ParseErrorKind::NameTooLong);
            }
            if value_to - value_from > self.limits.max_label_value_len {
                return fault(value_from, ParseErrorKind::LabelValueTooLong);
            }
            if !self.names.insert(name) {
                return fault(name_from, ParseErrorKind::DuplicateLabelName);
            }
            match name {
                b"le" => series.le = Some((value_from as u32, value_to as u32)),
                b"quantile" => series.quantile = Some((value_from as u32, value_to as u32)),
                b"__name__" => return fault(name_from, ParseErrorKind::ReservedLabelName),
                _ => {}
            }
            at = value_to + 1;
            if !matches!(line.get(at), Some(b',' | b'}')) {
                at = skip_blanks(line, at);
                series.needs.add(Needs::NOT_OPENMETRICS);
            }
            match line.get(at) {
                Some(b',') => {
                    at += 1;
                    self.mark(at, &series);
                }
                Some(b'}') => {}
                // Prometheus needs no comma between labels, expfmt does.
                _ => series.tidy = false,
            }
        }
    }

    /// Refuses a series with too many labels. Those with an empty value do not count, but are told from the others
    /// only where it matters.
    #[inline]
    fn check_count(&self, series: Series<'a>) -> Result<Series<'a>, Fault> {
        let max = self.limits.max_labels;
        if self.names.len() > max {
            let filled = read_labels(series.labels()).filter(|(_, value)| !value.is_empty());
            if let Some((name, _)) = filled.into_iter().nth(max) {
                return fault(offset_in(series.line, name), ParseErrorKind::TooManyLabels);
            }
        }
        Ok(series)
    }
}

/// Ends the labels at `at`, where no label name is.
fn end_labels(series: Series<'_>, at: usize) -> Result<Series<'_>, Fault> {
    match series.line.get(at) {
        Some(b'}') => Ok(Series {
            needs: match at.checked_sub(1).and_then(|before| series.line.get(before)) {
                Some(b',') => series.needs | Needs::NOT_PROMETHEUS_2,
                _ => series.needs,
            },
            labels: (series.labels.0, at as u32),
            end: at + 1,
            ..series
        }),
        Some(_) => fault(at, ParseErrorKind::InvalidLabelName),
        None => fault(at, ParseErrorKind::UnterminatedLabels),
    }
}

/// How many bytes both lines begin with, or a few less.
#[inline]
fn common_prefix(one: &[u8], other: &[u8]) -> usize {
    let mut common = 0;
    let (one, other) = (one.as_chunks::<8>().0, other.as_chunks::<8>().0);
    for (one, other) in one.iter().zip(other) {
        let difference = u64::from_le_bytes(*one) ^ u64::from_le_bytes(*other);
        if difference != 0 {
            return common + (difference.trailing_zeros() / 8) as usize;
        }
        common += 8;
    }
    common
}

#[inline]
pub(crate) fn value_start(line: &[u8], name_to: usize) -> Result<usize, Fault> {
    let equals = skip_blanks(line, name_to);
    if line.get(equals) != Some(&b'=') {
        return no_equals(line, name_to, equals);
    }
    let quote = skip_blanks(line, equals + 1);
    if line.get(quote) != Some(&b'"') {
        return fault(quote, ParseErrorKind::MissingQuote);
    }
    Ok(quote + 1)
}

/// A label name ends where a character is that it cannot have.
#[cold]
fn no_equals(line: &[u8], name_to: usize, at: usize) -> Result<usize, Fault> {
    let follows = |byte: &u8| matches!(byte, b',' | b'}' | b'"') || byte.is_ascii_alphanumeric();
    let kind = match line.get(at) {
        Some(byte) if at == name_to && !follows(byte) => ParseErrorKind::InvalidLabelName,
        _ => ParseErrorKind::MissingEquals,
    };
    fault(at, kind)
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

/// The labels at the start of what has been read before: names, without quotes but with their escapes, and raw values.
/// Ends at the `}`. A metric name among them is left out.
pub(crate) fn read_labels(labels: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            while labels
                .get(at)
                .is_some_and(|&byte| is_blank(byte) || byte == b',')
            {
                at += 1;
            }
            let mut name_to = label_end(labels, at);
            let mut name = part(labels, at, name_to);
            if labels.get(at) == Some(&b'"') {
                let to = value_end(labels, at + 1, &mut false).ok()?;
                let after = skip_blanks(labels, to + 1);
                if labels.get(after) == Some(&b',') {
                    at = after;
                    continue;
                }
                (name, name_to) = (part(labels, at + 1, to), to + 1);
            }
            let value_from = value_start(labels, name_to).ok()?;
            let value_to = value_end(labels, value_from, &mut false).ok()?;
            at = value_to + 1;
            return Some((name, part(labels, value_from, value_to)));
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    const PIECES: &[&str] = &[
        "a",
        "{",
        "x=\"1\"",
        "y=\"abcdefgh\"",
        "z=\"\\q\"",
        "le=\"0.5\"",
        "quantile=\"1\"",
        ",",
        ",",
        ",",
        " ",
        "}",
        "\"",
    ];

    fn pieces(count: usize) -> impl Strategy<Value = String> {
        vec(select(PIECES), 0..count).prop_map(|pieces| pieces.concat())
    }

    type Facts<'a> = (
        &'a [u8],
        &'a [u8],
        Option<&'a [u8]>,
        Option<&'a [u8]>,
        bool,
        usize,
    );

    fn read<'a>(reader: &mut SeriesReader<'a>, line: &'a str) -> Result<Facts<'a>, Fault> {
        let series = reader.read(line.as_bytes(), skip_blanks(line.as_bytes(), 0))?;
        let (name, labels) = (series.name(), series.labels());
        Ok((
            name,
            labels,
            series.le(),
            series.quantile(),
            series.tidy,
            series.end,
        ))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_line_reads_the_same_whatever_came_before_it(
            common in pieces(12),
            ends in vec(pieces(6), 1..4),
        ) {
            let lines: Vec<String> = ends.iter().map(|end| format!("a{{{common}{end}}} 1")).collect();
            let mut reader = SeriesReader::default();
            for line in &lines {
                prop_assert_eq!(read(&mut reader, line), read(&mut SeriesReader::default(), line));
            }
        }
    }

    #[test]
    fn a_duplicate_of_a_label_taken_over_from_the_line_before_is_found() {
        let mut reader = SeriesReader::default();
        assert!(read(&mut reader, "a{long_label=\"1\",x=\"1\"} 1").is_ok());
        let second = read(
            &mut reader,
            "a{long_label=\"1\",x=\"2\",long_label=\"1\"} 1",
        );
        assert_eq!(second, fault(23, ParseErrorKind::DuplicateLabelName));
    }

    #[test]
    fn a_label_of_the_line_before_only_is_forgotten() {
        let mut reader = SeriesReader::default();
        assert!(read(&mut reader, "a{x=\"12345678\",le=\"1\",y=\"1\"} 1").is_ok());
        let (.., le, _, _, _) = read(&mut reader, "a{x=\"12345678\",y=\"1\"} 1").unwrap();
        assert_eq!(le, None);
        assert!(read(&mut reader, "a{x=\"12345678\",y=\"1\",le=\"1\"} 1").is_ok());
    }
}
