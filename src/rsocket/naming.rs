//! Who the application at the other end of a connection is: what is known goes in, targets come out.
//!
//! In this order: its description, its identity in the identities file, labels that all its samples share, its address.
//! Where its identity has an `instance`, no other is believed; and an instance of the file is believed of its own identity
//! only.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use prometheus_rsocket_exposition::Exposition;
use prometheus_rsocket_wire::description::TargetDescription;

use super::Transport;
use super::described::Described;
use crate::directory::{About, ApplicationId, Named, Target};
use crate::identity::{Identity, Table};

/// The labels that are the name of a target.
const INSTANCE: &str = "instance";
const JOB: &str = "job";

/// All that says who an application is.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) peer: SocketAddr,
    pub(super) transport: Transport,
    pub(super) connected_at: SystemTime,
    pub(super) identity: Arc<Identity>,
    /// All identities.
    pub(super) table: Arc<Table>,
    pub(super) description: Option<Described>,
    pub(super) text: Text,
}

/// What the texts of a connection say of its application.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Text {
    /// None has been asked for.
    #[default]
    Unread,
    /// There was none, or none with a sample.
    Empty,
    /// The first: its name, if its samples share one.
    Read(Option<ApplicationId>),
}

impl Text {
    /// Whether a further one may say something.
    pub(super) fn is_open(&self) -> bool {
        !matches!(self, Self::Read(_))
    }
}

/// For whom a connection speaks.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Spoken {
    /// `None`: that is not known yet.
    pub(super) targets: Option<Vec<Target>>,
    /// How many of those that it describes are not believed.
    pub(super) denied: usize,
}

/// The name that the samples of a text share by the labels `by`, all of which they must have.
pub(super) fn shared_name<'e>(
    texts: impl Iterator<Item = &'e Arc<Exposition>> + Clone,
    by: &[String],
) -> Option<ApplicationId> {
    let with_samples = texts.filter(|text| text.samples() > 0);
    let shared = |label: &str| {
        let mut values = with_samples.clone().map(|text| text.common_label(label));
        let first = values.next()??;
        values
            .all(|value| value.as_ref() == Some(&first))
            .then_some(first)
    };
    let values: Option<Vec<_>> = by.iter().map(|label| shared(label)).collect();
    let instance = values?.join("/");
    ApplicationId::new(&instance, shared(JOB).as_deref())
}

impl Facts {
    /// For whom the connection speaks, by all that is known now.
    pub(super) fn spoken(&self) -> Spoken {
        let description = self.description.as_ref().map(Described::read);
        let description = description.unwrap_or_default();
        let client = Some(description.client.as_str()).filter(|client| !client.is_empty());
        let client: Option<Arc<str>> = client.map(Arc::from);
        if self.description.is_some() && description.targets.is_empty() {
            return Spoken {
                targets: Some(Vec::new()),
                denied: 0,
            };
        }
        let believed = self.believed(&description.targets, client.as_ref());
        let denied = description.targets.len() - believed.len();
        let targets = if believed.is_empty() {
            self.undescribed(client)
        } else {
            Some(believed)
        };
        Spoken { targets, denied }
    }

    /// Those that it describes, and may be.
    fn believed(&self, described: &[TargetDescription], client: Option<&Arc<str>>) -> Vec<Target> {
        let mut about: Option<(&BTreeMap<String, String>, Arc<About>)> = None;
        let targets = described.iter().filter_map(|target| {
            let own = self.identity.target.as_ref();
            let job = target.job.as_deref();
            let job = job.or(own.and_then(|own| own.job.as_deref()));
            let id = ApplicationId::new(&target.instance, job)?;
            if !self.may_be(&id) {
                return None;
            }
            // Most targets of an agent have the same labels, or none.
            let shared = match &about {
                Some((labels, about)) if **labels == target.labels => Arc::clone(about),
                _ => self.about(Named::Description, client.cloned(), &target.labels),
            };
            about = Some((&target.labels, Arc::clone(&shared)));
            Some(Target { id, about: shared })
        });
        let mut targets: Vec<_> = targets.collect();
        // The job of the identity may have made two of them one.
        targets.sort_by(|one, other| one.id.cmp(&other.id));
        targets.dedup_by(|one, other| one.id == other.id);
        targets
    }

    /// What it is without a description.
    fn undescribed(&self, client: Option<Arc<str>>) -> Option<Vec<Target>> {
        let (id, named) = match (&self.identity.target, &self.text) {
            (Some(own), _) => {
                let id = ApplicationId::new(&own.instance, own.job.as_deref())?;
                (id, Named::Identity)
            }
            (None, Text::Unread) => return None,
            (None, Text::Read(Some(id))) if self.may_be(id) => (id.clone(), Named::Labels),
            (None, Text::Read(_) | Text::Empty) => {
                let id = ApplicationId::new(&self.peer.to_string(), None)?;
                (id, Named::Address)
            }
        };
        let about = self.about(named, client, &BTreeMap::new());
        Some(vec![Target { id, about }])
    }

    fn may_be(&self, id: &ApplicationId) -> bool {
        let (instance, job) = (&*id.instance, id.job.as_deref());
        let own = self.identity.target.as_ref();
        let identity = self.identity.terms.identity.as_deref();
        own.is_none_or(|own| own.covers(instance, job))
            && self.table.may_be_called(instance, job, identity)
    }

    fn about(
        &self,
        named: Named,
        client: Option<Arc<str>>,
        labels: &BTreeMap<String, String>,
    ) -> Arc<About> {
        let said = labels.iter();
        let said = said.map(|(name, value)| (name.as_str(), value.as_str()));
        let enforced = self.identity.terms.labels.iter();
        let enforced = enforced.filter(|(name, _)| ![INSTANCE, JOB].contains(name));
        let labels = said.chain(enforced);
        Arc::new(About {
            named,
            client,
            identity: self.identity.terms.identity.clone(),
            peer: self.peer,
            transport: self.transport.name(),
            connected_at: self.connected_at,
            labels: labels
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::described::Descriptions;
    use super::*;
    use crate::identity::{Proof, fuzzing};

    const FILE: &str = "anonymous: {}\n\
        identities:\n\
        - {name: web, certificates: [web], instance: web-1, labels: {team: a, job: b}}\n\
        - {name: db, certificates: [db], instance: db-1, job: postgres}\n\
        - {name: agent, certificates: [agent], labels: {team: b}}\n";

    /// What is known of an application with this identity, if any.
    fn facts(identity: Option<&str>) -> Facts {
        let table = Arc::new(fuzzing::table(FILE).unwrap());
        let proof = identity.map_or(Proof::Nothing, |name| Proof::Certificate(name.into()));
        Facts {
            peer: ([192, 0, 2, 1], 5000).into(),
            transport: Transport::Tcp,
            connected_at: SystemTime::UNIX_EPOCH,
            identity: Arc::clone(table.identity(&proof).unwrap()),
            table,
            description: None,
            text: Text::Unread,
        }
    }

    fn described(identity: Option<&str>, targets: &str) -> Facts {
        let json = format!(r#"{{"client":"rust 1","targets":[{targets}]}}"#);
        let description = Descriptions::default().take(json.as_bytes()).unwrap();
        Facts {
            description: Some(description),
            ..facts(identity)
        }
    }

    fn read(identity: Option<&str>, instance: &str, job: Option<&str>) -> Facts {
        Facts {
            text: Text::Read(ApplicationId::new(instance, job)),
            ..facts(identity)
        }
    }

    /// The names of the targets, what they come from, and how many are not believed.
    fn names(facts: &Facts) -> (Vec<String>, Option<Named>, usize) {
        let Spoken { targets, denied } = facts.spoken();
        let targets = targets.expect("known targets");
        let named = targets.first().map(|target| target.about.named);
        let names = targets.iter().map(|target| target.id.to_string());
        (names.collect(), named, denied)
    }

    fn one(name: &str, named: Named) -> (Vec<String>, Option<Named>, usize) {
        (vec![name.to_owned()], Some(named), 0)
    }

    #[test]
    fn it_is_what_it_says_then_its_identity_then_its_labels_then_its_address() {
        assert_eq!(facts(None).spoken().targets, None);
        let described = described(None, r#"{"instance":"a","job":"j"}"#);
        assert_eq!(names(&described), one("j/a", Named::Description));
        let identity = facts(Some("db"));
        assert_eq!(names(&identity), one("postgres/db-1", Named::Identity));
        let labels = read(Some("agent"), "b", Some("k"));
        assert_eq!(names(&labels), one("k/b", Named::Labels));
        let nothing = Facts {
            text: Text::Empty,
            ..facts(None)
        };
        let address = one("192.0.2.1:5000", Named::Address);
        assert_eq!(names(&nothing), address);
        let unnamed = Facts {
            text: Text::Read(None),
            ..facts(None)
        };
        assert_eq!(names(&unnamed), address);
    }

    #[test]
    fn an_agent_speaks_for_many_and_who_only_pushes_for_nobody() {
        let targets: Vec<_> = (0..1000)
            .map(|n| format!(r#"{{"instance":"{n}"}}"#))
            .collect();
        let agent = described(Some("agent"), &targets.join(","));
        let targets = agent.spoken().targets.unwrap();
        assert_eq!(targets.len(), 1000);
        // What is told of them is there once.
        let first = &targets[0].about;
        assert!(
            targets
                .iter()
                .all(|target| Arc::ptr_eq(&target.about, first))
        );
        let pusher = described(Some("web"), "");
        assert_eq!(names(&pusher), (vec![], None, 0));
    }

    #[test]
    fn where_the_identity_has_an_instance_no_other_is_believed() {
        let other = described(Some("web"), r#"{"instance":"web-2"},{"instance":"db-1"}"#);
        let (targets, named, denied) = names(&other);
        assert_eq!(
            (targets, named),
            (vec!["web-1".to_owned()], Some(Named::Identity))
        );
        assert_eq!(denied, 2);
        // The same, with whatever job where the identity has none.
        let same = described(Some("web"), r#"{"instance":"web-1","job":"any"}"#);
        assert_eq!(names(&same), one("any/web-1", Named::Description));
        let without_job = described(Some("db"), r#"{"instance":"db-1"}"#);
        assert_eq!(
            names(&without_job),
            one("postgres/db-1", Named::Description)
        );
        let other_job = described(Some("db"), r#"{"instance":"db-1","job":"any"}"#);
        assert_eq!(names(&other_job).0, ["postgres/db-1"]);
        let labels = read(Some("db"), "other", None);
        assert_eq!(names(&labels), one("postgres/db-1", Named::Identity));
    }

    #[test]
    fn an_instance_of_another_identity_is_not_believed() {
        for identity in [None, Some("agent")] {
            let two = described(identity, r#"{"instance":"web-1"},{"instance":"own"}"#);
            assert_eq!(
                names(&two),
                (vec!["own".to_owned()], Some(Named::Description), 1)
            );
            let labels = read(identity, "db-1", Some("postgres"));
            assert_eq!(names(&labels), one("192.0.2.1:5000", Named::Address));
            let other_job = read(identity, "db-1", Some("node"));
            assert_eq!(names(&other_job), one("node/db-1", Named::Labels));
        }
    }

    #[test]
    fn labels_of_the_identity_are_above_those_that_it_says() {
        let facts = described(
            Some("web"),
            r#"{"instance":"web-1","labels":{"team":"mine","zone":"b"}}"#,
        );
        let about = Arc::clone(&facts.spoken().targets.unwrap()[0].about);
        let labels: Vec<_> = about
            .labels
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .collect();
        // A job that is enforced in samples is no name.
        assert_eq!(labels, [("team", "a"), ("zone", "b")]);
        assert_eq!(about.client.as_deref(), Some("rust 1"));
        assert_eq!(about.identity.as_deref(), Some("web"));
    }

    #[test]
    fn a_name_is_of_labels_that_all_samples_share() {
        let text = |text: &str| {
            let text = Bytes::copy_from_slice(text.as_bytes());
            Arc::new(Exposition::parse(text).unwrap())
        };
        let texts = [
            text("a{zone=\"z\",instance=\"1\",job=\"j\"} 1\n"),
            text(""),
            text("b{instance=\"1\",zone=\"z\"} 1\n"),
        ];
        let name = |by: &[&str], texts: &[Arc<Exposition>]| {
            let by: Vec<_> = by.iter().map(|&label| label.to_owned()).collect();
            let name = shared_name(texts.iter(), &by);
            name.map(|id| id.to_string())
        };
        assert_eq!(name(&["zone", "instance"], &texts).as_deref(), Some("z/1"));
        assert_eq!(name(&["instance"], &texts[..2]).as_deref(), Some("j/1"));
        assert_eq!(name(&["instance", "job"], &texts), None);
        assert_eq!(name(&["instance"], &[]), None);
        let other = text("c{instance=\"2\"} 1\n");
        assert_eq!(name(&["instance"], &[texts[0].clone(), other]), None);
        let long = text(&format!("a{{instance=\"{}\"}} 1\n", "x".repeat(256)));
        assert_eq!(name(&["instance"], &[long]), None);
    }
}
