//! Every application that the cluster knows, by name: chosen here, shown by the page, and as JSON at
//! `GET /api/v1/applications`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::SystemTime;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::Site;
use super::parameters::{self, Paging, Unreadable};
use super::timestamp::rfc3339;
use super::words::Words;
use crate::directory;
use crate::targets;

/// The states of an application.
const STATES: [&str; 5] = [CONNECTED, SUPERSEDED, "lost", "moved", "left"];
const CONNECTED: &str = "connected";
/// Connected, while a later connection has its name.
const SUPERSEDED: &str = "superseded";

/// Which applications are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    All,
    /// Those that are connected, but whose last pull brought nothing.
    Failing,
    /// Those in this state.
    State(&'static str),
}

impl Choice {
    /// Every choice, in the order of the page.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        let states = STATES.into_iter().map(Self::State);
        [Self::All, Self::Failing].into_iter().chain(states)
    }

    /// The one of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::all().find(|choice| choice.name() == name)
    }

    /// The word in addresses.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Failing => "failing",
            Self::State(state) => state,
        }
    }

    fn includes(self, application: &targets::Application) -> bool {
        let state = state(application);
        match self {
            Self::All => true,
            Self::Failing => {
                let failed = |last: &directory::Outcome| last.outcome != "success";
                state == CONNECTED && application.last.as_ref().is_some_and(failed)
            }
            Self::State(wanted) => wanted == state,
        }
    }
}

fn state(application: &targets::Application) -> &'static str {
    match &application.state {
        directory::State::Connected if application.superseded => SUPERSEDED,
        directory::State::Connected => CONNECTED,
        directory::State::Ended { end, .. } => end.name(),
    }
}

/// What is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Search {
    pub(super) choice: Choice,
    /// Words that belong to the application, all of them.
    pub(super) filter: String,
    pub(super) paging: Paging,
}

/// One page of what was found, in the order of names.
#[derive(Debug, Serialize)]
pub(super) struct Found {
    pub(super) page: usize,
    pub(super) pages: usize,
    pub(super) per_page: usize,
    /// How many applications all pages have.
    pub(super) matching: usize,
    /// How many applications each choice has, with this filter.
    #[serde(skip)]
    pub(super) choices: Vec<(Choice, usize)>,
    pub(super) applications: Vec<Application>,
}

/// An application.
#[derive(Debug, Serialize)]
pub(super) struct Application {
    pub(super) instance: Arc<str>,
    pub(super) job: Option<Arc<str>>,
    pub(super) state: &'static str,
    pub(super) named: &'static str,
    pub(super) client: Option<Arc<str>>,
    pub(super) identity: Option<Arc<str>>,
    pub(super) peer: String,
    pub(super) transport: &'static str,
    pub(super) node: Arc<str>,
    #[serde(serialize_with = "rfc3339")]
    pub(super) connected_at: SystemTime,
    pub(super) ended: Option<Ended>,
    pub(super) last_pull: Option<Pull>,
    pub(super) labels: BTreeMap<Arc<str>, Arc<str>>,
}

/// How its connection ended.
#[derive(Debug, Serialize)]
pub(super) struct Ended {
    #[serde(serialize_with = "rfc3339")]
    pub(super) at: SystemTime,
    pub(super) reason: Arc<str>,
}

/// What its last pull came to.
#[derive(Debug, Serialize)]
pub(super) struct Pull {
    pub(super) outcome: &'static str,
    pub(super) reason: Arc<str>,
}

/// How many applications there are in each state.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    pub(super) connected: usize,
    pub(super) superseded: usize,
    pub(super) lost: usize,
    pub(super) moved: usize,
    pub(super) left: usize,
}

impl Counts {
    pub(super) fn of(applications: &[targets::Application]) -> Self {
        let [connected, superseded, lost, moved, left] = STATES.map(|wanted| {
            let states = applications.iter().map(state);
            states.filter(|state| *state == wanted).count()
        });
        Self {
            connected,
            superseded,
            lost,
            moved,
            left,
        }
    }
}

/// `GET /api/v1/applications`
pub(super) async fn applications(State(site): State<Site>, RawQuery(query): RawQuery) -> Response {
    match Search::read(query.as_deref()) {
        Ok(search) => Json(Found::new(&site.targets.applications(), &search)).into_response(),
        Err(unreadable) => unreadable.into(),
    }
}

impl Search {
    /// What the request says.
    fn read(query: Option<&str>) -> Result<Self, Unreadable> {
        let known = ["page", "per_page", "q", "state"];
        let [page, per_page, filter, state] = parameters::read(query, known)?;
        let search = || {
            Some(Self {
                choice: state.map_or(Some(Choice::All), |state| Choice::named(&state))?,
                filter: filter.unwrap_or_default().into_owned(),
                paging: Paging::read(page.as_deref(), per_page.as_deref())?,
            })
        };
        search().ok_or(Unreadable::Value(
            "page is from 1, per_page from 1 to 1000, state all, failing, connected, superseded, lost, moved or left",
        ))
    }
}

impl Found {
    /// What is found among `applications`.
    pub(super) fn new(applications: &[targets::Application], search: &Search) -> Self {
        let mut words = Words::new(&search.filter);
        let described: Vec<_> = applications
            .iter()
            .filter(|application| words.are_in(|row| describe(row, application)))
            .collect();
        let chosen = |choice: Choice| {
            let described = described.iter().copied();
            described.filter(move |application| choice.includes(application))
        };
        let matching = chosen(search.choice).count();
        let paging = search.paging;
        let rows = chosen(search.choice)
            .skip(paging.before())
            .take(paging.per_page);
        Self {
            page: paging.page,
            pages: paging.pages(matching),
            per_page: paging.per_page,
            matching,
            choices: Choice::all()
                .map(|choice| (choice, chosen(choice).count()))
                .collect(),
            applications: rows.map(Application::of).collect(),
        }
    }
}

fn describe(row: &mut String, application: &targets::Application) -> std::fmt::Result {
    let about = &application.about;
    let client = about.client.as_deref().unwrap_or_default();
    let identity = about.identity.as_deref().unwrap_or_default();
    let last = application.last.as_ref();
    write!(
        row,
        "{} {} {client} {identity} {} {} {} {} {}",
        application.id,
        state(application),
        about.peer,
        about.transport,
        application.node,
        last.map_or("", |last| last.outcome),
        last.map_or("", |last| &last.reason),
    )?;
    match &application.state {
        directory::State::Ended { reason, .. } => write!(row, " {reason}"),
        directory::State::Connected => Ok(()),
    }
}

impl Application {
    fn of(application: &targets::Application) -> Self {
        let about = &application.about;
        Self {
            instance: Arc::clone(&application.id.instance),
            job: application.id.job.clone(),
            state: state(application),
            named: about.named.name(),
            client: about.client.clone(),
            identity: about.identity.clone(),
            peer: about.peer.to_string(),
            transport: about.transport,
            node: Arc::clone(&application.node.name),
            connected_at: about.connected_at,
            ended: match &application.state {
                directory::State::Connected => None,
                directory::State::Ended { at, reason, .. } => Some(Ended {
                    at: *at,
                    reason: Arc::clone(reason),
                }),
            },
            last_pull: application.last.as_ref().map(|last| Pull {
                outcome: last.outcome,
                reason: Arc::clone(&last.reason),
            }),
            labels: about.labels.clone(),
        }
    }
}

/// Applications that tests know.
#[cfg(test)]
pub(super) mod sample {
    use super::*;
    use crate::directory::{About, ApplicationId, Named};
    use crate::nodes::NodeId;

    /// A connected one.
    pub(crate) fn application(instance: &str, job: Option<&str>) -> targets::Application {
        targets::Application {
            id: ApplicationId::new(instance, job).unwrap(),
            about: Arc::new(About {
                named: Named::Description,
                client: Some("rust 0.1.0".into()),
                identity: None,
                peer: "10.0.0.1:5".parse().unwrap(),
                transport: "tcp",
                connected_at: SystemTime::UNIX_EPOCH,
                labels: BTreeMap::new(),
            }),
            node: NodeId::new("host-1:8080", 1),
            state: directory::State::Connected,
            superseded: false,
            last: None,
        }
    }

    /// One whose last pull came to this.
    pub(crate) fn pulled(
        instance: &str,
        outcome: &'static str,
        reason: &str,
    ) -> targets::Application {
        targets::Application {
            last: Some(directory::Outcome {
                outcome,
                reason: reason.into(),
            }),
            ..application(instance, None)
        }
    }

    /// One that is not there any more.
    pub(crate) fn ended(instance: &str, end: directory::End, reason: &str) -> targets::Application {
        targets::Application {
            state: directory::State::Ended {
                end,
                at: SystemTime::UNIX_EPOCH,
                reason: reason.into(),
            },
            ..application(instance, None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::sample::{application, ended, pulled};
    use super::*;
    use crate::directory::End;

    fn mixed() -> Vec<targets::Application> {
        vec![
            pulled("a-1", "success", ""),
            pulled("a-2", "timeout", "no answer in 9.5 s"),
            application("b-1", Some("shop")),
            targets::Application {
                superseded: true,
                ..pulled("b-2", "invalid", "")
            },
            ended("c-1", End::Lost, "no KEEPALIVE came in time"),
            ended("c-2", End::Left, "goodbye"),
        ]
    }

    fn instances(query: &str) -> Vec<String> {
        let search = Search::read(Some(query)).expect("a search");
        let found = Found::new(&mixed(), &search).applications.into_iter();
        found.map(|found| found.instance.to_string()).collect()
    }

    #[test]
    fn applications_are_found_by_state_and_words() {
        assert_eq!(instances("").len(), 6);
        for (query, found) in [
            ("state=failing", &["a-2"][..]),
            ("state=connected", &["a-1", "a-2", "b-1"]),
            ("state=superseded", &["b-2"]),
            ("state=lost&q=keepalive", &["c-1"]),
            ("state=left", &["c-2"]),
            ("q=SHOP", &["b-1"]),
            ("q=9.5+timeout", &["a-2"]),
            ("q=no+such", &[]),
            ("per_page=2&page=2", &["b-1", "b-2"]),
            ("per_page=4&page=2", &["c-1", "c-2"]),
            ("page=18446744073709551615", &[]),
        ] {
            assert_eq!(instances(query), found, "{query}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for query in [
            "page=0",
            "page=-1",
            "per_page=0",
            "per_page=1001",
            "per_page=many",
            "state=dead",
            "filter=x",
        ] {
            assert!(Search::read(Some(query)).is_err(), "{query}");
        }
    }

    #[test]
    fn json_says_all_that_is_known() {
        let found = Found::new(&mixed(), &Search::read(Some("q=c-1")).unwrap());
        let json = serde_json::to_value(found).unwrap();
        let expected = serde_json::json!({
            "page": 1, "pages": 1, "per_page": 100, "matching": 1,
            "applications": [{
                "instance": "c-1", "job": null, "state": "lost", "named": "description",
                "client": "rust 0.1.0", "identity": null, "peer": "10.0.0.1:5", "transport": "tcp",
                "node": "host-1:8080", "connected_at": "1970-01-01T00:00:00.000Z",
                "ended": {"at": "1970-01-01T00:00:00.000Z", "reason": "no KEEPALIVE came in time"},
                "last_pull": null, "labels": {},
            }]
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn each_state_is_counted() {
        let counts = Counts {
            connected: 3,
            superseded: 1,
            lost: 1,
            moved: 0,
            left: 1,
        };
        assert_eq!(Counts::of(&mixed()), counts);
    }
}
