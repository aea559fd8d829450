//! Descriptions: as our Java client writes them, as nobody should, and whatever comes.
#![cfg(feature = "open")]
#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

use std::collections::BTreeMap;

use prometheus_rsocket_wire::Description;
use prometheus_rsocket_wire::description::{
    DescriptionError, MAX_BYTES, MAX_NAME, MAX_TARGETS, TargetDescription, is_name,
};
use proptest::prelude::*;

fn decode(json: &str) -> Result<Description, DescriptionError> {
    Description::decode(json.as_bytes())
}

#[test]
fn what_the_java_client_says_is_read() {
    let json = r#"{"client":"java 0.1.0","targets":[{"instance":"web\u000a-1","job":"\ud83d\ude00","labels":{"a":"\"","b":""}}]}"#;
    assert_eq!(decode(json), Err(DescriptionError::Instance));
    let description = decode(&json.replace("\\u000a", "")).unwrap();
    assert_eq!(description.client, "java 0.1.0");
    let target = TargetDescription {
        instance: "web-1".to_owned(),
        job: Some("😀".to_owned()),
        labels: [("a", "\""), ("b", "")]
            .map(|(name, value)| (name.into(), value.into()))
            .into(),
    };
    assert_eq!(description.targets, [target]);
}

#[test]
fn what_is_missing_is_not_said_and_what_is_new_is_skipped() {
    for json in [
        r"{}",
        r#"{"targets":[]}"#,
        r#"{"client":"","later":[{"a":{}}]}"#,
    ] {
        assert_eq!(decode(json), Ok(Description::default()), "{json}");
    }
    let json = r#"{"targets":[{"instance":"a","job":null,"port":1}]}"#;
    assert_eq!(decode(json).unwrap().targets[0].instance, "a");
}

#[test]
fn what_is_wrong_is_said_with_its_place_and_without_its_content() {
    let secret = "s3cr3t";
    for (json, reason) in [
        ("", "line 1, column 0: not valid JSON"),
        ("{} x", "line 1, column 4: not valid JSON"),
        (
            "{\n\"client\":1}",
            "line 2, column 10: a wrong type, or a missing field",
        ),
        (
            r#"{"targets":"s3cr3t"}"#,
            "line 1, column 19: a wrong type, or a missing field",
        ),
        (
            r#"{"targets":[{"job":"a"}]}"#,
            "line 1, column 23: a wrong type, or a missing field",
        ),
    ] {
        let error = decode(json).unwrap_err().to_string();
        assert_eq!(error, reason, "{json}");
        assert!(!error.contains(secret));
    }
    let long = format!("{{\"later\":\"{}\"}}", "x".repeat(MAX_BYTES));
    assert_eq!(decode(&long), Err(DescriptionError::TooLong));
    let deep = "[".repeat(MAX_BYTES);
    assert!(decode(&deep).is_err());
}

fn any_name() -> impl Strategy<Value = String> {
    "\\PC{1,60}".prop_filter("is no name", |name| is_name(name))
}

fn any_target() -> impl Strategy<Value = TargetDescription> {
    let label = ("l[a-zA-Z0-9_]{0,20}", any::<String>());
    let labels = prop::collection::vec(label, 0..8).prop_map(BTreeMap::from_iter);
    (any_name(), prop::option::of(any_name()), labels).prop_map(|(instance, job, labels)| {
        TargetDescription {
            instance,
            job,
            labels,
        }
    })
}

proptest! {
    #[test]
    fn what_was_described_is_read(
        client in "\\PC{0,60}",
        targets in prop::collection::vec(any_target(), 0..5),
    ) {
        let description = Description { client, targets };
        if let Ok(json) = description.encode() {
            prop_assert_eq!(Description::decode(&json), Ok(description));
        }
    }

    #[test]
    fn any_bytes_are_a_description_within_its_limits_or_an_error(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        broken in any::<prop::sample::Index>(),
    ) {
        let _ = Description::decode(&bytes);
        let mut json = br#"{"client":"a","targets":[{"instance":"b","job":"c","labels":{"d":"e"}}]}"#.to_vec();
        let at = broken.index(json.len());
        json[at] = bytes.first().copied().unwrap_or(b'"');
        if let Ok(read) = Description::decode(&json) {
            prop_assert!(read.targets.len() <= MAX_TARGETS && read.client.len() <= MAX_NAME);
            prop_assert_eq!(Description::decode(&read.encode().unwrap()), Ok(read));
        }
    }
}
