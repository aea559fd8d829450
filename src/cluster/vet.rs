//! A look at a message before it is decoded: chitchat unpacks whatever number of compressed blocks it is sent, and a
//! datagram has room for four thousand, which unpack to 64 kB each.
//!
//! What is written here of chitchat's format: a magic number (2 bytes), the version (1 byte), the kind (1 byte), then
//! streams of blocks: the kind of block (1 byte: 0 none follows, 1 compressed, 2 as it is), its length (2 bytes,
//! little-endian), its bytes.

use bytes::Buf;

/// The version that nodes speak. The one before has no blocks where these do.
const VERSION: u8 = 1;
/// Blocks of one message, 4 MB unpacked. chitchat fills a block to 16 kB: this is room for some thousands of nodes.
const MAX_BLOCKS: usize = 64;
/// Magic number, version, kind.
const HEAD_BYTES: usize = 4;

/// Whether a message unpacks to a bounded size. Whether it is one at all, the decoder tells.
pub(super) fn is_bounded(message: &[u8]) -> bool {
    let Some((&[_, _, version, kind], mut rest)) = message.split_first_chunk::<HEAD_BYTES>() else {
        return false;
    };
    // SYN: a digest. SYN-ACK: a digest and a delta. ACK: a delta. Refusal of another cluster: nothing.
    let streams = match kind {
        0 | 2 => 1,
        1 => 2,
        _ => 0,
    };
    let mut left = MAX_BLOCKS;
    version == VERSION && (0..streams).all(|_| skip_stream(&mut rest, &mut left).is_some())
}

/// `None` if the stream is cut, or has more blocks than are `left`.
fn skip_stream(rest: &mut &[u8], left: &mut usize) -> Option<()> {
    while rest.try_get_u8().ok()? != 0 {
        *left = left.checked_sub(1)?;
        let length = rest.try_get_u16_le().ok()?;
        *rest = rest.get(usize::from(length)..)?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(version: u8, kind: u8, streams: &[usize]) -> Vec<u8> {
        let mut message = vec![0x53, 0xb0, version, kind];
        for blocks in streams {
            for _ in 0..*blocks {
                message.extend([1, 3, 0, 7, 7, 7]);
            }
            message.push(0);
        }
        message
    }

    #[test]
    fn blocks_are_bounded_over_all_streams_of_a_message() {
        for (kind, streams, bounded) in [
            (0, &[64][..], true),
            (0, &[65], false),
            (1, &[32, 32], true),
            (1, &[32, 33], false),
            (1, &[32], false),
            (2, &[0], true),
            (2, &[4000], false),
            (3, &[], true),
        ] {
            let message = message(VERSION, kind, streams);
            assert_eq!(is_bounded(&message), bounded, "{kind} {streams:?}");
        }
    }

    #[test]
    fn another_version_is_not_let_through() {
        assert!(!is_bounded(&message(0, 0, &[1])));
        assert!(!is_bounded(&message(2, 0, &[1])));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = is_bounded(&bytes);
        }
    }
}
