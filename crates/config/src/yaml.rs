//! Configuration files in YAML: what is wrong is said in one line, without what stands in the file.

use std::fmt::Display;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_saphyr::Location;

/// Where a file is not what it should be, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {reason}")]
pub struct Error {
    line: u64,
    column: u64,
    reason: String,
}

impl Error {
    /// For what is wrong with a value there.
    pub fn at(place: Location, reason: &dyn ToString) -> Self {
        Self {
            line: place.line(),
            column: place.column(),
            reason: reason.to_string(),
        }
    }
}

/// Why a file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// It is not what such a file has to be.
    #[error(transparent)]
    Yaml(#[from] Error),
    /// Of which key, and what is wrong with it.
    #[error("{key}: {reason}")]
    Value {
        /// Where it stands, from the top.
        key: String,
        /// One line.
        reason: String,
    },
}

impl FileError {
    /// What is wrong with the value of a key.
    pub fn value(key: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Value {
            key: key.into(),
            reason: reason.into(),
        }
    }

    /// A value that is none of those there can be.
    pub fn not_one_of(key: impl Into<String>, value: impl Display, possible: &[&str]) -> Self {
        let possible = possible.join(", ");
        Self::value(
            key,
            format!("{value} is not supported; supported: {possible}"),
        )
    }
}

/// Takes a key without a value as one that is not there: so Go reads files that templates wrote.
pub fn or_default<'de, D, T>(value: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(value)?.unwrap_or_default())
}

/// What `text` says.
pub fn read<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    serde_saphyr::from_str(text).map_err(|error| {
        // The first line is the reason; those after it show the place, and with it perhaps a key or a hash.
        let reason = error.without_snippet().to_string();
        let place = error.location().unwrap_or(Location::UNKNOWN);
        let (line, column) = (place.line(), place.column());
        let reason = reason.lines().next().unwrap_or_default();
        let place_again = format!(" at line {line}, column {column}");
        let reason = reason.strip_suffix(&place_again).unwrap_or(reason);
        Error::at(place, &reason)
    })
}
