//! Takes apart blocks which cannot be served as they are, line by line.
//!
//! Such a block belongs to a family which other parts declare differently, or whose name a
//! histogram or summary captures. Each of its samples goes where `expfmt` will look for its name.

use std::sync::Arc;

use crate::exposition::{Exposition, Span, lines};
use crate::merge::{Group, Groups};
use crate::sample::sample;
use crate::series::SeriesReader;
use crate::write::Piece;

/// Moves the lines of all such blocks, and returns how many samples fit nowhere.
pub(crate) fn regroup<'a>(parts: &'a [Arc<Exposition>], groups: &mut Groups<'a>) -> usize {
    if !groups.groups.iter().any(Group::needs_lines) {
        return 0;
    }
    let mut moved = Moved {
        lines: Vec::new(),
        dropped: 0,
    };
    let mut reader = SeriesReader::default();
    for group in groups.groups.iter().filter(|group| group.needs_lines()) {
        for block in groups.blocks_of(group) {
            let Some(part) = parts.get(block.part as usize) else {
                continue;
            };
            let Some(family) = part.families.get(block.family as usize) else {
                continue;
            };
            if !group.keeps(family) {
                for &span in part.spans_of(family) {
                    moved.take(groups, part, block.part, span, &mut reader);
                }
            }
        }
    }
    settle(groups, moved.lines);
    moved.dropped
}

/// Gives each line to its group, and makes those groups that no part has.
fn settle<'a>(groups: &mut Groups<'a>, mut lines: Vec<(&'a [u8], Piece)>) {
    // Stable: the lines of a part stay in the order in which they were taken.
    lines.sort_by_key(|&(name, piece)| (name, piece.part()));
    groups.moved.reserve_exact(lines.len());
    let mut new = Vec::new();
    for lines in lines.chunk_by(|(one, _), (next, _)| one == next) {
        let from = groups.moved.len() as u32;
        groups.moved.extend(lines.iter().map(|&(_, piece)| piece));
        let moved = (from, groups.moved.len() as u32);
        let name = lines.first().map_or(&b""[..], |&(name, _)| name);
        match groups
            .position(name)
            .ok()
            .and_then(|at| groups.groups.get_mut(at))
        {
            Some(group) => group.moved = moved,
            None => new.push(Group::of_moved(name, moved)),
        }
    }
    drop(lines);
    groups.groups.append(&mut new);
    groups.groups.sort_unstable_by_key(|group| group.name);
}

struct Moved<'a> {
    /// With the name of the family to which they go.
    lines: Vec<(&'a [u8], Piece)>,
    dropped: usize,
}

impl<'a> Moved<'a> {
    fn take(
        &mut self,
        groups: &Groups<'a>,
        part: &'a Exposition,
        number: u32,
        span: Span,
        reader: &mut SeriesReader<'a>,
    ) {
        for (offset, line) in lines(part.bytes(span)) {
            // The line has been read before, so this cannot fail.
            let Ok(sample) = sample(line, reader) else {
                continue;
            };
            let name = sample.series.name();
            let (target, suffix) = match groups.captor(name) {
                Some((position, suffix)) => (groups.groups.get(position), suffix),
                None => (
                    groups
                        .position(name)
                        .ok()
                        .and_then(|at| groups.groups.get(at)),
                    &b""[..],
                ),
            };
            let kind = target.and_then(|group| group.kind);
            if kind.is_some_and(|kind| kind.check(suffix, &sample).is_err()) {
                self.dropped += 1;
                continue;
            }
            let start = span.start + offset as u32;
            let line = Span {
                start,
                end: start + line.len() as u32 + 1,
            };
            self.push(target.map_or(name, |group| group.name), number, line);
        }
    }

    fn push(&mut self, family: &'a [u8], part: u32, line: Span) {
        if let Some((
            last,
            Piece::Lines {
                part: last_part,
                span,
            },
        )) = self.lines.last_mut()
            && *last == family
            && *last_part == part
            && span.end == line.start
        {
            span.end = line.end;
        } else {
            let piece = Piece::Lines { part, span: line };
            self.lines.push((family, piece));
        }
    }
}
