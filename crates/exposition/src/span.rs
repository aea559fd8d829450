//! Ranges: of one text, and of what is written.

use crate::encoding::Conversion;

/// A range of the text, or of the rewritten lines if it starts after the text's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Span {
    pub(crate) fn len(self) -> usize {
        self.end.saturating_sub(self.start) as usize
    }
}

/// A piece of the output.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Piece {
    /// The next HELP and TYPE lines.
    Head { length: usize },
    /// Sample lines of one part.
    Lines {
        part: u32,
        span: Span,
        conversion: Conversion,
    },
}

impl Piece {
    /// The part from which the lines come; heads have none and come first.
    pub(crate) fn part(&self) -> Option<u32> {
        match *self {
            Self::Head { .. } => None,
            Self::Lines { part, .. } => Some(part),
        }
    }

    /// Adds lines which follow directly in the same part; returns whether they do.
    pub(crate) fn extend(&mut self, next: Self) -> bool {
        let (
            Self::Lines {
                part,
                span,
                conversion,
            },
            Self::Lines {
                part: next_part,
                span: next_span,
                conversion: next_conversion,
            },
        ) = (self, next)
        else {
            return false;
        };
        let follows =
            (*part, span.end, *conversion) == (next_part, next_span.start, next_conversion);
        if follows {
            span.end = next_span.end;
        }
        follows
    }

    pub(crate) fn len(self) -> usize {
        match self {
            Self::Head { length } => length,
            Self::Lines { span, .. } => span.len(),
        }
    }
}
