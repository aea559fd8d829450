//! Whatever a balancer writes in front of a connection: an address, or none. One of version 1 is the address that its text
//! says.

#![no_main]

use libfuzzer_sys::fuzz_target;
use prometheus_rsocket_proxy::rsocket::fuzzing::origin;

fuzz_target!(|header: &[u8]| {
    let (Some(origin), Ok(text)) = (origin(header), std::str::from_utf8(header)) else {
        return;
    };
    if let Some(rest) = text.strip_prefix("PROXY TCP") {
        let said: Vec<&str> = rest.trim_end().split(' ').collect();
        assert_eq!(said[1].parse(), Ok(origin.ip()));
        assert_eq!(said[3].parse(), Ok(origin.port()));
    }
});
