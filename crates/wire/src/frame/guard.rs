//! Vets the raw bytes of a frame before the decoder sees them.
//!
//! The decoder of `rsocket_rust` trusts its input: an unknown frame type or a metadata length
//! beyond the end of the frame makes it panic. [`check`] promises that a frame it finds
//! [`Vetted::Decode`] is decoded without a panic and without an error; the fuzz target `frame`
//! holds it to that. It judges one frame by itself: whether the frame makes sense *now* is the
//! session's question.

use thiserror::Error;

/// Bytes of the header every frame begins with: stream id, type and flags.
pub const HEADER_LEN: usize = 6;

/// The longest frame of the protocol, header included (section "Max Frame Size").
pub const MAX_FRAME_LEN: usize = 0x00FF_FFFF;

const RESERVED_BIT: u32 = 0x8000_0000;
const FLAG_IGNORE: u16 = 0x200;
const FLAG_METADATA: u16 = 0x100;
const FLAG_RESUME: u16 = 0x080;

/// What to do with a frame that is not [`Malformed`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Vetted {
    /// Well formed: the decoder takes it.
    Decode,
    /// To be skipped: either its sender marked it as ignorable and it is not understood, or it
    /// stands on a stream where the protocol wants it ignored ("Handling the Unexpected").
    Skip,
}

/// What is wrong with a frame. The texts go into ERROR frames, so they repeat nothing of the input.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum Malformed {
    /// Shorter than the fields its type must have.
    #[error("frame too short")]
    TooShort,
    /// Longer than the receiver's limit, or than the protocol allows.
    #[error("frame too long")]
    TooLong,
    /// What would be a frame too long begins as a TLS record does (RFC 8446, section 5.1): an alert, for one, to a client
    /// that does not speak TLS.
    #[error("the peer speaks TLS (tls:// or wss://) where plain frames are expected")]
    Tls,
    /// The highest bit of a 31-bit field is set.
    #[error("reserved bit set")]
    ReservedBit,
    /// Not a frame type of the protocol, and not marked as ignorable.
    #[error("unknown frame type")]
    UnknownType,
    /// A metadata length that points beyond the end of the frame.
    #[error("metadata longer than its frame")]
    Metadata,
    /// A SETUP or RESUME of a protocol version other than 1.
    #[error("unsupported protocol version")]
    Version,
    /// A MIME type that is not UTF-8.
    #[error("MIME type is not text")]
    MimeType,
    /// A WebSocket message that is not binary.
    #[error("not a binary message")]
    NotBinary,
    /// What comes is not WebSocket frames as RFC 6455 has them.
    #[error("invalid WebSocket frame")]
    WebSocket,
    /// Vetted, and yet refused by the decoder.
    #[error("frame not understood")]
    Undecodable,
}

/// Vets one whole frame, without a length prefix.
///
/// # Errors
///
/// [`Malformed`] when the decoder must not see the frame. The protocol answers with
/// ERROR\[CONNECTION_ERROR\] and closes (section "Metadata Optional Header").
pub fn check(frame: &[u8]) -> Result<Vetted, Malformed> {
    if frame.len() > MAX_FRAME_LEN {
        return Err(Malformed::TooLong);
    }
    let mut fields = Fields(frame);
    let stream = fields.u32()?;
    let kind_and_flags = fields.u16()?;
    let kind = kind_and_flags >> 10;
    let flags = kind_and_flags & 0x3FF;
    if stream & RESERVED_BIT != 0 {
        return Err(Malformed::ReservedBit);
    }
    match check_body(kind, flags, fields) {
        Err(_) if flags & FLAG_IGNORE != 0 => Ok(Vetted::Skip),
        Err(malformed) => Err(malformed),
        Ok(Home::Connection) if stream != 0 => Ok(Vetted::Skip),
        Ok(Home::Stream) if stream == 0 => Ok(Vetted::Skip),
        Ok(_) => Ok(Vetted::Decode),
    }
}

/// Where a frame type belongs. One that is not at home means nothing, and is skipped.
enum Home {
    Connection,
    Stream,
    Either,
}

fn check_body(kind: u16, flags: u16, mut fields: Fields<'_>) -> Result<Home, Malformed> {
    match kind {
        // SETUP
        0x01 => {
            check_setup(flags, &mut fields)?;
            Ok(Home::Connection)
        }
        // LEASE: its metadata has no length; KEEPALIVE and RESUME_OK: a position
        0x02 | 0x03 | 0x0E => {
            fields.skip(8)?;
            Ok(Home::Connection)
        }
        // REQUEST_RESPONSE, REQUEST_FNF, PAYLOAD
        0x04 | 0x05 | 0x0A => {
            fields.metadata(flags)?;
            Ok(Home::Stream)
        }
        // REQUEST_STREAM, REQUEST_CHANNEL
        0x06 | 0x07 => {
            fields.skip(4)?;
            fields.metadata(flags)?;
            Ok(Home::Stream)
        }
        // REQUEST_N
        0x08 => {
            fields.skip(4)?;
            Ok(Home::Stream)
        }
        // CANCEL
        0x09 => Ok(Home::Stream),
        // ERROR
        0x0B => {
            fields.skip(4)?;
            Ok(Home::Either)
        }
        // METADATA_PUSH
        0x0C => Ok(Home::Connection),
        // RESUME
        0x0D => {
            fields.version()?;
            let token = usize::from(fields.u16()?);
            fields.skip(token)?;
            fields.skip(16)?;
            Ok(Home::Connection)
        }
        _ => Err(Malformed::UnknownType),
    }
}

fn check_setup(flags: u16, fields: &mut Fields<'_>) -> Result<(), Malformed> {
    fields.version()?;
    let keepalive = fields.u32()?;
    let lifetime = fields.u32()?;
    if (keepalive | lifetime) & RESERVED_BIT != 0 {
        return Err(Malformed::ReservedBit);
    }
    if flags & FLAG_RESUME != 0 {
        let token = usize::from(fields.u16()?);
        fields.skip(token)?;
    }
    for _ in 0..2 {
        let length = usize::from(fields.u8()?);
        let mime = fields.take(length)?;
        if std::str::from_utf8(mime).is_err() {
            return Err(Malformed::MimeType);
        }
    }
    fields.metadata(flags)
}

/// The part of a frame that has not been looked at yet.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed::TooShort)?;
        self.0 = rest;
        Ok(taken)
    }

    fn skip(&mut self, count: usize) -> Result<(), Malformed> {
        self.take(count).map(|_| ())
    }

    fn number(&mut self, bytes: usize) -> Result<u32, Malformed> {
        let taken = self.take(bytes)?;
        Ok(taken.iter().fold(0, |n, byte| n << 8 | u32::from(*byte)))
    }

    fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.number(1)? as u8)
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(self.number(2)? as u16)
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.number(4)
    }

    /// The major version comes first, since the layout behind it is only known for version 1.
    fn version(&mut self) -> Result<(), Malformed> {
        if self.u16()? != 1 {
            return Err(Malformed::Version);
        }
        self.skip(2)
    }

    fn metadata(&mut self, flags: u16) -> Result<(), Malformed> {
        if flags & FLAG_METADATA == 0 {
            return Ok(());
        }
        let length = self.number(3)? as usize;
        self.take(length).map_err(|_| Malformed::Metadata)?;
        Ok(())
    }
}
