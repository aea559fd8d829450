//! Texts on their way between nodes: a block of Snappy's raw format.
//!
//! gRPC could compress them as well, but would do it on the threads that serve the sockets, once for each receiver.

use bytes::Bytes;

/// Compresses a text. `None` if it has 4 GiB or more.
pub fn pack(text: &[u8]) -> Option<Bytes> {
    let packed = snap::raw::Encoder::new().compress_vec(text);
    packed.ok().map(Bytes::from)
}

/// Bytes of a block's text. `None` if it is damaged.
pub fn unpacked_length(packed: &[u8]) -> Option<usize> {
    snap::raw::decompress_len(packed).ok()
}

/// The text of a block. `None` if it is damaged or longer than `max` bytes.
pub fn unpack(packed: &[u8], max: usize) -> Option<Bytes> {
    if unpacked_length(packed)? > max {
        return None;
    }
    let text = snap::raw::Decoder::new().decompress_vec(packed);
    text.ok().map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_travels_within_the_bound_and_no_longer_one_does() {
        let text = "series 1\n".repeat(100);
        let packed = pack(text.as_bytes()).unwrap();
        assert!(packed.len() < text.len());
        assert_eq!(unpack(&packed, text.len()).unwrap(), text);
        assert_eq!(unpack(&packed, text.len() - 1), None);
        assert_eq!(unpack(b"rubbish", 1 << 20), None);
        assert_eq!(unpack(b"", 1 << 20), None);
    }
}
