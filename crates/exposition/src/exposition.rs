//! One application's text, validated, and where its families are.

use std::hash::BuildHasher;

use bytes::Bytes;

use crate::class::part;
use crate::format::Format;
use crate::line::start;
use crate::marks::Marks;
use crate::metadata::{Kind, SUFFIXES};
use crate::needs::Needs;
use crate::openmetrics_type::OpenMetricsType;
use crate::series::read_labels;
use crate::span::{Piece, Span};
use crate::unescaped::unescaped;

/// Bytes that a merge takes for a family whose name no other part has, at most: its group, its place among
/// the groups, and a name in a hash table that has just grown. Measured by the test `memory`.
const MERGED_FAMILY: usize = 150;

/// Bytes that an allocation takes beside what it holds, and a place in a hash table that has just grown.
const MALLOC: usize = 64;

/// One application's text, validated, with the ranges of its families.
///
/// The text itself is kept and never copied; beside it are about 50 bytes per family, and a copy
/// of those lines only which had to be rewritten because they are untidy. [`Exposition::memory`] counts all of it.
#[derive(Debug, Clone)]
pub struct Exposition {
    pub(crate) text: Bytes,
    /// What its lines are, also those which were rewritten.
    pub(crate) format: Format,
    /// Lines as they are served where they differ from the text; see [`Span`].
    pub(crate) rewritten: Vec<u8>,
    /// Sorted by name.
    pub(crate) families: Vec<Family>,
    /// The sample lines of each family in turn, in the order of the text.
    pub(crate) spans: Vec<Span>,
    /// Bytes of its HELP and TYPE lines as a merge writes them, which is at most what all its families
    /// take in a merge of their own.
    pub(crate) heads: usize,
    pub(crate) samples: usize,
    pub(crate) has_timestamps: bool,
}

/// What one text says of one family.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Family {
    pub(crate) name: Span,
    pub(crate) help: Option<Span>,
    /// The type first declared.
    pub(crate) kind: Option<Kind>,
    /// Whether the text also declares another type.
    pub(crate) contradicted: bool,
    /// The type of OpenMetrics that says more than the other.
    pub(crate) openmetrics: Option<OpenMetricsType>,
    /// How many bytes its unit has, with which its name ends in OpenMetrics.
    pub(crate) unit: u8,
    /// Why its lines cannot be served as they stand.
    pub(crate) needs: Needs,
    /// What its samples of its own name have.
    pub(crate) own: Marks,
    /// What its other samples have, which only a histogram or summary takes.
    pub(crate) others: Marks,
    /// The first of its spans, and the one after its last.
    pub(crate) spans: (u32, u32),
}

impl Family {
    pub(crate) fn new(name: Span) -> Self {
        Self {
            name,
            help: None,
            kind: None,
            contradicted: false,
            openmetrics: None,
            unit: 0,
            needs: Needs::default(),
            own: Marks::default(),
            others: Marks::default(),
            spans: (0, 0),
        }
    }

    /// Notes what samples have whose name is the family's and `suffix`.
    pub(crate) fn add_marks(&mut self, suffix: &[u8], marks: Marks) {
        if suffix.is_empty() {
            self.own.add(marks);
        } else {
            self.others.add_of(suffix, marks);
        }
    }

    pub(crate) fn has_samples(&self) -> bool {
        self.spans.0 < self.spans.1
    }

    /// Bytes that a merge takes for its name and those of its samples, if they are escaped.
    fn escaped_len(&self) -> usize {
        /// A name may become a number for each of its bytes, beside it and in three lines.
        const GROWTH: usize = 4 * 5;
        const NAMES: usize = 1 + SUFFIXES.len();
        const ENTRY: usize = 2 * (size_of::<Vec<u8>>() + MALLOC);
        if self.needs.has(Needs::QUOTED) {
            NAMES * (self.name.len() * GROWTH + ENTRY)
        } else {
            0
        }
    }

    /// Bytes of its HELP and TYPE line.
    pub(crate) fn head_len(&self) -> usize {
        const HELP: usize = b"# HELP \"\" \n".len();
        const TYPE: usize = b"# TYPE \"\" gaugehistogram\n".len();
        const UNIT: usize = b"# UNIT \"\" \n".len();
        let help = self.help.map(|help| HELP + self.name.len() + help.len());
        let unit = usize::from(self.unit);
        let unit = (unit > 0).then_some(UNIT + self.name.len() + unit);
        // A family without a type may be given one.
        help.unwrap_or_default()
            + unit.unwrap_or_default()
            + TYPE
            + self.name.len()
            + self.escaped_len()
    }
}

impl Exposition {
    /// The text as it came: parsed again, in the same format, it gives the same.
    #[must_use]
    pub fn text(&self) -> &Bytes {
        &self.text
    }

    /// What the text was read as.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// How many samples the text has.
    #[must_use]
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// How many families the text has, with samples or without.
    #[must_use]
    pub fn families(&self) -> usize {
        self.families.len()
    }

    /// How many bytes are kept for it: the text and any rewritten lines.
    #[must_use]
    pub fn text_len(&self) -> usize {
        self.text.len() + self.rewritten.len()
    }

    /// Bytes that it takes: its text, what is known of each family, and what a merge takes for that at most
    /// (less where parts have families in common).
    ///
    /// Where parts contradict each other, histograms and summaries may take half as much again.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.text_len()
            + self.heads
            + self.families.len() * (size_of::<Family>() + MERGED_FAMILY)
            + self.spans.len() * (size_of::<Span>() + size_of::<Piece>())
    }

    /// Whether any sample has a timestamp of its own.
    #[must_use]
    pub fn has_timestamps(&self) -> bool {
        self.has_timestamps
    }

    /// A hash of each sample's series, which is its name and its label set.
    ///
    /// The order of labels makes no difference, and neither does a label with an empty value,
    /// which is no label to Prometheus. Hashes from the same hasher can be compared between texts.
    pub fn series<'a, S: BuildHasher>(&'a self, hasher: &'a S) -> impl Iterator<Item = u64> + 'a {
        self.spans
            .iter()
            .flat_map(|&span| lines(self.bytes(span)))
            .map(|(_, line)| series_hash(hasher, line))
    }

    /// The value of a label that is the same in every sample. `None`: there is no sample, or one without the label, or
    /// one with another value; it is not looked further than the first of these.
    #[must_use]
    pub fn common_label(&self, name: &str) -> Option<String> {
        let lines = self.spans.iter().flat_map(|&span| lines(self.bytes(span)));
        let mut values = lines.map(|(_, line)| label(line, name.as_bytes()));
        let first = values.next()??;
        values
            .all(|value| value == Some(first))
            .then(|| unescaped(first))
    }

    /// The bytes of a range; empty if it is none of this text.
    pub(crate) fn bytes(&self, span: Span) -> &[u8] {
        bytes(&self.text, &self.rewritten, span)
    }

    /// The sample lines of one family.
    pub(crate) fn spans_of(&self, family: &Family) -> &[Span] {
        let (from, to) = family.spans;
        self.spans
            .get(from as usize..to as usize)
            .unwrap_or_default()
    }
}

pub(crate) fn bytes<'a>(text: &'a [u8], rewritten: &'a [u8], span: Span) -> &'a [u8] {
    let (start, end) = (span.start as usize, span.end as usize);
    let base = rewritten_base(text);
    match start.checked_sub(base) {
        None => text.get(start..end),
        Some(start) => rewritten.get(start..end.saturating_sub(base)),
    }
    .unwrap_or_default()
}

/// The position of the first rewritten line. One more than the text's end, so that no line of the
/// text and no rewritten line are ever taken for neighbours.
pub(crate) fn rewritten_base(text: &[u8]) -> usize {
    text.len() + 1
}

/// The lines of a span, without their line feeds, and where each starts.
pub(crate) fn lines(bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut start = 0;
    memchr::memchr_iter(b'\n', bytes).map(move |newline| {
        let line = (start, bytes.get(start..newline).unwrap_or_default());
        start = newline + 1;
        line
    })
}

/// The hash of the series of a line which has been read before, hence has no blank before its name.
pub(crate) fn series_hash(hasher: &impl BuildHasher, line: &[u8]) -> u64 {
    let mut labels = 0_u64;
    let mut count = 0_usize;
    for label in labels_of(line) {
        // Addition does not care for order, and unlike exclusive or does not lose equal hashes.
        labels = labels.wrapping_add(hasher.hash_one(label));
        count += 1;
    }
    hasher.hash_one((start(line).name, labels, count))
}

/// Names and raw values of the labels of such a line, without those that have an empty value.
fn labels_of(line: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let labels = start(line).labels;
    let labels = labels.map_or(&b""[..], |from| part(line, from, line.len()));
    read_labels(labels).filter(|(_, value)| !value.is_empty())
}

/// The raw value of a label of such a line.
fn label<'l>(line: &'l [u8], name: &[u8]) -> Option<&'l [u8]> {
    let mut labels = labels_of(line);
    labels.find_map(|(found, value)| (found == name).then_some(value))
}
