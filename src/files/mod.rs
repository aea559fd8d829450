//! Files that the operator gives: read whole within a bound, read again when they change, and YAML whose errors name the
//! place.

pub(crate) mod follow;
pub(crate) mod yaml;

use std::fs;
use std::io;
use std::path::Path;

/// In bytes. Longer files are no certificates, and no configuration.
const MAX_FILE: u64 = 1 << 20;

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("{0}")]
    Unreadable(#[from] io::Error),
    #[error("longer than {MAX_FILE} bytes")]
    TooLong,
    #[error("is not UTF-8")]
    Text,
}

/// A whole file, which is no longer than [`MAX_FILE`].
pub(crate) fn read_bounded(path: &Path) -> Result<Vec<u8>, ReadError> {
    if fs::metadata(path)?.len() > MAX_FILE {
        return Err(ReadError::TooLong);
    }
    Ok(fs::read(path)?)
}

/// As [`read_bounded`], for text.
pub(crate) fn read_text(path: &Path) -> Result<String, ReadError> {
    String::from_utf8(read_bounded(path)?).map_err(|_| ReadError::Text)
}
