//! OpenMetrics 1.0 text, rewritten to text format 0.0.4.

use crate::error::{ParseError, ParseErrorKind};
use crate::exposition::Exposition;

/// The line which ends a text of OpenMetrics, and by which one is recognised.
pub(crate) const EOF: &[u8] = b"# EOF";

/// Whether a line of the text is exactly `# EOF`.
pub(crate) fn is_openmetrics(text: &[u8]) -> bool {
    memchr::memmem::find_iter(text, EOF).any(|at| {
        let starts = at == 0 || text.get(at - 1) == Some(&b'\n');
        starts && text.get(at + EOF.len()).is_none_or(|&after| after == b'\n')
    })
}

/// Rewrites and validates the text.
pub(crate) fn parse(text: &[u8]) -> Result<Exposition, ParseError> {
    Err(ParseError::at(text, 0, ParseErrorKind::UnexpectedExemplar))
}
