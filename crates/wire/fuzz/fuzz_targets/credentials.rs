//! Whatever a client puts into the metadata of its SETUP: an error, nothing, or credentials that are written and read again
//! alike.
//!
//! The first byte chooses: the bytes after it are composite metadata, or authentication metadata alone.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use prometheus_rsocket_wire::Credentials;
use prometheus_rsocket_wire::credentials::{AUTHENTICATION_MIME, COMPOSITE_MIME, MAX_LEN};
use prometheus_rsocket_wire::session::SetupOptions;

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, metadata)) = bytes.split_first() else {
        return;
    };
    let mime = [AUTHENTICATION_MIME, COMPOSITE_MIME][usize::from(choice & 1)];
    let read = Credentials::read(mime, &Bytes::copy_from_slice(metadata));
    let Ok(Some(credentials)) = read else {
        return;
    };
    let mut setup = SetupOptions::default();
    credentials.write(&mut setup).expect("what was read is no longer than may be");
    let written = setup.payload.metadata.expect("metadata");
    assert!(written.len() <= MAX_LEN + 8);
    let again = Credentials::read(&setup.metadata_mime, &written);
    assert!(again == Ok(Some(credentials)));
});
