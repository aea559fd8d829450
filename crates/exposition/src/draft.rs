//! The families of a text while it is read: what is declared of them, and where their samples are.

use std::collections::HashMap;

use bytes::Bytes;

use crate::class::{is_classic, offset_in};
use crate::error::{Fault, ParseErrorKind, fault};
use crate::exposition::{Exposition, Family, bytes, rewritten_base};
use crate::format::Format;
use crate::marks::Marks;
use crate::metadata::{Kind, split_suffix};
use crate::needs::Needs;
use crate::openmetrics_type::OpenMetricsType;
use crate::span::Span;
use crate::tidy;

/// What has been read so far.
#[derive(Default)]
pub(crate) struct Draft {
    families: Vec<Family>,
    /// Sample lines in the order of the text, with the family to which they belong.
    pub(crate) runs: Vec<(u32, Span)>,
    rewritten: Vec<u8>,
    pub(crate) samples: usize,
    pub(crate) has_timestamps: bool,
}

/// Finds and makes the families of a text.
pub(crate) struct Families<'a> {
    text: &'a [u8],
    max: usize,
    pub(crate) draft: Draft,
    index: HashMap<&'a [u8], u32, foldhash::fast::RandomState>,
}

impl<'a> Families<'a> {
    pub(crate) fn new(text: &'a [u8], max: usize) -> Self {
        Self {
            text,
            max,
            draft: Draft::default(),
            index: HashMap::default(),
        }
    }

    /// Most families that it may have.
    pub(crate) fn max(&self) -> usize {
        self.max
    }

    pub(crate) fn is_known(&self, name: &[u8]) -> bool {
        self.index.contains_key(name)
    }

    /// Notes what a sample of this family has.
    #[cold]
    pub(crate) fn mark(&mut self, id: u32, suffix: &[u8], marks: Marks) {
        if let Some(family) = self.draft.families.get_mut(id as usize) {
            family.add_marks(suffix, marks);
        }
    }

    /// Notes why lines of this family cannot be served as they stand.
    #[cold]
    pub(crate) fn need(&mut self, id: u32, needs: Needs) {
        if let Some(family) = self.draft.families.get_mut(id as usize) {
            family.needs.add(needs);
        }
    }

    /// Notes what OpenMetrics says of this family.
    pub(crate) fn set_openmetrics(
        &mut self,
        id: u32,
        kind: Option<OpenMetricsType>,
        unit_len: usize,
    ) {
        if let Some(family) = self.draft.families.get_mut(id as usize) {
            family.openmetrics = family.openmetrics.or(kind);
            if family.unit == 0 {
                // One that is longer is left out.
                family.unit = u8::try_from(unit_len).unwrap_or_default();
            }
        }
    }

    pub(crate) fn is_gauge_histogram(&self, id: u32) -> bool {
        let family = self.draft.families.get(id as usize);
        family.is_some_and(|family| family.openmetrics == Some(OpenMetricsType::GaugeHistogram))
    }

    /// The histogram or summary which takes samples of this name, and their suffix.
    pub(crate) fn taker(&self, name: &[u8]) -> Option<(u32, &'static [u8])> {
        let (family, suffix) = split_suffix(name)?;
        let &id = self.index.get(family)?;
        let takes = self.kind_of(id)?.takes(suffix);
        takes.then_some((id, suffix))
    }

    pub(crate) fn kind_of(&self, id: u32) -> Option<Kind> {
        self.draft.families.get(id as usize)?.kind
    }

    /// The family of this name, which need not have come before.
    pub(crate) fn family(&mut self, name: &'a [u8]) -> Result<u32, Fault> {
        let next = self.draft.families.len() as u32;
        let id = *self.index.entry(name).or_insert(next);
        if id == next {
            let start = offset_in(self.text, name) as u32;
            let end = start + name.len() as u32;
            self.add_family(Span { start, end })?;
            if !is_classic(name) {
                self.need(id, Needs::QUOTED);
            }
        }
        Ok(id)
    }

    fn add_family(&mut self, name: Span) -> Result<u32, Fault> {
        let id = self.draft.families.len();
        if id >= self.max {
            return fault(0, ParseErrorKind::TooManyFamilies);
        }
        self.draft.families.push(Family::new(name));
        Ok(id as u32)
    }

    /// The first text counts, but an empty one only if there is no other.
    pub(crate) fn help(&mut self, id: u32, text: &'a [u8], format: Format) -> Result<(), Fault> {
        let known = self
            .draft
            .families
            .get(id as usize)
            .and_then(|family| family.help);
        if known.is_some_and(|known| known.len() > 0 || text.is_empty()) {
            return Ok(());
        }
        let help = if text.is_empty() {
            Span { start: 0, end: 0 }
        } else if tidy::is_tidy_help(text) {
            let start = offset_in(self.text, text) as u32;
            Span {
                start,
                end: start + text.len() as u32,
            }
        } else {
            self.rewrite(|out| tidy::write_help(out, text, format))?
        };
        if let Some(family) = self.draft.families.get_mut(id as usize) {
            family.help = Some(help);
        }
        Ok(())
    }

    pub(crate) fn set_kind(&mut self, id: u32, kind: Kind) -> Kind {
        let Some(family) = self.draft.families.get_mut(id as usize) else {
            return kind;
        };
        family.contradicted |= family.kind.is_some_and(|known| known != kind);
        *family.kind.get_or_insert(kind)
    }

    /// The family whose name `name` and `suffix` make up. If there is none in the text there is a new one, which
    /// is not found again.
    pub(crate) fn family_of(&mut self, name: &'a [u8], suffix: &[u8]) -> Result<u32, Fault> {
        if let Some(&id) = self.index.get([name, suffix].concat().as_slice()) {
            return Ok(id);
        }
        let span = self.rewrite(|out| {
            out.extend_from_slice(name);
            out.extend_from_slice(suffix);
        })?;
        let id = self.add_family(span)?;
        self.need(id, Needs::QUOTED.when(!is_classic(name)));
        Ok(id)
    }

    /// Families of which nothing is declared, with their names.
    pub(crate) fn undeclared(&self) -> Vec<(u32, &'a [u8])> {
        let families = self.draft.families.iter().zip(0..);
        let undeclared =
            families.filter(|(family, _)| family.kind.is_none() && family.help.is_none());
        // These come from samples, so their names stand in the text.
        undeclared
            .map(|(family, id)| (id, bytes(self.text, &[], family.name)))
            .collect()
    }

    /// Gives samples to the histograms and summaries which were declared after them.
    pub(crate) fn join_late(&mut self) {
        let mut joins: Vec<u32> = Vec::new();
        for (id, name) in self.undeclared() {
            let Some((target, suffix)) = self.taker(name) else {
                continue;
            };
            if joins.is_empty() {
                joins = (0..self.draft.families.len() as u32).collect();
            }
            if let Some(join) = joins.get_mut(id as usize) {
                *join = target;
            }
            let joined = self.draft.families.get(id as usize).copied();
            if let Some(joined) = joined
                && let Some(family) = self.draft.families.get_mut(target as usize)
            {
                family.add_marks(suffix, joined.own);
                family.needs.add(joined.needs);
            }
        }
        if !joins.is_empty() {
            self.draft.join(&joins);
        }
    }

    /// Writes what is served instead of a piece of the text.
    #[cold]
    pub(crate) fn rewrite(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Result<Span, Fault> {
        let position = |out: &Vec<u8>| u32::try_from(rewritten_base(self.text) + out.len());
        let start = position(&self.draft.rewritten);
        write(&mut self.draft.rewritten);
        match (start, position(&self.draft.rewritten)) {
            (Ok(start), Ok(end)) => Ok(Span { start, end }),
            _ => fault(0, ParseErrorKind::TooLarge),
        }
    }
}

impl Draft {
    /// Gives the lines of each family to the one which `joins` has in its place, and leaves it out if that is
    /// another.
    fn join(&mut self, joins: &[u32]) {
        let kept: Vec<bool> = joins
            .iter()
            .zip(0..)
            .map(|(&join, id)| join == id)
            .collect();
        // Where each family is once the others are out.
        let numbers: Vec<u32> = kept
            .iter()
            .scan(0, |next, &kept| {
                let number = *next;
                *next += u32::from(kept);
                Some(number)
            })
            .collect();
        for (family, _) in &mut self.runs {
            let target = joins.get(*family as usize).copied().unwrap_or_default();
            *family = numbers.get(target as usize).copied().unwrap_or_default();
        }
        self.runs.dedup_by(|next, last| {
            let adjoin = next.0 == last.0 && next.1.start == last.1.end;
            if adjoin {
                last.1.end = next.1.end;
            }
            adjoin
        });
        let mut kept = kept.into_iter();
        self.families.retain(|_| kept.next().unwrap_or_default());
    }

    /// Sorts the families by name and puts the lines of each together.
    pub(crate) fn finish(mut self, text: Bytes, format: Format) -> Exposition {
        // Where the next span of each family goes; first, how many it has.
        let mut next = vec![0; self.families.len()];
        for &(family, _) in &self.runs {
            if let Some(count) = next.get_mut(family as usize) {
                *count += 1;
            }
        }
        let mut families = Vec::with_capacity(self.families.len());
        let mut from = 0;
        for id in self.sorted(&text) {
            let (Some(&family), Some(next)) =
                (self.families.get(id as usize), next.get_mut(id as usize))
            else {
                continue;
            };
            let to = from + *next;
            *next = from;
            families.push(Family {
                spans: (from, to),
                ..family
            });
            from = to;
        }
        let mut spans = vec![Span { start: 0, end: 0 }; self.runs.len()];
        for &(family, span) in &self.runs {
            if let Some(next) = next.get_mut(family as usize)
                && let Some(slot) = spans.get_mut(*next as usize)
            {
                *slot = span;
                *next += 1;
            }
        }
        self.rewritten.shrink_to_fit();
        Exposition {
            text,
            format,
            rewritten: self.rewritten,
            heads: families.iter().map(Family::head_len).sum(),
            families,
            spans,
            samples: self.samples,
            has_timestamps: self.has_timestamps,
        }
    }

    /// The families' numbers, sorted by name. Mostly, the first eight bytes tell names apart, at hand.
    fn sorted(&self, text: &[u8]) -> impl Iterator<Item = u32> {
        let name = |id: u32| {
            let family = self.families.get(id as usize);
            family.map_or(&b""[..], |family| bytes(text, &self.rewritten, family.name))
        };
        let mut order: Vec<(u64, u32)> = (0..self.families.len() as u32)
            .map(|id| (prefix(name(id)), id))
            .collect();
        order.sort_unstable_by(|one, other| {
            let by_prefix = one.0.cmp(&other.0);
            by_prefix.then_with(|| name(one.1).cmp(name(other.1)))
        });
        order.into_iter().map(|(_, id)| id)
    }
}

/// The first eight bytes of a name as a number; names sort as these do. No name holds a zero.
fn prefix(name: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    for (slot, &byte) in bytes.iter_mut().zip(name) {
        *slot = byte;
    }
    u64::from_be_bytes(bytes)
}
