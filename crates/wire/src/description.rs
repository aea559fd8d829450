//! What an application says it is: JSON in the data of SETUP, and again in a fireAndForget when it has changed.
//!
//! ```text
//! {"client": "rust 0.1.0", "targets": [{"instance": "web-1", "job": "shop", "labels": {"zone": "b"}}]}
//! ```
//!
//! In SETUP the data MIME type is [`MIME`]; in a fireAndForget the metadata is, which no push has. `job` and `labels` may
//! be missing, and so may `targets`, of an application that only pushes. Fields of later versions are skipped.

use std::collections::BTreeMap;
use std::fmt::Write;

use bytes::Bytes;
use thiserror::Error;

/// The type of a description.
pub const MIME: &str = "application/vnd.prometheus-rsocket.application+json";
/// Most bytes of a description.
pub const MAX_BYTES: usize = 64 << 10;
/// Most targets of a description.
pub const MAX_TARGETS: usize = 1000;
/// Most labels of a target.
pub const MAX_LABELS: usize = 64;
/// Most bytes of an instance, a job, and the client's name.
pub const MAX_NAME: usize = 255;

/// What an application says it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "open", derive(serde::Deserialize))]
pub struct Description {
    /// The client's name and version, for people.
    #[cfg_attr(feature = "open", serde(default))]
    pub client: String,
    /// For whom it answers: one for most, several for an agent, none for an application that only pushes.
    #[cfg_attr(feature = "open", serde(default))]
    pub targets: Vec<TargetDescription>,
}

/// One of those for whom an application answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "open", derive(serde::Deserialize))]
pub struct TargetDescription {
    /// What Prometheus is to call it.
    pub instance: String,
    /// What kind it is.
    #[cfg_attr(feature = "open", serde(default))]
    pub job: Option<String>,
    /// Its other labels.
    #[cfg_attr(feature = "open", serde(default))]
    pub labels: BTreeMap<String, String>,
}

/// Names a target. Both parts are [names](is_name).
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetName {
    /// What Prometheus calls it.
    pub instance: String,
    /// What kind it is.
    pub job: Option<String>,
}

/// What is wrong with a description. Repeats nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DescriptionError {
    /// More than [`MAX_BYTES`].
    #[error("longer than {MAX_BYTES} bytes")]
    TooLong,
    /// Not JSON, or not an object with these fields.
    #[error("line {line}, column {column}: {}", if *.json { "a wrong type, or a missing field" } else { "not valid JSON" })]
    Malformed {
        /// Where, from 1.
        line: usize,
        /// Where, from 1.
        column: usize,
        /// Whether it is JSON.
        json: bool,
    },
    /// The client's name is long, or has control characters.
    #[error("client must have at most {MAX_NAME} bytes and no control characters")]
    Client,
    /// More than [`MAX_TARGETS`].
    #[error("more than {MAX_TARGETS} targets")]
    Targets,
    /// An instance that is no [name](is_name).
    #[error("instance must have 1 to {MAX_NAME} bytes and no control characters")]
    Instance,
    /// A job that is no [name](is_name).
    #[error("job must have 1 to {MAX_NAME} bytes and no control characters")]
    Job,
    /// Two targets with one instance and job.
    #[error("two targets have the same instance and job")]
    Twice,
    /// More than [`MAX_LABELS`].
    #[error("more than {MAX_LABELS} labels of one target")]
    Labels,
    /// A label that none may have.
    #[error(
        "a label's name must match [a-zA-Z_][a-zA-Z0-9_]*, must not begin with __, and must not be instance or job"
    )]
    LabelName,
}

/// Whether this can be an instance or a job: 1 to [`MAX_NAME`] bytes without control characters.
pub fn is_name(text: &str) -> bool {
    (1..=MAX_NAME).contains(&text.len()) && !text.contains(char::is_control)
}

impl TargetDescription {
    /// What it is called.
    pub fn name(&self) -> TargetName {
        TargetName {
            instance: self.instance.clone(),
            job: self.job.clone(),
        }
    }

    fn check(&self) -> Result<(), DescriptionError> {
        if !is_name(&self.instance) {
            return Err(DescriptionError::Instance);
        }
        if self.job.as_deref().is_some_and(|job| !is_name(job)) {
            return Err(DescriptionError::Job);
        }
        if self.labels.len() > MAX_LABELS {
            return Err(DescriptionError::Labels);
        }
        match self.labels.keys().all(|name| is_label_name(name)) {
            true => Ok(()),
            false => Err(DescriptionError::LabelName),
        }
    }

    fn write(&self, json: &mut String) {
        json.push_str("{\"instance\":");
        quote(json, &self.instance);
        if let Some(job) = &self.job {
            json.push_str(",\"job\":");
            quote(json, job);
        }
        for (index, (name, value)) in self.labels.iter().enumerate() {
            json.push_str(if index == 0 { ",\"labels\":{" } else { "," });
            quote(json, name);
            json.push(':');
            quote(json, value);
        }
        json.push_str(if self.labels.is_empty() { "}" } else { "}}" });
    }
}

impl Description {
    /// The JSON text.
    ///
    /// # Errors
    ///
    /// When there is something in it that [`Self::decode`] would not accept.
    pub fn encode(&self) -> Result<Bytes, DescriptionError> {
        self.check()?;
        let mut json = String::from("{\"client\":");
        quote(&mut json, &self.client);
        json.push_str(",\"targets\":[");
        for (index, target) in self.targets.iter().enumerate() {
            if index > 0 {
                json.push(',');
            }
            target.write(&mut json);
        }
        json.push_str("]}");
        match json.len() <= MAX_BYTES {
            true => Ok(json.into()),
            false => Err(DescriptionError::TooLong),
        }
    }

    /// Reads a description.
    ///
    /// # Errors
    ///
    /// When it is none, or exceeds a limit.
    #[cfg(feature = "open")]
    pub fn decode(bytes: &[u8]) -> Result<Self, DescriptionError> {
        if bytes.len() > MAX_BYTES {
            return Err(DescriptionError::TooLong);
        }
        let description: Self = serde_json::from_slice(bytes).map_err(malformed)?;
        description.check()?;
        Ok(description)
    }

    fn check(&self) -> Result<(), DescriptionError> {
        if self.client.len() > MAX_NAME || self.client.contains(char::is_control) {
            return Err(DescriptionError::Client);
        }
        if self.targets.len() > MAX_TARGETS {
            return Err(DescriptionError::Targets);
        }
        self.targets.iter().try_for_each(TargetDescription::check)?;
        let mut names: Vec<_> = self.targets.iter().map(|t| (&t.instance, &t.job)).collect();
        names.sort_unstable();
        match names.is_sorted_by(|one, next| one < next) {
            true => Ok(()),
            false => Err(DescriptionError::Twice),
        }
    }
}

/// Prometheus takes reserved labels of a target as settings of its scrape.
fn is_label_name(name: &str) -> bool {
    let classic = name.bytes().enumerate().all(|(index, byte)| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'_' => true,
        b'0'..=b'9' => index > 0,
        _ => false,
    });
    classic && !name.is_empty() && !name.starts_with("__") && !matches!(name, "instance" | "job")
}

#[cfg(feature = "open")]
#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn malformed(error: serde_json::Error) -> DescriptionError {
    DescriptionError::Malformed {
        line: error.line(),
        column: error.column(),
        json: error.is_data(),
    }
}

/// Writes a JSON string.
fn quote(json: &mut String, text: &str) {
    json.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => json.extend(['\\', character]),
            // Cannot fail: it grows.
            '\0'..='\x1f' => drop(write!(json, "\\u{:04x}", u32::from(character))),
            _ => json.push(character),
        }
    }
    json.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(instance: &str) -> TargetDescription {
        TargetDescription {
            instance: instance.to_owned(),
            ..TargetDescription::default()
        }
    }

    fn of(targets: Vec<TargetDescription>) -> Description {
        Description {
            client: "rust 0.1.0".to_owned(),
            targets,
        }
    }

    fn labelled(labels: impl IntoIterator<Item = (String, String)>) -> Description {
        let labels = labels.into_iter().collect();
        let instance = "web-1".to_owned();
        let job = Some("shop".to_owned());
        let target = TargetDescription {
            instance,
            job,
            labels,
        };
        of(vec![target])
    }

    fn encoded(description: &Description) -> String {
        String::from_utf8(description.encode().unwrap().to_vec()).unwrap()
    }

    #[test]
    fn what_was_not_said_is_left_out() {
        let json = r#"{"client":"rust 0.1.0","targets":[{"instance":"web-1"}]}"#;
        assert_eq!(encoded(&of(vec![target("web-1")])), json);
        assert_eq!(
            encoded(&of(vec![])),
            r#"{"client":"rust 0.1.0","targets":[]}"#
        );
    }

    #[test]
    fn every_character_is_quoted_as_json_asks_for() {
        let labels = [("zone", "\"\\\u{8}\n\0é😀"), ("app", "1")];
        let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let json = encoded(&labelled(labels));
        let target = r#"{"instance":"web-1","job":"shop","labels":{"app":"1","zone":"\"\\\u0008\u000a\u0000é😀"}}"#;
        assert_eq!(
            json,
            format!(r#"{{"client":"rust 0.1.0","targets":[{target}]}}"#)
        );
    }

    #[test]
    fn at_each_limit_a_description_is_refused() {
        let too_long = "x".repeat(MAX_NAME + 1);
        let mut of_job = target("a");
        of_job.job = Some(String::new());
        let many = |count| (0..count).map(|index| target(&index.to_string())).collect();
        let label = |name: &str| labelled([(name.to_owned(), String::new())]);
        let labels = (0..=MAX_LABELS).map(|index| (format!("l{index}"), String::new()));
        let mut talkative = of(vec![]);
        talkative.client = too_long.clone();
        for (description, error) in [
            (talkative, DescriptionError::Client),
            (of(many(MAX_TARGETS + 1)), DescriptionError::Targets),
            (of(vec![target("")]), DescriptionError::Instance),
            (of(vec![target(&too_long)]), DescriptionError::Instance),
            (of(vec![target("a\n")]), DescriptionError::Instance),
            (of(vec![of_job]), DescriptionError::Job),
            (
                of(vec![target("a"), target("b"), target("a")]),
                DescriptionError::Twice,
            ),
            (labelled(labels), DescriptionError::Labels),
            (label(""), DescriptionError::LabelName),
            (label("1a"), DescriptionError::LabelName),
            (label("a.b"), DescriptionError::LabelName),
            (label("__address__"), DescriptionError::LabelName),
            (label("job"), DescriptionError::LabelName),
            (
                labelled([("a".to_owned(), "x".repeat(MAX_BYTES))]),
                DescriptionError::TooLong,
            ),
        ] {
            assert_eq!(description.encode(), Err(error));
        }
        assert!(of(many(MAX_TARGETS)).encode().is_ok());
    }
}
