//! OpenMetrics 1.0 text, rewritten to text format 0.0.4 as Prometheus's client libraries do it.
//!
//! | OpenMetrics | served as |
//! |---|---|
//! | counter `foo` | counter `foo_total` |
//! | info `foo` | gauge `foo_info` |
//! | stateset | gauge |
//! | unknown | untyped |
//! | gaugehistogram `foo` | histogram `foo`, gauges `foo_gcount` and `foo_gsum` |
//! | samples `foo_created` | gauge `foo_created`, in seconds as they stand |
//! | `# UNIT`, `# EOF`, exemplars | nothing |
//! | timestamp in seconds | timestamp in milliseconds, truncated as Prometheus does |
//! | `\"` in a help text | `"` |
//!
//! Reading is as lenient as for 0.0.4: an application may have appended one text to another, so
//! blanks, several `# EOF` and text after them are no faults.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use crate::class::{part, skip_blanks};
use crate::error::{ParseError, ParseErrorKind};
use crate::exposition::{Exposition, Format};
use crate::limits::Limits;
use crate::metadata::{Metadata, metadata};
use crate::sample::{Fault, fault, token_end, value};
use crate::series::{SeriesReader, value_end};
use crate::{number, parse, tidy};

/// The line which ends a text of OpenMetrics, and by which one is recognised.
const EOF: &[u8] = b"# EOF";

/// OpenMetrics if a line of the text is exactly `# EOF`.
pub(crate) fn format_of(text: &[u8]) -> Format {
    let has_eof = memchr::memmem::find_iter(text, EOF).any(|at| {
        let starts = at == 0 || text.get(at - 1) == Some(&b'\n');
        starts && text.get(at + EOF.len()).is_none_or(|&after| after == b'\n')
    });
    if has_eof {
        Format::OpenMetrics
    } else {
        Format::Text
    }
}

/// Whether the last line of the text is exactly `# EOF`.
pub(crate) fn is_whole(text: &[u8]) -> bool {
    let before = text.strip_suffix(b"\n").unwrap_or(text).strip_suffix(EOF);
    before.is_some_and(|before| before.is_empty() || before.ends_with(b"\n"))
}

/// Rewrites and validates the text.
pub(crate) fn parse(text: &[u8], limits: &Limits) -> Result<Exposition, ParseError> {
    let mut rewriter = Rewriter::within(limits);
    for_each_line(text, limits, |line, _| rewriter.note(line))?;
    for_each_line(text, limits, |line, number| {
        rewriter.line(line)?;
        rewriter.end_line(number);
        Ok(())
    })?;
    let lines = rewriter.lines;
    parse::parse_classic(Bytes::from(rewriter.out), limits).map_err(|error| {
        let line = lines.get(error.line().saturating_sub(1));
        error.on_line(line.map_or_else(|| error.line(), |&line| line as usize))
    })
}

/// Calls `f` with each line and its number, from 1.
fn for_each_line<'a>(
    text: &'a [u8],
    limits: &Limits,
    mut f: impl FnMut(&'a [u8], u32) -> Result<(), Fault>,
) -> Result<(), ParseError> {
    // What follows the last line feed is a line if there is anything.
    let whole = text.strip_suffix(b"\n").unwrap_or(text);
    for (before, line) in whole.split(|&byte| byte == b'\n').enumerate() {
        let read = if before >= limits.max_lines() {
            fault(0, ParseErrorKind::TooManyLines)
        } else {
            // A text of less than 4 GiB has fewer lines.
            f(line, before as u32 + 1)
        };
        read.map_err(|fault| ParseError::in_line(text, line, fault))?;
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
    GaugeHistogram,
    Summary,
    Info,
    Untyped,
}

impl Kind {
    fn parse(text: &[u8]) -> Option<Self> {
        Some(match text {
            b"counter" => Self::Counter,
            b"gauge" | b"stateset" => Self::Gauge,
            b"histogram" => Self::Histogram,
            b"gaugehistogram" => Self::GaugeHistogram,
            b"summary" => Self::Summary,
            b"info" => Self::Info,
            b"unknown" | b"untyped" => Self::Untyped,
            _ => return None,
        })
    }

    fn served_as(self) -> &'static [u8] {
        match self {
            Self::Counter => b"counter",
            Self::Gauge | Self::Info => b"gauge",
            Self::Histogram | Self::GaugeHistogram => b"histogram",
            Self::Summary => b"summary",
            Self::Untyped => b"untyped",
        }
    }

    /// What a family of this type has at the end of its name in format 0.0.4.
    fn name_suffix(self) -> &'static [u8] {
        match self {
            Self::Counter => b"_total",
            Self::Info => b"_info",
            _ => b"",
        }
    }

    /// Whether samples with this suffix become a gauge of their own.
    fn derives(self, suffix: &[u8]) -> bool {
        match self {
            Self::GaugeHistogram => matches!(suffix, b"_created" | b"_gcount" | b"_gsum"),
            Self::Counter | Self::Histogram | Self::Summary => suffix == b"_created",
            Self::Gauge | Self::Info | Self::Untyped => false,
        }
    }
}

type Map<'a, V> = HashMap<&'a [u8], V, foldhash::fast::RandomState>;

#[derive(Default)]
struct Rewriter<'a> {
    limits: Limits,
    /// Samples written.
    samples: usize,
    types: Map<'a, Kind>,
    helps: Map<'a, &'a [u8]>,
    /// Families derived from others, whose HELP and TYPE have been written.
    derived: HashSet<&'a [u8], foldhash::fast::RandomState>,
    series: SeriesReader<'a>,
    out: Vec<u8>,
    /// The line of the text from which each line of the output comes.
    lines: Vec<u32>,
    written: usize,
}

impl<'a> Rewriter<'a> {
    fn within(limits: &Limits) -> Self {
        Self {
            limits: *limits,
            series: SeriesReader::within(limits),
            ..Self::default()
        }
    }

    /// Notes types and help texts: they may follow what depends on them.
    fn note(&mut self, line: &'a [u8]) -> Result<(), Fault> {
        match read_metadata(line)? {
            Some(Metadata::Type {
                name,
                text,
                text_at,
            }) => match Kind::parse(text) {
                Some(kind) => {
                    self.types.entry(name).or_insert(kind);
                }
                None => return fault(text_at, ParseErrorKind::InvalidType),
            },
            Some(Metadata::Help { name, text }) => {
                self.helps.entry(name).or_insert(text);
            }
            Some(Metadata::Comment) | None => {}
        }
        if self.types.len().max(self.helps.len()) > self.limits.max_families() {
            return fault(0, ParseErrorKind::TooManyFamilies);
        }
        Ok(())
    }

    fn line(&mut self, line: &'a [u8]) -> Result<(), Fault> {
        match read_metadata(line)? {
            Some(Metadata::Type { name, text, .. }) => {
                if let Some(kind) = Kind::parse(text) {
                    self.write_type(name, kind.name_suffix(), kind.served_as());
                }
                Ok(())
            }
            Some(Metadata::Help { name, text }) => {
                let suffix = self
                    .types
                    .get(name)
                    .map_or(&b""[..], |kind| kind.name_suffix());
                self.write_help(name, suffix, text);
                Ok(())
            }
            Some(Metadata::Comment) => Ok(()),
            None if skip_blanks(line, 0) == line.len() => Ok(()),
            None => self.sample(line),
        }
    }

    /// Notes where the lines written since the last call come from.
    fn end_line(&mut self, number: u32) {
        let new = self.out.get(self.written..).unwrap_or_default();
        self.lines
            .extend(memchr::memchr_iter(b'\n', new).map(|_| number));
        self.written = self.out.len();
    }

    fn sample(&mut self, line: &'a [u8]) -> Result<(), Fault> {
        if self.samples >= self.limits.max_samples {
            return fault(0, ParseErrorKind::TooManySamples);
        }
        self.samples += 1;
        let series = self.series.read(line, skip_blanks(line, 0))?;
        let value_at = skip_blanks(line, series.end);
        let value_to = value(line, value_at)?;
        let (timestamp, rest) = timestamp(line, skip_blanks(line, value_to))?;
        exemplar(line, rest)?;
        self.derive(series.name());
        tidy::write_series(&mut self.out, series.name(), series.labels());
        self.out.push(b' ');
        self.out.extend_from_slice(part(line, value_at, value_to));
        if let Some(milliseconds) = timestamp {
            self.out
                .extend_from_slice(format!(" {milliseconds}").as_bytes());
        }
        self.out.push(b'\n');
        Ok(())
    }

    /// Declares the gauge to which a sample of this name belongs, if it is the first one.
    fn derive(&mut self, name: &'a [u8]) {
        let Some(underscore) = memchr::memrchr(b'_', name) else {
            return;
        };
        let (family, suffix) = name.split_at(underscore);
        let derives = self
            .types
            .get(family)
            .is_some_and(|kind| kind.derives(suffix));
        if !derives || self.types.contains_key(name) || !self.derived.insert(name) {
            return;
        }
        if let Some(&help) = self.helps.get(family) {
            self.write_help(name, b"", help);
        }
        self.write_type(name, b"", b"gauge");
    }

    fn write_type(&mut self, name: &[u8], suffix: &[u8], kind: &[u8]) {
        self.out.extend_from_slice(b"# TYPE ");
        self.write_name(name, suffix);
        self.out.push(b' ');
        self.out.extend_from_slice(kind);
        self.out.push(b'\n');
    }

    fn write_help(&mut self, name: &[u8], suffix: &[u8], text: &[u8]) {
        self.out.extend_from_slice(b"# HELP ");
        self.write_name(name, suffix);
        self.out.push(b' ');
        let mut bytes = text.iter().copied().peekable();
        while let Some(byte) = bytes.next() {
            match (byte, bytes.peek()) {
                (b'\\', Some(b'"')) => {}
                (b'\\', Some(b'\\')) => {
                    bytes.next();
                    self.out.extend_from_slice(b"\\\\");
                }
                _ => self.out.push(byte),
            }
        }
        self.out.push(b'\n');
    }

    /// A family which already has the suffix, as some libraries name them, keeps its name.
    fn write_name(&mut self, name: &[u8], suffix: &[u8]) {
        self.out.extend_from_slice(name);
        if !name.ends_with(suffix) {
            self.out.extend_from_slice(suffix);
        }
    }
}

/// The metadata of a line; none if it does not start with `#`.
fn read_metadata(line: &[u8]) -> Result<Option<Metadata<'_>>, Fault> {
    let first = skip_blanks(line, 0);
    if line.get(first) == Some(&b'#') {
        metadata(line, first + 1).map(Some)
    } else {
        Ok(None)
    }
}

/// Reads an optional timestamp, and returns it in milliseconds with the position after it.
///
/// Format 0.0.4 has no timestamps before 1970.
fn timestamp(line: &[u8], at: usize) -> Result<(Option<u64>, usize), Fault> {
    if matches!(line.get(at), None | Some(b'#')) {
        return Ok((None, at));
    }
    let end = token_end(line, at);
    let token = part(line, at, end);
    // Prometheus: `int64(ts * 1000)` in `openmetricsparse.go`.
    let milliseconds = number::is_float(token)
        .then(|| number::read(token).map(|seconds| (seconds * 1_000.0).trunc()))
        .flatten()
        .filter(|milliseconds| (0.0..9_223_372_036_854_775_808.0).contains(milliseconds));
    match milliseconds {
        Some(milliseconds) => Ok((Some(milliseconds as u64), skip_blanks(line, end))),
        None => fault(at, ParseErrorKind::InvalidTimestamp),
    }
}

/// Checks the form of an optional exemplar, ` # {labels} value timestamp`. It is not served, so its
/// labels may have any names.
fn exemplar(line: &[u8], at: usize) -> Result<(), Fault> {
    match line.get(at) {
        None => return Ok(()),
        Some(b'#') => {}
        Some(_) => return fault(at, ParseErrorKind::TrailingText),
    }
    let brace = skip_blanks(line, at + 1);
    if line.get(brace) != Some(&b'{') {
        return fault(brace, ParseErrorKind::InvalidExemplar);
    }
    let number_at = skip_blanks(line, braces_end(line, brace + 1)?);
    let number_to = token_end(line, number_at);
    let time_at = skip_blanks(line, number_to);
    let time_to = token_end(line, time_at);
    if !number::is_float(part(line, number_at, number_to)) {
        return fault(number_at, ParseErrorKind::InvalidExemplar);
    }
    if time_to > time_at && !number::is_float(part(line, time_at, time_to)) {
        return fault(time_at, ParseErrorKind::InvalidExemplar);
    }
    match skip_blanks(line, time_to) {
        end if end == line.len() => Ok(()),
        end => fault(end, ParseErrorKind::InvalidExemplar),
    }
}

/// The position after the `}` which closes the braces open at `at`; one inside quotes does not.
fn braces_end(line: &[u8], mut at: usize) -> Result<usize, Fault> {
    loop {
        match line.get(at) {
            Some(b'}') => return Ok(at + 1),
            Some(b'"') => at = value_end(line, at + 1, &mut true)? + 1,
            Some(_) => at += 1,
            None => return fault(at, ParseErrorKind::InvalidExemplar),
        }
    }
}
