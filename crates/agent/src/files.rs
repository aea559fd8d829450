//! Files that list targets: those that a pattern matches, and what one holds.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Bytes of one file.
const MAX_FILE: u64 = 16 << 20;
/// Files that one pattern may match.
const MAX_MATCHES: usize = 1000;

/// The files of a path whose last part may have `*`. One without is a file, there or not.
pub(super) fn matching(pattern: &Path) -> Result<Vec<PathBuf>, String> {
    let name = pattern.file_name().map(|name| name.to_string_lossy());
    let Some(name) = name.filter(|name| name.contains('*')) else {
        return Ok(vec![pattern.to_owned()]);
    };
    let directory = match pattern.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(|error| error.to_string())? {
        let entry = entry.map_err(|error| error.to_string())?;
        let path = pattern.with_file_name(entry.file_name());
        if fits(&name, &entry.file_name().to_string_lossy()) && path.is_file() {
            files.push(path);
        }
        if files.len() > MAX_MATCHES {
            return Err(format!("more than {MAX_MATCHES} files match"));
        }
    }
    Ok(files)
}

/// Whether the name is the pattern, in which each `*` stands for any characters.
fn fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let mut parts = parts.peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some((_, after)) = rest.split_once(part) else {
            return false;
        };
        rest = after;
    }
    rest.is_empty()
}

/// The whole text of a file.
pub(super) fn read(path: &Path) -> Result<String, String> {
    let read = || -> std::io::Result<String> {
        let mut text = String::new();
        let mut file = File::open(path)?.take(MAX_FILE + 1);
        file.read_to_string(&mut text)?;
        Ok(text)
    };
    let text = read().map_err(|error| error.to_string())?;
    if text.len() as u64 > MAX_FILE {
        return Err(format!("longer than {MAX_FILE} bytes"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, name) in [
            ("*.json", ".json"),
            ("*.json", "a.json"),
            ("a*", "a"),
            ("a*b*c", "a-b-b-c"),
            ("*a*", "banana"),
        ] {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("*.json", "a.yml"),
            ("a*", "ba"),
            ("a*b*c", "a-b"),
            ("ab*ba", "aba"),
        ] {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
    }
}
