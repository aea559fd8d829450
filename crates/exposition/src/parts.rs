//! An answer of several parts: what an agent sends for its targets, and how a node tells them apart again.
//!
//! ```text
//! # rsocket-proxy parts
//! # TYPE up gauge
//! up{instance="a:1",target="http://a:1/metrics"} 1
//! up{instance="b:1",target="http://b:1/metrics"} 0
//! # rsocket-proxy target {instance="a:1",target="http://a:1/metrics"}
//! a_total 1
//! # rsocket-proxy target {instance="b:1",target="http://b:1/metrics"} answered 404 Not Found
//! ```
//!
//! All of this is one exposition to a reader that does not know of parts: the lines that begin them are comments. A part is
//! named by the labels of its `up`, which stands in front of all parts, and after them it may say why its target is down.
//! A text that does not begin with the first line has no parts.

use std::collections::HashSet;

use bytes::Bytes;
use memchr::{memchr, memchr_iter, memmem};

/// The first line.
const FIRST: &[u8] = b"# rsocket-proxy parts\n";
/// What a line that begins a part begins with.
const TARGET: &[u8] = b"# rsocket-proxy target ";
/// Parts that are looked at; what follows them is left out.
pub const MAX_PARTS: usize = 10_000;
/// Bytes of a line that begins a part; one with a longer line has no name.
const MAX_LINE: usize = 64 << 10;
/// Characters of a reason.
const MAX_REASON: usize = 200;

/// Begins an answer; what stands in front of all parts follows.
pub fn begin(answer: &mut Vec<u8>) {
    answer.extend_from_slice(FIRST);
}

/// Begins the part of a target that has the labels `up` in its `up`, with the reason where it is down.
pub fn begin_target(answer: &mut Vec<u8>, up: &str, reason: Option<&str>) {
    answer.extend_from_slice(TARGET);
    answer.extend_from_slice(up.as_bytes());
    if let Some(reason) = reason {
        answer.push(b' ');
        answer.extend_from_slice(plain(reason, MAX_REASON).as_bytes());
    }
    answer.push(b'\n');
}

/// An answer that has parts. Nothing of it has been validated.
#[derive(Debug, PartialEq, Eq)]
pub struct Split {
    /// What stands in front of all parts.
    pub head: Bytes,
    /// In their order.
    pub parts: Vec<Part>,
    /// How many more there would be.
    pub left_out: usize,
}

/// One part.
#[derive(Debug, PartialEq, Eq)]
pub struct Part {
    /// The labels of its `up`, as they are written; empty: the line that begins it cannot be read.
    up: Bytes,
    /// Why its target is down; empty: it is not.
    reason: Bytes,
    /// What stands below the line that begins it.
    pub text: Bytes,
}

impl Split {
    /// `None`: the text has no parts.
    pub fn new(text: &Bytes) -> Option<Self> {
        if !text.starts_with(FIRST) {
            return None;
        }
        let mut starts =
            memmem::find_iter(text, TARGET).filter(|&at| text.get(at - 1) == Some(&b'\n'));
        let first = starts.next().unwrap_or(text.len());
        let mut from = first;
        let mut parts = Vec::new();
        while from < text.len() && parts.len() < MAX_PARTS {
            let to = starts.next().unwrap_or(text.len());
            parts.push(Part::new(&text.slice(from + TARGET.len()..to)));
            from = to;
        }
        Some(Self {
            head: text.slice(..first),
            parts,
            left_out: starts.count() + usize::from(from < text.len()),
        })
    }
}

impl Part {
    /// Of what follows the words of its first line.
    fn new(part: &Bytes) -> Self {
        let end = memchr(b'\n', part).unwrap_or(part.len());
        let line = part.slice(..end);
        let labels = Some(labels_end(&line)).filter(|_| line.len() <= MAX_LINE);
        let labels = labels.unwrap_or_default();
        let reason = if line.get(labels) == Some(&b' ') {
            labels + 1
        } else {
            line.len()
        };
        Self {
            up: line.slice(..labels),
            reason: line.slice(reason..),
            text: part.slice((end + 1).min(part.len())..),
        }
    }

    /// Whether the line that begins it can be read.
    pub fn is_named(&self) -> bool {
        !self.up.is_empty()
    }

    /// The labels of its `up`, for people: at most so many characters.
    pub fn name(&self, most: usize) -> String {
        plain(&String::from_utf8_lossy(&self.up), most)
    }

    /// Why its target is down, for people.
    pub fn reason(&self) -> Option<String> {
        let reason = String::from_utf8_lossy(&self.reason);
        (!reason.is_empty()).then(|| plain(&reason, MAX_REASON))
    }
}

/// The position after the `}` that closes the labels; zero where there are none.
fn labels_end(line: &[u8]) -> usize {
    let mut quoted = false;
    let mut bytes = line.iter().enumerate();
    if bytes.next() != Some((0, &b'{')) {
        return 0;
    }
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'\\' if quoted => drop(bytes.next()),
            b'"' => quoted = !quoted,
            b'}' if !quoted => return at + 1,
            _ => {}
        }
    }
    0
}

/// What stands in front of all parts, with a 0 instead of the 1 for each of `failed`; `None`: none of them is there.
pub fn with_zeros<'p>(head: &[u8], failed: impl Iterator<Item = &'p Part>) -> Option<Vec<u8>> {
    let failed: HashSet<&[u8]> = failed.map(|part| &part.up[..]).collect();
    let mut zeros = head.to_vec();
    let mut start = 0;
    let mut found = false;
    for end in memchr_iter(b'\n', head) {
        let line = head.get(start..end).unwrap_or_default();
        start = end + 1;
        let up = line
            .strip_prefix(b"up")
            .and_then(|line| line.strip_suffix(b" 1"));
        if let Some(value) = zeros.get_mut(end.saturating_sub(1))
            && up.is_some_and(|up| failed.contains(up))
        {
            *value = b'0';
            found = true;
        }
    }
    found.then_some(zeros)
}

/// At most so many characters, none of which could make something else of a line.
fn plain(text: &str, most: usize) -> String {
    let letters = text.chars().take(most);
    letters
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(text: &str) -> Split {
        Split::new(&Bytes::from(text.to_owned())).unwrap()
    }

    #[test]
    fn what_was_put_together_comes_apart_again() {
        let mut answer = Vec::new();
        begin(&mut answer);
        answer.extend(b"up{a=\"1\"} 1\nup{b=\"} x\\\"\"} 0\n");
        begin_target(&mut answer, "{a=\"1\"}", None);
        answer.extend(b"x 1\ny 2\n");
        begin_target(&mut answer, "{b=\"} x\\\"\"}", Some("no\nanswer"));
        let split = Split::new(&answer.into()).unwrap();
        assert_eq!(split.left_out, 0);
        assert!(split.head.ends_with(b"\"} 0\n"));
        let parts: Vec<_> = split
            .parts
            .iter()
            .map(|part| (part.name(99), part.reason(), &part.text[..]))
            .collect();
        let expected = [
            ("{a=\"1\"}".to_owned(), None, &b"x 1\ny 2\n"[..]),
            (
                "{b=\"} x\\\"\"}".to_owned(),
                Some("no answer".to_owned()),
                b"",
            ),
        ];
        assert_eq!(parts, expected);
    }

    #[test]
    fn other_texts_have_no_parts() {
        for text in [
            "",
            "a 1\n",
            "# rsocket-proxy target {a=\"1\"}\na 1\n",
            "a 1\n# rsocket-proxy parts\n# rsocket-proxy target {a=\"1\"}\n",
        ] {
            assert_eq!(
                Split::new(&Bytes::from_static(text.as_bytes())),
                None,
                "{text}"
            );
        }
        assert_eq!(split("# rsocket-proxy parts\na 1\n").parts, []);
    }

    #[test]
    fn a_line_begins_a_part_only_at_its_start() {
        let text = "# rsocket-proxy parts\n# HELP a # rsocket-proxy target {b=\"1\"}\na 1\n";
        let split = split(text);
        assert_eq!((split.parts.len(), &split.head[..]), (0, text.as_bytes()));
    }

    #[test]
    fn a_part_whose_labels_cannot_be_read_has_no_name() {
        for line in ["", "a", "{a=\"1\"", "{a=\"}", "{a=\"\\"] {
            let split = split(&format!(
                "# rsocket-proxy parts\n# rsocket-proxy target {line}"
            ));
            assert_eq!(split.parts.len(), 1, "{line}");
            assert!(!split.parts[0].is_named(), "{line}");
        }
        let long = format!("{{a=\"{}\"}}", "x".repeat(MAX_LINE));
        let split = split(&format!(
            "# rsocket-proxy parts\n# rsocket-proxy target {long}\na 1\n"
        ));
        assert!(!split.parts[0].is_named());
        assert_eq!(split.parts[0].text, "a 1\n");
    }

    #[test]
    fn parts_past_the_most_are_left_out_and_counted() {
        let part = "# rsocket-proxy target {a=\"1\"}\na 1\n";
        for (more, left_out) in [(0, 0), (1, 1), (5, 5)] {
            let split = split(&format!(
                "# rsocket-proxy parts\n{}",
                part.repeat(MAX_PARTS + more)
            ));
            assert_eq!((split.parts.len(), split.left_out), (MAX_PARTS, left_out));
            assert_eq!(split.parts.last().unwrap().text, "a 1\n");
        }
    }

    proptest! {
        #[test]
        fn each_line_that_begins_a_part_does(rest in "(\n|# rsocket-proxy target |\\{|a=|\"|\\\\|\\}| |up|é| 1){0,40}") {
            let text = Bytes::from(format!("# rsocket-proxy parts\n{rest}"));
            let split = Split::new(&text).unwrap();
            let begins = |line: &&str| line.starts_with("# rsocket-proxy target ");
            prop_assert_eq!(split.parts.len(), rest.split('\n').filter(begins).count());
            let texts = split.parts.iter().map(|part| &part.text);
            for text in texts.chain([&split.head]) {
                let text = std::str::from_utf8(text).unwrap();
                prop_assert_eq!(text.lines().filter(begins).count(), 0);
            }
            for part in &split.parts {
                prop_assert!(!part.name(10).contains('\n'));
            }
        }
    }

    #[test]
    fn only_the_up_of_what_failed_becomes_zero() {
        let split = split(
            "# rsocket-proxy parts\nup{a=\"1\"} 1\nup{a=\"2\"} 1\nups{a=\"1\"} 1\nup{a=\"1\"} 11\n\
             # rsocket-proxy target {a=\"1\"}\n",
        );
        let zeros = with_zeros(&split.head, split.parts.iter()).unwrap();
        assert_eq!(
            String::from_utf8(zeros).unwrap(),
            "# rsocket-proxy parts\nup{a=\"1\"} 0\nup{a=\"2\"} 1\nups{a=\"1\"} 1\nup{a=\"1\"} 11\n"
        );
        assert_eq!(with_zeros(b"up 1\n", split.parts.iter()), None);
        assert_eq!(with_zeros(b"", split.parts.iter()), None);
    }
}
