//! What must hold of every text, valid or not: made up by proptest, and the seeds of the fuzzers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)] // A test may fail.

#[path = "../fuzz/check.rs"]
mod check;
#[path = "properties/texts.rs"]
mod texts;

use proptest::collection::vec;
use proptest::prelude::*;
use texts::text;

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_text_of_the_grammar_is_accepted_and_served(text in text()) {
        let part = check::parse(text.as_bytes());
        prop_assert!(part.is_ok(), "{:?}", part);
        check::serve(part.into_iter().collect());
    }

    #[test]
    fn any_texts_together_are_served(texts in vec(text(), 0..6)) {
        check::serve(texts.iter().filter_map(|text| check::parse(text.as_bytes()).ok()).collect());
    }

    #[test]
    fn a_damaged_text_is_refused_or_served(
        texts in vec((text(), any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 1..4),
    ) {
        let mut parts = Vec::new();
        for (text, at, byte, how) in texts {
            let mut bytes = text.into_bytes();
            let at = at.index(bytes.len() + 1);
            match how {
                0 => bytes.insert(at, byte),
                1 if at < bytes.len() => bytes[at] = byte,
                _ => bytes.truncate(at),
            }
            parts.extend(check::parse(&bytes));
        }
        check::serve(parts);
    }

    #[test]
    fn a_text_with_eof_is_refused_or_served(text in text(), more in text()) {
        let exemplar = " 0.5 # {t=\"x\", \"u.v\"=\"y\"} 1 5\n";
        let text = text.replace(" 0.5\n", exemplar);
        let texts = [text.as_str(), "# EOF\n", &more, "# EOF"].concat();
        check::serve(check::parse(texts.as_bytes()).into_iter().collect());
    }
}

#[test]
fn the_seeds_of_the_fuzzers_are_refused_or_served() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds");
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read(entry.unwrap().path()).unwrap();
        check::serve(check::parse(&text).into_iter().collect());
        for middle in 0..text.len() {
            let (first, second) = text.split_at(middle);
            check::serve(
                [first, second]
                    .into_iter()
                    .filter_map(|text| check::parse(text).ok())
                    .collect(),
            );
        }
    }
}
