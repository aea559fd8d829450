//! Labels are added to an accepted text's samples, and some families left out: what remains is
//! served, with as many samples as there were.
#![no_main]

#[path = "../check.rs"]
mod check;

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use prometheus_rsocket_exposition::{Labels, Limits};

fuzz_target!(|input: (bool, &str, &str, &str, &[u8])| {
    let (honor_labels, name, value, left_out, text) = input;
    let mut added = Labels::default();
    // A name or value that is refused leaves the other label.
    let _ = added.insert(name, value);
    let _ = added.insert("job", "node");
    let Ok(part) = check::parse(text) else {
        return;
    };
    let mut more = part
        .with_labels(&added, honor_labels, &Limits::NONE)
        .expect("room");
    assert_eq!(more.samples(), part.samples());
    check::serve(vec![Arc::new(more.clone())]);
    more.retain_families(|family| family != left_out);
    check::serve(vec![Arc::new(more)]);
});
