//! Undoes gzip as Go's reader does: several members are one text, and a stream that is cut is an error.

use std::io::{ErrorKind, Read};

use flate2::bufread::MultiGzDecoder;

/// Bytes that are decompressed at a time.
const STEP: usize = 64 << 10;

/// Why there is no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Broken {
    #[error("its gzip stream ends too early")]
    Cut,
    #[error("its gzip stream is damaged")]
    Damaged,
}

/// Decompresses `body`, and asks `grow` before it keeps a number of bytes more.
pub(super) fn decompress<E: From<Broken>>(
    body: &[u8],
    mut grow: impl FnMut(usize) -> Result<(), E>,
) -> Result<Vec<u8>, E> {
    let mut decoder = MultiGzDecoder::new(body);
    let mut text = Vec::new();
    let mut step = vec![0; STEP];
    loop {
        let length = decoder
            .read(&mut step)
            .map_err(|error| match error.kind() {
                ErrorKind::UnexpectedEof => Broken::Cut,
                _ => Broken::Damaged,
            })?;
        if length == 0 {
            return Ok(text);
        }
        grow(length)?;
        text.extend_from_slice(step.get(..length).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn whole(body: &[u8]) -> Result<Vec<u8>, Broken> {
        decompress(body, |_| Ok(()))
    }

    #[test]
    fn several_members_are_one_text() {
        let members = [
            gzip(b"raw_total{x=\"1\"} 3\n"),
            gzip(b""),
            gzip(b"raw_second 1\n"),
        ];
        let text = whole(&members.concat());
        assert_eq!(text, Ok(b"raw_total{x=\"1\"} 3\nraw_second 1\n".to_vec()));
        assert_eq!(whole(&gzip(b"")), Ok(Vec::new()));
    }

    #[test]
    fn a_stream_that_is_cut_anywhere_is_an_error() {
        let first = gzip(b"a 1\n");
        let both = [first.clone(), gzip(b"b 1\n")].concat();
        for length in (0..both.len()).filter(|&length| length != first.len()) {
            assert_eq!(whole(&both[..length]), Err(Broken::Cut), "{length}");
        }
    }

    #[test]
    fn what_follows_a_member_is_another_or_an_error() {
        let mut body = gzip(b"a 1\n");
        body.extend(b"no gzip here");
        assert_eq!(whole(&body), Err(Broken::Damaged));
        assert_eq!(whole(b"a 1\n is no gzip"), Err(Broken::Damaged));
        let mut wrong = gzip(b"a 1\n");
        let checksum = wrong.len() - 8;
        wrong[checksum] ^= 1;
        assert_eq!(whole(&wrong), Err(Broken::Damaged));
    }

    #[test]
    fn the_bound_holds_while_it_decompresses() {
        #[derive(Debug, PartialEq)]
        enum Failure {
            TooLong,
            Broken,
        }
        impl From<Broken> for Failure {
            fn from(_: Broken) -> Self {
                Self::Broken
            }
        }
        let bomb = gzip(&vec![b'\n'; 10 << 20]);
        let mut kept = 0;
        let text = decompress(&bomb, |more| {
            kept += more;
            if kept > 1 << 20 {
                Err(Failure::TooLong)
            } else {
                Ok(())
            }
        });
        assert_eq!(text, Err(Failure::TooLong));
        assert!(kept <= (1 << 20) + STEP, "{kept}");
    }
}
