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
    /// Prometheus 2 refuses it in OpenMetrics: a comma behind the last label, and an exemplar of a sample that
    /// [must not](takes_exemplar) have one.
    pub(crate) const NOT_PROMETHEUS_2: Self = Self(16);

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

/// Whether a sample of this name may have an exemplar in OpenMetrics 1.0.0. Prometheus 2 refuses a scrape in which another
/// one has (`validateNameForExemplar` in its `openmetricsparse.go`).
pub(crate) fn takes_exemplar(name: &[u8]) -> bool {
    name.ends_with(b"_total") || name.ends_with(b"_bucket")
}

impl BitOr for Needs {
    type Output = Self;

    #[inline]
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}
