//! Who applications are, by what they show.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use prometheus_rsocket_config::yaml::FileError;
use prometheus_rsocket_exposition::{Labels, Limits};
use prometheus_rsocket_wire::Credentials;

use super::file::{Entitlement, Parsed, Target};
use super::proof::{Proof, Token};
use crate::limits::rate::Bucket;
use crate::passwords::{Users, Verdict, Verifier};

/// What holds for an application's texts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Terms {
    /// The name of its identity; `None`: it has none.
    pub identity: Option<Arc<str>>,
    /// Labels that all its samples get, whatever they say themselves.
    pub labels: Labels,
    /// Most bytes of one text.
    pub max_text: usize,
    /// What one text may hold.
    pub limits: Limits,
}

/// What applications with the same identity have in common.
#[derive(Debug)]
pub struct Identity {
    /// What holds for their texts.
    pub terms: Arc<Terms>,
    /// What its application is called as a Prometheus target; `None`: the file does not say.
    pub target: Option<Target>,
    /// How many of them may be connected; `None`: no limit but the node's.
    pub max_connections: Option<usize>,
    /// How often they may push, all together; `None`: each as often as the node allows everybody.
    pub pushes: Option<Arc<Bucket>>,
}

/// What an application has shown.
#[derive(Debug, Clone, Default)]
pub struct Shown {
    /// In its SETUP.
    pub credentials: Option<Credentials>,
    /// The names of the certificate that it came with, which one of the authorities issued.
    pub certificate: Vec<String>,
}

/// Why it is not known who an application is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// It shows nothing, and is to show something.
    Nothing,
    /// What it shows is not in the file, or not of one identity.
    Wrong,
    /// Too many passwords are being verified; later it may be known.
    Busy,
}

/// All identities of one time.
pub struct Table {
    known: HashMap<Proof, Arc<Identity>>,
    /// Those that are an identity's alone, with its name, by their instance.
    targets: HashMap<Arc<str>, Vec<(Target, Arc<str>)>>,
    /// `None`: nobody is asked who they are.
    users: Option<Users>,
    passwords: BTreeMap<String, Proof>,
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Table").field(&self.known.len()).finish()
    }
}

impl Table {
    /// Where no credentials are required: all are accepted, and these terms hold for them.
    pub fn of_everybody(terms: Terms) -> Self {
        let everybody = Identity {
            terms: Arc::new(terms),
            target: None,
            max_connections: None,
            pushes: None,
        };
        Self {
            known: HashMap::from([(Proof::Nothing, Arc::new(everybody))]),
            targets: HashMap::new(),
            users: None,
            passwords: BTreeMap::new(),
        }
    }

    /// What a file says; where it says nothing, `terms` hold. Keeps what `before` remembers and counts.
    pub(super) fn new(
        parsed: Parsed,
        terms: &Terms,
        verifier: &Arc<Verifier>,
        before: Option<&Self>,
    ) -> Result<Self, FileError> {
        let mut known = HashMap::new();
        let mut hashes = BTreeMap::new();
        let mut passwords = BTreeMap::new();
        let before_by_name: HashMap<_, _> = before
            .into_iter()
            .flat_map(|before| before.known.values())
            .map(|identity| (identity.terms.identity.as_deref(), identity))
            .collect();
        let identity = |name: Option<&str>, target, entitlement| {
            let before = before_by_name.get(&name).copied();
            Arc::new(Identity::new(name, target, entitlement, terms, before))
        };
        if let Some(anonymous) = parsed.anonymous {
            known.insert(Proof::Nothing, identity(None, None, anonymous));
        }
        let mut targets: HashMap<_, Vec<_>> = HashMap::new();
        for named in parsed.identities {
            let proofs: Vec<_> = named.proofs().collect();
            if let Some(target) = &named.target {
                let of_instance = targets.entry(Arc::clone(&target.instance)).or_default();
                of_instance.push((target.clone(), Arc::from(named.name.as_str())));
            }
            let shared = identity(Some(&named.name), named.target, named.entitlement);
            for (name, hash) in named.users {
                passwords.insert(name.clone(), Proof::password(&name, &hash));
                hashes.insert(name, hash);
            }
            known.extend(proofs.into_iter().map(|proof| (proof, Arc::clone(&shared))));
        }
        let mut users = Users::new(hashes, Arc::clone(verifier))
            .map_err(|reason| FileError::value("users", reason))?;
        if let Some(before) = before.and_then(|before| before.users.as_ref()) {
            users.keep(before);
        }
        Ok(Self {
            known,
            targets,
            users: Some(users),
            passwords,
        })
    }

    /// Whether anybody is asked who they are.
    pub fn asks(&self) -> bool {
        self.users.is_some()
    }

    /// Whether some can show a certificate.
    pub(super) fn knows_certificates(&self) -> bool {
        let mut proofs = self.known.keys();
        proofs.any(|proof| matches!(proof, Proof::Certificate(_)))
    }

    /// By what this application is known. One with wrong credentials is not accepted as one without; neither is one with
    /// credentials of different identities.
    pub async fn identify(&self, shown: Shown) -> Result<Proof, Unknown> {
        let Some(users) = &self.users else {
            return Ok(Proof::Nothing);
        };
        let certificates = shown.certificate.into_iter().map(Proof::Certificate);
        let mut certificates = certificates.filter(|proof| self.known.contains_key(proof));
        let by_certificate = certificates.next();
        let of_others = certificates.any(|other| !self.are_one(by_certificate.as_ref(), &other));
        if of_others {
            return Err(Unknown::Wrong);
        }
        let by_credentials = match shown.credentials {
            None => None,
            Some(Credentials::Bearer(token)) => Some(Proof::Token(Token::of(&token))),
            Some(Credentials::Simple { name, password }) => {
                match users.verify(&name, password).await {
                    Verdict::Right => self.passwords.get(&name).cloned(),
                    Verdict::Wrong => return Err(Unknown::Wrong),
                    Verdict::Busy => return Err(Unknown::Busy),
                }
            }
        };
        let named = by_credentials.or(by_certificate.clone());
        let Some(proof) = named else {
            let anonymous = self.known.contains_key(&Proof::Nothing);
            return anonymous.then_some(Proof::Nothing).ok_or(Unknown::Nothing);
        };
        let known = self.known.contains_key(&proof);
        let same = by_certificate.is_none_or(|other| self.are_one(Some(&proof), &other));
        (known && same).then_some(proof).ok_or(Unknown::Wrong)
    }

    /// Whether both are of the same identity.
    fn are_one(&self, one: Option<&Proof>, other: &Proof) -> bool {
        let one = one.and_then(|one| self.known.get(one));
        let both = one.zip(self.known.get(other));
        both.is_some_and(|(one, other)| Arc::ptr_eq(one, other))
    }

    /// Whether an application of this identity may be called so: what is another identity's alone it may not.
    pub fn may_be_called(&self, instance: &str, job: Option<&str>, identity: Option<&str>) -> bool {
        let mut owners = self.targets.get(instance).into_iter().flatten();
        let owner = owners.find(|(target, _)| target.covers(instance, job));
        owner.is_none_or(|(_, owner)| Some(&**owner) == identity)
    }

    /// Whose this is; `None`: it holds no more.
    pub fn identity(&self, proof: &Proof) -> Option<&Arc<Identity>> {
        self.known.get(proof)
    }
}

impl Identity {
    fn new(
        name: Option<&str>,
        target: Option<Target>,
        entitlement: Entitlement,
        terms: &Terms,
        before: Option<&Arc<Self>>,
    ) -> Self {
        let limits = Limits {
            max_samples: entitlement.series.unwrap_or(terms.limits.max_samples),
            ..terms.limits
        };
        let pushes = before.and_then(|before| before.pushes.as_ref());
        let pushes = entitlement.pushes.map(|rate| {
            let before = pushes.filter(|bucket| bucket.rate == rate);
            before.map_or_else(|| Arc::new(Bucket::new(rate)), Arc::clone)
        });
        Self {
            terms: Arc::new(Terms {
                identity: name.map(Arc::from),
                labels: entitlement.labels,
                max_text: entitlement.payload.unwrap_or(terms.max_text),
                limits,
            }),
            target,
            max_connections: entitlement.connections,
            pushes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::file::parse;
    use super::*;

    fn table(text: &str, before: Option<&Table>) -> Table {
        let terms = Terms {
            max_text: 1000,
            ..Terms::default()
        };
        let parsed = parse(text).unwrap().unwrap();
        Table::new(parsed, &terms, &Arc::default(), before).unwrap()
    }

    fn hash(password: &str) -> String {
        bcrypt::hash_with_salt(password, 4, [7; 16])
            .unwrap()
            .format_for_version(bcrypt::Version::TwoY)
    }

    /// SHA-256 of `abc`.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn file(anonymous: &str) -> String {
        format!(
            "{anonymous}\n\
             identities:\n\
             - {{name: one, tokens_sha256: [{ABC}], users: {{ann: '{}'}}, certificates: [one.internal]}}\n\
             - {{name: two, users: {{bob: '{}'}}, certificates: [two.internal]}}\n",
            hash("secret"),
            hash("other"),
        )
    }

    fn shown(credentials: Option<Credentials>, certificate: &[&str]) -> Shown {
        Shown {
            credentials,
            certificate: certificate.iter().map(|&name| name.to_owned()).collect(),
        }
    }

    fn token(text: &str) -> Option<Credentials> {
        Some(Credentials::Bearer(text.as_bytes().to_vec().into()))
    }

    fn password(name: &str, password: &str) -> Option<Credentials> {
        Some(Credentials::Simple {
            name: name.to_owned(),
            password: password.as_bytes().to_vec().into(),
        })
    }

    /// The name of the identity, or why there is none; an empty one for who shows nothing.
    async fn who(table: &Table, shown: Shown) -> Result<String, Unknown> {
        let proof = table.identify(shown).await?;
        let identity = table.identity(&proof).expect("a known proof");
        Ok(identity
            .terms
            .identity
            .as_deref()
            .unwrap_or_default()
            .into())
    }

    #[tokio::test]
    async fn an_application_is_who_it_shows_to_be() {
        for (anonymous, nothing) in [
            ("", Err(Unknown::Nothing)),
            ("anonymous: {}", Ok(String::new())),
        ] {
            let table = table(&file(anonymous), None);
            let one = || Ok("one".to_owned());
            let two = || Ok("two".to_owned());
            let wrong = Err(Unknown::Wrong);
            for (credentials, certificate, expected) in [
                (None, &[][..], nothing.clone()),
                // Of the authority, but nobody in particular.
                (None, &["three.internal"], nothing),
                (token("abc"), &[], one()),
                (token("abd"), &[], wrong.clone()),
                (token(""), &[], wrong.clone()),
                (password("ann", "secret"), &[], one()),
                (password("ann", "other"), &[], wrong.clone()),
                (password("bob", "other"), &[], two()),
                (password("eve", "other"), &[], wrong.clone()),
                (None, &["three.internal", "two.internal"], two()),
                (None, &["one.internal", "two.internal"], wrong.clone()),
                (token("abc"), &["one.internal"], one()),
                (token("abc"), &["two.internal"], wrong.clone()),
                (token("abc"), &["three.internal"], one()),
                (token("abd"), &["one.internal"], wrong.clone()),
                (password("ann", "secret"), &["two.internal"], wrong.clone()),
            ] {
                let what = format!("{credentials:?} {certificate:?}");
                let who = who(&table, shown(credentials, certificate)).await;
                assert_eq!(who, expected, "{what}");
            }
        }
    }

    #[tokio::test]
    async fn where_nobody_is_asked_nobody_is_refused() {
        let table = Table::of_everybody(Terms::default());
        for credentials in [None, token("abc"), password("ann", "secret")] {
            assert_eq!(
                who(&table, shown(credentials, &["a"])).await,
                Ok(String::new())
            );
        }
    }

    #[tokio::test]
    async fn a_proof_holds_as_long_as_the_file_says_so() {
        let before = table(&file("anonymous: {}"), None);
        let of = async |credentials| before.identify(shown(credentials, &[])).await.unwrap();
        let proofs = [
            of(None).await,
            of(token("abc")).await,
            of(password("ann", "secret")).await,
        ];
        let same = table(&file("anonymous: {}"), Some(&before));
        assert!(proofs.iter().all(|proof| same.identity(proof).is_some()));

        let other = file("").replace(ABC, &"0".repeat(64));
        let other = table(&other.replace(&hash("secret"), &hash("new")), Some(&before));
        assert!(proofs.iter().all(|proof| other.identity(proof).is_none()));
        assert_eq!(
            who(&other, shown(password("ann", "secret"), &[])).await,
            Err(Unknown::Wrong)
        );
    }

    #[test]
    fn an_instance_of_the_file_is_nobody_elses() {
        let table = table(
            "identities:\n\
             - {name: a, certificates: [a], instance: web}\n\
             - {name: b, certificates: [b], instance: db, job: postgres}\n",
            None,
        );
        for (instance, job, owner) in [
            ("web", None, Some("a")),
            ("web", Some("any"), Some("a")),
            ("db", Some("postgres"), Some("b")),
            ("db", Some("node"), None),
            ("db", None, None),
            ("other", None, None),
        ] {
            for identity in [None, Some("a"), Some("b"), Some("c")] {
                let may = table.may_be_called(instance, job, identity);
                let expected = owner.is_none() || owner == identity;
                assert_eq!(may, expected, "{job:?}/{instance} of {identity:?}");
            }
        }
    }

    #[test]
    fn what_the_file_does_not_limit_the_node_does() {
        let text = "anonymous: {limits: {series: 5, pushes_per_second: 1}}\n\
                    identities: [{name: a, certificates: [a], limits: {payload: 10B}}]\n";
        let before = table(text, None);
        let anonymous = before.identity(&Proof::Nothing).unwrap();
        assert_eq!(
            (anonymous.terms.max_text, anonymous.terms.limits.max_samples),
            (1000, 5)
        );
        let a = before.identity(&Proof::Certificate("a".into())).unwrap();
        assert_eq!(
            (a.terms.max_text, a.terms.limits.max_samples),
            (10, usize::MAX)
        );

        // Reading the file again gives nobody new pushes.
        assert!(anonymous.pushes.as_ref().unwrap().take());
        let after = table(text, Some(&before));
        let anonymous = after.identity(&Proof::Nothing).unwrap();
        assert!(!anonymous.pushes.as_ref().unwrap().take());
    }
}
