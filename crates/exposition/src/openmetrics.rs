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
//! blanks, several `# EOF` and text after them are no faults. (A text that was said to be OpenMetrics must end
//! with one.) Lines are read once, like those of 0.0.4, and names of families settled at the end.

use std::collections::HashMap;

use crate::class::{part, skip_blanks};
use crate::draft::Families;
use crate::error::{Fault, ParseErrorKind, fault};
use crate::exposition::Format;
use crate::metadata::{self, Metadata};
use crate::number;
use crate::sample::{Sample, Timestamp, token_end, value};
use crate::series::{SeriesReader, value_end};

/// The line which ends a text of OpenMetrics, and by which one is recognised.
const EOF: &[u8] = b"# EOF";

/// Whether the line at `at` is exactly `# EOF`.
#[inline]
pub(crate) fn is_eof_at(text: &[u8], at: usize) -> bool {
    let line = part(text, at, at + EOF.len());
    let starts = at == 0 || text.get(at - 1) == Some(&b'\n');
    starts && line == EOF && text.get(at + EOF.len()).is_none_or(|&after| after == b'\n')
}

/// Whether the last line of the text is exactly `# EOF`.
pub(crate) fn is_whole(text: &[u8]) -> bool {
    let before = text.strip_suffix(b"\n").unwrap_or(text).strip_suffix(EOF);
    before.is_some_and(|before| before.is_empty() || before.ends_with(b"\n"))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OpenMetricsType {
    Counter,
    Gauge,
    Histogram,
    GaugeHistogram,
    Summary,
    Info,
    Untyped,
}

impl OpenMetricsType {
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

    fn served_as(self) -> metadata::Kind {
        match self {
            Self::Counter => metadata::Kind::Counter,
            Self::Gauge | Self::Info => metadata::Kind::Gauge,
            Self::Histogram | Self::GaugeHistogram => metadata::Kind::Histogram,
            Self::Summary => metadata::Kind::Summary,
            Self::Untyped => metadata::Kind::Untyped,
        }
    }

    /// What a family of this type and name has at the end of its name in format 0.0.4. One which already has
    /// the suffix, as some libraries name them, keeps its name.
    fn suffix_of(self, name: &[u8]) -> &'static [u8] {
        let suffix: &[u8] = match self {
            Self::Counter => b"_total",
            Self::Info => b"_info",
            _ => b"",
        };
        if name.ends_with(suffix) { b"" } else { suffix }
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

/// What is declared under one name.
#[derive(Debug)]
struct Declaration<'a> {
    name: &'a [u8],
    /// The first.
    kind: Option<OpenMetricsType>,
    /// Whether it is also declared a counter or info whose family has another name.
    renamed: [(OpenMetricsType, bool); 2],
    /// The first which is not empty, else an empty one.
    help: Option<&'a [u8]>,
}

/// What a text declares. It may follow what depends on it, so it is settled at the end.
#[derive(Debug, Default)]
pub(crate) struct Declared<'a> {
    index: HashMap<&'a [u8], u32, foldhash::fast::RandomState>,
    /// In the order of the text.
    declarations: Vec<Declaration<'a>>,
}

impl<'a> Declared<'a> {
    /// Notes what a line declares, and returns the type of a family if it has this very name.
    pub(crate) fn note(
        &mut self,
        line: Metadata<'a>,
        max: usize,
    ) -> Result<Option<(&'a [u8], metadata::Kind)>, Fault> {
        match line {
            Metadata::Comment => Ok(None),
            Metadata::Help { name, text } => {
                let help = &mut self.of(name, max)?.help;
                *help = help.filter(|help| !help.is_empty()).or(Some(text));
                Ok(None)
            }
            Metadata::Type {
                name,
                text,
                text_at,
            } => {
                let Some(kind) = OpenMetricsType::parse(text) else {
                    return fault(text_at, ParseErrorKind::InvalidType);
                };
                let declaration = self.of(name, max)?;
                declaration.kind.get_or_insert(kind);
                if kind.suffix_of(name).is_empty() {
                    return Ok(Some((name, kind.served_as())));
                }
                for (renaming, declared) in &mut declaration.renamed {
                    *declared |= *renaming == kind;
                }
                Ok(None)
            }
        }
    }

    fn of(&mut self, name: &'a [u8], max: usize) -> Result<&mut Declaration<'a>, Fault> {
        let next = self.declarations.len();
        let at = *self.index.entry(name).or_insert(next as u32) as usize;
        if at == next {
            self.declarations.push(Declaration {
                name,
                kind: None,
                renamed: [
                    (OpenMetricsType::Counter, false),
                    (OpenMetricsType::Info, false),
                ],
                help: None,
            });
        }
        match self.declarations.get_mut(at) {
            Some(declaration) if at < max => Ok(declaration),
            _ => fault(0, ParseErrorKind::TooManyFamilies),
        }
    }

    /// Gives types and help texts to the families which have them in format 0.0.4. A fault is one of the line
    /// beside it.
    pub(crate) fn settle(self, families: &mut Families<'a>) -> Result<(), (&'a [u8], Fault)> {
        for declaration in &self.declarations {
            declaration
                .settle(families)
                .map_err(|fault| (declaration.name, fault))?;
        }
        for (id, name) in families.undeclared() {
            let Some(declaration) = self.deriving(name) else {
                continue;
            };
            families.set_kind(id, metadata::Kind::Gauge);
            if let Some(help) = declaration.help {
                let noted = families.help(id, help, Format::OpenMetrics);
                noted.map_err(|fault| (name, fault))?;
            }
        }
        Ok(())
    }

    /// The declaration from which a family of this name is derived.
    fn deriving(&self, name: &[u8]) -> Option<&Declaration<'a>> {
        let (family, suffix) = name.split_at(memchr::memrchr(b'_', name)?);
        let declaration = self.declarations.get(*self.index.get(family)? as usize)?;
        let derives = declaration.kind.is_some_and(|kind| kind.derives(suffix));
        derives.then_some(declaration)
    }
}

impl<'a> Declaration<'a> {
    fn settle(&self, families: &mut Families<'a>) -> Result<(), Fault> {
        let mut renamed = None;
        for (kind, _) in self.renamed.iter().filter(|(_, declared)| *declared) {
            let id = families.family_of(self.name, kind.suffix_of(self.name))?;
            families.set_kind(id, kind.served_as());
            if self.kind == Some(*kind) {
                renamed = Some(id);
            }
        }
        if let Some(help) = self.help {
            let id = match renamed {
                Some(id) => id,
                None => families.family(self.name)?,
            };
            families.help(id, help, Format::OpenMetrics)?;
        }
        Ok(())
    }
}

/// Reads a sample line. What format 0.0.4 does not have, or has in another form, makes it untidy.
pub(crate) fn sample<'a>(
    line: &'a [u8],
    reader: &mut SeriesReader<'a>,
) -> Result<Sample<'a>, Fault> {
    let start = skip_blanks(line, 0);
    let series = reader.read(line, start)?;
    let value_at = skip_blanks(line, series.end);
    let value_to = value(line, value_at)?;
    let (timestamp, rest) = timestamp(line, skip_blanks(line, value_to))?;
    exemplar(line, rest)?;
    Ok(Sample {
        series,
        value: part(line, value_at, value_to),
        timestamp: timestamp.map(Timestamp::Milliseconds),
        tidy: series.tidy && start == 0 && value_to == line.len(),
    })
}

/// Reads an optional timestamp, and returns it in milliseconds with the position after it.
///
/// Format 0.0.4 has no timestamps before 1970.
fn timestamp(line: &[u8], at: usize) -> Result<(Option<u64>, usize), Fault> {
    if matches!(line.get(at), None | Some(b'#')) {
        return Ok((None, at));
    }
    let end = token_end(line, at);
    match number::milliseconds(part(line, at, end)) {
        Some(milliseconds) => Ok((Some(milliseconds), skip_blanks(line, end))),
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
