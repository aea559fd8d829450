//! What must hold of everything that is served.

use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use bytes::Bytes;
use prometheus_rsocket_exposition::{
    Encoding, Escaping, Exposition, Format, Limits, Merged, ParseError, Part, merge, merge_as,
    merge_in_front,
};

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
    let in_front = written(merge_in_front(Encoding::TEXT, in_front, behind));
    series.sort_unstable();
    for format in [Format::Text, Format::OpenMetrics] {
        serve_as(format, &parts, &series);
    }
    let merged = merge(parts);
    assert_eq!(merged.samples(), samples);
    let text = written(merged);
    assert_eq!(lines(&alone), lines(&text), "each line once, as it was");
    let same = lines(&in_front) == lines(&text);
    assert!(same, "what is put in front changes the order of lines only");
    parse(&in_front).expect("what is served is valid");
    let again = parse(&text).expect("what is served is valid");
    let merged = merge(vec![again.into()]);
    assert_eq!(merged.type_conflicts(), 0);
    let twice = written(merged);
    assert_eq!(
        String::from_utf8_lossy(&twice),
        String::from_utf8_lossy(&text),
        "what is served is served again unchanged"
    );
}

/// What must hold of each format: the same series, and the same again when it is read again, exemplars included.
fn serve_as(format: Format, parts: &[Part], series: &[u64]) {
    let unescaped = Encoding::unescaped(format);
    let read = |text: &[u8]| {
        let read = Exposition::parse_as(Bytes::copy_from_slice(text), format, &Limits::NONE);
        read.unwrap_or_else(|error| panic!("{error}:\n{}", String::from_utf8_lossy(text)))
    };
    let text = written(merge_as(unescaped, parts.to_vec()));
    let again = Arc::new(read(&text));
    let mut served: Vec<u64> = self::series(&again).collect();
    served.sort_unstable();
    assert_eq!(series, served, "each series as often as it came");
    let twice = written(merge_as(unescaped, vec![again.into()]));
    assert_eq!(
        String::from_utf8_lossy(&lines(&twice).join(&b'\n')),
        String::from_utf8_lossy(&lines(&text).join(&b'\n')),
        "what is served is served again unchanged"
    );
    for escaping in Escaping::ALL {
        let text = written(merge_as(Encoding { format, escaping }, parts.to_vec()));
        assert_eq!(read(&text).samples(), series.len());
    }
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
