//! The families of all parts by name: their types, and which comes before which.

use std::collections::HashMap;
use std::sync::Arc;

use crate::exposition::{Exposition, Family};
use crate::marks::Marks;
use crate::metadata::{Kind, split_suffix};
use crate::needs::Needs;
use crate::span::Piece;
use crate::written_names::WrittenNames;

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
    /// Whether all of it comes from families which are parts of others in OpenMetrics.
    derived: bool,
    /// Whether it has families of several names, which are written as one.
    pub(crate) shares_name: bool,
    /// Whether it is left out, as it would take another family's samples, or another its own.
    pub(crate) left_out: bool,
    /// Whether it must have a type, so that nothing takes its samples.
    pub(crate) needs_kind: bool,
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

/// `names` says what families are called in what is written.
pub(crate) fn group<'a>(
    parts: &'a [Arc<Exposition>],
    voters: &[Option<u64>],
    names: &'a WrittenNames,
) -> Groups<'a> {
    // What the first of each group is called before it is escaped.
    let mut unescaped: HashMap<u32, &[u8]> = HashMap::new();
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
            let raw = part.bytes(family.name);
            let name = names.of(raw);
            let id = *index.entry(name).or_insert_with(|| {
                groups.push(Group::new(name));
                groups.len() as u32 - 1
            });
            if let Some(group) = groups.get_mut(id as usize) {
                group.add(voter, family);
                if !names.is_empty() {
                    group.shares_name |= *unescaped.entry(id).or_insert(raw) != raw;
                }
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
            derived: true,
            shares_name: false,
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
        self.derived &= family.needs.has(Needs::DERIVED);
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
        self.derived = false;
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

    /// Whether all of it comes from families which are parts of others in OpenMetrics.
    pub(crate) fn is_derived(&self) -> bool {
        self.derived
    }

    pub(crate) fn is_conflict(&self) -> bool {
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

    pub(crate) fn moved_to(&self, group: &Group<'_>) -> &[Piece] {
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
    pub(crate) fn decide(&mut self) {
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
    pub(crate) fn arrange(&mut self, parts: &[Arc<Exposition>]) {
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
