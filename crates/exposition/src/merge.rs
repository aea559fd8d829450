//! Decides, family by family, what is served: type, help, and the order of the lines.
//!
//! Only names, types and ranges are looked at here. Lines are read again only where parts
//! contradict each other, by [`crate::regroup`].

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::ParseError;
use crate::exposition::{Exposition, Family, Format};
use crate::limits::Limits;
use crate::marks::Marks;
use crate::metadata::{Kind, split_suffix};
use crate::regroup;
use crate::write::{Merged, Piece};

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

/// What one part has of one family.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block {
    pub(crate) part: u32,
    pub(crate) family: u32,
}

impl Block {
    pub(crate) fn family(self, parts: &[Arc<Exposition>]) -> Option<(&Exposition, &Family)> {
        let part = parts.get(self.part as usize)?;
        Some((part, part.families.get(self.family as usize)?))
    }
}

/// All families of one name.
#[derive(Debug)]
pub(crate) struct Group<'a> {
    pub(crate) name: &'a [u8],
    /// Its range of [`Groups::blocks`].
    blocks: (u32, u32),
    votes: Votes,
    /// What is served: the winning type, or none if no part declares one.
    pub(crate) kind: Option<Kind>,
    /// Whether any part has samples of it; then only such parts vote.
    sampled: bool,
    /// What the parts' samples of this name have, and what those have which only a histogram or summary takes.
    own: Marks,
    others: Marks,
    /// Whether the type gave way to samples which do not fit it, or some of these left the family.
    pub(crate) misfit: bool,
    /// Whether it is left out, as it would take another family's samples, or another its own.
    left_out: bool,
    /// Whether it must have a type, so that nothing takes its samples.
    needs_kind: bool,
    /// The place, among all sorted by name, of the histogram or summary before which it must come; else its own.
    before: u32,
    /// Lines which come here from blocks that were taken apart: its range of [`Groups::moved`].
    moved: (u32, u32),
}

/// Which types the parts declare, and who declared each first.
#[derive(Debug, Default)]
struct Votes {
    count: [u32; Kind::ALL.len()],
    /// How many other types had votes before the first one, for ties.
    first: [u8; Kind::ALL.len()],
    /// One bit for each type that any part declares.
    declared: u8,
    /// One more than who voted last.
    last: u32,
    contradicted: bool,
}

impl Votes {
    /// Takes what one part of this voter declares. Voters must come one after the other.
    #[inline]
    fn add(&mut self, voter: u32, family: &Family) {
        self.contradicted |= family.contradicted;
        let Some(kind) = family.kind else {
            return;
        };
        self.declared |= 1 << kind as u8;
        if self.last == voter + 1 {
            return;
        }
        self.last = voter + 1;
        let before = self.count.iter().filter(|&&count| count > 0).count();
        if let (Some(count), Some(first)) = (
            self.count.get_mut(kind as usize),
            self.first.get_mut(kind as usize),
        ) {
            if *count == 0 {
                *first = before as u8;
            }
            *count += 1;
        }
    }

    fn winner(&self) -> Option<Kind> {
        let ballots = Kind::ALL
            .into_iter()
            .zip(self.count.into_iter().zip(self.first));
        ballots
            .filter(|&(_, (count, _))| count > 0)
            .max_by_key(|&(_, (count, first))| (count, std::cmp::Reverse(first)))
            .map(|(kind, _)| kind)
    }

    fn has_clash(&self) -> bool {
        self.contradicted || self.declared.count_ones() > 1
    }
}

/// All groups, sorted by name.
#[derive(Debug)]
pub(crate) struct Groups<'a> {
    pub(crate) groups: Vec<Group<'a>>,
    /// The blocks of each group in turn, in the order of the parts.
    blocks: Vec<Block>,
    /// The lines which come to each group from blocks that were taken apart, in the order of the parts.
    pub(crate) moved: Vec<Piece>,
}

/// The parts in the order in which they vote, each with a number for its voter: all of one voter after the
/// first of them.
fn voting_order(voters: &[Option<u64>]) -> Vec<(u32, u32)> {
    let mut first: HashMap<u64, u32, foldhash::fast::RandomState> = HashMap::default();
    let numbered = voters.iter().zip(0..).map(|(voter, part)| {
        let voter = voter.map_or(part, |voter| *first.entry(voter).or_insert(part));
        (voter, part)
    });
    let mut order: Vec<(u32, u32)> = numbered.collect();
    order.sort_unstable();
    order
}

fn group<'a>(parts: &'a [Arc<Exposition>], voters: &[Option<u64>]) -> Groups<'a> {
    let mut index: HashMap<&[u8], u32, foldhash::fast::RandomState> = HashMap::default();
    let mut groups: Vec<Group<'_>> = Vec::new();
    // The group of each part's each family, and where those of a part begin.
    let mut ids: Vec<u32> = vec![0; parts.iter().map(|part| part.families.len()).sum()];
    let starts: Vec<usize> = parts
        .iter()
        .scan(0, |next, part| {
            let start = *next;
            *next += part.families.len();
            Some(start)
        })
        .collect();
    for (voter, number) in voting_order(voters) {
        let (Some(part), Some(&start)) = (parts.get(number as usize), starts.get(number as usize))
        else {
            continue;
        };
        let own = ids.get_mut(start..).unwrap_or_default();
        for (family, slot) in part.families.iter().zip(own) {
            let name = part.bytes(family.name);
            let id = *index.entry(name).or_insert_with(|| {
                groups.push(Group::new(name));
                groups.len() as u32 - 1
            });
            if let Some(group) = groups.get_mut(id as usize) {
                group.add(voter, family);
            }
            *slot = id;
        }
    }
    drop(index);
    let blocks = place(&mut groups, parts, &ids);
    groups.sort_unstable_by_key(|group| group.name);
    Groups {
        groups,
        blocks,
        moved: Vec::new(),
    }
}

/// Puts the blocks of each group together; turns each group's count into a range. `ids` has the group of each
/// part's each family.
fn place(groups: &mut [Group<'_>], parts: &[Arc<Exposition>], ids: &[u32]) -> Vec<Block> {
    let mut next = 0;
    for group in groups.iter_mut() {
        let count = group.blocks.1;
        group.blocks = (next, next);
        next += count;
    }
    let mut blocks = vec![Block { part: 0, family: 0 }; ids.len()];
    let members = parts.iter().zip(0..).flat_map(|(part, number)| {
        (0..part.families.len() as u32).map(move |family| Block {
            part: number,
            family,
        })
    });
    for (&id, block) in ids.iter().zip(members) {
        if let Some(group) = groups.get_mut(id as usize)
            && let Some(slot) = blocks.get_mut(group.blocks.1 as usize)
        {
            *slot = block;
            group.blocks.1 += 1;
        }
    }
    blocks
}

impl<'a> Group<'a> {
    fn new(name: &'a [u8]) -> Self {
        Self {
            name,
            blocks: (0, 0),
            votes: Votes::default(),
            kind: None,
            sampled: false,
            own: Marks::default(),
            others: Marks::default(),
            misfit: false,
            left_out: false,
            needs_kind: false,
            before: 0,
            moved: (0, 0),
        }
    }

    /// A family which no part has under this name.
    pub(crate) fn of_moved(name: &'a [u8]) -> Self {
        Self::new(name)
    }

    /// Takes what one part has of the family.
    #[inline]
    fn add(&mut self, voter: u32, family: &Family) {
        self.blocks.1 += 1;
        self.own.add(family.own);
        self.others.add(family.others);
        let sampled = family.has_samples();
        if sampled && !self.sampled {
            // Who has no samples has no say over those of others.
            self.sampled = true;
            self.votes = Votes::default();
        }
        if sampled == self.sampled {
            self.votes.add(voter, family);
        }
    }

    /// Takes lines which no part has under this name alone. A type which is only declared does not hold for them.
    pub(crate) fn receive(&mut self, moved: (u32, u32)) {
        self.moved = moved;
        if !self.sampled {
            self.kind = None;
        }
    }

    /// Whether any of its blocks must be taken apart.
    pub(crate) fn needs_lines(&self) -> bool {
        let declared = Kind::ALL
            .into_iter()
            .filter(|&kind| kind.is_compound() && self.votes.declared & 1 << kind as u8 != 0);
        declared
            .into_iter()
            .any(|kind| self.kind != Some(kind) || !self.others.all_fit(kind))
    }

    /// Whether the block's lines can be served here as they are.
    pub(crate) fn keeps(&self, family: &Family) -> bool {
        let compound = family.kind.filter(|kind| kind.is_compound());
        compound.is_none_or(|kind| self.kind == Some(kind) && family.others.all_fit(kind))
    }

    fn is_conflict(&self) -> bool {
        self.votes.has_clash() || self.misfit
    }
}

impl<'a> Groups<'a> {
    pub(crate) fn blocks_of(&self, group: &Group<'_>) -> &[Block] {
        let (from, to) = group.blocks;
        self.blocks
            .get(from as usize..to as usize)
            .unwrap_or_default()
    }

    fn moved_to(&self, group: &Group<'_>) -> &[Piece] {
        let (from, to) = group.moved;
        self.moved
            .get(from as usize..to as usize)
            .unwrap_or_default()
    }

    pub(crate) fn position(&self, name: &[u8]) -> Result<usize, usize> {
        self.groups.binary_search_by_key(&name, |group| group.name)
    }

    /// The family which, as a histogram or summary, would take samples of this name, and their suffix.
    fn taker(&self, name: &[u8]) -> Option<(usize, &Group<'a>, &'static [u8])> {
        let (family, suffix) = split_suffix(name)?;
        let position = self.position(family).ok()?;
        Some((position, self.groups.get(position)?, suffix))
    }

    /// Chooses types. A type gives way where a sample of the family's own name does not fit it. To `expfmt` those
    /// that a histogram or summary has of this name are such, too (`setOrCreateCurrentMF` in `text_parse.go`).
    fn decide(&mut self) {
        for position in 0..self.groups.len() {
            let Some(group) = self.groups.get(position) else {
                continue;
            };
            let mut kind = group.votes.winner();
            let mut misfit = false;
            if let Some(compound) = kind.filter(|kind| kind.is_compound()) {
                let mut marks = group.own;
                if let Some((_, taker, _)) = self.taker(group.name) {
                    marks.add(taker.others);
                }
                if group.sampled && !marks.fit(compound, b"") {
                    kind = Some(Kind::Untyped);
                    misfit = true;
                }
            }
            if let Some(group) = self.groups.get_mut(position) {
                group.kind = kind;
                group.misfit = misfit;
            }
        }
    }

    /// Puts families before the histogram or summary which would take their samples if it came first, and leaves
    /// out what is only declared where it would be in the way.
    fn arrange(&mut self, parts: &[Arc<Exposition>]) {
        let mut moved = false;
        for position in 0..self.groups.len() {
            let Some(group) = self.groups.get(position) else {
                continue;
            };
            let taker = self.taker(group.name);
            let taker = taker
                .filter(|(_, taker, suffix)| taker.kind.is_some_and(|kind| kind.takes(suffix)));
            let mut before = position as u32;
            let (mut needs_kind, mut left_out) = (false, group.left_out);
            if let Some((at, taker, _)) = taker {
                if !self.has_lines(parts, group) {
                    left_out = true;
                } else if self.has_lines(parts, taker) {
                    (before, needs_kind, moved) = (taker.before, true, true);
                } else if let Some(taker) = self.groups.get_mut(at) {
                    taker.left_out = true;
                }
            }
            if let Some(group) = self.groups.get_mut(position) {
                group.before = before;
                group.needs_kind = needs_kind;
                group.left_out = left_out;
            }
        }
        if moved {
            // Longer names first, as the one before which they come is the shortest.
            self.groups
                .sort_by(|one, other| (one.before, other.name).cmp(&(other.before, one.name)));
        }
    }

    fn has_lines(&self, parts: &[Arc<Exposition>], group: &Group<'_>) -> bool {
        let has_lines = |block: &Block| {
            let family = block.family(parts);
            family.is_some_and(|(_, family)| family.has_samples() && group.keeps(family))
        };
        !self.moved_to(group).is_empty() || self.blocks_of(group).iter().any(has_lines)
    }
}

/// What will be written.
#[derive(Default)]
pub(crate) struct Output {
    /// The HELP and TYPE lines.
    pub(crate) heads: Vec<u8>,
    pub(crate) pieces: Vec<Piece>,
    /// Where among the pieces the lines of those families are which several parts have.
    pub(crate) shared: Vec<(u32, u32)>,
    pub(crate) families: usize,
    last_kind: Option<Kind>,
    /// The first of those parts whose samples stand before those of the parts before them.
    in_front: u32,
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
