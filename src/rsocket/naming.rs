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
