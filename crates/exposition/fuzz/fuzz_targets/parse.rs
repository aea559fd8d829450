//! No text makes the parser panic, and an accepted text is served as one which is accepted again,
//! with the same series, and served the same way.
#![no_main]

#[path = "../check.rs"]
mod check;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    if let Ok(part) = check::parse(text) {
        check::serve(vec![part]);
    }
});
