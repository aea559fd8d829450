//! Finds series which stand in more than one of the merged texts, without reading all of them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;

use crate::exposition::{lines, series_hash};
use crate::write::Merged;

/// Most pairs of parts that are named.
const MAX_PAIRS: usize = 16;

/// What [`Merged::equal_series`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EqualSeries {
    /// How many series were seen in more than one part.
    pub series: usize,
    /// Which parts have series in common, by their numbers, the smaller first: each pair once, at most 16.
    pub pairs: Vec<(usize, usize)>,
    /// How many samples were looked at.
    pub samples: usize,
    /// What to start with the next time, to go round all families.
    pub next: usize,
}

impl Merged {
    /// Looks for series which stand in more than one of the parts numbered `among`, of which Prometheus takes
    /// one and drops the others.
    ///
    /// A part's number is its place among those given to [`merge()`](crate::merge()); of
    /// [`merge_in_front()`](crate::merge_in_front()), `first` are numbered after `parts`.
    ///
    /// It looks at families which several parts have, beginning with one chosen by `start` (pass
    /// [`EqualSeries::next`] of the time before) until it has looked at about `budget` samples, but at one of
    /// each part at least. Of a family with more samples than are left of the budget, it looks at the first few
    /// of each part: applications with equal series mostly have all of them in common.
    #[must_use]
    pub fn equal_series(&self, among: Range<usize>, start: usize, budget: usize) -> EqualSeries {
        let mut search = Search {
            left: budget,
            ..Search::default()
        };
        let families = self.shared_families();
        let first = start.checked_rem(families.len()).unwrap_or_default();
        search.found.next = first;
        let round = self.shared_families().skip(first);
        for family in round.chain(families.take(first)) {
            let pieces: Vec<_> = family.filter(|(part, _)| among.contains(part)).collect();
            let parts = pieces.chunk_by(|(one, _), (next, _)| one == next);
            let parts: Vec<_> = parts.collect();
            let begun = search.found.samples > 0;
            if begun && parts.len() > search.left {
                break;
            }
            if parts.len() > 1 {
                search.family(parts);
            }
            search.found.next += 1;
        }
        search.found
    }
}

#[derive(Default)]
struct Search {
    hasher: foldhash::fast::RandomState,
    /// The series of the family, each with the first part that has it, and whether another has it.
    seen: HashMap<u64, (usize, bool), foldhash::fast::RandomState>,
    left: usize,
    found: EqualSeries,
}

impl Search {
    /// Looks at the lines of one family, given as those of each part.
    fn family(&mut self, mut parts: Vec<&[(usize, &[u8])]>) {
        self.seen.clear();
        // What short ones leave over of their share is the others'.
        parts.sort_by_key(|lines| lines.iter().map(|(_, lines)| lines.len()).sum::<usize>());
        for (done, &pieces) in parts.iter().enumerate() {
            let share = (self.left / (parts.len() - done)).max(1);
            let lines = pieces
                .iter()
                .flat_map(|&(part, text)| lines(text).map(move |(_, line)| (part, line)));
            for (part, line) in lines.take(share) {
                self.found.samples += 1;
                self.left = self.left.saturating_sub(1);
                self.sample(part, line);
            }
        }
    }

    fn sample(&mut self, part: usize, line: &[u8]) {
        let other = match self.seen.entry(series_hash(&self.hasher, line)) {
            Entry::Vacant(new) => {
                new.insert((part, false));
                return;
            }
            Entry::Occupied(known) if known.get().0 == part => return,
            Entry::Occupied(mut known) => {
                let (other, counted) = known.get_mut();
                self.found.series += usize::from(!*counted);
                *counted = true;
                *other
            }
        };
        let pair = (part.min(other), part.max(other));
        let pairs = &mut self.found.pairs;
        if pairs.len() < MAX_PAIRS && !pairs.contains(&pair) {
            pairs.push(pair);
        }
    }
}
