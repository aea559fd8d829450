//! The file that says who applications are: YAML in, identities out.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use prometheus_rsocket_config::values;
use prometheus_rsocket_config::yaml::{self, FileError};
use prometheus_rsocket_exposition::Labels;
use prometheus_rsocket_wire::description::{MAX_NAME, is_name};
use serde::Deserialize;

use super::proof::{Proof, Token};
use crate::limits::rate::Rate;

/// Most identities, and most tokens, users and certificates of one.
const MAX_ENTRIES: usize = 10_000;
/// Bytes of an identity's name, which stands in the log and on the status page.
const MAX_NAME_LEN: usize = 100;

/// What a file says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parsed {
    /// What holds for those that show nothing; `None`: they are refused.
    pub(super) anonymous: Option<Entitlement>,
    pub(super) identities: Vec<Named>,
}

/// An identity, and how to show that one has it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) tokens: Vec<Token>,
    /// Names and bcrypt hashes, not looked at.
    pub(super) users: BTreeMap<String, String>,
    pub(super) certificates: Vec<String>,
    /// What its application is called, where the file says so.
    pub(super) target: Option<Target>,
    pub(super) entitlement: Entitlement,
}

/// The name of a Prometheus target, which is its identity's alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The label `instance`.
    pub instance: Arc<str>,
    /// The label `job`; `None`: whatever the application says.
    pub job: Option<Arc<str>>,
}

impl Target {
    /// Whether an application of this name is meant.
    pub fn covers(&self, instance: &str, job: Option<&str>) -> bool {
        let of_job = self.job.as_deref();
        *self.instance == *instance && of_job.is_none_or(|own| job == Some(own))
    }

    /// Whether an application may be called what both mean.
    fn meets(&self, other: &Self) -> bool {
        other.job.is_none() && self.instance == other.instance
            || self.covers(&other.instance, other.job.as_deref())
    }
}

/// What an identity's applications get, and may do. `None`: what the node allows everybody.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Entitlement {
    pub(super) labels: Labels,
    pub(super) connections: Option<usize>,
    pub(super) payload: Option<usize>,
    pub(super) series: Option<usize>,
    pub(super) pushes: Option<Rate>,
}

/// Reads `text`; `None`: it says nothing.
pub(super) fn parse(text: &str) -> Result<Option<Parsed>, FileError> {
    let Some(file) = yaml::read::<Option<IdentitiesFile>>(text)? else {
        return Ok(None);
    };
    if file.identities.len() > MAX_ENTRIES {
        return Err(FileError::value(
            "identities",
            format!("more than {MAX_ENTRIES}"),
        ));
    }
    let anonymous = file
        .anonymous
        .map(|anonymous| entitlement("anonymous", anonymous.labels, anonymous.limits));
    let identities = file.identities.into_iter().map(named);
    let parsed = Parsed {
        anonymous: anonymous.transpose()?,
        identities: identities.collect::<Result<_, _>>()?,
    };
    parsed.claims_each_proof_once()?;
    parsed.claims_each_target_once()?;
    Ok(Some(parsed))
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct IdentitiesFile {
    anonymous: Option<Anonymous>,
    identities: Vec<IdentityEntry>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Anonymous {
    labels: BTreeMap<String, String>,
    limits: LimitsEntry,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IdentityEntry {
    name: String,
    #[serde(default)]
    tokens_sha256: Vec<String>,
    #[serde(default)]
    users: BTreeMap<String, String>,
    #[serde(default)]
    certificates: Vec<String>,
    instance: Option<String>,
    job: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    limits: LimitsEntry,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LimitsEntry {
    connections: Option<usize>,
    payload: Option<String>,
    series: Option<usize>,
    pushes_per_second: Option<u32>,
}

fn named(identity: IdentityEntry) -> Result<Named, FileError> {
    let IdentityEntry { name, .. } = &identity;
    let printable = name.chars().all(|letter| !letter.is_control());
    if name.is_empty() || name.len() > MAX_NAME_LEN || !printable {
        let reason = format!("a name has 1 to {MAX_NAME_LEN} bytes, all of them printable");
        return Err(FileError::value("identities", reason));
    }
    let place = format!("identity {name}");
    let ways = identity.tokens_sha256.len() + identity.users.len() + identity.certificates.len();
    if ways == 0 || ways > MAX_ENTRIES {
        let reason = "needs tokens_sha256, users or certificates";
        return Err(FileError::value(place, reason));
    }
    let tokens = identity.tokens_sha256.iter().map(|digits| {
        Token::from_hex(digits).ok_or_else(|| {
            let reason =
                "is not 64 hexadecimal digits, as `printf %s \"$TOKEN\" | sha256sum` prints them";
            FileError::value(format!("{place}: tokens_sha256"), reason)
        })
    });
    Ok(Named {
        tokens: tokens.collect::<Result<_, _>>()?,
        target: target(&place, identity.instance, identity.job)?,
        entitlement: entitlement(&place, identity.labels, identity.limits)?,
        name: identity.name,
        users: identity.users,
        certificates: identity.certificates,
    })
}

fn target(
    place: &str,
    instance: Option<String>,
    job: Option<String>,
) -> Result<Option<Target>, FileError> {
    for (key, name) in [("instance", &instance), ("job", &job)] {
        if name.as_deref().is_some_and(|name| !is_name(name)) {
            let reason = format!("has 1 to {MAX_NAME} bytes, all of them printable");
            return Err(FileError::value(format!("{place}: {key}"), reason));
        }
    }
    match (instance, job) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err(FileError::value(
            format!("{place}: job"),
            "needs instance, too",
        )),
        (Some(instance), job) => Ok(Some(Target {
            instance: instance.into(),
            job: job.map(Arc::from),
        })),
    }
}

fn entitlement(
    place: &str,
    labels: BTreeMap<String, String>,
    limits: LimitsEntry,
) -> Result<Entitlement, FileError> {
    let mut enforced = Labels::default();
    for (name, value) in labels {
        let reason = |reason: String| FileError::value(format!("{place}: label {name}"), reason);
        if value.is_empty() {
            return Err(reason("its value is empty".into()));
        }
        enforced
            .insert(&name, &value)
            .map_err(|error| reason(error.to_string()))?;
    }
    let limit = |name| format!("{place}: limits.{name}");
    let positive = |name, number: Option<usize>| match number {
        Some(0) => Err(FileError::value(limit(name), "must be more than zero")),
        number => Ok(number),
    };
    Ok(Entitlement {
        labels: enforced,
        connections: positive("connections", limits.connections)?,
        series: positive("series", limits.series)?,
        payload: match limits.payload {
            None => None,
            Some(text) => {
                Some(values::bytes(&text).map_err(|why| FileError::value(limit("payload"), why))?)
            }
        },
        pushes: match limits.pushes_per_second {
            None => None,
            Some(number) => Some(Rate::per_second(number).ok_or_else(|| {
                FileError::value(limit("pushes_per_second"), "must be more than zero")
            })?),
        },
    })
}

impl Parsed {
    /// Nobody can tell who shows what two identities claim; likewise a name that two of them have.
    fn claims_each_proof_once(&self) -> Result<(), FileError> {
        let mut names = HashSet::new();
        let mut owners = HashMap::new();
        for identity in &self.identities {
            if !names.insert(&identity.name) {
                let place = format!("identity {}", identity.name);
                return Err(FileError::value(place, "is listed twice"));
            }
            for proof in identity.proofs() {
                match owners.entry(proof.claim()) {
                    Entry::Vacant(free) => {
                        free.insert(&identity.name);
                    }
                    Entry::Occupied(taken) => {
                        let reason = format!("{} has it too", taken.get());
                        let place = format!("identity {}: {}", identity.name, proof.key());
                        return Err(FileError::value(place, reason));
                    }
                }
            }
        }
        Ok(())
    }

    /// An application of either would be the other's, too.
    fn claims_each_target_once(&self) -> Result<(), FileError> {
        let mut owners: HashMap<&str, Vec<(&Target, &str)>> = HashMap::new();
        for identity in &self.identities {
            let Some(target) = &identity.target else {
                continue;
            };
            let owners = owners.entry(&target.instance).or_default();
            if let Some((_, owner)) = owners.iter().find(|(other, _)| target.meets(other)) {
                let place = format!("identity {}: instance", identity.name);
                return Err(FileError::value(place, format!("{owner} has it too")));
            }
            owners.push((target, &identity.name));
        }
        Ok(())
    }
}

impl Named {
    /// Everything that shows that one has it.
    pub(super) fn proofs(&self) -> impl Iterator<Item = Proof> {
        let tokens = self.tokens.iter().copied().map(Proof::Token);
        let users = self.users.iter();
        let users = users.map(|(name, hash)| Proof::password(name, hash));
        let certificates = self.certificates.iter();
        let certificates = certificates.map(|name| Proof::Certificate(name.clone()));
        tokens.chain(users).chain(certificates)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const TOKEN: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn a_file_says_who_applications_are_and_what_they_may_do() {
        let text = format!(
            "anonymous: {{}}\n\
             identities:\n\
             - name: payments\n\
             \x20 tokens_sha256: [\"{TOKEN}\"]\n\
             \x20 users: {{ann: \"$2y$hash\"}}\n\
             \x20 certificates: [payments.internal]\n\
             \x20 instance: web-1\n\
             \x20 job: shop\n\
             \x20 labels: {{team: payments}}\n\
             \x20 limits: {{connections: 2, payload: 1MiB, series: 3, pushes_per_second: 4}}\n"
        );
        let parsed = parse(&text).unwrap().unwrap();
        assert_eq!(parsed.anonymous, Some(Entitlement::default()));
        let [payments] = &parsed.identities[..] else {
            panic!("{parsed:?}");
        };
        assert_eq!(payments.name, "payments");
        assert_eq!(payments.proofs().count(), 3);
        let target = payments.target.as_ref().unwrap();
        assert!(target.covers("web-1", Some("shop")));
        assert!(!target.covers("web-1", None) && !target.covers("web-2", Some("shop")));
        assert_eq!(payments.entitlement.labels.get("team"), Some("payments"));
        assert_eq!(payments.entitlement.connections, Some(2));
        assert_eq!(payments.entitlement.payload, Some(1 << 20));
        assert_eq!(payments.entitlement.series, Some(3));
        let pushes = payments.entitlement.pushes.unwrap();
        assert_eq!(
            (pushes.interval, pushes.burst),
            (Duration::from_millis(250), 4)
        );
    }

    #[test]
    fn an_empty_file_lets_nobody_in() {
        for text in ["anonymous:\n", "identities: []\n"] {
            assert_eq!(parse(text).unwrap(), Some(Parsed::default()), "{text:?}");
        }
        for text in ["", "\n", "# nothing yet\n", "---\n", "null\n"] {
            assert_eq!(parse(text).unwrap(), None, "{text:?}");
        }
    }

    #[test]
    fn an_instance_is_of_one_identity() {
        let two = |one: &str, other: &str| {
            parse(&format!(
                "identities:\n\
                 - {{name: a, certificates: [a], {one}}}\n\
                 - {{name: b, certificates: [b], {other}}}\n"
            ))
            .map(drop)
            .map_err(|error| error.to_string())
        };
        let fits = [
            ("instance: x", "instance: y"),
            ("instance: x, job: j", "instance: x, job: k"),
        ];
        for (one, other) in fits {
            assert_eq!(two(one, other), Ok(()));
        }
        for (one, other) in [
            ("instance: x", "instance: x"),
            ("instance: x", "instance: x, job: j"),
            ("instance: x, job: j", "instance: x"),
            ("instance: x, job: j", "instance: x, job: j"),
        ] {
            let error = two(one, other).unwrap_err();
            assert!(
                error.contains("identity b: instance: a has it too"),
                "{error}"
            );
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place_and_without_secrets() {
        let certificate = "certificates: [a]";
        for (text, said) in [
            ("identity: []".to_owned(), "line 1, column 1"),
            ("anonymous: {limit: {}}".to_owned(), "line 1"),
            (format!("identities: [{{{certificate}}}]"), "name"),
            ("identities: [{name: a}]".to_owned(), "identity a: needs"),
            (
                format!("identities: [{{name: \"\", {certificate}}}]"),
                "1 to 100",
            ),
            (
                format!("identities: [{{name: \"a\\nb\", {certificate}}}]"),
                "printable",
            ),
            (
                "identities: [{name: a, tokens_sha256: [secret]}]".to_owned(),
                "sha256sum",
            ),
            (
                format!("identities: [{{name: a, {certificate}, labels: {{le: x}}}}]"),
                "label le",
            ),
            (
                format!("identities: [{{name: a, {certificate}, labels: {{b: \"\"}}}}]"),
                "label b",
            ),
            (
                format!("identities: [{{name: a, {certificate}, limits: {{connections: 0}}}}]"),
                "limits.connections",
            ),
            (
                format!("identities: [{{name: a, {certificate}, instance: \"\"}}]"),
                "identity a: instance: has 1 to 255",
            ),
            (
                format!("identities: [{{name: a, {certificate}, instance: b, job: \"c\\n\"}}]"),
                "identity a: job: has 1 to 255",
            ),
            (
                format!("identities: [{{name: a, {certificate}, job: b}}]"),
                "identity a: job: needs instance",
            ),
            (
                format!("identities: [{{name: a, {certificate}, limits: {{payload: much}}}}]"),
                "limits.payload",
            ),
            (
                format!(
                    "identities: [{{name: a, {certificate}, limits: {{pushes_per_second: 0}}}}]"
                ),
                "limits.pushes_per_second",
            ),
            (
                format!("identities: [{{name: a, {certificate}}}, {{name: b, {certificate}}}]"),
                "identity b: certificates: a has it too",
            ),
            (
                format!("identities: [{{name: a, {certificate}}}, {{name: a, certificates: [b]}}]"),
                "identity a: is listed twice",
            ),
            (
                format!("identities: [{{name: a, tokens_sha256: [{TOKEN}, {TOKEN}]}}]"),
                "tokens_sha256: a has it too",
            ),
        ] {
            let error = parse(&text).expect_err(&text).to_string();
            assert!(error.contains(said), "{text}: {error}");
            assert!(
                !error.contains("secret") && !error.contains(TOKEN),
                "{error}"
            );
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }
}
