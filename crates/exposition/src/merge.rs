//! Decides, family by family, what is served: type, help, and the order of the lines.
//!
//! Only names, types and ranges are looked at here. Lines are read again only where parts
//! contradict each other, by [`crate::regroup`].

use std::sync::Arc;

use crate::error::ParseError;
use crate::exposition::{Exposition, Format};
use crate::groups::{Group, Groups, group};
use crate::limits::Limits;
use crate::metadata::Kind;
use crate::regroup;
use crate::span::Piece;
use crate::write::{Merged, Output};

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

/// Merges texts in the order given, which should be that of the applications' age: it alone
/// decides ties. See the crate's documentation for the rules.
#[must_use]
pub fn merge(parts: Vec<Part>) -> Merged {
    merge_in_front(Vec::new(), parts)
}

/// Merges as [`merge`] does, but in each family the samples of `first` stand before those of `parts`.
///
/// Of a series that stands twice, Prometheus takes the first sample and drops the second, so a sample that
/// comes but once is safe in `first`. In all else these are the youngest: their types and help texts count
/// after those of `parts`.
#[must_use]
pub fn merge_in_front(first: Vec<Part>, parts: Vec<Part>) -> Merged {
    let mut output = Output {
        in_front: parts.len() as u32,
        ..Output::default()
    };
    let (parts, voters): (Vec<_>, Vec<_>) = parts
        .into_iter()
        .chain(first)
        .map(|part| (part.exposition, part.voter))
        .unzip();
    let mut groups = group(&parts, &voters);
    groups.decide();
    regroup::regroup(&parts, &mut groups);
    groups.arrange(&parts);
    let conflicts = groups.groups.iter().filter(|group| group.is_conflict());
    let conflicts = conflicts.count();
    for group in groups.groups.iter().filter(|group| !group.left_out) {
        output.write(&parts, &groups, group);
    }
    Merged::new(parts, output, conflicts)
}

impl Exposition {
    /// The same samples, of which the text says all: added labels, and what was left out.
    ///
    /// # Errors
    ///
    /// The text would have 4 GiB or more.
    pub fn written(self) -> Result<Self, ParseError> {
        let merged = merge(vec![Arc::new(self).into()]);
        let mut text = Vec::with_capacity(merged.len());
        for chunk in merged.into_chunks(WRITTEN_CHUNK) {
            text.extend_from_slice(&chunk);
        }
        Self::parse_as(text.into(), Format::Text, &Limits::NONE)
    }
}

impl Output {
    fn write(&mut self, parts: &[Arc<Exposition>], groups: &Groups<'_>, group: &Group<'_>) {
        self.families += 1;
        self.head(group, help(parts, groups, group));
        let blocks = groups.blocks_of(group);
        let in_front = blocks.partition_point(|block| block.part < self.in_front);
        let (behind, in_front) = blocks.split_at(in_front);
        let kept = in_front.iter().chain(behind).filter_map(|block| {
            let (part, family) = block.family(parts)?;
            let lines = |&span| Piece::Lines {
                part: block.part,
                span,
            };
            group
                .keeps(family)
                .then(|| part.spans_of(family).iter().map(lines))
        });
        let from = self.pieces.len();
        let moved = groups.moved_to(group);
        if moved.is_empty() {
            self.pieces.extend(kept.flatten());
        } else {
            let mut pieces: Vec<Piece> = kept.flatten().chain(moved.iter().copied()).collect();
            pieces.sort_by_key(|piece| {
                let part = piece.part();
                (part < Some(self.in_front), part)
            });
            self.pieces.append(&mut pieces);
        }
        let lines = self.pieces.get(from..).unwrap_or_default();
        if lines.first().map(Piece::part) != lines.last().map(Piece::part) {
            self.shared.push((from as u32, self.pieces.len() as u32));
        }
    }

    fn head(&mut self, group: &Group<'_>, help: Option<&[u8]>) {
        let start = self.heads.len();
        if let Some(help) = help {
            self.heads.extend_from_slice(b"# HELP ");
            self.heads.extend_from_slice(group.name);
            self.heads.push(b' ');
            self.heads.extend_from_slice(help);
            self.heads.push(b'\n');
        }
        // Prometheus 3 carries the type of one family over to the next if that declares none, and
        // then rewrites its `le` and `quantile` labels (`normalizeFloatsInLabelValues` in
        // `promparse.go`): whose series that hits would depend on what else is served.
        let after_compound = self.last_kind.is_some_and(Kind::is_compound);
        let needs_kind = group.needs_kind || after_compound;
        let kind = group.kind.or(needs_kind.then_some(Kind::Untyped));
        if let Some(kind) = kind {
            self.heads.extend_from_slice(b"# TYPE ");
            self.heads.extend_from_slice(group.name);
            self.heads.push(b' ');
            self.heads.extend_from_slice(kind.as_str().as_bytes());
            self.heads.push(b'\n');
            self.last_kind = Some(kind);
        }
        if self.heads.len() > start {
            self.pieces.push(Piece::Head {
                length: self.heads.len() - start,
            });
        }
    }
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
