//! The formats of texts.

/// What a text is read as, or written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Text format 0.0.4, or 1.0.0 with names in quotes: `# EOF` is a comment, timestamps are in milliseconds.
    Text,
    /// OpenMetrics 1.0 or 0.0.1: ends with `# EOF`, timestamps are in seconds.
    OpenMetrics,
}
