//! A node's [`Profile`] as the small texts that are gossiped. Readers trust none of them.

use std::net::SocketAddr;
use std::str::FromStr;

use super::members::{Load, Profile};
use crate::nodes::NodeState;

/// When the node's life began: [`Profile::generation`].
const GENERATION: &str = "boot";
const HTTP: &str = "http";
const GRPC: &str = "grpc";
const VERSION: &str = "version";
const STATE: &str = "state";
const CONNECTIONS: &str = "connections";
const FULL: &str = "full";
const PUSHES: &str = "pushes";

/// Longer versions are nobody's.
const MAX_VERSION: usize = 64;

/// Keys and values of all there is to tell.
pub(super) fn write(profile: &Profile) -> Vec<(&'static str, String)> {
    vec![
        (GENERATION, profile.generation.to_string()),
        (HTTP, profile.http_address.to_string()),
        (GRPC, profile.grpc_address.to_string()),
        (VERSION, profile.version.clone()),
        (STATE, profile.state.name().to_owned()),
        (CONNECTIONS, profile.load.connections.to_string()),
        (FULL, profile.load.full.to_string()),
        (PUSHES, profile.load.pushes.to_string()),
    ]
}

/// What the values of a node say; `None` if one is missing (they may not all have come yet) or senseless.
pub(super) fn read<'v>(value: impl Fn(&str) -> Option<&'v str>) -> Option<Profile> {
    let version = value(VERSION)?;
    let printable = version.bytes().all(|byte| byte.is_ascii_graphic());
    if version.len() > MAX_VERSION || !printable {
        return None;
    }
    Some(Profile {
        generation: number(value(GENERATION)?)?,
        http_address: value(HTTP)?.parse::<SocketAddr>().ok()?,
        grpc_address: value(GRPC)?.parse::<SocketAddr>().ok()?,
        version: version.to_owned(),
        state: state(value(STATE)?)?,
        load: Load {
            connections: number(value(CONNECTIONS)?)?,
            // Older nodes do not say.
            full: value(FULL).is_some_and(|full| full == "true"),
            pushes: number(value(PUSHES)?)?,
        },
    })
}

fn number<N: FromStr>(text: &str) -> Option<N> {
    text.parse().ok()
}

fn state(name: &str) -> Option<NodeState> {
    NodeState::ALL
        .into_iter()
        .find(|state| state.name() == name)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn profile() -> Profile {
        Profile {
            generation: 1_800_000_000_000,
            http_address: "10.0.0.1:8080".parse().unwrap(),
            grpc_address: "[fd00::1]:7947".parse().unwrap(),
            version: "1.2.3".into(),
            state: NodeState::Draining,
            load: Load {
                connections: 12_345,
                full: true,
                pushes: 7,
            },
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let values: HashMap<_, _> = write(&profile()).into_iter().collect();
        let read = read(|key| values.get(key).map(String::as_str));
        assert_eq!(read, Some(profile()));
    }

    #[test]
    fn all_values_of_a_node_together_are_small() {
        let written = write(&profile());
        let bytes: usize = written
            .iter()
            .map(|(key, value)| key.len() + value.len())
            .sum();
        assert!(bytes < 128, "{bytes}");
    }

    #[test]
    fn a_profile_with_a_value_missing_is_none() {
        let needed = write(&profile())
            .into_iter()
            .filter(|(key, _)| *key != FULL);
        for (missing, _) in needed {
            let values: HashMap<_, _> = write(&profile()).into_iter().collect();
            let rest = |key: &str| {
                (key != missing)
                    .then(|| values.get(key))
                    .flatten()
                    .map(String::as_str)
            };
            assert_eq!(read(rest), None, "{missing}");
        }
    }

    #[test]
    fn a_node_of_an_older_version_is_not_full() {
        let mut values: HashMap<_, _> = write(&profile()).into_iter().collect();
        values.remove(FULL);
        let read = read(|key| values.get(key).map(String::as_str)).unwrap();
        assert!(!read.load.full);
    }

    #[test]
    fn a_version_that_would_not_fit_on_a_line_is_refused() {
        for version in ["1.0\nts=now level=error", &"9".repeat(65)] {
            let mut values: HashMap<_, _> = write(&profile()).into_iter().collect();
            values.insert(VERSION, version.to_owned());
            assert_eq!(read(|key| values.get(key).map(String::as_str)), None);
        }
    }

    proptest! {
        #[test]
        fn senseless_values_are_survived(key in 0_usize..8, text in ".*") {
            let mut values = write(&profile());
            values[key].1 = text;
            let values: HashMap<_, _> = values.into_iter().collect();
            let _ = read(|key| values.get(key).map(String::as_str));
        }
    }
}
