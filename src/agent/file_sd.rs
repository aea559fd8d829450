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

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_saphyr::{Location, Spanned};

use super::target::{METRICS_PATH, Spec, Target, TargetError};

/// Why a list cannot be used, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {reason}")]
pub(super) struct ListError {
    line: u64,
    column: u64,
    reason: String,
}

impl ListError {
    fn at(location: Location, reason: &dyn ToString) -> Self {
        Self {
            line: location.line(),
            column: location.column(),
            reason: reason.to_string(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    targets: Vec<Spanned<String>>,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
}

/// The targets of a list, in its order.
pub(super) fn parse(text: &str, address_label: Option<&str>) -> Result<Vec<Target>, ListError> {
    let groups: Vec<Group> = serde_saphyr::from_str(text).map_err(|error| {
        // The first line is the reason; those after it show the place.
        let reason = error.without_snippet().to_string();
        let reason = reason.lines().next().unwrap_or_default();
        ListError::at(error.location().unwrap_or(Location::UNKNOWN), &reason)
    })?;
    let mut targets = Vec::new();
    for group in &groups {
        let labels = group.labels.iter().flatten();
        let labels: Vec<(&str, &str)> = labels
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        for address in &group.targets {
            let target = target(&address.value, &labels, address_label)
                .map_err(|error| ListError::at(address.referenced, &error))?;
            targets.push(target);
        }
    }
    Ok(targets)
}

fn target(
    address: &str,
    labels: &[(&str, &str)],
    address_label: Option<&str>,
) -> Result<Target, TargetError> {
    // Prometheus refuses these too: the path is a label of its own.
    if address.is_empty() || address.contains(['/', '?', '#']) {
        return Err(TargetError::Address(address.to_owned()));
    }
    let own = |name: &str| {
        let label = labels.iter().find(|(own, _)| *own == name);
        label.map(|(_, value)| *value)
    };
    let scheme = own("__scheme__").unwrap_or("http");
    let path = own("__metrics_path__").unwrap_or(METRICS_PATH);
    let slash = if path.starts_with('/') { "" } else { "/" };
    let query = query(path, labels);
    let url = format!("{scheme}://{address}{slash}{path}{query}");
    let kept = labels.iter().filter(|(name, _)| !name.starts_with("__"));
    Target::new(Spec::new(&url, kept.copied())?, address_label)
}

/// The `__param_NAME` labels as the rest of a URL that ends with `path`.
fn query(path: &str, labels: &[(&str, &str)]) -> String {
    let mut separator = if path.contains('?') { '&' } else { '?' };
    let mut query = String::new();
    for (name, value) in labels {
        if let Some(name) = name.strip_prefix("__param_") {
            let value = utf8_percent_encode(value, NON_ALPHANUMERIC);
            query.push_str(&format!("{separator}{name}={value}"));
            separator = '&';
        }
    }
    query
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Vec<(String, String)> {
        let targets = parse(text, None).unwrap();
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
            let error = parse(text, None).unwrap_err();
            assert!(line == 0 || error.line == line, "{text}: {error}");
            assert!(error.line > 0, "{text}: {error}");
            assert_eq!(error.to_string().lines().count(), 1, "{error}");
        }
    }
}
