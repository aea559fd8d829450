//! Any frame the guard accepts, the decoder survives.

#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use prometheus_rsocket_wire::frame::{self, Malformed};

fuzz_target!(|bytes: &[u8]| {
    let vetted = frame::guard::check(bytes);
    let decoded = frame::decode(BytesMut::from(bytes));
    assert_eq!(vetted.is_ok(), decoded.is_ok());
    assert_ne!(decoded, Err(Malformed::Undecodable));
});
