//! Any bytes are a frame, one to be skipped, or malformed; and a frame holds no more than came.

#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use prometheus_rsocket_wire::frame::{Frame, HEADER_LEN, decode};

fuzz_target!(|bytes: &[u8]| {
    let Ok(Some(frame)) = decode(BytesMut::from(bytes)) else {
        return;
    };
    let len = match frame {
        Frame::Setup { setup, .. } => {
            setup.payload.len() + setup.data_mime.len() + setup.metadata_mime.len()
        }
        Frame::Request(request) => request.payload.len(),
        Frame::Payload(received) => received.payload.len(),
        Frame::Keepalive { data, .. } => data.len(),
        Frame::Error { message, .. } => message.len(),
        Frame::Resume | Frame::Lease { .. } | Frame::Unsupported(_) | Frame::Cancel(_) => 0,
    };
    assert!(HEADER_LEN + len <= bytes.len());
});
