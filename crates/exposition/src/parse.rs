//! Reads a whole text once, line by line, and notes where the samples of each family are.

use std::collections::HashMap;

use bytes::Bytes;

use crate::class::{offset_in, part, skip_blanks};
use crate::error::{ParseError, ParseErrorKind};
use crate::exposition::{Exposition, Family, Format, Span, bytes, rewritten_base};
use crate::limits::Limits;
use crate::marks::Marks;
use crate::metadata::{self, Kind, Metadata, split_suffix};
use crate::openmetrics::Declared;
use crate::sample::{Fault, fault, sample};
use crate::series::{SeriesReader, value_end};
use crate::{openmetrics, tidy};

/// Lines that are read before it is asked again whether the text is still wanted.
const LINES_AT_A_TIME: usize = 1000;

/// See [`Exposition::parse_while`]; without a format, the text's own shape decides.
pub(crate) fn parse(
    text: Bytes,
    format: Option<Format>,
    limits: &Limits,
    wanted: &dyn Fn() -> bool,
) -> Result<Exposition, ParseError> {
    let shape = check_bytes(&text)?;
    let read_as = format.unwrap_or(shape);
    let draft = read(&text, read_as, limits, wanted);
    let draft = draft.map_err(|error| foreign(&text).unwrap_or(error))?;
    if format == Some(Format::OpenMetrics) && !openmetrics::is_whole(&text) {
        let last = text.strip_suffix(b"\n").unwrap_or(&text).len();
        return Err(ParseError::at(&text, last, ParseErrorKind::MissingEof));
    }
    Ok(draft.finish(text))
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
            .settle(&mut reader)
            .map_err(|(line, fault)| ParseError::in_line(text, line, fault))?;
    }
    reader.join_late();
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

pub(crate) struct Reader<'a> {
    text: &'a [u8],
    max_samples: usize,
    max_families: usize,
    max_lines: usize,
    draft: Draft,
    index: HashMap<&'a [u8], u32, foldhash::fast::RandomState>,
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
}

impl<'a> Reader<'a> {
    fn new(text: &'a [u8], format: Format, limits: &Limits) -> Self {
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
        if self.draft.samples >= self.max_samples {
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
            self.mark(suffix, marks);
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
            _ => self.draft.runs.push((self.current.id, span)),
        }
        Ok(())
    }

    /// Notes what a sample of the current family has.
    #[cold]
    fn mark(&mut self, suffix: &[u8], marks: Marks) {
        if let Some(family) = self.draft.families.get_mut(self.current.id as usize) {
            family.add_marks(suffix, marks);
        }
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
        let taker = self.taker(name).filter(|_| !self.index.contains_key(name));
        let (id, suffix) = match taker {
            Some((id, suffix)) => (id, suffix),
            None => (self.family(name)?, &b""[..]),
        };
        self.current = Current {
            id,
            name: name.strip_suffix(suffix).unwrap_or(name),
            kind: self.kind_of(id).unwrap_or(Kind::Untyped),
        };
        Ok(suffix)
    }

    /// The histogram or summary which takes samples of this name, and their suffix.
    fn taker(&self, name: &[u8]) -> Option<(u32, &'static [u8])> {
        let (family, suffix) = split_suffix(name)?;
        let &id = self.index.get(family)?;
        let takes = self.kind_of(id)?.takes(suffix);
        takes.then_some((id, suffix))
    }

    fn kind_of(&self, id: u32) -> Option<Kind> {
        self.draft.families.get(id as usize)?.kind
    }

    /// The family of this name, which need not have come before.
    pub(crate) fn family(&mut self, name: &'a [u8]) -> Result<u32, Fault> {
        let next = self.draft.families.len() as u32;
        let id = *self.index.entry(name).or_insert(next);
        if id == next {
            let start = offset_in(self.text, name) as u32;
            self.add_family(Span {
                start,
                end: start + name.len() as u32,
            })?;
        }
        Ok(id)
    }

    fn add_family(&mut self, name: Span) -> Result<u32, Fault> {
        let id = self.draft.families.len();
        if id >= self.max_families {
            return fault(0, ParseErrorKind::TooManyFamilies);
        }
        self.draft.families.push(Family::new(name));
        Ok(id as u32)
    }

    fn metadata(&mut self, line: &'a [u8], at: usize) -> Result<(), Fault> {
        let metadata = metadata::metadata(line, at)?;
        if let Some(declared) = &mut self.openmetrics {
            return match declared.note(metadata, self.max_families)? {
                Some((name, kind)) => self.declare(name, kind),
                None => Ok(()),
            };
        }
        match metadata {
            Metadata::Comment => Ok(()),
            Metadata::Help { name, text } => {
                let id = self.family(name)?;
                self.help(id, text, Format::Text)
            }
            Metadata::Type {
                name,
                text,
                text_at,
            } => self.declare(name, metadata::kind(text, text_at)?),
        }
    }

    /// The first text counts, but an empty one only if there is no other.
    pub(crate) fn help(&mut self, id: u32, text: &'a [u8], format: Format) -> Result<(), Fault> {
        let known = self
            .draft
            .families
            .get(id as usize)
            .and_then(|family| family.help);
        if known.is_some_and(|known| known.len() > 0 || text.is_empty()) {
            return Ok(());
        }
        let help = if text.is_empty() {
            Span { start: 0, end: 0 }
        } else if tidy::is_tidy_help(text) {
            let start = offset_in(self.text, text) as u32;
            Span {
                start,
                end: start + text.len() as u32,
            }
        } else {
            self.rewrite(|out| tidy::write_help(out, text, format))?
        };
        if let Some(family) = self.draft.families.get_mut(id as usize) {
            family.help = Some(help);
        }
        Ok(())
    }

    /// Of the types declared for a name, the first counts.
    fn declare(&mut self, name: &'a [u8], kind: Kind) -> Result<(), Fault> {
        let id = self.family(name)?;
        let kind = self.set_kind(id, kind);
        self.current = Current { id, name, kind };
        Ok(())
    }

    pub(crate) fn set_kind(&mut self, id: u32, kind: Kind) -> Kind {
        let Some(family) = self.draft.families.get_mut(id as usize) else {
            return kind;
        };
        family.contradicted |= family.kind.is_some_and(|known| known != kind);
        *family.kind.get_or_insert(kind)
    }

    /// The family whose name `name` and `suffix` make up. If there is none in the text there is a new one, which
    /// is not found again.
    pub(crate) fn family_of(&mut self, name: &'a [u8], suffix: &[u8]) -> Result<u32, Fault> {
        if let Some(&id) = self.index.get([name, suffix].concat().as_slice()) {
            return Ok(id);
        }
        let name = self.rewrite(|out| {
            out.extend_from_slice(name);
            out.extend_from_slice(suffix);
        })?;
        self.add_family(name)
    }

    /// Families of which nothing is declared, with their names.
    pub(crate) fn undeclared(&self) -> Vec<(u32, &'a [u8])> {
        let families = self.draft.families.iter().zip(0..);
        let undeclared =
            families.filter(|(family, _)| family.kind.is_none() && family.help.is_none());
        // These come from samples, so their names stand in the text.
        undeclared
            .map(|(family, id)| (id, bytes(self.text, &[], family.name)))
            .collect()
    }

    /// Gives samples to the histograms and summaries which were declared after them.
    fn join_late(&mut self) {
        let mut joins: Vec<u32> = Vec::new();
        for (id, name) in self.undeclared() {
            let Some((target, suffix)) = self.taker(name) else {
                continue;
            };
            if joins.is_empty() {
                joins = (0..self.draft.families.len() as u32).collect();
            }
            if let Some(join) = joins.get_mut(id as usize) {
                *join = target;
            }
            let marks = self
                .draft
                .families
                .get(id as usize)
                .map(|family| family.own);
            if let Some(family) = self.draft.families.get_mut(target as usize) {
                family.add_marks(suffix, marks.unwrap_or_default());
            }
        }
        if !joins.is_empty() {
            self.draft.join(&joins);
        }
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
    /// Gives the lines of each family to the one which `joins` has in its place, and leaves it out if that is
    /// another.
    fn join(&mut self, joins: &[u32]) {
        let kept: Vec<bool> = joins
            .iter()
            .zip(0..)
            .map(|(&join, id)| join == id)
            .collect();
        // Where each family is once the others are out.
        let numbers: Vec<u32> = kept
            .iter()
            .scan(0, |next, &kept| {
                let number = *next;
                *next += u32::from(kept);
                Some(number)
            })
            .collect();
        for (family, _) in &mut self.runs {
            let target = joins.get(*family as usize).copied().unwrap_or_default();
            *family = numbers.get(target as usize).copied().unwrap_or_default();
        }
        self.runs.dedup_by(|next, last| {
            let adjoin = next.0 == last.0 && next.1.start == last.1.end;
            if adjoin {
                last.1.end = next.1.end;
            }
            adjoin
        });
        let mut kept = kept.into_iter();
        self.families.retain(|_| kept.next().unwrap_or_default());
    }

    /// Sorts the families by name and puts the lines of each together.
    fn finish(mut self, text: Bytes) -> Exposition {
        // Where the next span of each family goes; first, how many it has.
        let mut next = vec![0; self.families.len()];
        for &(family, _) in &self.runs {
            if let Some(count) = next.get_mut(family as usize) {
                *count += 1;
            }
        }
        let mut families = Vec::with_capacity(self.families.len());
        let mut from = 0;
        for id in self.sorted(&text) {
            let (Some(&family), Some(next)) =
                (self.families.get(id as usize), next.get_mut(id as usize))
            else {
                continue;
            };
            let to = from + *next;
            *next = from;
            families.push(Family {
                spans: (from, to),
                ..family
            });
            from = to;
        }
        let mut spans = vec![Span { start: 0, end: 0 }; self.runs.len()];
        for &(family, span) in &self.runs {
            if let Some(next) = next.get_mut(family as usize)
                && let Some(slot) = spans.get_mut(*next as usize)
            {
                *slot = span;
                *next += 1;
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

    /// The families' numbers, sorted by name. Mostly, the first eight bytes tell names apart, at hand.
    fn sorted(&self, text: &[u8]) -> impl Iterator<Item = u32> {
        let name = |id: u32| {
            let family = self.families.get(id as usize);
            family.map_or(&b""[..], |family| bytes(text, &self.rewritten, family.name))
        };
        let mut order: Vec<(u64, u32)> = (0..self.families.len() as u32)
            .map(|id| (prefix(name(id)), id))
            .collect();
        order.sort_unstable_by(|one, other| {
            let by_prefix = one.0.cmp(&other.0);
            by_prefix.then_with(|| name(one.1).cmp(name(other.1)))
        });
        order.into_iter().map(|(_, id)| id)
    }
}

/// The first eight bytes of a name as a number; names sort as these do. No name holds a zero.
pub(crate) fn prefix(name: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    for (slot, &byte) in bytes.iter_mut().zip(name) {
        *slot = byte;
    }
    u64::from_be_bytes(bytes)
}
