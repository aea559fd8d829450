//! Finds a label name which a line has twice.

use std::collections::HashSet;

/// The label names of the line being read, kept to find one which comes twice.
#[derive(Debug, Default)]
pub(crate) struct LabelNames<'a> {
    few: Vec<&'a [u8]>,
    /// One bit per name, chosen by its length and last byte: a bit not yet set is a new name.
    filter: u64,
    many: HashSet<&'a [u8], foldhash::fast::RandomState>,
}

/// With more labels than this, names are looked up in a hash set instead of one by one.
const FEW_LABELS: usize = 32;

/// A set for more names is not kept for the next line: each line with few would pay for clearing it.
const MOST_KEPT: usize = 1_000;

impl<'a> LabelNames<'a> {
    /// How many names there are, and the filter with which to come back to them; none once there
    /// are too many.
    #[inline]
    pub(crate) fn state(&self) -> Option<(usize, u64)> {
        (self.few.len() < FEW_LABELS).then_some((self.few.len(), self.filter))
    }

    /// How many names there are.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.few.len().max(self.many.len())
    }

    /// Forgets all names but the first `count`, of which there must be few.
    #[inline]
    pub(crate) fn keep(&mut self, count: usize, filter: u64) {
        self.few.truncate(count);
        self.filter = filter;
        if self.many.capacity() > MOST_KEPT {
            self.many = HashSet::default();
        } else if !self.many.is_empty() {
            self.many.clear();
        }
    }

    /// Adds a name; false if the line has it already.
    #[inline]
    pub(crate) fn insert(&mut self, name: &'a [u8]) -> bool {
        if self.few.len() == FEW_LABELS {
            return self.insert_many(name);
        }
        let last = name.last().copied().map_or(0, usize::from);
        let bit = 1_u64 << ((name.len().wrapping_mul(7) ^ last) & 63);
        let new = self.filter & bit == 0 || !self.few.contains(&name);
        self.filter |= bit;
        self.few.push(name);
        new
    }

    #[cold]
    fn insert_many(&mut self, name: &'a [u8]) -> bool {
        if self.many.is_empty() {
            self.many.extend(&self.few);
        }
        self.many.insert(name)
    }
}
