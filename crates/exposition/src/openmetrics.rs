//! Reads OpenMetrics 1.0 text. Its families have the names that they have in text format 0.0.4, so that texts of both can
//! be merged; what that format does not have is kept for those who ask for OpenMetrics.
//!
//! | OpenMetrics | in text format 0.0.4 |
//! |---|---|
//! | counter `foo` | counter `foo_total` |
//! | info `foo` | gauge `foo_info` |
//! | stateset | gauge |
//! | unknown | untyped |
//! | gaugehistogram `foo` | histogram `foo`, gauges `foo_gcount` and `foo_gsum` |
//! | samples `foo_created` | gauge `foo_created`, in seconds as they stand |
//! | `# UNIT`, `# EOF`, exemplars | nothing; a unit that its family's name does not end with is left out anywhere |
//! | timestamp in seconds | timestamp in milliseconds, truncated as Prometheus does |
//! | `\"` in a help text | `"` |
//!
//! Reading is as lenient as for 0.0.4: an application may have appended one text to another, so
//! blanks, several `# EOF` and text after them are no faults. (A text that was said to be OpenMetrics must end
//! with one.) Lines are read once, like those of 0.0.4, and names of families settled at the end.

use std::collections::HashMap;

use crate::class::{is_blank, part, skip_blanks};
use crate::draft::Families;
use crate::error::{Fault, ParseErrorKind, fault};
use crate::exemplar::{Exemplar, exemplar};
use crate::format::Format;
use crate::metadata::{self, Metadata};
use crate::needs::{Needs, takes_exemplar};
use crate::number;
use crate::openmetrics_type::OpenMetricsType;
use crate::sample::{Sample, is_space, token_end, value_after};
use crate::series::SeriesReader;

/// The line which ends a text of OpenMetrics, and by which one is recognised.
pub(crate) const EOF: &[u8] = b"# EOF";

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
    /// The first that its name ends with.
    unit: &'a [u8],
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
    ) -> Result<Option<(&'a [u8], OpenMetricsType)>, Fault> {
        match line {
            Metadata::Comment => Ok(None),
            Metadata::Unit { name, text } => {
                let declaration = self.of(name, max)?;
                if declaration.unit.is_empty() && is_unit(name, text) {
                    declaration.unit = text;
                }
                Ok(None)
            }
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
                    return Ok(Some((name, kind)));
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
                unit: b"",
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
            families.need(id, Needs::DERIVED);
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

/// Whether the name ends with this unit, which Prometheus asks for.
pub(crate) fn is_unit(name: &[u8], unit: &[u8]) -> bool {
    let before = name.strip_suffix(unit);
    !unit.is_empty() && before.is_some_and(|before| before.len() > 1 && before.ends_with(b"_"))
}

impl<'a> Declaration<'a> {
    fn settle(&self, families: &mut Families<'a>) -> Result<(), Fault> {
        let mut renamed = None;
        for (kind, _) in self.renamed.iter().filter(|(_, declared)| *declared) {
            let id = families.family_of(self.name, kind.suffix_of(self.name))?;
            families.set_kind(id, kind.kind());
            if self.kind == Some(*kind) {
                renamed = Some(id);
            }
        }
        let more = self.kind.filter(|kind| {
            use OpenMetricsType::{GaugeHistogram, Info, StateSet};
            matches!(kind, GaugeHistogram | Info | StateSet)
        });
        if self.help.is_none() && self.unit.is_empty() && more.is_none() {
            return Ok(());
        }
        let id = match renamed {
            Some(id) => id,
            None => families.family(self.name)?,
        };
        families.set_openmetrics(id, more, self.unit.len());
        if let Some(help) = self.help {
            families.help(id, help, Format::OpenMetrics)?;
        }
        Ok(())
    }
}

/// Reads a sample line.
pub(crate) fn sample<'a>(
    line: &'a [u8],
    reader: &mut SeriesReader<'a>,
) -> Result<Sample<'a>, Fault> {
    let start = skip_blanks(line, 0);
    let series = reader.read(line, start)?;
    let value_at = skip_blanks(line, series.end);
    let value_to = value_after(line, series.end, value_at)?;
    let rest = Rest::read(line, value_to)?;
    let exemplar = rest.exemplar;
    let ends_clean = line.last().is_none_or(|&byte| !is_blank(byte));
    Ok(Sample {
        series,
        value: part(line, value_at, value_to),
        timestamp: rest.timestamp,
        exemplar: exemplar.map(|_| part(line, value_to, line.len())),
        tidy: series.tidy && start == 0 && ends_clean,
        needs: series.needs
            | Needs::NOT_TEXT.when(value_to < line.len())
            | Needs::QUOTED.when(exemplar.is_some_and(|exemplar| exemplar.quoted))
            | Needs::NOT_PROMETHEUS_2.when(exemplar.is_some() && !takes_exemplar(series.name()))
            | Needs::NOT_OPENMETRICS.when(!rest.strict || !is_space(line, series.end, value_at)),
    })
}

/// What follows the value of a sample.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rest<'a> {
    pub(crate) timestamp: Option<&'a [u8]>,
    pub(crate) exemplar: Option<Exemplar<'a>>,
    /// Whether all blanks are where OpenMetrics has them.
    pub(crate) strict: bool,
}

impl<'a> Rest<'a> {
    /// Reads what follows the value that ends at `value_to`.
    #[inline]
    pub(crate) fn read(line: &'a [u8], value_to: usize) -> Result<Self, Fault> {
        if value_to == line.len() {
            return Ok(Self {
                timestamp: None,
                exemplar: None,
                strict: true,
            });
        }
        Self::read_more(line, value_to)
    }

    fn read_more(line: &'a [u8], value_to: usize) -> Result<Self, Fault> {
        let mut at = skip_blanks(line, value_to);
        let mut rest = Self {
            timestamp: None,
            exemplar: None,
            strict: is_space(line, value_to, at),
        };
        if !matches!(line.get(at), None | Some(b'#')) {
            let end = token_end(line, at);
            let timestamp = part(line, at, end);
            // Format 0.0.4 has no timestamps before 1970.
            if number::milliseconds(timestamp).is_none() {
                return fault(at, ParseErrorKind::InvalidTimestamp);
            }
            rest.timestamp = Some(timestamp);
            if end == line.len() {
                return Ok(rest);
            }
            at = skip_blanks(line, end);
            rest.strict &= is_space(line, end, at);
        }
        match line.get(at) {
            None => rest.strict = false,
            Some(b'#') => rest.exemplar = Some(exemplar(line, at, &mut rest.strict)?),
            Some(_) => return fault(at, ParseErrorKind::TrailingText),
        }
        Ok(rest)
    }
}
