//! How much one text may hold.

/// Bounds of one text, past which it is refused as a whole, as Prometheus does with a target past its
/// `sample_limit` or `label_value_length_limit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most samples.
    pub max_samples: usize,
    /// Most bytes in the name of a metric or label.
    pub max_name_len: usize,
    /// Most bytes in the value of a label, as it is written.
    pub max_label_value_len: usize,
}

impl Limits {
    /// Whatever fits into a text.
    pub const NONE: Self = Self {
        max_samples: usize::MAX,
        max_name_len: usize::MAX,
        max_label_value_len: usize::MAX,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::NONE
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::{Exposition, ParseErrorKind};

    const LIMITS: Limits = Limits {
        max_samples: 3,
        max_name_len: 4,
        max_label_value_len: 5,
    };

    fn refused(text: &str) -> Option<ParseErrorKind> {
        let read = Exposition::parse_within(Bytes::from(text.to_owned()), &LIMITS);
        read.err().map(|error| error.kind())
    }

    #[test]
    fn a_text_is_refused_past_a_limit_and_not_at_it() {
        use ParseErrorKind::{LabelValueTooLong, NameTooLong, TooManySamples};
        for (text, expected) in [
            ("abcd 1\nb 1\nc 1\n", None),
            (
                "abcd 1\nb 1\nc 1\n# a comment\n\nd 1\n",
                Some(TooManySamples),
            ),
            ("a 1\na 1\na 1\na 1\n", Some(TooManySamples)),
            ("abcde 1\n", Some(NameTooLong)),
            ("a{abcd=\"12345\"} 1\n", None),
            ("a{abcde=\"1\"} 1\n", Some(NameTooLong)),
            ("a{abcd=\"123456\"} 1\n", Some(LabelValueTooLong)),
            (
                "a{x=\"1\"} 1\na{x=\"1\",y=\"123456\"} 1\n",
                Some(LabelValueTooLong),
            ),
            ("a 1\na 1\na 1\na 1\n# EOF\n", Some(TooManySamples)),
            ("a{abcd=\"123456\"} 1\n# EOF\n", Some(LabelValueTooLong)),
        ] {
            assert_eq!(refused(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn limits_refuse_and_change_nothing_else(
            text in "([a-f]{1,6}(\\{[a-d]{1,6}=\"[x-z]{0,8}\"\\})? [0-9]\n){0,6}",
        ) {
            let text = Bytes::from(text);
            let whole = Exposition::parse(text.clone()).unwrap();
            match Exposition::parse_within(text, &LIMITS) {
                Ok(within) => {
                    prop_assert!(within.samples() <= LIMITS.max_samples);
                    prop_assert_eq!(format!("{within:?}"), format!("{whole:?}"));
                }
                Err(error) => prop_assert!(error.kind().is_limit()),
            }
        }
    }
}
