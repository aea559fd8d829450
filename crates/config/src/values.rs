//! How people write values, in flags and files: durations, sizes, numbers.

use std::time::Duration;

use bytesize::ByteSize;

/// A duration, which may be zero.
pub fn any_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("{error}; a duration is written as 500ms, 10s or 1h30m"))
}

/// A duration above zero.
pub fn duration(text: &str) -> Result<Duration, String> {
    match any_duration(text)? {
        Duration::ZERO => Err("must be more than zero".into()),
        duration => Ok(duration),
    }
}

/// A number of bytes. The error says how they are written.
pub fn bytes(text: &str) -> Result<usize, String> {
    let size: ByteSize = text
        .parse()
        .map_err(|error| format!("{error}; a size is written as 64MiB or 1GiB"))?;
    match usize::try_from(size.as_u64()) {
        Ok(0) | Err(_) => Err("must be more than zero, and fit into memory".into()),
        Ok(bytes) => Ok(bytes),
    }
}

/// A number above zero.
pub fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be more than zero".into()),
        Ok(number) => Ok(number),
        Err(error) => Err(format!("{error}")),
    }
}
