//! Why a text was refused, in words from a closed set.

use thiserror::Error;

use crate::class::offset_in;

/// A text was refused, and where.
///
/// The message holds numbers and fixed words only, never a piece of the text, so it can be logged
/// and sent on whatever an application wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("line {line}, column {column}: {}", .kind.as_str())]
pub struct ParseError {
    line: usize,
    column: usize,
    kind: ParseErrorKind,
}

impl ParseError {
    /// A fault in `line`, which stands in `text`; past its end is at its end.
    pub(crate) fn in_line(text: &[u8], line: &[u8], fault: Fault) -> Self {
        let fault = fault.of_carriage_return(line).unwrap_or(fault);
        let at = offset_in(text, line) + fault.at.min(line.len());
        Self::at(text, at, fault.kind)
    }

    /// Turns a byte offset into line and column; both are needed only once a text is refused.
    pub(crate) fn at(text: &[u8], offset: usize, kind: ParseErrorKind) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1);
        Self {
            line: memchr::memchr_iter(b'\n', before).count() + 1,
            column: before.len() - line_start + 1,
            kind,
        }
    }

    /// The line, counted from 1.
    #[must_use]
    pub fn line(&self) -> usize {
        self.line
    }

    /// The byte of the line at which reading stopped, counted from 1.
    #[must_use]
    pub fn column(&self) -> usize {
        self.column
    }

    /// What is wrong there.
    #[must_use]
    pub fn kind(&self) -> ParseErrorKind {
        self.kind
    }
}

/// Where in a line reading stopped, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) at: usize,
    pub(crate) kind: ParseErrorKind,
}

impl Fault {
    /// The same for what it comes from, if the line's last word is at fault for the carriage return in it.
    fn of_carriage_return(self, line: &[u8]) -> Option<Self> {
        use ParseErrorKind::{
            InvalidExemplar, InvalidTimestamp, InvalidType, InvalidValue, TrailingText,
        };
        let ends = matches!(
            self.kind,
            InvalidExemplar | InvalidTimestamp | InvalidType | InvalidValue | TrailingText
        );
        let word = line.get(self.at..)?;
        let at = line.len().checked_sub(1)?;
        let is_last = !word.contains(&b' ') && word.ends_with(b"\r");
        (ends && is_last).then_some(Self {
            at,
            kind: ParseErrorKind::CarriageReturn,
        })
    }
}

pub(crate) fn fault<T>(at: usize, kind: ParseErrorKind) -> Result<T, Fault> {
    Err(Fault { at, kind })
}

/// What is wrong with a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ParseErrorKind {
    /// The text has 4 GiB or more; positions are kept in 32 bits.
    TooLarge,
    /// Nobody wants the text any more.
    NotWanted,
    /// More samples than [`Limits`](crate::Limits) allow.
    TooManySamples,
    /// More families, with samples or without, than [`Limits`](crate::Limits) allow.
    TooManyFamilies,
    /// More lines, comments and blank ones included, than [`Limits`](crate::Limits) allow.
    TooManyLines,
    /// A longer name of a metric or label than [`Limits`](crate::Limits) allow.
    NameTooLong,
    /// A longer label value than [`Limits`](crate::Limits) allow.
    LabelValueTooLong,
    /// More labels in one sample than [`Limits`](crate::Limits) allow.
    TooManyLabels,
    /// The text is JSON.
    Json,
    /// The text is HTML or XML.
    Markup,
    /// The text was said to be OpenMetrics, and its last line is not `# EOF`.
    MissingEof,
    /// The text is not UTF-8.
    InvalidUtf8,
    /// The text holds a NUL byte. Prometheus stops reading there without an error.
    NulByte,
    /// No metric name where one must be, or one which must be in quotes, or has a backslash which starts no escape.
    InvalidMetricName,
    /// No label name where one must be, or one which must be in quotes, or has a backslash which starts no escape.
    InvalidLabelName,
    /// A label `__name__`, which would be a second metric name.
    ReservedLabelName,
    /// One sample names a label twice.
    DuplicateLabelName,
    /// No `=` after a label name.
    MissingEquals,
    /// No `"` where a label value must start.
    MissingQuote,
    /// The line ends inside a label value.
    UnterminatedLabelValue,
    /// The line ends inside the braces.
    UnterminatedLabels,
    /// The line ends before the value.
    MissingValue,
    /// The value is no number which Go's `ParseFloat` reads, or is too large for 64 bits.
    InvalidValue,
    /// The timestamp is no non-negative integer of milliseconds (OpenMetrics: number of seconds)
    /// within 64 bits.
    InvalidTimestamp,
    /// An exemplar in a text which is not OpenMetrics.
    UnexpectedExemplar,
    /// An exemplar which cannot be read.
    InvalidExemplar,
    /// The line ends with a carriage return and a line feed.
    CarriageReturn,
    /// Something after the last part of a line.
    TrailingText,
    /// No metric name after `# HELP` or `# TYPE`, or one which does not end with a blank.
    InvalidMetadataName,
    /// A type which the format does not have.
    InvalidType,
}

impl ParseErrorKind {
    /// Whether the text is refused for being past one of [`Limits`](crate::Limits), and not for what it says.
    #[must_use]
    pub fn is_limit(self) -> bool {
        matches!(
            self,
            Self::TooManySamples
                | Self::TooManyFamilies
                | Self::TooManyLines
                | Self::NameTooLong
                | Self::LabelValueTooLong
                | Self::TooManyLabels
        )
    }

    /// Fixed words for the kind, fit for a message and for a label value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooLarge => "text too large",
            Self::NotWanted => "cancelled",
            Self::TooManySamples => "too many samples",
            Self::TooManyFamilies => "too many families",
            Self::TooManyLines => "too many lines",
            Self::NameTooLong => "name too long",
            Self::LabelValueTooLong => "label value too long",
            Self::TooManyLabels => "too many labels",
            Self::Json => "JSON instead of an exposition",
            Self::Markup => "HTML or XML instead of an exposition",
            Self::MissingEof => "data does not end with # EOF",
            Self::InvalidUtf8 => "invalid UTF-8",
            Self::NulByte => "NUL byte",
            Self::InvalidMetricName => "invalid metric name",
            Self::InvalidLabelName => "invalid label name",
            Self::ReservedLabelName => "reserved label name",
            Self::DuplicateLabelName => "duplicate label name",
            Self::MissingEquals => "missing equals sign after label name",
            Self::MissingQuote => "missing quote before label value",
            Self::UnterminatedLabelValue => "unterminated label value",
            Self::UnterminatedLabels => "unterminated labels",
            Self::MissingValue => "missing value",
            Self::InvalidValue => "invalid value",
            Self::InvalidTimestamp => "invalid timestamp",
            Self::UnexpectedExemplar => "exemplar outside OpenMetrics",
            Self::InvalidExemplar => "invalid exemplar",
            Self::CarriageReturn => "carriage return before the line feed",
            Self::TrailingText => "trailing text",
            Self::InvalidMetadataName => "invalid metric name in metadata",
            Self::InvalidType => "invalid metric type",
        }
    }
}

impl std::fmt::Display for ParseErrorKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
