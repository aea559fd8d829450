//! What a sample has that not every type allows.
//!
//! `expfmt` refuses some samples of histograms and summaries (`startLabelValue` and `readingValue` in its
//! `text_parse.go`), Prometheus none. They are noted where they are read; a merge gives the type up.

use crate::metadata::Kind;
use crate::number;
use crate::sample::Sample;

/// What some samples have, as one bit for each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Marks(u8);

/// A label `le` which is not a number.
const BAD_LE: u8 = 1;
/// A label `quantile` which is not a number.
const BAD_QUANTILE: u8 = 2;
/// A value below zero.
const NEGATIVE: u8 = 4;
/// A value below zero beside a label `le` which is a number, but not NaN.
const NEGATIVE_BUCKET: u8 = 8;

impl Marks {
    #[inline]
    pub(crate) fn of(sample: &Sample<'_>) -> Self {
        let series = &sample.series;
        if series.le().is_none() && series.quantile().is_none() && !is_signed(sample.value) {
            return Self::default();
        }
        Self::read(sample)
    }

    fn read(sample: &Sample<'_>) -> Self {
        let negative = is_signed(sample.value) && number::is_negative(sample.value);
        let mut marks = if negative { NEGATIVE } else { 0 };
        match sample.series.le() {
            Some(bound) if !number::is_float(bound) => marks |= BAD_LE,
            Some(bound) if negative && !number::is_nan(bound) => marks |= NEGATIVE_BUCKET,
            _ => {}
        }
        if sample
            .series
            .quantile()
            .is_some_and(|quantile| !number::is_float(quantile))
        {
            marks |= BAD_QUANTILE;
        }
        Self(marks)
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Adds those of samples of a histogram or summary with this suffix.
    pub(crate) fn add_of(&mut self, suffix: &[u8], other: Self) {
        // Any sum may be below zero.
        let ignored = if suffix == b"_sum" { NEGATIVE } else { 0 };
        self.0 |= other.0 & !ignored;
    }

    /// Whether a family of this type may have such a sample, named by the family's name and `suffix`.
    pub(crate) fn fit(self, kind: Kind, suffix: &[u8]) -> bool {
        let refused = match (kind, suffix) {
            (Kind::Histogram, b"_count") => BAD_LE | NEGATIVE | NEGATIVE_BUCKET,
            (Kind::Histogram, b"_sum") => BAD_LE,
            (Kind::Histogram, _) => BAD_LE | NEGATIVE_BUCKET,
            (Kind::Summary, _) => BAD_QUANTILE,
            (Kind::Counter | Kind::Gauge | Kind::Untyped, _) => 0,
        };
        self.0 & refused == 0
    }

    /// Whether all of some samples of such a family certainly fit it, whatever their suffixes.
    pub(crate) fn all_fit(self, kind: Kind) -> bool {
        self.fit(kind, b"_count")
    }
}

#[inline]
fn is_signed(value: &[u8]) -> bool {
    value.first() == Some(&b'-')
}
