//! What must hold of everything that is served.

use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use bytes::Bytes;
use prometheus_rsocket_exposition::{Exposition, Merged, ParseError, Part, merge, merge_in_front};

pub(crate) fn parse(text: &[u8]) -> Result<Arc<Exposition>, ParseError> {
    Exposition::parse(Bytes::copy_from_slice(text)).map(Arc::new)
}

/// Merges the parts and checks what comes out: every sample of each part once, whatever the others declare.
pub(crate) fn serve(parts: Vec<Arc<Exposition>>) {
    let mut series: Vec<u64> = parts.iter().flat_map(|part| series(part)).collect();
    let samples: usize = parts.iter().map(|part| part.samples()).sum();
    assert_eq!(samples, series.len());
    let parts: Vec<Part> = parts.into_iter().map(Part::from).collect();
    let alone = parts.iter().map(|part| written(merge(vec![part.clone()])));
    let alone: Vec<u8> = alone.collect::<Vec<_>>().concat();
    let mut behind = parts.clone();
    let in_front = behind.pop().into_iter().collect();
    let in_front = written(merge_in_front(in_front, behind));
    let merged = merge(parts);
    let length = merged.len();
    assert_eq!(merged.samples(), samples);
    let text = written(merged);
    assert_eq!(text.len(), length);
    assert_eq!(lines(&alone), lines(&text), "each line once, as it was");
    let same = lines(&in_front) == lines(&text);
    assert!(same, "what is put in front changes the order of lines only");
    parse(&in_front).expect("what is served is valid");
    let again = parse(&text).expect("what is served is valid");
    let mut served: Vec<u64> = self::series(&again).collect();
    series.sort_unstable();
    served.sort_unstable();
    assert_eq!(series, served, "each series as often as it came");
    let merged = merge(vec![again.into()]);
    assert_eq!(merged.type_conflicts(), 0);
    let twice = written(merged);
    assert_eq!(
        String::from_utf8_lossy(&twice),
        String::from_utf8_lossy(&text),
        "what is served is served again unchanged"
    );
}

fn written(merged: Merged) -> Vec<u8> {
    merged.into_chunks(100).flatten().collect()
}

/// The lines of samples.
fn lines(text: &[u8]) -> Vec<&[u8]> {
    let lines = text.split(|&byte| byte == b'\n');
    let mut lines: Vec<_> = lines.filter(|line| !line.starts_with(b"#")).collect();
    lines.retain(|line| !line.is_empty());
    lines.sort_unstable();
    lines
}

fn series(part: &Exposition) -> impl Iterator<Item = u64> {
    let hasher = BuildHasherDefault::<DefaultHasher>::new();
    part.series(&hasher).collect::<Vec<_>>().into_iter()
}
