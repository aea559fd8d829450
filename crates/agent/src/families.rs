//! Which families are passed on.

use std::str::FromStr;

use regex::bytes::{Regex, RegexBuilder};

/// Bytes that a compiled pattern may take.
const MAX_PATTERN: usize = 1 << 20;

/// A pattern for the whole of a family's name, as in Prometheus' relabelling.
#[derive(Debug, Clone)]
pub struct Pattern(Regex);

impl FromStr for Pattern {
    type Err = String;

    fn from_str(pattern: &str) -> Result<Self, String> {
        // By itself first: `a)|(b` would become valid between the parentheses.
        compile(pattern)?;
        compile(&format!("^(?s:{pattern})$")).map(Self)
    }
}

/// Names are ASCII, so nothing in a pattern needs Unicode's tables.
fn compile(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(pattern)
        .unicode(false)
        .size_limit(MAX_PATTERN)
        .build()
        .map_err(|error| {
            let text = error.to_string();
            // The last line of a syntax error is the reason; those before it point into the pattern.
            let reason = text.lines().last().unwrap_or_default();
            reason.trim_start_matches("error: ").to_owned()
        })
}

/// Which families are passed on: those that a pattern of `keep` matches, all if there is none, less those that one of
/// `drop` matches.
#[derive(Debug, Clone, Default)]
pub struct Families {
    /// Patterns of families that are passed on.
    pub keep: Vec<Pattern>,
    /// Patterns of families that are not.
    pub drop: Vec<Pattern>,
}

impl Families {
    /// Whether any may be left out.
    pub(super) fn are_selected(&self) -> bool {
        !self.keep.is_empty() || !self.drop.is_empty()
    }

    pub(super) fn passes(&self, name: &str) -> bool {
        let any = |patterns: &[Pattern]| {
            let mut patterns = patterns.iter();
            patterns.any(|Pattern(regex)| regex.is_match(name.as_bytes()))
        };
        (self.keep.is_empty() || any(&self.keep)) && !any(&self.drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn families(keep: &[&str], drop: &[&str]) -> Families {
        let parse = |patterns: &[&str]| patterns.iter().map(|text| text.parse().unwrap()).collect();
        Families {
            keep: parse(keep),
            drop: parse(drop),
        }
    }

    #[test]
    fn patterns_match_whole_names() {
        let node = families(&["node_.*", "up|go_info"], &["node_cpu", ".*_total"]);
        let passing = ["node_load1", "node_cpu_seconds", "go_info", "up"];
        assert!(passing.into_iter().all(|name| node.passes(name)));
        let others = ["my_node_load1", "node_cpu", "node_x_total", "go_info_2", ""];
        assert!(!others.into_iter().any(|name| node.passes(name)));
    }

    #[test]
    fn without_patterns_everything_passes() {
        assert!(families(&[], &[]).passes("a"));
        assert!(!families(&[], &["a"]).passes("a"));
        assert!(families(&[], &["a"]).passes("b"));
    }

    #[test]
    fn a_bad_pattern_is_refused_in_one_line() {
        for pattern in ["(", "a)|(b", "a{9999}{9999}", "["] {
            let error = pattern.parse::<Pattern>().unwrap_err();
            assert_eq!(error.lines().count(), 1, "{error}");
        }
        assert!(r"\d+(?i:x)[[:alpha:]]".parse::<Pattern>().is_ok());
    }
}
