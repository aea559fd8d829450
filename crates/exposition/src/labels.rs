//! Labels which are added to samples.

use std::collections::BTreeMap;
use std::fmt;

use thiserror::Error;

use crate::class::is_classic_label;

/// Names which cannot be added: they say which bucket or quantile a sample is.
const OF_SAMPLES: [&str; 2] = ["le", "quantile"];

/// Labels which can be added to samples, sorted by name.
///
/// Displayed, they are what stands after a metric name: `{job="node"}`, or nothing if there are
/// none.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels(BTreeMap<String, String>);

/// Why a label cannot be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum LabelError {
    /// The name is empty, or holds a quotation mark, a backslash or a control character.
    #[error(
        "not a label name: it is empty, or holds a quotation mark, a backslash or a control character"
    )]
    Name,
    /// The name begins with `__`, or is `le` or `quantile`.
    #[error("this label name is reserved: __*, le and quantile are")]
    Reserved,
    /// The value holds a NUL byte, which no exposition may.
    #[error("a NUL byte in a label value")]
    Nul,
}

impl Labels {
    /// Adds a label, in place of one of the same name. An empty value is no label to Prometheus:
    /// none is added, and one of the same name is gone.
    ///
    /// # Errors
    ///
    /// The label cannot be added; nothing has changed.
    pub fn insert(&mut self, name: &str, value: &str) -> Result<(), LabelError> {
        let no_name = |letter: char| letter.is_control() || letter == '"' || letter == '\\';
        if name.is_empty() || name.contains(no_name) {
            return Err(LabelError::Name);
        }
        if name.starts_with("__") || OF_SAMPLES.contains(&name) {
            return Err(LabelError::Reserved);
        }
        if value.contains('\0') {
            return Err(LabelError::Nul);
        }
        if value.is_empty() {
            self.0.remove(name);
        } else {
            self.0.insert(name.to_owned(), value.to_owned());
        }
        Ok(())
    }

    /// The value of the label of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Names and values, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether a name is in quotes where it is written.
    pub(crate) fn any_quoted(&self) -> bool {
        self.0.keys().any(|name| !is_classic_label(name.as_bytes()))
    }

    pub(crate) fn contains(&self, name: &[u8]) -> bool {
        std::str::from_utf8(name).is_ok_and(|name| self.0.contains_key(name))
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut open = '{';
        for (name, value) in self.iter() {
            let quote = if is_classic_label(name.as_bytes()) {
                ""
            } else {
                "\""
            };
            let value = Escaped(value);
            write!(f, "{open}{quote}{name}{quote}=\"{value}\"")?;
            open = ',';
        }
        if open == ',' {
            f.write_str("}")
        } else {
            Ok(())
        }
    }
}

/// A label value as it is written between quotes.
pub(crate) struct Escaped<'a>(pub(crate) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(at) = rest.find(['\\', '"', '\n']) {
            let (plain, special) = rest.split_at(at);
            f.write_str(plain)?;
            f.write_str(match special.as_bytes().first() {
                Some(b'\\') => r"\\",
                Some(b'"') => "\\\"",
                _ => r"\n",
            })?;
            rest = special.get(1..).unwrap_or_default();
        }
        f.write_str(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_written_as_they_stand_after_a_name() {
        let mut labels = Labels::default();
        assert_eq!(labels.to_string(), "");
        labels.insert("b", "C:\\dir \"x\"\n").unwrap();
        labels.insert("a", "ä").unwrap();
        labels.insert("c", "").unwrap();
        labels.insert("ä.b", "1").unwrap();
        assert_eq!(
            labels.to_string(),
            r#"{a="ä",b="C:\\dir \"x\"\n","ä.b"="1"}"#
        );
    }

    #[test]
    fn what_cannot_be_a_label_is_refused() {
        let mut labels = Labels::default();
        for (name, error) in [
            ("", LabelError::Name),
            ("a\"b", LabelError::Name),
            ("a\\b", LabelError::Name),
            ("a\nb", LabelError::Name),
            ("__name__", LabelError::Reserved),
            ("le", LabelError::Reserved),
            ("quantile", LabelError::Reserved),
        ] {
            assert_eq!(labels.insert(name, "1"), Err(error), "{name}");
        }
        assert_eq!(labels.insert("a", "\0"), Err(LabelError::Nul));
        assert!(labels.is_empty());
    }
}
