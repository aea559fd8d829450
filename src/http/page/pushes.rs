//! `GET /pushes`: every push that this node holds, for people who look for one.

use std::time::SystemTime;

use askama::Template;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use form_urlencoded::Serializer;

use super::listing::ROWS;
use super::members::{Nodes, others};
use super::{answer, units};
use crate::http::Site;
use crate::http::parameters::Paging;
use crate::http::pushes::{Found, Push, Search};

pub(super) async fn page(State(site): State<Site>, RawQuery(query): RawQuery) -> Response {
    let now = SystemTime::now();
    let mut search = parse(query.as_deref().unwrap_or_default());
    let mut found = Found::new(&site.pushes, &search, now);
    // Past the last page, the last is meant.
    if search.paging.page > found.pages {
        search.paging.page = found.pages;
        found = Found::new(&site.pushes, &search, now);
    }
    answer(
        Page {
            node: &site.identity.id,
            version: env!("CARGO_PKG_VERSION"),
            found,
            search: &search,
            others: others(&site),
            now,
        }
        .render(),
    )
}

/// Reads the part of an address after the question mark. What makes no sense is as if it were not there.
fn parse(query: &str) -> Search {
    let mut search = Search {
        pusher: String::new(),
        paging: Paging {
            page: 1,
            per_page: ROWS,
        },
    };
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "filter" => value.trim().clone_into(&mut search.pusher),
            "page" => search.paging.page = value.parse().unwrap_or(1).max(1),
            _ => {}
        }
    }
    search
}

#[derive(Template)]
#[template(path = "pushes.html")]
struct Page<'a> {
    node: &'a str,
    version: &'a str,
    search: &'a Search,
    found: Found,
    others: Nodes,
    now: SystemTime,
}

impl Page<'_> {
    fn ago(&self, then: SystemTime) -> String {
        units::ago(then, self.now)
    }

    /// How long it is until then.
    fn until(&self, then: SystemTime) -> String {
        units::ago(self.now, then)
    }

    /// What a state means.
    fn state(&self, push: &Push) -> &'static str {
        match push.state {
            "pending" => "waiting for a scrape",
            "claimed" => "in a scrape",
            "partly_served" => "waiting for a consumer",
            "retained" => "served, retained",
            _ => "replica",
        }
    }

    /// The address of another page, relative to this one.
    fn on_page(&self, page: usize) -> String {
        self.address(&self.search.pusher, page)
    }

    /// The address of one pusher's pushes.
    fn of(&self, pusher: &str) -> String {
        self.address(pusher, 1)
    }

    fn address(&self, pusher: &str, page: usize) -> String {
        let mut address = Serializer::for_suffix(String::from("?"), 1);
        if !pusher.is_empty() {
            address.append_pair("filter", pusher);
        }
        if page > 1 {
            address.append_pair("page", &page.to_string());
        }
        address.finish()
    }

    /// Where the owner shows what it holds; `None` for this node, and for one that is not there.
    fn owner(&self, push: &Push) -> Option<String> {
        let address = self.others.get(&push.owner)?;
        let query = self.address(&push.pusher, 1);
        Some(format!("//{address}/pushes{query}"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::http::pushes::sample::listed;
    use crate::store::{Listing, PushState};

    fn page(listing: &Listing, query: &str) -> String {
        let search = parse(query);
        let now = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(100);
        let page = Page {
            node: "host-1:8080",
            version: "0.1.0",
            found: Found::of(listing, search.paging, now),
            search: &search,
            others: HashMap::from([("host-2:8080".into(), "10.1.0.2:8080".parse().unwrap())]),
            now,
        };
        page.render().unwrap()
    }

    #[test]
    fn a_push_is_shown_with_who_pushed_it_and_what_becomes_of_it() {
        let listing = Listing {
            matching: 201,
            pushes: vec![
                listed("backup & co", 2, PushState::Pending),
                listed("backup & co", 1, PushState::Replica),
            ],
        };
        let all = page(&listing, "filter=backup");
        for part in [
            "1 to 2 of 201",
            "<a href=\"?filter=backup+%26+co\">backup &#38; co</a>",
            ">1 min 1 s</time>",
            ">58 min 59 s</time>",
            "waiting for a scrape</span>",
            "replica</span>",
            "<td class=\"number\">1,234</td>",
            "97.7 KiB",
            "href=\"//10.1.0.2:8080/pushes?filter=backup+%26+co\">host-2:8080",
            "href=\"?filter=backup&#38;page=2\"",
        ] {
            assert!(all.contains(part), "{part} in {all}");
        }
        let none = Listing {
            matching: 0,
            pushes: Vec::new(),
        };
        assert!(page(&none, "").contains("holds no push"));
        assert!(page(&none, "filter=x").contains("No push matches"));
    }

    #[test]
    fn what_others_wrote_stays_text() {
        let hostile = "</td><script>alert(1)</script><img src=x onerror=alert(1)>\"'";
        let listing = Listing {
            matching: 1,
            pushes: vec![listed(hostile, 1, PushState::Pending)],
        };
        let escaped: String = form_urlencoded::byte_serialize(hostile.as_bytes()).collect();
        let page = page(&listing, &format!("filter={escaped}"));
        for part in ["<script>", "<img", hostile] {
            assert!(!page.contains(part), "{part} in {page}");
        }
    }
}
