//! Reads and writes exemplars, which only OpenMetrics has: ` # {label="value",…} value timestamp`.

use crate::class::{label_end, part, skip_blanks};
use crate::error::{Fault, ParseErrorKind, fault};
use crate::number;
use crate::sample::{is_space, token_end};
use crate::series::{value_end, value_start};

/// An exemplar of a sample.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exemplar<'a> {
    /// What stands between the braces.
    pub(crate) labels: &'a [u8],
    pub(crate) value: &'a [u8],
    /// In seconds.
    pub(crate) timestamp: Option<&'a [u8]>,
    /// Whether the name of a label is in quotes.
    pub(crate) quoted: bool,
}

/// Reads an exemplar, `# {labels} value timestamp`, whose `#` is at `at`.
pub(crate) fn exemplar<'a>(
    line: &'a [u8],
    at: usize,
    strict: &mut bool,
) -> Result<Exemplar<'a>, Fault> {
    let brace = skip_blanks(line, at + 1);
    if line.get(brace) != Some(&b'{') {
        return fault(brace, ParseErrorKind::InvalidExemplar);
    }
    let mut quoted = false;
    let close = exemplar_labels(line, brace + 1, strict, &mut quoted)?;
    let value_at = skip_blanks(line, close + 1);
    let value_to = token_end(line, value_at);
    if !number::is_float(part(line, value_at, value_to)) {
        return fault(value_at, ParseErrorKind::InvalidExemplar);
    }
    *strict &= is_space(line, at + 1, brace);
    *strict &= is_space(line, close + 1, value_at);
    let time_at = skip_blanks(line, value_to);
    let time_to = token_end(line, time_at);
    let timestamp = (time_to > time_at).then(|| part(line, time_at, time_to));
    if timestamp.is_some_and(|timestamp| !number::is_finite_float(timestamp)) {
        return fault(time_at, ParseErrorKind::InvalidExemplar);
    }
    *strict &= timestamp.is_none() || is_space(line, value_to, time_at);
    let end = skip_blanks(line, time_to);
    if end < line.len() {
        return fault(end, ParseErrorKind::InvalidExemplar);
    }
    *strict &= match timestamp {
        Some(_) => time_to == line.len(),
        None => value_to == line.len(),
    };
    Ok(Exemplar {
        labels: part(line, brace + 1, close),
        value: part(line, value_at, value_to),
        timestamp,
        quoted,
    })
}

/// The closing brace of an exemplar whose labels begin at `at`.
fn exemplar_labels(
    line: &[u8],
    mut at: usize,
    strict: &mut bool,
    quoted: &mut bool,
) -> Result<usize, Fault> {
    let invalid = |at| Fault {
        at,
        kind: ParseErrorKind::InvalidExemplar,
    };
    loop {
        let before = at;
        at = skip_blanks(line, at);
        *strict &= at == before;
        let mut name_to = label_end(line, at);
        match line.get(at) {
            Some(b'}') => return Ok(at),
            Some(b'"') => {
                let mut known = true;
                let to = value_end(line, at + 1, &mut known)?;
                if to == at + 1 || !known {
                    return Err(invalid(at));
                }
                *quoted = true;
                name_to = to + 1;
            }
            _ if name_to == at => return Err(invalid(at)),
            _ => {}
        }
        let value_from = value_start(line, name_to).map_err(|fault| invalid(fault.at))?;
        let value_to = value_end(line, value_from, &mut true)?;
        *strict &= value_from == name_to + 2;
        at = skip_blanks(line, value_to + 1);
        *strict &= at == value_to + 1;
        match line.get(at) {
            Some(b',') => at += 1,
            Some(b'}') => {}
            _ => return Err(invalid(at)),
        }
    }
}
