//! Changes which samples a text has, and with which labels.
//!
//! The text itself stays as it is. Samples with labels added are rewritten lines beside it, as are
//! those which a reader would take differently; families left out are no longer pointed at.

use crate::class::{offset_in, part};
use crate::error::{ParseError, ParseErrorKind};
use crate::exposition::{Exposition, Family, lines, rewritten_base};
use crate::labels::{Escaped, Labels};
use crate::limits::Limits;
use crate::line::start;
use crate::needs::Needs;
use crate::series::read_labels;
use crate::span::Span;
use crate::tidy::{write_label_name, write_metric_name};
use crate::unescaped::unescaped;

/// What a sample's own label is renamed to where one of its name is added
/// (`resolveConflictingExposedLabels` in Prometheus's `scrape.go`).
const EXPORTED: &[u8] = b"exported_";

impl Exposition {
    /// The same samples, each with these labels added.
    ///
    /// Where a sample has a label of such a name itself, Prometheus's rules for the labels of a
    /// target hold (`mutateSampleLabels` in its `scrape.go`). With `honor_labels` the sample's own
    /// stays, even if it is empty. Without, the added one takes its place, and the sample's own,
    /// unless it is empty, is renamed with `exported_` in front, as often as it takes to be the only
    /// one of its name that is not empty.
    ///
    /// # Errors
    ///
    /// A sample would be past one of `limits` (reported where it stands, or its family first does if its line
    /// was rewritten), or the text would have 4 GiB or more.
    pub fn with_labels(
        &self,
        added: &Labels,
        honor_labels: bool,
        limits: &Limits,
    ) -> Result<Self, ParseError> {
        if added.is_empty() {
            return Ok(self.clone());
        }
        let mut writer = Writer::new(added, honor_labels, limits);
        let needs = Needs::QUOTED.when(added.any_quoted());
        let base = rewritten_base(&self.text);
        let mut families = Vec::with_capacity(self.families.len());
        // Names and HELP texts are pointed at, not read as lines, so those which were rewritten move along.
        for family in &self.families {
            let name = writer.keep(self, family.name, base)?;
            let help = match family.help {
                Some(span) => Some(writer.keep(self, span, base)?),
                None => None,
            };
            families.push(Family {
                name,
                help,
                needs: family.needs | needs,
                ..*family
            });
        }
        let mut written: Vec<(u32, Span)> = Vec::with_capacity(families.len());
        for (number, span) in self.spans_in_order() {
            let start = writer.position(base)?;
            for (offset, line) in lines(self.bytes(span)) {
                writer.sample(line).map_err(|kind| {
                    let at = span.start as usize + offset;
                    let family = self.families.get(number as usize);
                    let name = family.map_or(0, |family| family.name.start as usize);
                    ParseError::at(&self.text, if at < base { at } else { name }, kind)
                })?;
            }
            let end = writer.position(base)?;
            match written.last_mut() {
                Some((last, span)) if (*last, span.end) == (number, start) => span.end = end,
                _ => written.push((number, Span { start, end })),
            }
        }
        written.sort_by_key(|&(number, _)| number);
        for (family, number) in families.iter_mut().zip(0..) {
            let from = written.partition_point(|&(other, _)| other < number) as u32;
            let to = written.partition_point(|&(other, _)| other <= number) as u32;
            family.spans = (from, to);
        }
        writer.out.shrink_to_fit();
        let heads = families.iter().map(Family::head_len).sum();
        Ok(Self {
            text: self.text.clone(),
            format: self.format,
            rewritten: writer.out,
            families,
            spans: written.into_iter().map(|(_, span)| span).collect(),
            heads,
            samples: self.samples,
            has_timestamps: self.has_timestamps,
        })
    }

    /// All ranges of sample lines, each with the number of its family: family by family, or, where some are one in
    /// OpenMetrics, in the order of the text.
    fn spans_in_order(&self) -> impl Iterator<Item = (u32, Span)> {
        let are_one = |family: &Family| family.needs.has(Needs::DERIVED);
        let sorted = self.families.iter().any(are_one);
        let mut placed = Vec::with_capacity(self.spans.len());
        for (family, number) in self.families.iter().zip(0..) {
            let mut place = 0;
            for &span in self.spans_of(family) {
                place = span.start.max(place);
                placed.push((place, number, span));
            }
        }
        if sorted {
            placed.sort_by_key(|&(place, ..)| place);
        }
        placed.into_iter().map(|(_, number, span)| (number, span))
    }

    /// Leaves out every family, whole, of which `keep` does not take the name.
    ///
    /// A histogram's or summary's `_bucket`, `_count` and `_sum` are of its family. The name is
    /// that of format 0.0.4, where an OpenMetrics counter's ends with `_total`.
    pub fn retain_families(&mut self, mut keep: impl FnMut(&str) -> bool) {
        let families = std::mem::take(&mut self.families);
        let mut spans = Vec::with_capacity(self.spans.len());
        for family in families {
            if !keep(&unescaped(self.bytes(family.name))) {
                continue;
            }
            let from = spans.len() as u32;
            spans.extend_from_slice(self.spans_of(&family));
            self.families.push(Family {
                spans: (from, spans.len() as u32),
                ..family
            });
        }
        self.spans = spans;
        self.heads = self.families.iter().map(Family::head_len).sum();
        self.samples = self
            .spans
            .iter()
            .map(|&span| lines(self.bytes(span)).count())
            .sum();
    }
}

/// The name of a label, and its new one.
type Renamed<'l> = (&'l [u8], Vec<u8>);

/// Writes samples with labels added.
struct Writer<'a> {
    added: &'a Labels,
    honor_labels: bool,
    limits: &'a Limits,
    /// The added labels, ready for a sample which has none of their names.
    ready: String,
    /// The limit which one of the added labels is past.
    past: Option<ParseErrorKind>,
    out: Vec<u8>,
}

impl<'a> Writer<'a> {
    fn new(added: &'a Labels, honor_labels: bool, limits: &'a Limits) -> Self {
        let braced = added.to_string();
        let ready = braced.strip_suffix('}').unwrap_or(&braced);
        let past = added.iter().find_map(|(name, value)| {
            let value = Escaped(value).to_string();
            if name.len() > limits.max_name_len {
                Some(ParseErrorKind::NameTooLong)
            } else if value.len() > limits.max_label_value_len {
                Some(ParseErrorKind::LabelValueTooLong)
            } else {
                None
            }
        });
        Self {
            added,
            honor_labels,
            limits,
            ready: ready.to_owned(),
            past,
            out: Vec::new(),
        }
    }

    /// Where the next byte will stand.
    fn position(&self, base: usize) -> Result<u32, ParseError> {
        u32::try_from(base + self.out.len())
            .map_err(|_| ParseError::at(&[], 0, ParseErrorKind::TooLarge))
    }

    /// A range which is still good when these lines have taken the place of those rewritten before.
    fn keep(&mut self, of: &Exposition, span: Span, base: usize) -> Result<Span, ParseError> {
        if (span.start as usize) < base {
            return Ok(span);
        }
        let start = self.position(base)?;
        self.out.extend_from_slice(of.bytes(span));
        let end = self.position(base)?;
        Ok(Span { start, end })
    }

    /// Writes a line which has been read before, hence has no blank before its name.
    fn sample(&mut self, line: &[u8]) -> Result<(), ParseErrorKind> {
        if let Some(kind) = self.past {
            return Err(kind);
        }
        let start = start(line);
        let open = write_metric_name(&mut self.out, start.name);
        let Some(from) = start.labels else {
            self.ready(open);
            self.out.push(b'}');
            self.end(line, start.name.len());
            return self.check(self.added.len());
        };
        let labels = part(line, from, line.len());
        let (mut clash, mut own) = (false, 0);
        let mut to = 0;
        for (name, value) in read_labels(labels) {
            clash |= self.added.contains(name);
            own += usize::from(!value.is_empty());
            // One more for the closing quote.
            to = offset_in(labels, value) + value.len() + 1;
        }
        if clash {
            self.clashing(open, labels)?;
        } else {
            self.check(self.added.len() + own)?;
            self.ready(open);
            if to > 0 {
                self.out.push(b',');
                self.out.extend_from_slice(part(labels, 0, to));
            }
            self.out.push(b'}');
        }
        let close = memchr::memchr(b'}', part(labels, to, labels.len())).unwrap_or_default();
        self.end(labels, to + close + 1);
        Ok(())
    }

    /// Writes the added labels, with `open` in front of them.
    fn ready(&mut self, open: u8) {
        self.out.push(open);
        let labels = self.ready.as_bytes();
        self.out
            .extend_from_slice(labels.get(1..).unwrap_or_default());
    }

    /// Whether a sample may have so many labels.
    fn check(&self, labels: usize) -> Result<(), ParseErrorKind> {
        if labels > self.limits.max_labels {
            return Err(ParseErrorKind::TooManyLabels);
        }
        Ok(())
    }

    /// Writes what follows the series.
    fn end(&mut self, line: &[u8], at: usize) {
        self.out.extend_from_slice(part(line, at, line.len()));
        self.out.push(b'\n');
    }

    /// Writes the labels of a sample which has some of the added names itself.
    fn clashing(&mut self, mut open: u8, labels: &[u8]) -> Result<(), ParseErrorKind> {
        let own: Vec<(&[u8], &[u8])> = read_labels(labels).collect();
        let has = |name: &[u8]| own.iter().any(|&(own, _)| own == name);
        let renamed = match self.honor_labels {
            true => Vec::new(),
            false => self.renamed(&own)?,
        };
        let new_name = |name: &[u8]| renamed.iter().find(|(old, _)| *old == name);
        let mut count = 0;
        let mut write = |out: &mut Vec<u8>, name: &[u8], value: &[u8]| {
            count += usize::from(!value.is_empty());
            out.push(std::mem::replace(&mut open, b','));
            write_label_name(out, name);
            out.extend_from_slice(b"=\"");
            out.extend_from_slice(value);
            out.push(b'"');
        };
        for (name, value) in self.added.iter() {
            if !(self.honor_labels && has(name.as_bytes())) {
                let value = Escaped(value).to_string();
                write(&mut self.out, name.as_bytes(), value.as_bytes());
            }
        }
        for &(name, value) in &own {
            if self.honor_labels {
                write(&mut self.out, name, value);
            } else if let Some((_, name)) = new_name(name) {
                write(&mut self.out, name, value);
            } else if !self.added.contains(name) && !renamed.iter().any(|(_, new)| new == name) {
                write(&mut self.out, name, value);
            }
        }
        self.out.push(b'}');
        self.check(count)
    }

    /// The names of those labels in whose places added ones come, and their new ones
    /// (`resolveConflictingExposedLabels` in Prometheus's `scrape.go`). A label with an empty value is no
    /// label: it needs no new name, and its name is free.
    fn renamed<'l>(&self, own: &[(&'l [u8], &[u8])]) -> Result<Vec<Renamed<'l>>, ParseErrorKind> {
        let filled = own.iter().filter(|(_, value)| !value.is_empty());
        let filled: Vec<&[u8]> = filled.map(|&(name, _)| name).collect();
        let clashing = filled.iter().filter(|name| self.added.contains(name));
        let mut clashing: Vec<&[u8]> = clashing.copied().collect();
        clashing.sort_unstable_by_key(|name| (name.len(), *name));
        let mut renamed: Vec<Renamed<'l>> = Vec::with_capacity(clashing.len());
        for name in clashing {
            let mut new = [EXPORTED, name].concat();
            while self.added.contains(&new)
                || filled.contains(&new.as_slice())
                || renamed.iter().any(|(_, other)| *other == new)
            {
                new.splice(0..0, EXPORTED.iter().copied());
            }
            if new.len() > self.limits.max_name_len {
                return Err(ParseErrorKind::NameTooLong);
            }
            renamed.push((name, new));
        }
        Ok(renamed)
    }
}
