//! What must hold of everything that is served.

use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use bytes::Bytes;
use prometheus_rsocket_exposition::{Exposition, Merged, ParseError, Part, merge, merge_in_front};

pub(crate) fn parse(text: &[u8]) -> Result<Arc<Exposition>, ParseError> {
    Exposition::parse(Bytes::copy_from_slice(text)).map(Arc::new)
}

/// Merges the parts and checks what comes out.
pub(crate) fn serve(parts: Vec<Arc<Exposition>>) {
    let before: Vec<u64> = parts.iter().flat_map(|part| series(part)).collect();
    let samples: usize = parts.iter().map(|part| part.samples()).sum();
    assert_eq!(samples, before.len());
    let parts: Vec<Part> = parts.into_iter().map(Part::from).collect();
    let mut behind = parts.clone();
    let in_front = behind.pop().into_iter().collect();
    let in_front = written(merge_in_front(in_front, behind));
    let merged = merge(parts);
    let (dropped, length) = (merged.dropped_samples(), merged.len());
    assert_eq!(merged.samples(), samples - dropped);
    let text = written(merged);
    assert_eq!(text.len(), length);
    let same = lines(&in_front) == lines(&text);
    assert!(same, "what is put in front changes the order of lines only");
    parse(&in_front).expect("what is served is valid");
    let again = parse(&text).expect("what is served is valid");
    assert!(is_sub_multiset(series(&again), before, dropped));
    let merged = merge(vec![again.into()]);
    assert_eq!(merged.dropped_samples(), 0);
    assert_eq!(merged.type_conflicts(), 0);
    let twice: Vec<u8> = merged.into_chunks(1 << 20).flatten().collect();
    assert_eq!(twice, text, "what is served is served again unchanged");
}

fn written(merged: Merged) -> Vec<u8> {
    merged.into_chunks(100).flatten().collect()
}

fn lines(text: &[u8]) -> Vec<&[u8]> {
    let mut lines: Vec<_> = text.split(|&byte| byte == b'\n').collect();
    lines.sort_unstable();
    lines
}

fn series(part: &Exposition) -> Vec<u64> {
    part.series(&BuildHasherDefault::<DefaultHasher>::new())
        .collect()
}

/// Whether `after` is `before` less `dropped` of its elements.
fn is_sub_multiset(mut after: Vec<u64>, mut before: Vec<u64>, dropped: usize) -> bool {
    after.sort_unstable();
    before.sort_unstable();
    let mut rest = before.iter();
    after.iter().all(|series| rest.any(|other| other == series))
        && before.len() - after.len() == dropped
}
