//! Undoes the escapes of names and values.

/// What stands between quotes, as it is meant.
pub(crate) fn unescaped(raw: &[u8]) -> String {
    let raw = String::from_utf8_lossy(raw);
    let mut meant = String::with_capacity(raw.len());
    let mut letters = raw.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => match letters.next() {
                Some('n') => meant.push('\n'),
                other => meant.extend(other),
            },
            _ => meant.push(letter),
        }
    }
    meant
}
