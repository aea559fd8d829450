//! Whatever an application says it is: an error, or a description that is written and read again alike.

#![no_main]

use libfuzzer_sys::fuzz_target;
use prometheus_rsocket_wire::Description;
use prometheus_rsocket_wire::description::{DescriptionError, MAX_TARGETS};

fuzz_target!(|bytes: &[u8]| {
    let Ok(read) = Description::decode(bytes) else {
        return;
    };
    assert!(read.targets.len() <= MAX_TARGETS);
    match read.encode() {
        Ok(json) => assert_eq!(Description::decode(&json), Ok(read)),
        // Control characters take more when they are written than they may have taken.
        Err(error) => assert_eq!(error, DescriptionError::TooLong),
    }
});
