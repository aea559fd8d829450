//! Changes which samples a text has, and with which labels.
//!
//! The text itself stays as it is. Samples with labels added are rewritten lines beside it, as are
//! those which a reader would take differently; families left out are no longer pointed at.

use crate::class::{name_end, offset_in, part, skip_blanks};
use crate::error::{ParseError, ParseErrorKind};
use crate::exposition::{Exposition, Family, Span, lines, rewritten_base};
use crate::labels::{Escaped, Labels};
use crate::series::read_labels;

/// What a sample's own label is renamed to where one of its name is added
/// (`resolveConflictingExposedLabels` in Prometheus's `scrape.go`).
const EXPORTED: &[u8] = b"exported_";

impl Exposition {
    /// The same samples, each with these labels added.
    ///
    /// Where a sample has a label of such a name itself, Prometheus's rules for the labels of a
    /// target hold. With `honor_labels` the sample's own stays, even if it is empty. Without, the
    /// added one takes its place, and the sample's own, unless it is empty, is renamed with
    /// `exported_` in front, as often as it takes to be the only one of its name.
    ///
    /// # Errors
    ///
    /// The text would have 4 GiB or more.
    pub fn with_labels(&self, added: &Labels, honor_labels: bool) -> Result<Self, ParseError> {
        if added.is_empty() {
            return Ok(self.clone());
        }
        let mut writer = Writer::new(added, honor_labels);
        let base = rewritten_base(&self.text);
        let mut families = Vec::with_capacity(self.families.len());
        let mut spans = Vec::with_capacity(self.families.len());
        // HELP texts are pointed at, not read as lines, so those which were rewritten move along.
        for family in &self.families {
            let help = match family.help {
                Some(span) => Some(writer.keep(self, span, base)?),
                None => None,
            };
            let start = writer.position(base)?;
            for &span in self.spans_of(family) {
                for (_, line) in lines(self.bytes(span)) {
                    writer.sample(line);
                }
            }
            let end = writer.position(base)?;
            let from = spans.len() as u32;
            if end > start {
                spans.push(Span { start, end });
            }
            families.push(Family {
                help,
                spans: (from, spans.len() as u32),
                ..*family
            });
        }
        writer.out.shrink_to_fit();
        Ok(Self {
            text: self.text.clone(),
            rewritten: writer.out,
            families,
            spans,
            heads: self.heads,
            samples: self.samples,
            has_timestamps: self.has_timestamps,
        })
    }

    /// Leaves out every family, whole, of which `keep` does not take the name.
    ///
    /// A histogram's or summary's `_bucket`, `_count` and `_sum` are of its family. The name is
    /// that of format 0.0.4, where an OpenMetrics counter's ends with `_total`.
    pub fn retain_families(&mut self, mut keep: impl FnMut(&str) -> bool) {
        let families = std::mem::take(&mut self.families);
        let mut spans = Vec::with_capacity(self.spans.len());
        for family in families {
            let name = std::str::from_utf8(self.bytes(family.name));
            if !name.is_ok_and(&mut keep) {
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

/// Writes samples with labels added.
struct Writer<'a> {
    added: &'a Labels,
    honor_labels: bool,
    /// The added labels, ready for a sample which has none of their names.
    ready: String,
    out: Vec<u8>,
}

impl<'a> Writer<'a> {
    fn new(added: &'a Labels, honor_labels: bool) -> Self {
        let braced = added.to_string();
        let ready = braced.strip_suffix('}').unwrap_or(&braced);
        Self {
            added,
            honor_labels,
            ready: ready.to_owned(),
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
    fn sample(&mut self, line: &[u8]) {
        let name_to = name_end(line, 0);
        let brace = skip_blanks(line, name_to);
        self.out.extend_from_slice(part(line, 0, name_to));
        if line.get(brace) != Some(&b'{') {
            self.out.extend_from_slice(self.ready.as_bytes());
            self.out.push(b'}');
            self.end(line, name_to);
            return;
        }
        let labels = part(line, brace + 1, line.len());
        let mut clash = false;
        let mut to = 0;
        for (name, value) in read_labels(labels) {
            clash |= self.added.contains(name);
            // One more for the closing quote.
            to = offset_in(labels, value) + value.len() + 1;
        }
        if clash {
            self.clashing(labels);
        } else {
            self.out.extend_from_slice(self.ready.as_bytes());
            if to > 0 {
                self.out.push(b',');
                self.out.extend_from_slice(part(labels, 0, to));
            }
            self.out.push(b'}');
        }
        let close = memchr::memchr(b'}', part(labels, to, labels.len())).unwrap_or_default();
        self.end(labels, to + close + 1);
    }

    /// Writes what follows the series.
    fn end(&mut self, line: &[u8], at: usize) {
        self.out.extend_from_slice(part(line, at, line.len()));
        self.out.push(b'\n');
    }

    /// Writes the labels of a sample which has some of the added names itself.
    fn clashing(&mut self, labels: &[u8]) {
        let own: Vec<(&[u8], &[u8])> = read_labels(labels).collect();
        let has = |name: &[u8]| own.iter().any(|&(own, _)| own == name);
        let mut open = b'{';
        let mut write = |out: &mut Vec<u8>, name: &[u8], value: &[u8]| {
            out.push(std::mem::replace(&mut open, b','));
            out.extend_from_slice(name);
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
        let mut renamed: Vec<Vec<u8>> = Vec::new();
        for &(name, value) in &own {
            if self.honor_labels || !self.added.contains(name) {
                write(&mut self.out, name, value);
            } else if !value.is_empty() {
                let mut exported = [EXPORTED, name].concat();
                while has(&exported)
                    || self.added.contains(&exported)
                    || renamed.contains(&exported)
                {
                    exported.splice(0..0, EXPORTED.iter().copied());
                }
                write(&mut self.out, &exported, value);
                renamed.push(exported);
            }
        }
        self.out.push(b'}');
    }
}
