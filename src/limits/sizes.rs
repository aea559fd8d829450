//! Sizes, as people write them.

use bytesize::ByteSize;

/// A number of bytes, as people write it. The error says how they do.
pub(crate) fn bytes(text: &str) -> Result<usize, String> {
    let size: ByteSize = text
        .parse()
        .map_err(|error| format!("{error}; a size is written as 64MiB or 1GiB"))?;
    match usize::try_from(size.as_u64()) {
        Ok(0) | Err(_) => Err("must be more than zero, and fit into memory".into()),
        Ok(bytes) => Ok(bytes),
    }
}
