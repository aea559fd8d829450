//! Which bytes may stand where: one table look-up per byte.

/// May start a metric name: `[a-zA-Z_:]`.
const NAME_START: u8 = 1;
/// May continue a metric name: `[a-zA-Z0-9_:]`.
const NAME: u8 = 2;
/// May start a label name: `[a-zA-Z_]`.
const LABEL_START: u8 = 4;
/// May continue a label name: `[a-zA-Z0-9_]`.
const LABEL: u8 = 8;

static CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 128 {
        let class = byte as u8;
        if class.is_ascii_alphabetic() || class == b'_' {
            table[byte] = NAME_START | NAME | LABEL_START | LABEL;
        } else if class == b':' {
            table[byte] = NAME_START | NAME;
        } else if class.is_ascii_digit() {
            table[byte] = NAME | LABEL;
        }
        byte += 1;
    }
    table
}

#[inline]
fn is(byte: u8, class: u8) -> bool {
    CLASSES
        .get(usize::from(byte))
        .is_some_and(|&classes| classes & class != 0)
}

#[inline]
fn run(line: &[u8], mut at: usize, class: u8) -> usize {
    while line.get(at).is_some_and(|&byte| is(byte, class)) {
        at += 1;
    }
    at
}

/// The end of the metric name at `at`, or `at` itself if none starts there.
#[inline]
pub(crate) fn name_end(line: &[u8], at: usize) -> usize {
    if line.get(at).is_some_and(|&byte| is(byte, NAME_START)) {
        run(line, at + 1, NAME)
    } else {
        at
    }
}

/// The end of the label name at `at`, or `at` itself if none starts there.
#[inline]
pub(crate) fn label_end(line: &[u8], at: usize) -> usize {
    if line.get(at).is_some_and(|&byte| is(byte, LABEL_START)) {
        run(line, at + 1, LABEL)
    } else {
        at
    }
}

/// Whether a metric name needs no quotes.
#[inline]
pub(crate) fn is_classic(name: &[u8]) -> bool {
    !name.is_empty() && name_end(name, 0) == name.len()
}

/// Whether a label name needs no quotes.
#[inline]
pub(crate) fn is_classic_label(name: &[u8]) -> bool {
    !name.is_empty() && label_end(name, 0) == name.len()
}

/// Blanks are spaces and tabs; a carriage return is none, as for Prometheus.
#[inline]
pub(crate) fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// The first byte at or after `at` which is not blank.
#[inline]
pub(crate) fn skip_blanks(line: &[u8], mut at: usize) -> usize {
    while line.get(at).is_some_and(|&byte| is_blank(byte)) {
        at += 1;
    }
    at
}

/// `line[from..to]`, empty if that is no range of the line.
#[inline]
pub(crate) fn part(line: &[u8], from: usize, to: usize) -> &[u8] {
    line.get(from..to).unwrap_or_default()
}

/// Where in `line` its piece `piece` starts.
pub(crate) fn offset_in(line: &[u8], piece: &[u8]) -> usize {
    (piece.as_ptr() as usize).saturating_sub(line.as_ptr() as usize)
}
