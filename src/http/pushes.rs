//! The pushes that this node holds: chosen here, shown by the page, and as JSON at `GET /api/v1/pushes`. Of their samples
//! nothing is shown but how many there are.

use std::sync::Arc;
use std::time::SystemTime;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use form_urlencoded::Serializer;
use serde::Serialize;

use super::Site;
use super::parameters::{self, Paging, Unreadable};
use super::timestamp::rfc3339;
use crate::push::Pushes;
use crate::store::{Listed, Listing};
use crate::tenant::Tenant;

/// What is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Search {
    /// Who pushed, as it is displayed; empty: everybody.
    pub(super) pusher: String,
    pub(super) paging: Paging,
}

/// One page of what was found, the newest first.
#[derive(Debug, Serialize)]
pub(super) struct Found {
    pub(super) page: usize,
    pub(super) pages: usize,
    pub(super) per_page: usize,
    /// How many pushes all pages have.
    pub(super) matching: usize,
    pub(super) pushes: Vec<Push>,
}

/// A push. The times are those of this node's clock, reckoned from how long it has been held and may be held yet.
#[derive(Debug, Serialize)]
pub(super) struct Push {
    /// The same at every node.
    pub(super) id: String,
    /// The identity, or the address.
    pub(super) pusher: String,
    #[serde(serialize_with = "rfc3339")]
    pub(super) accepted_at: SystemTime,
    #[serde(serialize_with = "rfc3339")]
    pub(super) expires_at: SystemTime,
    pub(super) series: usize,
    pub(super) samples: usize,
    /// As `--push.max-bytes` counts them.
    pub(super) bytes: usize,
    pub(super) state: &'static str,
    /// The node that hands it to scrapes.
    pub(super) owner: Arc<str>,
    /// The consumers that count and have not had it.
    pub(super) waits_for: Vec<String>,
}

/// `GET /api/v1/pushes`
pub(super) async fn pushes(State(site): State<Site>, RawQuery(query): RawQuery) -> Response {
    match Search::read(query.as_deref()) {
        Ok(search) => Json(Found::new(&site.pushes, &search, SystemTime::now())).into_response(),
        Err(unreadable) => unreadable.into(),
    }
}

impl Search {
    /// What the request says.
    fn read(query: Option<&str>) -> Result<Self, Unreadable> {
        let known = ["page", "per_page", "pusher"];
        let [page, per_page, pusher] = parameters::read(query, known)?;
        let paging = Paging::read(page.as_deref(), per_page.as_deref());
        Ok(Self {
            pusher: pusher.unwrap_or_default().into_owned(),
            paging: paging.ok_or(Unreadable::Value("page is from 1, per_page from 1 to 1000"))?,
        })
    }
}

impl Found {
    /// What is found among the pushes held.
    pub(super) fn new(pushes: &Pushes, search: &Search, now: SystemTime) -> Self {
        let Search { pusher, paging } = search;
        let of = match pusher.is_empty() {
            true => Vec::new(),
            false => Tenant::called(pusher),
        };
        let listing = pushes.list(&of, paging.before(), paging.per_page);
        Self::of(&listing, *paging, now)
    }

    /// A page of this listing.
    pub(super) fn of(listing: &Listing, paging: Paging, now: SystemTime) -> Self {
        let pushes = listing.pushes.iter();
        Self {
            page: paging.page,
            pages: paging.pages(listing.matching),
            per_page: paging.per_page,
            matching: listing.matching,
            pushes: pushes.map(|listed| Push::of(listed, now)).collect(),
        }
    }
}

impl Push {
    fn of(listed: &Listed, now: SystemTime) -> Self {
        let acceptor = &listed.push.acceptor;
        Self {
            id: format!(
                "{acceptor}/{}/{}",
                acceptor.generation, listed.push.sequence
            ),
            pusher: listed.pusher.to_string(),
            accepted_at: now.checked_sub(listed.age).unwrap_or(now),
            expires_at: now.checked_add(listed.left).unwrap_or(now),
            series: listed.series,
            samples: listed.samples,
            bytes: listed.bytes,
            state: listed.state.name(),
            owner: Arc::clone(&listed.owner.name),
            waits_for: listed
                .waits_for
                .iter()
                .map(|consumer| consumer.as_str().to_owned())
                .collect(),
        }
    }
}

/// The page of the pushes of one who is called so, seen from the other pages.
pub(super) fn pushes_of(pusher: &str) -> String {
    let mut query = Serializer::for_suffix(String::from("pushes?"), "pushes?".len());
    query.append_pair("filter", pusher).finish()
}

/// Pushes as tests need them.
#[cfg(test)]
pub(super) mod sample {
    use std::time::Duration;

    use super::*;
    use crate::nodes::NodeId;
    use crate::store::{PushId, PushState};

    /// What is held of this pusher: greater numbers are newer.
    pub(in super::super) fn listed(pusher: &str, number: u64, state: PushState) -> Listed {
        Listed {
            push: PushId {
                acceptor: NodeId::new("host-2:8080", 7),
                sequence: number,
            },
            pusher: Tenant::Identity(pusher.into()),
            age: Duration::from_secs(61),
            left: Duration::from_secs(3600 - 61),
            series: 2,
            samples: 1234,
            bytes: 100_000,
            state,
            owner: NodeId::new("host-2:8080", 7),
            waits_for: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::PushState;

    #[test]
    fn json_says_all_but_the_samples() {
        let listing = Listing {
            matching: 101,
            pushes: vec![sample::listed("backup", 17, PushState::Replica)],
        };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(61);
        let paging = Paging::read(Some("2"), None).unwrap();
        let json = serde_json::to_value(Found::of(&listing, paging, now)).unwrap();
        let expected = serde_json::json!({
            "page": 2, "pages": 2, "per_page": 100, "matching": 101,
            "pushes": [{
                "id": "host-2:8080/7/17", "pusher": "backup",
                "accepted_at": "1970-01-01T00:00:00.000Z", "expires_at": "1970-01-01T01:00:00.000Z",
                "series": 2, "samples": 1234, "bytes": 100_000,
                "state": "replica", "owner": "host-2:8080", "waits_for": [],
            }]
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for query in ["page=0", "per_page=1001", "filter=x", "pusher=a&pusher=b"] {
            assert!(Search::read(Some(query)).is_err(), "{query}");
        }
        assert!(Search::read(Some("page=2&per_page=1000&pusher=192.0.2.1")).is_ok());
    }
}
