//! The frames we send, as bytes without a length prefix.
//!
//! Callers keep every length within [`MAX_FRAME_LEN`](super::MAX_FRAME_LEN).

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    header::{
        CANCEL, ERROR, FLAG_BITS, FLAG_METADATA, FLAG_RESPOND, HEADER_LEN, KEEPALIVE, LEASE,
        METADATA_LENGTH_LEN, PAYLOAD, REQUEST_FNF, REQUEST_RESPONSE, SETUP,
    },
    setup::SetupOptions,
};
use crate::{ErrorCode, Payload, StreamId};

/// The frame type of (a piece of) a payload.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Carrier {
    RequestResponse,
    FireAndForget,
    Payload,
}

pub(crate) fn setup(options: SetupOptions) -> Bytes {
    let Payload { metadata, data } = options.payload;
    let metadata = metadata.as_ref();
    let mime_types = [&options.metadata_mime, &options.data_mime];
    let lengths = mime_types.map(|mime_type| 1 + mime_type.len());
    let len = 12 + lengths.iter().sum::<usize>() + payload_len(metadata, &data);
    let mut frame = header(None, SETUP, metadata_flag(metadata), len);
    // Major and minor version.
    frame.put_slice(&[0, 1, 0, 0]);
    frame.put_u32(milliseconds(options.keepalive));
    frame.put_u32(milliseconds(options.max_lifetime));
    for mime_type in mime_types {
        frame.put_u8(mime_type.len() as u8);
        frame.put_slice(mime_type.as_bytes());
    }
    put_payload(frame, metadata, &data)
}

pub(crate) fn keepalive(respond: bool, data: &[u8]) -> Bytes {
    let flags = if respond { FLAG_RESPOND } else { 0 };
    let mut frame = header(None, KEEPALIVE, flags, 8 + data.len());
    // No position: the connection cannot be resumed.
    frame.put_u64(0);
    frame.put_slice(data);
    frame.freeze()
}

pub(crate) fn lease(ttl: Duration, requests: u32) -> Bytes {
    let mut frame = header(None, LEASE, 0, 8);
    frame.put_u32(milliseconds(ttl));
    frame.put_u32(requests);
    frame.freeze()
}

pub(crate) fn cancel(stream: StreamId) -> Bytes {
    header(Some(stream), CANCEL, 0, 0).freeze()
}

/// An ERROR on a stream, or on the connection (`None`).
pub(crate) fn error(stream: Option<StreamId>, code: ErrorCode, reason: &str) -> Bytes {
    let mut frame = header(stream, ERROR, 0, 4 + reason.len());
    frame.put_u32(code.0);
    frame.put_slice(reason.as_bytes());
    frame.freeze()
}

pub(crate) fn payload(
    carrier: Carrier,
    stream: StreamId,
    flags: u16,
    metadata: Option<&Bytes>,
    data: &Bytes,
) -> Bytes {
    let kind = match carrier {
        Carrier::RequestResponse => REQUEST_RESPONSE,
        Carrier::FireAndForget => REQUEST_FNF,
        Carrier::Payload => PAYLOAD,
    };
    let flags = flags | metadata_flag(metadata);
    let frame = header(Some(stream), kind, flags, payload_len(metadata, data));
    put_payload(frame, metadata, data)
}

/// A header, and room for `len` bytes behind it.
fn header(stream: Option<StreamId>, kind: u16, flags: u16, len: usize) -> BytesMut {
    let mut frame = BytesMut::with_capacity(HEADER_LEN + len);
    frame.put_u32(stream.map_or(0, StreamId::get));
    frame.put_u16(kind << FLAG_BITS | flags);
    frame
}

fn metadata_flag(metadata: Option<&Bytes>) -> u16 {
    metadata.map_or(0, |_| FLAG_METADATA)
}

fn payload_len(metadata: Option<&Bytes>, data: &Bytes) -> usize {
    metadata.map_or(0, |metadata| METADATA_LENGTH_LEN + metadata.len()) + data.len()
}

fn put_payload(mut frame: BytesMut, metadata: Option<&Bytes>, data: &Bytes) -> Bytes {
    if let Some(metadata) = metadata {
        frame.put_uint(metadata.len() as u64, METADATA_LENGTH_LEN);
        frame.put_slice(metadata);
    }
    frame.put_slice(data);
    frame.freeze()
}

/// 31 bits of them at most.
fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX) & 0x7FFF_FFFF
}
