//! Two halves of the input, each an application's text, are merged into a text which is accepted
//! again and has the samples of both.
#![no_main]

#[path = "../check.rs"]
mod check;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    // A half which is no text on its own would waste the other: cut at lines only.
    let middle = text.len() / 2;
    let cut = text[middle..]
        .iter()
        .position(|&byte| byte == b'\n')
        .map_or(middle, |at| middle + at + 1);
    let (first, second) = text.split_at(cut);
    let parts: Vec<_> = [first, second]
        .into_iter()
        .filter_map(|text| check::parse(text).ok())
        .collect();
    check::serve(parts);
});
