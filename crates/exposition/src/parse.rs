//! Reads a whole text once, line by line, and notes where the samples of each family are.

use std::collections::HashMap;

use bytes::Bytes;

use crate::class::{offset_in, part, skip_blanks};
use crate::error::{ParseError, ParseErrorKind};
use crate::exposition::{Exposition, Family, Format, Span, bytes, rewritten_base};
use crate::limits::Limits;
use crate::metadata::{self, Kind, Metadata, split_suffix};
use crate::sample::{Fault, fault, sample};
use crate::series::{SeriesReader, value_end};
use crate::{openmetrics, tidy};

/// See [`Exposition::parse_as`]; without a format, the text's own shape decides.
pub(crate) fn parse(
    text: Bytes,
    format: Option<Format>,
    limits: &Limits,
) -> Result<Exposition, ParseError> {
    check_bytes(&text)?;
    let read = match format.unwrap_or_else(|| openmetrics::format_of(&text)) {
        Format::Text => read(&text, limits).map(|draft| draft.finish(text.clone())),
        Format::OpenMetrics => openmetrics::parse(&text, limits),
    };
    let exposition = read.map_err(|error| foreign(&text).unwrap_or(error))?;
    if format == Some(Format::OpenMetrics) && !openmetrics::is_whole(&text) {
        let last = text.strip_suffix(b"\n").unwrap_or(&text).len();
        return Err(ParseError::at(&text, last, ParseErrorKind::MissingEof));
    }
    Ok(exposition)
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

/// Parses text of 0.0.4 which has been made from a text that was checked.
pub(crate) fn parse_classic(text: Bytes, limits: &Limits) -> Result<Exposition, ParseError> {
    check_length(&text)?;
    Ok(read(&text, limits)?.finish(text))
}

/// What no part of a text may hold, comments included.
fn check_bytes(text: &[u8]) -> Result<(), ParseError> {
    check_length(text)?;
    if let Some(nul) = memchr::memchr(0, text) {
        return Err(ParseError::at(text, nul, ParseErrorKind::NulByte));
    }
    if simdutf8::basic::from_utf8(text).is_err() {
        // The fast check does not say where; the standard library's does.
        let at = std::str::from_utf8(text).map_or_else(|error| error.valid_up_to(), str::len);
        return Err(ParseError::at(text, at, ParseErrorKind::InvalidUtf8));
    }
    Ok(())
}

fn check_length(text: &[u8]) -> Result<(), ParseError> {
    if text.len() >= u32::MAX as usize {
        return Err(ParseError::at(&[], 0, ParseErrorKind::TooLarge));
    }
    Ok(())
}

fn read(text: &[u8], limits: &Limits) -> Result<Draft, ParseError> {
    let mut reader = Reader::new(text, limits);
    reader.read()?;
    if reader.has_early_samples() {
        // A type came after samples which it concerns. Read again with all types known, so that
        // these samples are checked and assigned like any others.
        let types = reader.types();
        reader = Reader::new(text, limits);
        for (name, kind) in types {
            reader
                .declare(name, kind)
                .map_err(|fault| ParseError::at(text, fault.at, fault.kind))?;
        }
        reader.read()?;
    }
    Ok(reader.draft)
}

/// What has been read so far.
#[derive(Default)]
struct Draft {
    families: Vec<Family>,
    /// Sample lines in the order of the text, with the family to which they belong.
    runs: Vec<(u32, Span)>,
    rewritten: Vec<u8>,
    samples: usize,
    has_timestamps: bool,
}

struct Reader<'a> {
    text: &'a [u8],
    max_samples: usize,
    max_families: usize,
    max_lines: usize,
    draft: Draft,
    index: HashMap<&'a [u8], u32, foldhash::fast::RandomState>,
    /// The family of the line before.
    current: Current<'a>,
    series: SeriesReader<'a>,
    /// Whether a family has samples already, by its number.
    sampled: Vec<bool>,
    /// Whether a family was declared a histogram or summary after its first samples.
    declared_late: bool,
}

#[derive(Clone, Copy)]
struct Current<'a> {
    id: u32,
    name: &'a [u8],
    kind: Kind,
}

impl<'a> Reader<'a> {
    fn new(text: &'a [u8], limits: &Limits) -> Self {
        Self {
            text,
            max_samples: limits.max_samples,
            max_families: limits.max_families(),
            max_lines: limits.max_lines(),
            draft: Draft::default(),
            index: HashMap::default(),
            // Takes no sample, as none has an empty name.
            current: Current {
                id: 0,
                name: b"",
                kind: Kind::Untyped,
            },
            series: SeriesReader::within(limits),
            sampled: Vec::new(),
            declared_late: false,
        }
    }

    fn read(&mut self) -> Result<(), ParseError> {
        let text = self.text;
        let mut start = 0;
        for (before, end) in memchr::memchr_iter(b'\n', text).enumerate() {
            if before >= self.max_lines {
                return Err(ParseError::at(text, start, ParseErrorKind::TooManyLines));
            }
            self.line(start, end)
                .map_err(|fault| ParseError::in_line(text, part(text, start, end), fault))?;
            start = end + 1;
        }
        let end = text.len();
        self.line(start, end)
            .map_err(|fault| ParseError::in_line(text, part(text, start, end), fault))
    }

    /// Whether samples were read as something else than what a later line declares them to be.
    fn has_early_samples(&self) -> bool {
        let samples_of_another = |(id, family): (usize, &Family)| {
            let name = bytes(self.text, &[], family.name);
            family.kind.is_none()
                && self.sampled.get(id) == Some(&true)
                && split_suffix(name).is_some_and(|(family, suffix)| {
                    self.index
                        .get(family)
                        .and_then(|&id| self.kind_of(id))
                        .is_some_and(|kind| kind.takes(suffix))
                })
        };
        self.declared_late
            || self
                .draft
                .families
                .iter()
                .enumerate()
                .any(samples_of_another)
    }

    fn types(&self) -> Vec<(&'a [u8], Kind)> {
        let mut types: Vec<_> = self
            .index
            .iter()
            .filter_map(|(&name, &id)| Some((name, self.kind_of(id)?)))
            .collect();
        types.sort_unstable_by_key(|&(name, _)| name);
        types
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
        if self.draft.samples >= self.max_samples {
            return fault(0, ParseErrorKind::TooManySamples);
        }
        let sample = sample(line, &mut self.series)?;
        let suffix = self.enter(sample.series.name())?;
        if self.current.kind.is_compound() {
            self.current
                .kind
                .check(suffix, &sample)
                .or_else(|(piece, kind)| fault(offset_in(line, piece), kind))?;
        }
        self.draft.samples += 1;
        self.draft.has_timestamps |= sample.timestamp.is_some();
        let span = if sample.tidy && end < self.text.len() {
            Span {
                start: start as u32,
                end: end as u32 + 1,
            }
        } else {
            self.rewrite(|out| tidy::write_sample(out, &sample))?
        };
        match self.draft.runs.last_mut() {
            Some((family, last)) if *family == self.current.id && last.end == span.start => {
                last.end = span.end;
            }
            _ => {
                if let Some(sampled) = self.sampled.get_mut(self.current.id as usize) {
                    *sampled = true;
                }
                self.draft.runs.push((self.current.id, span));
            }
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
        if !self.index.contains_key(name)
            && let Some((family, suffix)) = split_suffix(name)
            && let Some(&id) = self.index.get(family)
            && let Some(kind) = self.kind_of(id)
            && kind.takes(suffix)
        {
            self.current = Current {
                id,
                name: family,
                kind,
            };
            return Ok(suffix);
        }
        let id = self.family(name)?;
        self.current = Current {
            id,
            name,
            kind: self.kind_of(id).unwrap_or(Kind::Untyped),
        };
        Ok(b"")
    }

    fn kind_of(&self, id: u32) -> Option<Kind> {
        self.draft.families.get(id as usize)?.kind
    }

    /// The family of this name, which need not have come before.
    fn family(&mut self, name: &'a [u8]) -> Result<u32, Fault> {
        let next = self.draft.families.len() as u32;
        let id = *self.index.entry(name).or_insert(next);
        if id == next {
            if next as usize >= self.max_families {
                return fault(0, ParseErrorKind::TooManyFamilies);
            }
            let start = offset_in(self.text, name) as u32;
            let name = Span {
                start,
                end: start + name.len() as u32,
            };
            let family = Family {
                name,
                help: None,
                kind: None,
                contradicted: false,
                spans: (0, 0),
            };
            self.draft.families.push(family);
            self.sampled.push(false);
        }
        Ok(id)
    }

    fn metadata(&mut self, line: &'a [u8], at: usize) -> Result<(), Fault> {
        match metadata::metadata(line, at)? {
            Metadata::Comment => Ok(()),
            Metadata::Help { name, text } => self.help(name, text),
            Metadata::Type {
                name,
                text,
                text_at,
            } => self.declare(name, metadata::kind(text, text_at)?),
        }
    }

    /// The first text counts, but an empty one only if there is no other.
    fn help(&mut self, name: &'a [u8], text: &'a [u8]) -> Result<(), Fault> {
        let id = self.family(name)?;
        let known = self
            .draft
            .families
            .get(id as usize)
            .and_then(|family| family.help);
        if known.is_some_and(|known| known.len() > 0 || text.is_empty()) {
            return Ok(());
        }
        let help = if tidy::is_tidy_help(text) {
            let start = offset_in(self.text, text) as u32;
            if text.is_empty() {
                Span { start: 0, end: 0 }
            } else {
                Span {
                    start,
                    end: start + text.len() as u32,
                }
            }
        } else {
            self.rewrite(|out| tidy::write_help(out, text))?
        };
        if let Some(family) = self.draft.families.get_mut(id as usize) {
            family.help = Some(help);
        }
        Ok(())
    }

    fn declare(&mut self, name: &'a [u8], kind: Kind) -> Result<(), Fault> {
        let id = self.family(name)?;
        if let Some(family) = self.draft.families.get_mut(id as usize) {
            family.contradicted |= family.kind.is_some_and(|known| known != kind);
            self.declared_late |= family.kind.is_none()
                && kind.is_compound()
                && self.sampled.get(id as usize) == Some(&true);
            let kind = *family.kind.get_or_insert(kind);
            self.current = Current { id, name, kind };
        }
        Ok(())
    }

    /// Writes what is served instead of a piece of the text.
    #[cold]
    fn rewrite(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Result<Span, Fault> {
        let position = |out: &Vec<u8>| u32::try_from(rewritten_base(self.text) + out.len());
        let start = position(&self.draft.rewritten);
        write(&mut self.draft.rewritten);
        match (start, position(&self.draft.rewritten)) {
            (Ok(start), Ok(end)) => Ok(Span { start, end }),
            _ => fault(0, ParseErrorKind::TooLarge),
        }
    }
}

impl Draft {
    /// Sorts the families by name and puts the lines of each together.
    fn finish(mut self, text: Bytes) -> Exposition {
        let mut order: Vec<u32> = (0..self.families.len() as u32).collect();
        let name = |id: u32| {
            self.families
                .get(id as usize)
                .map(|family| bytes(&text, &[], family.name))
        };
        order.sort_unstable_by_key(|&id| name(id));
        // Stable: the lines of a family stay in the order of the text.
        self.runs.sort_by_key(|&(family, _)| family);
        let mut families = Vec::with_capacity(order.len());
        let mut spans = Vec::with_capacity(self.runs.len());
        for id in order {
            let from = spans.len() as u32;
            let first = self.runs.partition_point(|&(family, _)| family < id);
            let own = self
                .runs
                .iter()
                .skip(first)
                .take_while(|&&(family, _)| family == id);
            spans.extend(own.map(|&(_, span)| span));
            if let Some(&family) = self.families.get(id as usize) {
                families.push(Family {
                    spans: (from, spans.len() as u32),
                    ..family
                });
            }
        }
        self.rewritten.shrink_to_fit();
        Exposition {
            text,
            rewritten: self.rewritten,
            heads: families.iter().map(Family::head_len).sum(),
            families,
            spans,
            samples: self.samples,
            has_timestamps: self.has_timestamps,
        }
    }
}
