//! A frame from bytes, or what is wrong with them.
//!
//! Judges one frame by itself: whether it makes sense *now* is the session's question.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut, TryGetError};
use thiserror::Error;

use super::{
    header::{
        CANCEL, ERROR, FLAG_BITS, FLAG_COMPLETE, FLAG_FOLLOWS, FLAG_IGNORE, FLAG_LEASE,
        FLAG_METADATA, FLAG_NEXT, FLAG_RESPOND, FLAG_RESUME, KEEPALIVE, LEASE, MAX_FRAME_LEN,
        METADATA_LENGTH_LEN, METADATA_PUSH, PAYLOAD, REQUEST_CHANNEL, REQUEST_FNF, REQUEST_N,
        REQUEST_RESPONSE, REQUEST_STREAM, RESUME, RESUME_OK, SETUP,
    },
    setup::Setup,
};
use crate::{ErrorCode, Payload, StreamId};

const RESERVED_BIT: u32 = 0x8000_0000;

/// A well-formed frame on a stream where it has a meaning.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Frame {
    /// SETUP.
    Setup {
        /// What it says.
        setup: Setup,
        /// Whether it asks for a connection that can be resumed.
        resumable: bool,
    },
    /// RESUME.
    Resume,
    /// LEASE.
    Lease {
        /// How many requests may be made.
        requests: u32,
        /// For how long.
        ttl: Duration,
    },
    /// KEEPALIVE.
    Keepalive {
        /// Whether its sender waits for an answer.
        respond: bool,
        /// To be sent back.
        data: Bytes,
    },
    /// REQUEST_RESPONSE or REQUEST_FNF.
    Request(Request),
    /// REQUEST_STREAM or REQUEST_CHANNEL, on this stream.
    Unsupported(StreamId),
    /// PAYLOAD.
    Payload(PayloadFrame),
    /// CANCEL of this stream.
    Cancel(StreamId),
    /// ERROR.
    Error {
        /// `None`: the whole connection ends.
        stream: Option<StreamId>,
        /// Its code.
        code: ErrorCode,
        /// Its text, which may be anything.
        message: Bytes,
    },
}

/// A request, or the first fragment of one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Request {
    /// The stream it begins.
    pub stream: StreamId,
    /// Whether it expects no answer.
    pub fire_and_forget: bool,
    /// Whether more fragments follow.
    pub follows: bool,
    /// What it carries.
    pub payload: Payload,
}

/// A PAYLOAD: an answer, or a fragment of an answer or of a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PayloadFrame {
    /// The stream of the request.
    pub stream: StreamId,
    /// Whether more fragments follow.
    pub follows: bool,
    /// Whether the stream ends with it.
    pub complete: bool,
    /// Whether it carries a payload, be that empty.
    pub next: bool,
    /// What it carries.
    pub payload: Payload,
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
    /// What would be a frame too long begins as an answer over HTTP does.
    #[error(
        "the peer speaks HTTP where plain frames are expected (is this a port for ws:// or for scrapes?)"
    )]
    Http,
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
}

impl From<TryGetError> for Malformed {
    fn from(_: TryGetError) -> Self {
        Self::TooShort
    }
}

/// Decodes one whole frame, without a length prefix. Its payload shares the buffer.
///
/// `None`: the frame is to be skipped. Its sender marked it as ignorable and it is not understood,
/// it stands on a stream where the protocol wants it ignored ("Handling the Unexpected"), or its
/// type asks for nothing here (REQUEST_N, METADATA_PUSH, RESUME_OK).
///
/// # Errors
///
/// [`Malformed`] when the frame breaks the protocol, which answers with ERROR\[CONNECTION_ERROR\]
/// and closes (section "Metadata Optional Header").
pub fn decode(frame: BytesMut) -> Result<Option<Frame>, Malformed> {
    if frame.len() > MAX_FRAME_LEN {
        return Err(Malformed::TooLong);
    }
    let mut fields = frame.freeze();
    let stream = fields.try_get_u32()?;
    let kind_and_flags = fields.try_get_u16()?;
    let flags = kind_and_flags & ((1 << FLAG_BITS) - 1);
    if stream & RESERVED_BIT != 0 {
        return Err(Malformed::ReservedBit);
    }
    let stream = StreamId::new(stream);
    match body(kind_and_flags >> FLAG_BITS, flags, stream, fields) {
        Err(_) if flags & FLAG_IGNORE != 0 => Ok(None),
        decoded => decoded,
    }
}

fn body(
    kind: u16,
    flags: u16,
    stream: Option<StreamId>,
    mut fields: Bytes,
) -> Result<Option<Frame>, Malformed> {
    let on_connection = |frame| stream.is_none().then_some(frame);
    Ok(match kind {
        SETUP => on_connection(setup(flags, fields)?),
        LEASE => on_connection(lease(fields)?),
        KEEPALIVE => on_connection(keepalive(flags, fields)?),
        REQUEST_RESPONSE => request(stream, false, flags, fields)?,
        REQUEST_FNF => request(stream, true, flags, fields)?,
        REQUEST_STREAM | REQUEST_CHANNEL => {
            skip(&mut fields, 4)?;
            payload(flags, fields)?;
            stream.map(Frame::Unsupported)
        }
        PAYLOAD => payload_frame(stream, flags, fields)?,
        CANCEL => stream.map(Frame::Cancel),
        ERROR => Some(Frame::Error {
            stream,
            code: ErrorCode(fields.try_get_u32()?),
            message: fields,
        }),
        RESUME => on_connection(resume(fields)?),
        REQUEST_N => {
            skip(&mut fields, 4)?;
            None
        }
        RESUME_OK => {
            skip(&mut fields, 8)?;
            None
        }
        METADATA_PUSH => None,
        _ => return Err(Malformed::UnknownType),
    })
}

fn setup(flags: u16, mut fields: Bytes) -> Result<Frame, Malformed> {
    version(&mut fields)?;
    let keepalive = fields.try_get_u32()?;
    let max_lifetime = fields.try_get_u32()?;
    if (keepalive | max_lifetime) & RESERVED_BIT != 0 {
        return Err(Malformed::ReservedBit);
    }
    let resumable = flags & FLAG_RESUME != 0;
    if resumable {
        skip_token(&mut fields)?;
    }
    let setup = Setup {
        keepalive: milliseconds(keepalive),
        max_lifetime: milliseconds(max_lifetime),
        lease: flags & FLAG_LEASE != 0,
        metadata_mime: mime_type(&mut fields)?,
        data_mime: mime_type(&mut fields)?,
        payload: payload(flags, fields)?,
    };
    Ok(Frame::Setup { setup, resumable })
}

/// Its metadata has no length, and means nothing.
fn lease(mut fields: Bytes) -> Result<Frame, Malformed> {
    Ok(Frame::Lease {
        ttl: milliseconds(fields.try_get_u32()?),
        requests: fields.try_get_u32()? & !RESERVED_BIT,
    })
}

fn keepalive(flags: u16, mut fields: Bytes) -> Result<Frame, Malformed> {
    // A position, for resumption.
    skip(&mut fields, 8)?;
    Ok(Frame::Keepalive {
        respond: flags & FLAG_RESPOND != 0,
        data: fields,
    })
}

fn request(
    stream: Option<StreamId>,
    fire_and_forget: bool,
    flags: u16,
    fields: Bytes,
) -> Result<Option<Frame>, Malformed> {
    let payload = payload(flags, fields)?;
    Ok(stream.map(|stream| {
        Frame::Request(Request {
            stream,
            fire_and_forget,
            follows: flags & FLAG_FOLLOWS != 0,
            payload,
        })
    }))
}

fn payload_frame(
    stream: Option<StreamId>,
    flags: u16,
    fields: Bytes,
) -> Result<Option<Frame>, Malformed> {
    let payload = payload(flags, fields)?;
    Ok(stream.map(|stream| {
        Frame::Payload(PayloadFrame {
            stream,
            follows: flags & FLAG_FOLLOWS != 0,
            complete: flags & FLAG_COMPLETE != 0,
            next: flags & FLAG_NEXT != 0,
            payload,
        })
    }))
}

fn resume(mut fields: Bytes) -> Result<Frame, Malformed> {
    version(&mut fields)?;
    skip_token(&mut fields)?;
    // Two positions.
    skip(&mut fields, 16)?;
    Ok(Frame::Resume)
}

/// The major version comes first, since the layout behind it is only known for version 1.
fn version(fields: &mut Bytes) -> Result<(), Malformed> {
    if fields.try_get_u16()? != 1 {
        return Err(Malformed::Version);
    }
    skip(fields, 2)
}

fn skip_token(fields: &mut Bytes) -> Result<(), Malformed> {
    let length = fields.try_get_u16()?;
    skip(fields, length.into())
}

fn mime_type(fields: &mut Bytes) -> Result<String, Malformed> {
    let length = fields.try_get_u8()?;
    let mime_type = take(fields, length.into())?;
    let text = std::str::from_utf8(&mime_type).map_err(|_| Malformed::MimeType)?;
    Ok(text.to_owned())
}

/// Metadata, where there is some, behind its length; the rest is data.
fn payload(flags: u16, mut fields: Bytes) -> Result<Payload, Malformed> {
    let mut metadata = None;
    if flags & FLAG_METADATA != 0 {
        let length = fields.try_get_uint(METADATA_LENGTH_LEN)? as usize;
        metadata = Some(take(&mut fields, length).map_err(|_| Malformed::Metadata)?);
    }
    Ok(Payload {
        metadata,
        data: fields,
    })
}

fn skip(fields: &mut Bytes, count: usize) -> Result<(), Malformed> {
    take(fields, count).map(drop)
}

fn take(fields: &mut Bytes, count: usize) -> Result<Bytes, Malformed> {
    match count > fields.len() {
        true => Err(Malformed::TooShort),
        false => Ok(fields.split_to(count)),
    }
}

/// Of 31 bits, so that no instant overflows.
fn milliseconds(number: u32) -> Duration {
    Duration::from_millis(u64::from(number & !RESERVED_BIT))
}
