//! What a request over HTTP says beside its path: the timeout of a scrape, a name and a password, which rows of the status
//! page.
//!
//! The first byte chooses.

#![no_main]

use std::time::Duration;

use axum::http::HeaderMap;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use libfuzzer_sys::fuzz_target;
use prometheus_rsocket_proxy::access::fuzzing::credentials;
use prometheus_rsocket_proxy::http::fuzzing::{page, timeout};

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, said)) = bytes.split_first() else {
        return;
    };
    if choice % 3 == 2 {
        let address = page(&String::from_utf8_lossy(said));
        let again = page(
            address
                .strip_prefix('?')
                .expect("an address begins with it"),
        );
        assert_eq!(again, address, "an address shows what it was made for");
        return;
    }
    let Ok(value) = said.try_into() else {
        return;
    };
    let mut headers = HeaderMap::new();
    if choice % 3 == 0 {
        headers.insert("x-prometheus-scrape-timeout-seconds", value);
        if let Some(named) = timeout(&headers) {
            assert!(!named.is_zero() && named <= Duration::from_secs(600));
        }
    } else {
        headers.insert("authorization", value);
        if let Some((name, password)) = credentials(&headers) {
            let shown = BASE64_STANDARD.encode([name.as_bytes(), b":", &password].concat());
            assert!(said.ends_with(shown.as_bytes()) && !name.contains(':'));
        }
    }
});
