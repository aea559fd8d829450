//! As `parse`, for texts which end like OpenMetrics.
#![no_main]

#[path = "../check.rs"]
mod check;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    if let Ok(part) = check::parse(&[text, b"\n# EOF\n"].concat()) {
        check::serve(vec![part]);
    }
});
