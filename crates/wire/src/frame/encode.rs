//! The frames we send, as bytes without a length prefix.
//!
//! Callers keep every length within [`MAX_FRAME_LEN`](super::MAX_FRAME_LEN); the codec would
//! panic on a longer metadata.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rsocket_rust::{
    frame::{Cancel, Error, Frame, Keepalive, Lease, Payload, RequestFNF, RequestResponse, Setup},
    utils::Writeable,
};

use crate::{ErrorCode, StreamId, session::SetupOptions};

/// The frame type of (a piece of) a payload.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Carrier {
    RequestResponse,
    FireAndForget,
    Payload,
}

pub(crate) fn setup(options: SetupOptions) -> Bytes {
    let mut setup = Setup::builder(0, 0)
        .set_keepalive(options.keepalive)
        .set_lifetime(options.max_lifetime)
        .set_mime_metadata(options.metadata_mime)
        .set_mime_data(options.data_mime)
        .set_data(options.payload.data);
    if let Some(metadata) = options.payload.metadata {
        setup = setup.set_metadata(metadata);
    }
    bytes(&setup.build())
}

pub(crate) fn keepalive(respond: bool, data: Bytes) -> Bytes {
    let flags = if respond { Frame::FLAG_RESPOND } else { 0 };
    bytes(&Keepalive::builder(0, flags).set_data(data).build())
}

pub(crate) fn lease(ttl: Duration, requests: u32) -> Bytes {
    let ttl = u32::try_from(ttl.as_millis()).unwrap_or(u32::MAX) & 0x7FFF_FFFF;
    let lease = Lease::builder(0, 0)
        .set_ttl(ttl)
        .set_number_of_requests(requests);
    bytes(&lease.build())
}

pub(crate) fn cancel(stream: StreamId) -> Bytes {
    bytes(&Cancel::builder(stream.get(), 0).build())
}

/// An ERROR on a stream, or on the connection (`None`).
pub(crate) fn error(stream: Option<StreamId>, code: ErrorCode, reason: &str) -> Bytes {
    let error = Error::builder(stream.map_or(0, StreamId::get), 0)
        .set_code(code.0)
        .set_data(Bytes::copy_from_slice(reason.as_bytes()));
    bytes(&error.build())
}

pub(crate) fn payload(
    carrier: Carrier,
    stream: StreamId,
    flags: u16,
    metadata: Option<Bytes>,
    data: Bytes,
) -> Bytes {
    let all = (Some(data), metadata);
    let stream = stream.get();
    bytes(&match carrier {
        Carrier::RequestResponse => RequestResponse::builder(stream, flags).set_all(all).build(),
        Carrier::FireAndForget => RequestFNF::builder(stream, flags).set_all(all).build(),
        Carrier::Payload => Payload::builder(stream, flags).set_all(all).build(),
    })
}

fn bytes(frame: &Frame) -> Bytes {
    let mut bytes = BytesMut::with_capacity(frame.len());
    frame.write_to(&mut bytes);
    bytes.freeze()
}
