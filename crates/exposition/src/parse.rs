//! Reads a whole text once, line by line, and notes where the samples of each family are.

use bytes::Bytes;

use crate::class::{part, skip_blanks};
use crate::draft::{Draft, Families};
use crate::error::{Fault, ParseError, ParseErrorKind, fault};
use crate::exposition::Exposition;
use crate::format::Format;
use crate::limits::Limits;
use crate::marks::Marks;
use crate::metadata::{self, Kind, Metadata};
use crate::needs::Needs;
use crate::openmetrics::Declared;
use crate::openmetrics_type::OpenMetricsType;
use crate::sample::sample;
use crate::series::{SeriesReader, value_end};
use crate::span::Span;
use crate::{openmetrics, tidy};

/// Lines that are read before it is asked again whether the text is still wanted.
const LINES_AT_A_TIME: usize = 1000;

impl Exposition {
    /// Validates a text of format 0.0.4, or of OpenMetrics 1.0 if one of its lines is exactly
    /// `# EOF`.
    ///
    /// A missing final line feed, HELP and TYPE which repeat or follow the samples, and families
    /// in several places are accepted. An empty text is valid. See the crate's documentation for
    /// what is refused though Prometheus would accept it.
    ///
    /// # Errors
    ///
    /// The first fault in the text. Nothing of a faulty text is served.
    pub fn parse(text: Bytes) -> Result<Self, ParseError> {
        Self::parse_within(text, &Limits::NONE)
    }

    /// As [`Exposition::parse`], but stops at what is past one of `limits`.
    ///
    /// # Errors
    ///
    /// The first fault in the text, or that it is past a limit.
    pub fn parse_within(text: Bytes, limits: &Limits) -> Result<Self, ParseError> {
        Self::parse_while(text, None, limits, &|| true)
    }

    /// As [`Exposition::parse_within`], but of a format that is known, by a `Content-Type` say, whatever
    /// the text looks like.
    ///
    /// # Errors
    ///
    /// As those of [`Exposition::parse_within`], and that OpenMetrics does not end with `# EOF`.
    pub fn parse_as(text: Bytes, format: Format, limits: &Limits) -> Result<Self, ParseError> {
        Self::parse_while(text, Some(format), limits, &|| true)
    }

    /// As [`Exposition::parse_as`], or without a format as [`Exposition::parse_within`], as long as `wanted`
    /// says so when it is asked, every thousand lines.
    ///
    /// # Errors
    ///
    /// As theirs, and that the text is not wanted any more.
    pub fn parse_while(
        text: Bytes,
        format: Option<Format>,
        limits: &Limits,
        wanted: &dyn Fn() -> bool,
    ) -> Result<Self, ParseError> {
        let shape = check_bytes(&text)?;
        let read_as = format.unwrap_or(shape);
        let draft = read(&text, read_as, limits, wanted);
        let draft = draft.map_err(|error| foreign(&text).unwrap_or(error))?;
        if format == Some(Format::OpenMetrics) && !openmetrics::is_whole(&text) {
            let last = text.strip_suffix(b"\n").unwrap_or(&text).len();
            return Err(ParseError::at(&text, last, ParseErrorKind::MissingEof));
        }
        Ok(draft.finish(text, read_as))
    }
}

/// The fault of a text which is no exposition at all, as HTTP servers answer. A name in quotes is followed by
/// a colon in JSON only.
fn foreign(text: &[u8]) -> Option<ParseError> {
    let start = text.len() - text.trim_ascii_start().len();
    let kind = match part(text, start, text.len()) {
        [b'[', ..] => ParseErrorKind::Json,
        [b'<', ..] => ParseErrorKind::Markup,
        [b'{', object @ ..] => match object.trim_ascii_start() {
            [b'}', ..] => ParseErrorKind::Json,
            [b'"', name @ ..] => {
                let end = value_end(name, 0, &mut true).ok()?;
                let after = part(name, end + 1, name.len()).trim_ascii_start();
                after.starts_with(b":").then_some(ParseErrorKind::Json)?
            }
            _ => return None,
        },
        _ => return None,
    };
    Some(ParseError::at(text, start, kind))
}

/// Refuses what no part of a text may hold, comments included, and returns what the text looks like.
fn check_bytes(text: &[u8]) -> Result<Format, ParseError> {
    if text.len() >= u32::MAX as usize {
        return Err(ParseError::at(&[], 0, ParseErrorKind::TooLarge));
    }
    // One search for both: to look for the line by itself would take as long again.
    let mut shape = Format::Text;
    for at in memchr::memchr2_iter(0, b'#', text) {
        if text.get(at) == Some(&0) {
            return Err(ParseError::at(text, at, ParseErrorKind::NulByte));
        }
        if openmetrics::is_eof_at(text, at) {
            shape = Format::OpenMetrics;
        }
    }
    if simdutf8::basic::from_utf8(text).is_err() {
        // The fast check does not say where; the standard library's does.
        let at = std::str::from_utf8(text).map_or_else(|error| error.valid_up_to(), str::len);
        return Err(ParseError::at(text, at, ParseErrorKind::InvalidUtf8));
    }
    Ok(shape)
}

fn read(
    text: &[u8],
    format: Format,
    limits: &Limits,
    wanted: &dyn Fn() -> bool,
) -> Result<Draft, ParseError> {
    let mut reader = Reader::new(text, format, limits);
    reader.read(wanted)?;
    if let Some(declared) = reader.openmetrics.take() {
        declared
            .settle(&mut reader.families)
            .map_err(|(line, fault)| ParseError::in_line(text, line, fault))?;
    }
    reader.families.join_late();
    Ok(reader.families.draft)
}

struct Reader<'a> {
    text: &'a [u8],
    max_samples: usize,
    max_lines: usize,
    families: Families<'a>,
    /// The family of the line before.
    current: Current<'a>,
    series: SeriesReader<'a>,
    /// What a text of OpenMetrics declares.
    openmetrics: Option<Declared<'a>>,
}

#[derive(Clone, Copy)]
struct Current<'a> {
    id: u32,
    name: &'a [u8],
    kind: Kind,
    is_gauge_histogram: bool,
    /// What is noted of it already.
    needs: Needs,
}

impl<'a> Reader<'a> {
    fn new(text: &'a [u8], format: Format, limits: &Limits) -> Self {
        Self {
            text,
            max_samples: limits.max_samples,
            max_lines: limits.max_lines(),
            families: Families::new(text, limits.max_families()),
            // Takes no sample, as none has an empty name.
            current: Current {
                id: 0,
                name: b"",
                kind: Kind::Untyped,
                is_gauge_histogram: false,
                needs: Needs::default(),
            },
            series: SeriesReader::within(limits),
            openmetrics: (format == Format::OpenMetrics).then(Declared::default),
        }
    }

    fn read(&mut self, wanted: &dyn Fn() -> bool) -> Result<(), ParseError> {
        let text = self.text;
        let (mut start, mut lines) = (0, 0);
        for end in memchr::memchr_iter(b'\n', text) {
            if lines >= self.max_lines {
                return Err(ParseError::at(text, start, ParseErrorKind::TooManyLines));
            }
            if lines % LINES_AT_A_TIME == 0 && !wanted() {
                return Err(ParseError::at(text, start, ParseErrorKind::NotWanted));
            }
            lines += 1;
            self.line(start, end)
                .map_err(|fault| ParseError::in_line(text, part(text, start, end), fault))?;
            start = end + 1;
        }
        let end = text.len();
        if start < end && lines >= self.max_lines {
            return Err(ParseError::at(text, start, ParseErrorKind::TooManyLines));
        }
        self.line(start, end)
            .map_err(|fault| ParseError::in_line(text, part(text, start, end), fault))
    }

    #[inline]
    fn line(&mut self, start: usize, end: usize) -> Result<(), Fault> {
        let line = part(self.text, start, end);
        let first = skip_blanks(line, 0);
        match line.get(first) {
            None => Ok(()),
            Some(b'#') => self.metadata(line, first + 1),
            Some(_) => self.sample(line, start, end),
        }
    }

    #[inline]
    fn sample(&mut self, line: &'a [u8], start: usize, end: usize) -> Result<(), Fault> {
        if self.families.draft.samples >= self.max_samples {
            return fault(0, ParseErrorKind::TooManySamples);
        }
        let sample = if self.openmetrics.is_none() {
            sample(line, &mut self.series)?
        } else {
            openmetrics::sample(line, &mut self.series)?
        };
        let suffix = self.enter(sample.series.name())?;
        let marks = Marks::of(&sample);
        if marks != Marks::default() {
            self.families.mark(self.current.id, suffix, marks);
        }
        if !self.current.needs.has_all(sample.needs) {
            self.current.needs.add(sample.needs);
            self.families.need(self.current.id, sample.needs);
        }
        self.families.draft.samples += 1;
        self.families.draft.has_timestamps |= sample.timestamp.is_some();
        let bound =
            Some(&sample).filter(|_| self.current.is_gauge_histogram && suffix == b"_bucket");
        let bound = bound.and_then(tidy::other_bound);
        let span = if sample.tidy && bound.is_none() && end < self.text.len() {
            Span {
                start: start as u32,
                end: end as u32 + 1,
            }
        } else {
            self.families
                .rewrite(|out| tidy::write_sample(out, &sample, bound.as_deref()))?
        };
        match self.families.draft.runs.last_mut() {
            Some((family, last)) if *family == self.current.id && last.end == span.start => {
                last.end = span.end;
            }
            _ => self.families.draft.runs.push((self.current.id, span)),
        }
        Ok(())
    }

    /// Makes the family of a sample of this name current, and returns what the name has beyond
    /// the family's.
    #[inline]
    fn enter(&mut self, name: &'a [u8]) -> Result<&'a [u8], Fault> {
        if let Some(suffix) = name.strip_prefix(self.current.name)
            && self.current.kind.takes(suffix)
        {
            return Ok(suffix);
        }
        self.enter_other(name)
    }

    fn enter_other(&mut self, name: &'a [u8]) -> Result<&'a [u8], Fault> {
        // Its own family comes first, but few names can be another's.
        let taker = self
            .families
            .taker(name)
            .filter(|_| !self.families.is_known(name));
        let (id, suffix) = match taker {
            Some((id, suffix)) => (id, suffix),
            None => (self.families.family(name)?, &b""[..]),
        };
        self.current = Current {
            id,
            name: name.strip_suffix(suffix).unwrap_or(name),
            kind: self.families.kind_of(id).unwrap_or(Kind::Untyped),
            is_gauge_histogram: self.families.is_gauge_histogram(id),
            needs: Needs::default(),
        };
        Ok(suffix)
    }

    fn metadata(&mut self, line: &'a [u8], at: usize) -> Result<(), Fault> {
        let metadata = metadata::metadata(line, at)?;
        if let Some(declared) = &mut self.openmetrics {
            return match declared.note(metadata, self.families.max())? {
                Some((name, kind)) => self.declare(name, kind.kind(), Some(kind)),
                None => Ok(()),
            };
        }
        match metadata {
            Metadata::Comment | Metadata::Unit { .. } => Ok(()),
            Metadata::Help { name, text } => {
                let id = self.families.family(name)?;
                self.families.help(id, text, Format::Text)
            }
            Metadata::Type {
                name,
                text,
                text_at,
            } => self.declare(name, metadata::kind(text, text_at)?, None),
        }
    }

    /// Of the types declared for a name, the first counts.
    fn declare(
        &mut self,
        name: &'a [u8],
        kind: Kind,
        openmetrics: Option<OpenMetricsType>,
    ) -> Result<(), Fault> {
        let id = self.families.family(name)?;
        let is_first = self.families.kind_of(id).is_none();
        if is_first && openmetrics == Some(OpenMetricsType::GaugeHistogram) {
            self.families.set_openmetrics(id, openmetrics, 0);
        }
        self.current = Current {
            id,
            name,
            kind: self.families.set_kind(id, kind),
            is_gauge_histogram: self.families.is_gauge_histogram(id),
            needs: Needs::default(),
        };
        Ok(())
    }
}
