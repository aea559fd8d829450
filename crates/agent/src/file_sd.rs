//! Reads lists of targets in the format of Prometheus' `file_sd_configs`: YAML, or JSON, which is YAML too.
//!
//! ```yaml
//! - targets: ["localhost:9100", "localhost:9182"]
//!   labels: {job: node, __scheme__: https, __metrics_path__: /custom}
//! ```
//!
//! `__scheme__`, `__metrics_path__` and `__param_NAME` say how a target is asked; other labels that begin with `__` are
//! left out, as Prometheus leaves them out after relabelling.

use std::collections::BTreeMap;
use std::sync::Arc;

use prometheus_rsocket_config::yaml::{self, Error};
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::job::Job;
use super::target::Target;

/// Targets with labels in common.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Group {
    targets: Vec<Spanned<String>>,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
}

/// The targets of a list, in its order.
pub(super) fn parse(text: &str, job: &Arc<Job>) -> Result<Vec<Target>, Error> {
    let groups: Vec<Group> = yaml::read(text)?;
    targets(&groups, job)
}

/// The targets of all groups.
pub(super) fn targets(groups: &[Group], job: &Arc<Job>) -> Result<Vec<Target>, Error> {
    let mut targets = Vec::new();
    for group in groups {
        let labels = group.labels.iter().flatten();
        let labels: Vec<(&str, &str)> = labels
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        for address in &group.targets {
            let target = Target::listed(&address.value, &labels, job)
                .map_err(|error| Error::at(address.referenced, &error))?;
            targets.push(target);
        }
    }
    Ok(targets)
}

#[cfg(test)]
mod tests {
    use super::super::job::tests::job;
    use super::*;

    fn list(text: &str) -> Vec<(String, String)> {
        let targets = parse(text, &job(|_| ())).unwrap();
        let pair = |target: &Target| (target.uri().to_string(), target.labels().to_string());
        targets.iter().map(pair).collect()
    }

    #[test]
    fn yaml_and_json_mean_the_same() {
        let expected = [
            (
                "http://localhost:9100/metrics",
                r#"{job="node",port="9100"}"#,
            ),
            ("http://[::1]:9182/metrics", r#"{job="node",port="9100"}"#),
            ("http://db:9187/metrics", ""),
        ];
        let expected = expected.map(|(url, labels)| (url.to_owned(), labels.to_owned()));
        let yaml = "# ours\n- targets:\n  - localhost:9100\n  - '[::1]:9182'\n  labels:\n    job: node\n    port: 9100\n\
                    - targets: [\"db:9187\"]\n";
        assert_eq!(list(yaml), expected);
        let json = "[\n\t{\n\t\t\"targets\": [\"localhost:9100\", \"[::1]:9182\"],\n\t\t\"labels\": {\"job\": \
                    \"n\\u006fde\", \"port\": \"9100\"}\n\t},\n\t{\"targets\": [\"db:9187\"], \"labels\": null}\n]\n";
        assert_eq!(list(json), expected);
        assert_eq!(list("[]"), []);
    }

    #[test]
    fn labels_that_begin_with_two_underscores_say_how_to_ask_or_are_left_out() {
        let yaml = "- targets: [a]\n  labels: {__scheme__: https, __metrics_path__: probe, __param_target: 'x/y z', \
                    __meta_zone: b, __tmp: c, zone: d}\n";
        let expected = ("https://a/probe?target=x%2Fy%20z", r#"{zone="d"}"#);
        assert_eq!(list(yaml), [(expected.0.to_owned(), expected.1.to_owned())]);
    }

    #[test]
    fn what_is_wrong_is_said_in_one_line_with_its_place() {
        for (text, line) in [
            ("- targets: [a]\n- targets: b\n", 2),
            ("- targets: [a]\n  label: {}\n", 2),
            ("- targets: [a,\n", 0),
            ("- targets:\n  - a\n  - b/metrics\n", 3),
            ("- targets:\n  - a\n  labels: {le: 1}\n", 2),
            ("- labels: {a: b}\n", 1),
            ("targets: [a]\n", 1),
            ("[{\"targets\": [\"a\"]},\n {\"targets\": [1:]}]", 2),
        ] {
            let error = parse(text, &job(|_| ())).unwrap_err();
            let place = format!("line {line}, ");
            let said = error.to_string();
            assert!(line == 0 || said.starts_with(&place), "{text}: {error}");
            assert!(!said.starts_with("line 0"), "{text}: {error}");
            assert_eq!(error.to_string().lines().count(), 1, "{error}");
        }
    }
}
