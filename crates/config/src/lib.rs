//! What the operator writes, in flags and files: [durations and sizes](values), files within a bound, and [YAML](yaml)
//! whose errors name the place.

pub mod values;
pub mod yaml;

use std::fs;
use std::io;
use std::path::Path;

/// In bytes. Longer files are no certificates, and no configuration.
const MAX_FILE: u64 = 1 << 20;

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The system does not give it.
    #[error("{0}")]
    Unreadable(#[from] io::Error),
    /// It is no such file.
    #[error("longer than {MAX_FILE} bytes")]
    TooLong,
    /// It is to be text.
    #[error("is not UTF-8")]
    Text,
}

/// A whole file, of at most 1 MiB.
pub fn read_bounded(path: &Path) -> Result<Vec<u8>, ReadError> {
    if fs::metadata(path)?.len() > MAX_FILE {
        return Err(ReadError::TooLong);
    }
    Ok(fs::read(path)?)
}

/// As [`read_bounded`], for text.
pub fn read_text(path: &Path) -> Result<String, ReadError> {
    String::from_utf8(read_bounded(path)?).map_err(|_| ReadError::Text)
}
