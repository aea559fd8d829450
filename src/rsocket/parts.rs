//! Reads what an application answers: one text, or one for each target of an agent, so that what is wrong with one target
//! costs that target only.

use std::sync::Arc;

use bytes::Bytes;
use prometheus_rsocket_exposition::parts::{self, MAX_PARTS, Split, with_zeros};
use prometheus_rsocket_exposition::{Exposition, Labels, Limits, ParseError};

/// Targets of one answer whose failures are remembered; the others are counted.
const FAILURES_KEPT: usize = 50;
/// Characters of a target's labels that are remembered.
const NAME_KEPT: usize = 300;

/// Why a target's samples are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetOutcome {
    /// The agent could not get them.
    Down,
    /// What the agent passed on is no valid exposition.
    Invalid,
    /// It is past a limit of the node.
    Limit,
}

impl TargetOutcome {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Down, Self::Invalid, Self::Limit];

    /// The word in metrics, status and log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Invalid => "invalid",
            Self::Limit => "limit",
        }
    }

    fn of(error: ParseError) -> Self {
        if error.kind().is_limit() {
            Self::Limit
        } else {
            Self::Invalid
        }
    }
}

/// A target whose samples are missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetFailure {
    /// The labels of its `up`.
    pub target: Arc<str>,
    /// From a closed set.
    pub outcome: TargetOutcome,
    /// For people.
    pub reason: Arc<str>,
}

/// How the targets of an agent fared in one answer; of other applications there are none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Targets {
    /// How many there are.
    pub total: usize,
    /// How many failed, in the order of [`TargetOutcome::ALL`].
    pub failed: [usize; 3],
    /// The first of those that failed.
    pub failures: Vec<TargetFailure>,
}

impl Targets {
    /// How many failed.
    pub fn all_failed(&self) -> usize {
        self.failed.iter().sum()
    }

    /// Notes so many failures, of which one is to be remembered.
    fn fail(&mut self, number: usize, target: &str, outcome: TargetOutcome, reason: &str) {
        if let Some(failed) = self.failed.get_mut(outcome as usize) {
            *failed += number;
        }
        if self.failures.len() < FAILURES_KEPT {
            self.failures.push(TargetFailure {
                target: target.into(),
                outcome,
                reason: reason.into(),
            });
        }
    }
}

/// What is served of an answer or a push.
pub(super) struct Served {
    /// The whole text, or what stands in front of all parts.
    pub(super) head: Arc<Exposition>,
    /// The parts that did not fail.
    pub(super) parts: Vec<Arc<Exposition>>,
    pub(super) targets: Targets,
}

/// An answer or a push, validated.
pub(super) struct Texts {
    /// The whole text, or what stands in front of all parts.
    head: Exposition,
    /// What failed has none.
    parts: Vec<(parts::Part, Option<Exposition>)>,
    targets: Targets,
    /// Bytes of the text as it came.
    length: usize,
    limits: Limits,
}

impl Texts {
    /// Validates a text that is taken as one, as long as it is wanted.
    pub(super) fn whole(
        text: Bytes,
        limits: &Limits,
        wanted: &dyn Fn() -> bool,
    ) -> Result<Self, ParseError> {
        Ok(Self {
            length: text.len(),
            head: Exposition::parse_while(text, None, limits, wanted)?,
            parts: Vec::new(),
            targets: Targets::default(),
            limits: *limits,
        })
    }

    /// Validates a text of which each part is taken by itself, where it has parts.
    ///
    /// All together may hold as many samples and families as one text. Half of the samples are divided among the parts, so
    /// that none keeps the others out; the rest is for those that have more, in their order.
    pub(super) fn in_parts(
        text: Bytes,
        limits: &Limits,
        wanted: &dyn Fn() -> bool,
    ) -> Result<Self, ParseError> {
        let Some(split) = Split::new(&text) else {
            return Self::whole(text, limits, wanted);
        };
        let mut texts = Self::whole(split.head, limits, wanted)?;
        texts.length = text.len();
        let samples = limits.max_samples.saturating_sub(texts.head.samples());
        let share = samples / 2 / split.parts.len().max(1);
        let mut rest = samples - share * split.parts.len();
        let mut families = limits.max_families().saturating_sub(texts.head.families());
        texts.targets.total = split.parts.len() + split.left_out;
        for part in split.parts {
            let within = Limits {
                max_samples: share + rest,
                ..*limits
            };
            let exposition = texts.targets.read(&part, &within, families, wanted);
            let samples = exposition.as_ref().map_or(0, Exposition::samples);
            rest -= samples.saturating_sub(share);
            families -= exposition.as_ref().map_or(0, Exposition::families);
            texts.parts.push((part, exposition));
        }
        if split.left_out > 0 {
            let reason = format!("more than {MAX_PARTS} targets");
            texts
                .targets
                .fail(split.left_out, "", TargetOutcome::Limit, &reason);
        }
        Ok(texts)
    }

    fn expositions(&self) -> impl Iterator<Item = &Exposition> {
        let parts = self
            .parts
            .iter()
            .filter_map(|(_, exposition)| exposition.as_ref());
        std::iter::once(&self.head).chain(parts)
    }

    pub(super) fn samples(&self) -> usize {
        self.expositions().map(Exposition::samples).sum()
    }

    pub(super) fn families(&self) -> usize {
        self.expositions().map(Exposition::families).sum()
    }

    /// Bytes that it takes, as [`Exposition::memory`] counts them, with what is left out of the text and what stands in
    /// front of all parts once more.
    pub(super) fn memory(&self) -> usize {
        let beside: usize = self
            .expositions()
            .map(|exposition| exposition.memory() - exposition.text().len())
            .sum();
        let again = if self.parts.is_empty() {
            0
        } else {
            self.head.memory()
        };
        let parts = self.parts.len() * size_of::<(parts::Part, Option<Exposition>)>();
        self.length + beside + again + parts
    }

    /// The expositions with labels that are enforced, and how the targets fared: what failed has 0 in its `up`.
    pub(super) fn labelled(mut self, labels: &Labels) -> Result<Served, ParseError> {
        let mut served = Vec::with_capacity(self.parts.len());
        for (part, exposition) in &mut self.parts {
            let Some(whole) = exposition.take() else {
                continue;
            };
            match labelled(whole, labels, &self.limits) {
                Ok(whole) => {
                    *exposition = Some(whole);
                }
                Err(error) => self.targets.invalid(part, error),
            }
        }
        let failed = self
            .parts
            .iter()
            .filter(|(_, exposition)| exposition.is_none());
        let head = with_zeros(self.head.text(), failed.map(|(part, _)| part));
        let head = match head {
            Some(head) => Exposition::parse_within(head.into(), &self.limits)?,
            None => self.head,
        };
        let parts = self.parts.into_iter();
        served.extend(parts.filter_map(|(_, exposition)| exposition).map(Arc::new));
        Ok(Served {
            head: Arc::new(labelled(head, labels, &self.limits)?),
            parts: served,
            targets: self.targets,
        })
    }
}

impl Targets {
    /// A part's text of at most so many families, or `None` with the failure noted.
    fn read(
        &mut self,
        part: &parts::Part,
        limits: &Limits,
        families: usize,
        wanted: &dyn Fn() -> bool,
    ) -> Option<Exposition> {
        if let Some(reason) = part.reason() {
            self.fail(1, &part.name(NAME_KEPT), TargetOutcome::Down, &reason);
            return None;
        }
        if !part.is_named() {
            let reason = "the line that begins it cannot be read";
            self.fail(1, "", TargetOutcome::Invalid, reason);
            return None;
        }
        match Exposition::parse_while(part.text.clone(), None, limits, wanted) {
            Ok(exposition) if exposition.families() > families => {
                let reason = "too many families, together with those of the targets before it";
                self.fail(1, &part.name(NAME_KEPT), TargetOutcome::Limit, reason);
                None
            }
            Ok(exposition) => Some(exposition),
            Err(error) => {
                self.invalid(part, error);
                None
            }
        }
    }

    fn invalid(&mut self, part: &parts::Part, error: ParseError) {
        let outcome = TargetOutcome::of(error);
        self.fail(1, &part.name(NAME_KEPT), outcome, &error.to_string());
    }
}

/// With labels that are enforced, in a text that says them, as other nodes are given it.
fn labelled(
    exposition: Exposition,
    labels: &Labels,
    limits: &Limits,
) -> Result<Exposition, ParseError> {
    if labels.is_empty() {
        return Ok(exposition);
    }
    exposition.with_labels(labels, false, limits)?.written()
}

#[cfg(test)]
mod tests {
    use prometheus_rsocket_exposition::{Part, merge};

    use super::*;

    /// As an agent puts it together: names, and reasons or texts.
    fn answer(parts: &[(&str, Result<&str, &str>)]) -> Bytes {
        let mut answer = Vec::new();
        parts::begin(&mut answer);
        answer.extend(b"# TYPE up gauge\n");
        for (name, part) in parts {
            let up = u8::from(part.is_ok());
            answer.extend(format!("up{{target=\"{name}\"}} {up}\n").bytes());
        }
        for (name, part) in parts {
            let up = format!("{{target=\"{name}\"}}");
            parts::begin_target(&mut answer, &up, part.err());
            answer.extend(part.unwrap_or_default().bytes());
        }
        answer.into()
    }

    const LIMITS: Limits = Limits {
        max_samples: 9,
        max_name_len: 9,
        max_label_value_len: 9,
        max_labels: 3,
    };

    fn served(text: Bytes, labels: &Labels) -> (Vec<String>, Targets) {
        let answer = Texts::in_parts(text, &LIMITS, &|| true).unwrap();
        let Served {
            head,
            parts,
            targets,
        } = answer.labelled(labels).unwrap();
        let merged = merge(std::iter::once(head).chain(parts).map(Part::from).collect());
        let text: Vec<u8> = merged.into_chunks(1 << 20).flatten().collect();
        let lines = String::from_utf8(text).unwrap();
        let lines = lines.lines().filter(|line| !line.starts_with('#'));
        (lines.map(str::to_owned).collect(), targets)
    }

    fn failures(targets: &Targets) -> Vec<(&str, &str, &str)> {
        let failures = targets.failures.iter();
        failures
            .map(|failure| (&*failure.target, failure.outcome.name(), &*failure.reason))
            .collect()
    }

    #[test]
    fn what_is_wrong_with_one_target_costs_that_target_only() {
        let long = format!("a{{x=\"{}\"}} 1\n", "x".repeat(10));
        for (part, outcome, reason) in [
            (Ok(&*long), "limit", "label value too long"),
            (Ok("a 1\nb{\n"), "invalid", "line 2, "),
            (Ok("long_names 1\n"), "limit", "name too long"),
            (
                Ok("a 1\na 2\na 3\na 4\na 5\na 6\na 7\n"),
                "limit",
                "line 7, ",
            ),
            (
                Ok("a{b=\"1\",c=\"2\",d=\"3\",e=\"4\"} 1\n"),
                "limit",
                "too many labels",
            ),
            (Err("answered 500"), "down", "answered 500"),
        ] {
            let text = answer(&[("bad", part), ("good", Ok("well 1\n"))]);
            let (lines, targets) = served(text, &Labels::default());
            let expected = ["up{target=\"bad\"} 0", "up{target=\"good\"} 1", "well 1"];
            assert_eq!(lines, expected, "{reason}");
            assert_eq!((targets.total, targets.all_failed()), (2, 1));
            let (target, failed, said) = failures(&targets)[0];
            assert_eq!((target, failed), ("{target=\"bad\"}", outcome));
            assert!(said.contains(reason), "{said}");
        }
    }

    #[test]
    fn enforced_labels_are_on_every_part_and_on_every_up() {
        let mut labels = Labels::default();
        labels.insert("team", "a").unwrap();
        let (lines, _) = served(answer(&[("x", Ok("b 1\n")), ("y", Ok("{\n"))]), &labels);
        assert_eq!(
            lines,
            [
                "b{team=\"a\"} 1",
                "up{team=\"a\",target=\"x\"} 1",
                "up{team=\"a\",target=\"y\"} 0"
            ]
        );
    }

    #[test]
    fn the_samples_of_all_parts_count_together_and_each_part_has_its_share() {
        let four = "a 1\na 2\na 3\na 4\n";
        let text = answer(&[("x", Ok(four)), ("y", Ok(four)), ("z", Ok("b 1\n"))]);
        let (lines, targets) = served(text, &Labels::default());
        assert_eq!(
            lines.iter().filter(|line| line.starts_with("a ")).count(),
            4
        );
        assert!(lines.contains(&"b 1".to_owned()));
        assert_eq!(failures(&targets)[0].0, "{target=\"y\"}");
    }

    #[test]
    fn the_families_of_all_parts_count_together() {
        let empty: String = (0..600)
            .map(|number| format!("# TYPE a{number} gauge\n"))
            .collect();
        let text = answer(&[("x", Ok(&empty)), ("y", Ok(&empty)), ("z", Ok("b 1\n"))]);
        let (lines, targets) = served(text, &Labels::default());
        assert!(lines.contains(&"b 1".to_owned()));
        let (target, outcome, reason) = failures(&targets)[0];
        assert_eq!((target, outcome), ("{target=\"y\"}", "limit"));
        assert!(reason.starts_with("too many families"), "{reason}");
        assert_eq!(targets.all_failed(), 1);
    }

    #[test]
    fn what_stands_in_front_of_the_parts_costs_all_where_it_is_wrong() {
        let text = answer(&[("x", Ok("a 1\n"))]);
        let text = String::from_utf8(text.to_vec())
            .unwrap()
            .replace("up{target=\"x\"} 1", "up{");
        assert!(Texts::in_parts(text.into(), &LIMITS, &|| true).is_err());
    }

    #[test]
    fn a_text_without_parts_is_taken_as_one() {
        let mut targets = Targets::default();
        assert!(Texts::in_parts(Bytes::from_static(b"a 1\nb{\n"), &LIMITS, &|| true).is_err());
        let (lines, read) = served(
            Bytes::from_static(b"a 1\n# rsocket-proxy target {x=\"1\"}\nb 2\n"),
            &Labels::default(),
        );
        assert_eq!(lines, ["a 1", "b 2"]);
        assert_eq!(read, targets);
        for number in 0..100 {
            targets.fail(1, &number.to_string(), TargetOutcome::Down, "");
        }
        assert_eq!(
            (targets.failures.len(), targets.all_failed()),
            (FAILURES_KEPT, 100)
        );
    }

    #[test]
    fn to_who_knows_no_parts_an_answer_is_one_text() {
        let text = answer(&[("x", Ok("a 1\n")), ("y", Err("answered 500"))]);
        let whole = Texts::whole(text, &LIMITS, &|| true).unwrap();
        assert_eq!(whole.samples(), 3);
    }

    #[test]
    fn parts_past_the_most_are_one_failure_to_remember() {
        let part = "# rsocket-proxy target {a=\"1\"}\n";
        let text = format!("# rsocket-proxy parts\n{}", part.repeat(MAX_PARTS + 7));
        let targets = Texts::in_parts(text.into(), &LIMITS, &|| true)
            .unwrap()
            .targets;
        assert_eq!((targets.total, targets.all_failed()), (MAX_PARTS + 7, 7));
        assert_eq!(
            failures(&targets),
            [("", "limit", "more than 10000 targets")]
        );
    }

    #[test]
    fn all_of_the_text_is_counted() {
        let text = answer(&[("x", Ok("a 1\n")), ("y", Ok("b{\n"))]);
        let length = text.len();
        assert!(Texts::in_parts(text, &LIMITS, &|| true).unwrap().memory() > length);
    }
}
