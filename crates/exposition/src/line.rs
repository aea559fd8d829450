//! Finds its parts in a sample line that has been read before.

use crate::class::{is_blank, label_end, name_end, part, skip_blanks};
use crate::series::value_end;

/// Where the name of a series is, and where its labels begin.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start<'l> {
    /// Without quotes, but with its escapes.
    pub(crate) name: &'l [u8],
    /// Whether it is in quotes between the braces.
    pub(crate) quoted: bool,
    /// Where the next label would begin; `None`: there are no braces.
    pub(crate) labels: Option<usize>,
}

/// The start of a line that has no blank before its name, and whose name, if it is in quotes, comes first.
#[inline]
pub(crate) fn start(line: &[u8]) -> Start<'_> {
    let to = name_end(line, 0);
    let brace = skip_blanks(line, to);
    let braces = line.get(brace) == Some(&b'{');
    if to > 0 || !braces {
        return Start {
            name: part(line, 0, to),
            quoted: false,
            labels: braces.then_some(brace + 1),
        };
    }
    let quote = skip_blanks(line, brace + 1);
    let to = value_end(line, quote + 1, &mut false).unwrap_or(line.len());
    let after = skip_blanks(line, to + 1);
    Start {
        name: part(line, quote + 1, to),
        quoted: true,
        labels: Some(after + usize::from(line.get(after) == Some(&b','))),
    }
}

/// A series with where it ends and what it has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line<'l> {
    pub(crate) name: &'l [u8],
    /// From the first label to the end of the line.
    pub(crate) labels: &'l [u8],
    /// The first byte after the series.
    pub(crate) end: usize,
    /// Whether its blanks and commas are those of a line that is written anew.
    pub(crate) canonical: bool,
    /// Whether the name or that of a label is in quotes.
    pub(crate) quoted: bool,
}

impl<'l> Line<'l> {
    /// Reads a line as [`start`] does.
    pub(crate) fn of(line: &'l [u8]) -> Self {
        let Start {
            name,
            quoted,
            labels,
        } = start(line);
        let Some(from) = labels else {
            return Self {
                name,
                labels: &[],
                end: name.len(),
                canonical: true,
                quoted,
            };
        };
        // `{"` and `"` stand around a quoted name, and a comma behind it if labels follow.
        let before = if quoted { name.len() + 3 } else { name.len() };
        let mut of = Self {
            name,
            labels: part(line, from, line.len()),
            end: line.len(),
            canonical: from == before + 1 || quoted && from == before,
            quoted,
        };
        let mut at = from;
        let mut comma = true;
        loop {
            let before = at;
            at = skip_blanks(line, at);
            of.canonical &= at == before;
            let mut name_to = label_end(line, at);
            match line.get(at) {
                Some(b'}') | None => {
                    // Braces around nothing, or a comma behind the last label.
                    of.canonical &= !comma || quoted && before == from;
                    of.end = (at + 1).min(line.len());
                    return of;
                }
                Some(b'"') => {
                    of.quoted = true;
                    name_to = value_end(line, at + 1, &mut false).unwrap_or(line.len()) + 1;
                }
                Some(_) => {}
            }
            let equals = skip_blanks(line, name_to);
            let quote = skip_blanks(line, equals + 1);
            let to = value_end(line, quote + 1, &mut false).unwrap_or(line.len());
            at = skip_blanks(line, to + 1);
            of.canonical &= quote == name_to + 1 && at == to + 1;
            comma = line.get(at) == Some(&b',');
            at += usize::from(comma);
        }
    }
}

/// The end of a run of bytes that are no blanks.
pub(crate) fn word_end(line: &[u8], mut at: usize) -> usize {
    while line.get(at).is_some_and(|&byte| !is_blank(byte)) {
        at += 1;
    }
    at
}
