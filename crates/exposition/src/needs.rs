//! Why lines of a family cannot be served as they stand.

use std::ops::BitOr;

/// What some lines of a family have, as one bit for each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Needs(u8);

impl Needs {
    /// Text format 0.0.4 has it in another form: exemplars, and timestamps in seconds.
    pub(crate) const NOT_TEXT: Self = Self(1);
    /// OpenMetrics has it in another form: blanks, and timestamps in milliseconds.
    pub(crate) const NOT_OPENMETRICS: Self = Self(2);
    /// A name in quotes.
    pub(crate) const QUOTED: Self = Self(4);
    /// OpenMetrics has the samples in another family: those named `_created`, `_gcount` and `_gsum`.
    pub(crate) const DERIVED: Self = Self(8);

    /// A comma behind the last label, which Prometheus 2 refuses in OpenMetrics.
    pub(crate) const LAST_COMMA: Self = Self(16);

    /// Whether it has any of these.
    #[inline]
    pub(crate) fn has(self, any: Self) -> bool {
        self.0 & any.0 != 0
    }

    /// Whether it has all of these.
    #[inline]
    pub(crate) fn has_all(self, all: Self) -> bool {
        self.0 & all.0 == all.0
    }

    #[inline]
    pub(crate) fn add(&mut self, more: Self) {
        self.0 |= more.0;
    }

    /// `self`, if it is so.
    #[inline]
    pub(crate) fn when(self, so: bool) -> Self {
        if so { self } else { Self::default() }
    }
}

impl BitOr for Needs {
    type Output = Self;

    #[inline]
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}
