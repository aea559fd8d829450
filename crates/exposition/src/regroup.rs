//! Takes apart blocks which cannot be served as they are, line by line.
//!
//! Such a block is a histogram or summary which its family is not, or some of its samples do not fit it. Each of
//! these goes to the family of its own name.

use std::sync::Arc;

use crate::encoding::Encoding;
use crate::exposition::{Exposition, lines};
use crate::format::Format;
use crate::groups::{Block, Group, Groups};
use crate::marks::Marks;
use crate::metadata::SUFFIXES;
use crate::openmetrics;
use crate::sample::sample;
use crate::series::SeriesReader;
use crate::span::{Piece, Span};
use crate::written_names::WrittenNames;

/// Moves the lines of all such blocks.
pub(crate) fn regroup<'a>(
    parts: &'a [Arc<Exposition>],
    groups: &mut Groups<'a>,
    names: &'a WrittenNames,
    encoding: Encoding,
) {
    let mut moves = Moves {
        names,
        encoding,
        known: groups.groups.len() as u32,
        new: Vec::new(),
        lines: Vec::new(),
        reader: SeriesReader::default(),
    };
    // From the longest name to the shortest: lines which come to a family follow its own.
    for position in (0..groups.groups.len()).rev() {
        let Some(group) = groups
            .groups
            .get(position)
            .filter(|group| group.needs_lines())
        else {
            continue;
        };
        let blocks = groups.blocks_of(group).iter();
        let mut targets = Targets::new(position);
        for block in blocks {
            moves.take_apart(parts, groups, group, block, &mut targets);
        }
        if targets.misfit
            && let Some(group) = groups.groups.get_mut(position)
        {
            group.misfit = true;
        }
    }
    moves.settle(groups);
}

/// Where the lines of one family go: to itself, or to those of its name with a suffix.
struct Targets {
    own: u32,
    suffixed: [Option<u32>; SUFFIXES.len()],
    misfit: bool,
}

impl Targets {
    fn new(position: usize) -> Self {
        Self {
            own: position as u32,
            suffixed: [None; SUFFIXES.len()],
            misfit: false,
        }
    }
}

struct Moves<'a> {
    names: &'a WrittenNames,
    encoding: Encoding,
    /// How many families there were.
    known: u32,
    /// Families which no part has under this name; they are numbered after those known.
    new: Vec<&'a [u8]>,
    /// Lines with the number of the family to which they go.
    lines: Vec<(u32, Piece)>,
    reader: SeriesReader<'a>,
}

impl<'a> Moves<'a> {
    fn take_apart(
        &mut self,
        parts: &'a [Arc<Exposition>],
        groups: &Groups<'a>,
        group: &Group<'a>,
        block: &Block,
        targets: &mut Targets,
    ) {
        let Some((part, family)) = block.family(parts) else {
            return;
        };
        if group.keeps(family) {
            return;
        }
        let conversion = self.encoding.conversion(part.format, family.needs);
        for &span in part.spans_of(family) {
            for (offset, line) in lines(part.bytes(span)) {
                let target = self.target(groups, group, (line, part.format), targets);
                let start = span.start + offset as u32;
                let line = Piece::Lines {
                    part: block.part,
                    span: Span {
                        start,
                        end: start + line.len() as u32 + 1,
                    },
                    conversion,
                };
                self.push(target, line);
            }
        }
    }

    fn target(
        &mut self,
        groups: &Groups<'a>,
        group: &Group<'a>,
        (line, format): (&'a [u8], Format),
        targets: &mut Targets,
    ) -> u32 {
        let sample = match format {
            Format::Text => sample(line, &mut self.reader),
            Format::OpenMetrics => openmetrics::sample(line, &mut self.reader),
        };
        // The line has been read before, so this cannot fail.
        let Ok(sample) = sample else {
            return targets.own;
        };
        let name = self.names.of(sample.series.name());
        let suffix = name.strip_prefix(group.name).unwrap_or_default();
        let known = SUFFIXES.iter().position(|other| *other == suffix);
        let slot = known.and_then(|number| targets.suffixed.get_mut(number));
        let Some(slot) = slot else {
            return targets.own;
        };
        if let Some(kind) = group.kind.filter(|kind| kind.takes(suffix)) {
            if Marks::of(&sample).fit(kind, suffix) {
                return targets.own;
            }
            targets.misfit = true;
        }
        *slot.get_or_insert_with(|| {
            let position = groups.position(name).map(|position| position as u32);
            position.unwrap_or_else(|_| {
                self.new.push(name);
                self.known + self.new.len() as u32 - 1
            })
        })
    }

    fn push(&mut self, target: u32, line: Piece) {
        let follows = |last: &mut (u32, Piece)| last.0 == target && last.1.extend(line);
        if !self.lines.last_mut().is_some_and(follows) {
            self.lines.push((target, line));
        }
    }

    /// Gives each family its lines, and makes those families that no part has.
    fn settle(mut self, groups: &mut Groups<'a>) {
        if self.lines.is_empty() {
            return;
        }
        groups
            .groups
            .extend(self.new.iter().map(|name| Group::of_moved(name)));
        // Stable: the lines of each family stay in the order in which they were taken.
        self.lines.sort_by_key(|&(target, _)| target);
        groups.moved.reserve_exact(self.lines.len());
        for lines in self.lines.chunk_by(|(one, _), (next, _)| one == next) {
            let from = groups.moved.len() as u32;
            groups.moved.extend(lines.iter().map(|&(_, piece)| piece));
            let moved = (from, groups.moved.len() as u32);
            let target = lines.first().map_or(0, |&(target, _)| target as usize);
            if let Some(group) = groups.groups.get_mut(target) {
                group.receive(moved);
            }
        }
        if !self.new.is_empty() {
            groups.groups.sort_unstable_by_key(|group| group.name);
        }
    }
}
