//! How much one text may hold.

/// What every text may have of families, whatever the limit of its samples: a registry full of metrics
/// that have no samples yet is no attack.
const SPARE_FAMILIES: usize = 1000;
/// Lines for each family or sample that a text may have: HELP, TYPE, UNIT, the sample, and as many again
/// for comments, blank lines, and HELP and TYPE that repeat.
const LINES_PER_FAMILY: usize = 8;

/// Bounds of one text, past which it is refused as a whole, as Prometheus does with a target past its
/// `sample_limit` or `label_value_length_limit`.
///
/// Families and lines are bounded along with the samples: a family without samples and a comment cost
/// memory or time as well, and a text of nothing else would have millions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most samples.
    pub max_samples: usize,
    /// Most bytes in the name of a metric or label.
    pub max_name_len: usize,
    /// Most bytes in the value of a label, as it is written.
    pub max_label_value_len: usize,
    /// Most labels of one sample. Counted as Prometheus does for its `label_limit`, but without `__name__`: a
    /// label whose value is empty is none.
    pub max_labels: usize,
}

impl Limits {
    /// Whatever fits into a text.
    pub const NONE: Self = Self {
        max_samples: usize::MAX,
        max_name_len: usize::MAX,
        max_label_value_len: usize::MAX,
        max_labels: usize::MAX,
    };

    /// Most families, with samples or without: as many as samples, and a thousand.
    #[must_use]
    pub fn max_families(&self) -> usize {
        self.max_samples.saturating_add(SPARE_FAMILIES)
    }

    /// Most lines, comments and blank ones included: eight times as many as families.
    #[must_use]
    pub fn max_lines(&self) -> usize {
        self.max_families().saturating_mul(LINES_PER_FAMILY)
    }
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
        max_labels: 2,
    };

    /// So many lines, each with a name of its own.
    fn families(number: usize, line: impl Fn(String) -> String) -> String {
        let names = (0..number).map(|number| format!("a{number:03x}"));
        names.map(line).collect()
    }

    fn refused(text: &str) -> Option<ParseErrorKind> {
        let read = Exposition::parse_within(Bytes::from(text.to_owned()), &LIMITS);
        read.err().map(|error| error.kind())
    }

    #[test]
    fn a_text_is_refused_past_a_limit_and_not_at_it() {
        use ParseErrorKind::{LabelValueTooLong, NameTooLong, TooManyLabels, TooManySamples};
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
            ("a{x=\"1\",y=\"2\"} 1\n", None),
            ("a{x=\"1\",y=\"2\",z=\"\"} 1\n", None),
            ("a{x=\"1\",y=\"2\",z=\"3\"} 1\n", Some(TooManyLabels)),
            (
                "a{x=\"1\",y=\"2\"} 1\na{x=\"1\",y=\"2\",z=\"3\"} 1\n",
                Some(TooManyLabels),
            ),
            ("a{x=\"1\",y=\"2\",z=\"3\"} 1\n# EOF\n", Some(TooManyLabels)),
            ("a 1\na 1\na 1\n# EOF\n", None),
            ("a 1\na 1\na 1\na 1\n# EOF\n", Some(TooManySamples)),
            ("a{abcd=\"123456\"} 1\n# EOF\n", Some(LabelValueTooLong)),
        ] {
            assert_eq!(refused(text), expected, "{text}");
        }
    }

    #[test]
    fn families_without_samples_are_bounded() {
        use ParseErrorKind::TooManyFamilies;
        let most = LIMITS.max_families();
        for (line, end) in [
            ("# HELP NAME\n", ""),
            ("# TYPE NAME gauge\n", ""),
            ("# HELP NAME\n# TYPE NAME gauge\n", ""),
            ("# HELP NAME\n", "# EOF\n"),
            ("# TYPE NAME gauge\n", "# EOF\n"),
            // Two families to a reader of 0.0.4 which has not yet seen the end.
            ("# TYPE NAME counter\n", "# HELP NAME_total\n# EOF\n"),
        ] {
            let text = |number| families(number, |name| line.replace("NAME", &name)) + end;
            let more = usize::from(end.contains("_total"));
            assert_eq!(refused(&text(most - more)), None, "{line}{end}");
            assert_eq!(
                refused(&text(most + 1)),
                Some(TooManyFamilies),
                "{line}{end}"
            );
        }
    }

    #[test]
    fn an_openmetrics_counter_is_one_family() {
        let limits = Limits {
            max_samples: 3000,
            ..Limits::NONE
        };
        let counters = families(3000, |name| {
            format!("# TYPE {name} counter\n{name}_total 1\n")
        });
        let read = Exposition::parse_within((counters + "# EOF\n").into(), &limits);
        assert_eq!(read.map(|read| read.samples()), Ok(3000));
    }

    #[test]
    fn lines_are_bounded_whatever_they_hold() {
        let most = LIMITS.max_lines();
        for line in [
            "\n",
            "#\n",
            "# a comment\n",
            "# HELP a\n",
            "# TYPE a gauge\n",
        ] {
            assert_eq!(refused(&line.repeat(most)), None, "{line}");
            let too_many = Some(ParseErrorKind::TooManyLines);
            assert_eq!(refused(&line.repeat(most + 1)), too_many, "{line}");
            let openmetrics = |lines| line.repeat(lines) + "# EOF";
            assert_eq!(refused(&openmetrics(most - 1)), None, "{line}");
            assert_eq!(refused(&openmetrics(most)), too_many, "{line}");
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
