//! Reads the lines which start with `#`, and knows the types of families.

use crate::class::{is_blank, name_end, part, skip_blanks};
use crate::error::{Fault, ParseErrorKind, fault};
use crate::series::value_end;

/// The types of text format 0.0.4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
    Summary,
    Untyped,
}

impl Kind {
    /// In the order of their numbers.
    pub(crate) const ALL: [Self; 5] = [
        Self::Counter,
        Self::Gauge,
        Self::Histogram,
        Self::Summary,
        Self::Untyped,
    ];

    /// Exact spelling: the scrape parser knows no other.
    fn parse(text: &[u8]) -> Option<Self> {
        Some(match text {
            b"counter" => Self::Counter,
            b"gauge" => Self::Gauge,
            b"histogram" => Self::Histogram,
            b"summary" => Self::Summary,
            b"untyped" => Self::Untyped,
            _ => return None,
        })
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
            Self::Untyped => "untyped",
        }
    }

    /// Whether a family of this type has samples under more than its own name.
    pub(crate) fn is_compound(self) -> bool {
        matches!(self, Self::Histogram | Self::Summary)
    }

    /// Whether a sample named by the family's name plus `suffix` belongs to the family.
    #[inline]
    pub(crate) fn takes(self, suffix: &[u8]) -> bool {
        match suffix {
            b"" => true,
            b"_count" | b"_sum" => self.is_compound(),
            b"_bucket" => self == Self::Histogram,
            _ => false,
        }
    }
}

/// What the names of a histogram's or summary's samples have after its own.
pub(crate) const SUFFIXES: [&[u8]; 3] = [b"_count", b"_sum", b"_bucket"];

/// The name of the histogram or summary to which a sample of this name may belong, and the suffix.
pub(crate) fn split_suffix(name: &[u8]) -> Option<(&[u8], &'static [u8])> {
    SUFFIXES.into_iter().find_map(|suffix| {
        let family = name.strip_suffix(suffix)?;
        (!family.is_empty()).then_some((family, suffix))
    })
}

/// A line which starts with `#`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Metadata<'a> {
    Comment,
    Help {
        name: &'a [u8],
        text: &'a [u8],
    },
    Type {
        name: &'a [u8],
        text: &'a [u8],
        text_at: usize,
    },
    /// Only in OpenMetrics.
    Unit {
        name: &'a [u8],
        text: &'a [u8],
    },
}

/// Reads a line whose `#` stands just before `at`.
///
/// As for the scrape parser, `#HELP` without a blank is a comment, and so is `# HELP` at the end
/// of the line.
pub(crate) fn metadata(line: &[u8], at: usize) -> Result<Metadata<'_>, Fault> {
    let keyword_at = skip_blanks(line, at);
    let keyword = part(line, keyword_at, keyword_at + 4);
    let blank_after = line.get(keyword_at + 4).is_some_and(|&byte| is_blank(byte));
    if keyword_at == at || !blank_after || !matches!(keyword, b"HELP" | b"TYPE" | b"UNIT") {
        return Ok(Metadata::Comment);
    }
    let name_at = skip_blanks(line, keyword_at + 4);
    let (name, name_to) = match name(line, name_at) {
        Ok(name) => name,
        // A comment in format 0.0.4.
        Err(_) if keyword == b"UNIT" => return Ok(Metadata::Comment),
        Err(fault) => return Err(fault),
    };
    // One blank separates; any more are text, unless nothing else follows.
    let text = match skip_blanks(line, name_to) == line.len() {
        true => &[],
        false => part(line, name_to + 1, line.len()),
    };
    Ok(match keyword {
        b"HELP" => Metadata::Help { name, text },
        b"UNIT" => Metadata::Unit { name, text },
        _ => Metadata::Type {
            name,
            text,
            text_at: name_to + 1,
        },
    })
}

/// The name at `at`, without quotes, and the position after it.
fn name(line: &[u8], at: usize) -> Result<(&[u8], usize), Fault> {
    let (from, to, end) = if line.get(at) == Some(&b'"') {
        let mut known = true;
        let to = value_end(line, at + 1, &mut known)?;
        if !known {
            return fault(at, ParseErrorKind::InvalidMetadataName);
        }
        (at + 1, to, to + 1)
    } else {
        let to = name_end(line, at);
        (at, to, to)
    };
    if from == to {
        return fault(at, ParseErrorKind::InvalidMetadataName);
    }
    if line.get(end).is_some_and(|&byte| !is_blank(byte)) {
        return fault(end, ParseErrorKind::InvalidMetadataName);
    }
    Ok((part(line, from, to), end))
}

/// The type named by the text of a `# TYPE`.
pub(crate) fn kind(text: &[u8], text_at: usize) -> Result<Kind, Fault> {
    Kind::parse(text).map_or_else(|| fault(text_at, ParseErrorKind::InvalidType), Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_counted_by_its_number_is_found_again() {
        for (number, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, number);
            assert_eq!(Kind::parse(kind.as_str().as_bytes()), Some(kind));
        }
    }

    #[test]
    fn a_suffix_alone_is_no_suffix() {
        assert_eq!(split_suffix(b"_count"), None);
        assert_eq!(split_suffix(b"a_count"), Some((&b"a"[..], &b"_count"[..])));
        assert_eq!(split_suffix(b"a_total"), None);
    }
}
