//! Decides, family by family, what is served: type, help, and the order of the lines.
//!
//! Only names, types and ranges are looked at here. Lines are read again only where parts
//! contradict each other, by [`crate::regroup`].

use std::borrow::Cow;
use std::sync::Arc;

use crate::encoding::Encoding;
use crate::error::ParseError;
use crate::exposition::{Exposition, Family};
use crate::format::Format;
use crate::groups::{Group, Groups, group};
use crate::limits::Limits;
use crate::metadata::Kind;
use crate::openmetrics::{EOF, is_unit};
use crate::openmetrics_families::{Declared, OpenMetricsFamilies};
use crate::openmetrics_type::OpenMetricsType;
use crate::regroup;
use crate::span::Piece;
use crate::tidy::write_metric;
use crate::write::{Merged, Output};
use crate::written_names::WrittenNames;

/// Bytes that are copied at a time.
const WRITTEN_CHUNK: usize = 1 << 20;

/// One text of those which are merged.
#[derive(Debug, Clone)]
pub struct Part {
    /// The text.
    pub exposition: Arc<Exposition>,
    /// Who declares its types: an opaque number that all texts of the same application or identity have in
    /// common, as these have one vote together. `None`: nobody who has another text.
    pub voter: Option<u64>,
}

impl From<Arc<Exposition>> for Part {
    fn from(exposition: Arc<Exposition>) -> Self {
        Self {
            exposition,
            voter: None,
        }
    }
}

/// Merges texts to one of format 0.0.4, in the order given, which should be that of the applications' age: it alone
/// decides ties. See the crate's documentation for the rules.
#[must_use]
pub fn merge(parts: Vec<Part>) -> Merged {
    merge_as(Encoding::TEXT, parts)
}

/// Merges as [`merge`] does, to a text of this encoding.
#[must_use]
pub fn merge_as(encoding: Encoding, parts: Vec<Part>) -> Merged {
    merge_in_front(encoding, Vec::new(), parts)
}

/// Merges as [`merge_as`] does, but in each family the samples of `first` stand before those of `parts`.
///
/// Of a series that stands twice, Prometheus takes the first sample and drops the second, so a sample that
/// comes but once is safe in `first`. In all else these are the youngest: their types and help texts count
/// after those of `parts`.
#[must_use]
pub fn merge_in_front(encoding: Encoding, first: Vec<Part>, parts: Vec<Part>) -> Merged {
    let mut output = Output {
        in_front: parts.len() as u32,
        ..Output::default()
    };
    let (parts, voters): (Vec<_>, Vec<_>) = parts
        .into_iter()
        .chain(first)
        .map(|part| (part.exposition, part.voter))
        .unzip();
    let names = WrittenNames::new(&parts, encoding);
    let mut groups = group(&parts, &voters, &names);
    groups.decide();
    regroup::regroup(&parts, &mut groups, &names, encoding);
    groups.arrange(&parts);
    for group in &groups.groups {
        output.type_conflicts += usize::from(group.is_conflict());
        output.name_conflicts += usize::from(group.shares_name);
    }
    Writer {
        encoding,
        parts: &parts,
        groups: &groups,
    }
    .write(&mut output);
    Merged::new(parts, encoding, output)
}

impl Exposition {
    /// The same samples, of which the text says all: added labels, and what was left out.
    ///
    /// # Errors
    ///
    /// The text would have 4 GiB or more.
    pub fn written(self) -> Result<Self, ParseError> {
        let format = self.format;
        let merged = merge_as(Encoding::unescaped(format), vec![Arc::new(self).into()]);
        let mut text = Vec::with_capacity(merged.about_len());
        for chunk in merged.into_chunks(WRITTEN_CHUNK) {
            text.extend_from_slice(&chunk);
        }
        Self::parse_as(text.into(), format, &Limits::NONE)
    }
}

/// Writes the families of these groups, one after the other.
struct Writer<'g, 'a> {
    encoding: Encoding,
    parts: &'a [Arc<Exposition>],
    groups: &'g Groups<'a>,
}

impl<'a> Writer<'_, 'a> {
    fn write(&self, output: &mut Output) {
        let families = match self.encoding.format {
            Format::Text => None,
            Format::OpenMetrics => Some(self.openmetrics_families()),
        };
        for (group, position) in self.groups.groups.iter().zip(0..) {
            if group.left_out {
                continue;
            }
            output.families += 1;
            let from = output.pieces.len();
            match &families {
                None => {
                    self.text_head(output, group);
                    self.samples(output, group);
                }
                Some(families) if families.joins(position) => continue,
                Some(families) => {
                    self.openmetrics_head(output, families, group);
                    match families.joined(position) {
                        [] => self.samples(output, group),
                        joined => self.joined_samples(output, group, joined),
                    }
                }
            }
            output.note_shared(from);
        }
        if self.encoding.format == Format::OpenMetrics {
            output.head(|heads| {
                heads.extend_from_slice(EOF);
                heads.push(b'\n');
            });
        }
    }

    fn openmetrics_families(&self) -> OpenMetricsFamilies<'a> {
        OpenMetricsFamilies::new(self.groups, |group| self.said(group)?.openmetrics)
    }

    /// What the first part whose type won says of the family.
    fn said(&self, group: &Group<'_>) -> Option<&'a Family> {
        let families = self.groups.blocks_of(group).iter();
        let mut families = families.filter_map(|block| Some(block.family(self.parts)?.1));
        families.find(|family| family.kind == group.kind)
    }

    fn samples(&self, output: &mut Output, group: &Group<'_>) {
        let blocks = self.groups.blocks_of(group);
        let in_front = blocks.partition_point(|block| block.part < output.in_front);
        let (behind, in_front) = blocks.split_at(in_front);
        let kept = in_front.iter().chain(behind).filter_map(|block| {
            let (part, family) = block.family(self.parts)?;
            let conversion = self.encoding.conversion(part.format, family.needs);
            let lines = move |&span| Piece::Lines {
                part: block.part,
                span,
                conversion,
            };
            group
                .keeps(family)
                .then(|| part.spans_of(family).iter().map(lines))
        });
        let moved = self.groups.moved_to(group);
        if moved.is_empty() {
            output.pieces.extend(kept.flatten());
        } else {
            let mut pieces: Vec<Piece> = kept.flatten().chain(moved.iter().copied()).collect();
            pieces.sort_by_key(|piece| {
                let part = piece.part();
                (part < Some(output.in_front), part)
            });
            output.pieces.append(&mut pieces);
        }
    }

    /// The samples of families which are one in OpenMetrics, those of each part in the order in which it has them:
    /// Prometheus finds a start time, which `_created` is, only directly behind the samples that have it
    /// (`StartTimestamp` in `openmetricsparse.go`).
    fn joined_samples(&self, output: &mut Output, group: &Group<'_>, joined: &[u32]) {
        let mut placed = Vec::new();
        let joined = joined.iter();
        let joined = joined.filter_map(|&position| self.groups.groups.get(position as usize));
        for group in std::iter::once(group).chain(joined) {
            let from = output.pieces.len();
            self.samples(output, group);
            // Lines that were written anew are behind all others, but no line overtakes one of its own family.
            let (mut of, mut place) = (None, 0);
            for piece in output.pieces.drain(from..) {
                let Piece::Lines { part, span, .. } = piece else {
                    continue;
                };
                place = span.start.max(if of == Some(part) { place } else { 0 });
                of = Some(part);
                placed.push(((part < output.in_front, part, place), piece));
            }
        }
        placed.sort_by_key(|&(place, _)| place);
        for (_, piece) in placed {
            output.lines(piece);
        }
    }

    fn text_head(&self, output: &mut Output, group: &Group<'_>) {
        let carried = output.last_kind.is_some_and(Kind::is_compound);
        let kind = kind_of(group, carried);
        output.last_kind = kind.or(output.last_kind);
        let help = help(self.parts, self.groups, group);
        output.head(|heads| {
            if let Some(help) = help {
                declare(heads, b"HELP", group.name, help);
            }
            if let Some(kind) = kind {
                declare(heads, b"TYPE", group.name, kind.as_str().as_bytes());
            }
        });
    }

    fn openmetrics_head(
        &self,
        output: &mut Output,
        families: &OpenMetricsFamilies<'a>,
        group: &Group<'a>,
    ) {
        let carried = output.last_kind.is_some_and(has_start_times);
        let kind = kind_of(group, carried);
        output.last_kind = kind.or(output.last_kind);
        let said = self.said(group);
        let declared = families.declared(group, said.and_then(|family| family.openmetrics));
        let needed = kind.map(|kind| Declared {
            kind: OpenMetricsType::of(kind),
            name: group.name,
        });
        let declared = declared.or(needed);
        let name = declared.map_or(group.name, |declared| declared.name);
        let help = help(self.parts, self.groups, group);
        let unit_len = said.map_or(0, |family| usize::from(family.unit));
        let unit = name.get(name.len().saturating_sub(unit_len)..);
        output.head(|heads| {
            if let Some(help) = help {
                declare(heads, b"HELP", name, &quotes_escaped(help));
            }
            if let Some(declared) = declared {
                declare(heads, b"TYPE", name, declared.kind.as_str().as_bytes());
            }
            if let Some(unit) = unit.filter(|unit| is_unit(name, unit)) {
                declare(heads, b"UNIT", name, unit);
            }
        });
    }
}

/// The type that is written, or none if no part declares one.
///
/// Prometheus 3 carries the type of one family over to the next if that declares none, and then rewrites its `le` and
/// `quantile` labels (`normalizeFloatsInLabelValues` in `promparse.go`): whose series that hits would depend on what else
/// is served. In OpenMetrics it then looks for start times as well, and may panic.
fn kind_of(group: &Group<'_>, carried: bool) -> Option<Kind> {
    let needs_kind = group.needs_kind || carried;
    group.kind.or(needs_kind.then_some(Kind::Untyped))
}

/// Whether Prometheus 3 looks for the start times of such a family. It takes the first bytes of each sample for the
/// family's name, as many as the name has that was last declared, and panics where the sample has fewer (`StartTimestamp`
/// in `openmetricsparse.go`).
fn has_start_times(kind: Kind) -> bool {
    kind.is_compound() || kind == Kind::Counter
}

fn declare(heads: &mut Vec<u8>, keyword: &[u8], name: &[u8], text: &[u8]) {
    heads.extend_from_slice(b"# ");
    heads.extend_from_slice(keyword);
    heads.push(b' ');
    write_metric(heads, name);
    heads.push(b' ');
    heads.extend_from_slice(text);
    heads.push(b'\n');
}

/// A help text as OpenMetrics has it.
fn quotes_escaped(help: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(b'"', help).is_none() {
        return Cow::Borrowed(help);
    }
    let pieces: Vec<&[u8]> = help.split(|&byte| byte == b'"').collect();
    Cow::Owned(pieces.join(&b"\\\""[..]))
}

/// The first help text of a part which declares the winning type, else the first; an empty one
/// only if there is no other.
fn help<'a>(
    parts: &'a [Arc<Exposition>],
    groups: &Groups<'_>,
    group: &Group<'_>,
) -> Option<&'a [u8]> {
    let mut best: Option<(bool, bool, &[u8])> = None;
    for block in groups.blocks_of(group) {
        let Some((part, family)) = block.family(parts) else {
            continue;
        };
        let Some(span) = family.help else { continue };
        let rank = (span.len() > 0, family.kind == group.kind);
        if best.is_none_or(|(has_text, winner, _)| rank > (has_text, winner)) {
            best = Some((rank.0, rank.1, part.bytes(span)));
        }
        if rank == (true, true) {
            break;
        }
    }
    best.map(|(_, _, help)| help)
}
