//! `GET /applications`: every application of the cluster, for people who look for one by name.

use std::time::SystemTime;

use askama::Template;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use form_urlencoded::Serializer;

use super::listing::ROWS;
use super::members::{Nodes, others};
use super::{answer, units};
use crate::http::Site;
use crate::http::applications::{Application, Choice, Found, Search};
use crate::http::parameters::Paging;

pub(super) async fn page(State(site): State<Site>, RawQuery(query): RawQuery) -> Response {
    let search = parse(query.as_deref().unwrap_or_default());
    let found = found(&site.targets.applications(), search.clone());
    answer(
        Page {
            node: &site.identity.id,
            version: env!("CARGO_PKG_VERSION"),
            found,
            search: &search,
            others: others(&site),
            now: SystemTime::now(),
        }
        .render(),
    )
}

/// Reads the part of an address after the question mark. What makes no sense is as if it were not there.
fn parse(query: &str) -> Search {
    let mut search = Search {
        choice: Choice::All,
        filter: String::new(),
        paging: Paging {
            page: 1,
            per_page: ROWS,
        },
    };
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "state" => search.choice = Choice::named(&value).unwrap_or(Choice::All),
            "filter" => value.trim().clone_into(&mut search.filter),
            "page" => search.paging.page = value.parse().unwrap_or(1).max(1),
            _ => {}
        }
    }
    search
}

/// Past the last page, the last is meant.
fn found(applications: &[crate::targets::Application], mut search: Search) -> Found {
    let found = Found::new(applications, &search);
    if search.paging.page <= found.pages {
        return found;
    }
    search.paging.page = found.pages;
    Found::new(applications, &search)
}

#[derive(Template)]
#[template(path = "applications.html")]
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

    /// How many there are of those that fail.
    fn failing(&self) -> usize {
        let mut choices = self.found.choices.iter();
        let failing = choices.find(|(choice, _)| *choice == Choice::Failing);
        failing.map_or(0, |(_, number)| *number)
    }

    /// The choices that bring something, and those that are always there.
    fn choices(&self) -> impl Iterator<Item = &(Choice, usize)> {
        let choices = self.found.choices.iter();
        choices.filter(|(choice, number)| {
            *number > 0 || matches!(choice, Choice::All | Choice::Failing)
        })
    }

    /// How many rows come before.
    fn before(&self) -> usize {
        (self.found.page - 1) * self.found.per_page
    }

    /// The address of another choice.
    fn showing(&self, choice: Choice) -> String {
        self.address(choice, 1)
    }

    /// The address of another page.
    fn on_page(&self, page: usize) -> String {
        self.address(self.search.choice, page)
    }

    /// Relative to this page, so that a proxy in front may serve it under another path.
    fn address(&self, choice: Choice, page: usize) -> String {
        let mut address = Serializer::for_suffix(String::from("?"), 1);
        if choice != Choice::All {
            address.append_pair("state", choice.name());
        }
        if !self.search.filter.is_empty() {
            address.append_pair("filter", &self.search.filter);
        }
        if page > 1 {
            address.append_pair("page", &page.to_string());
        }
        address.finish()
    }

    /// Where an application's node shows its connection; `None` for a node that is not there.
    fn connection(&self, application: &Application) -> Option<String> {
        let mut query = Serializer::new(String::new());
        query.append_pair("filter", &application.peer);
        let query = query.finish();
        if *application.node == *self.node {
            return Some(format!("./?{query}"));
        }
        let address = self.others.get(&application.node)?;
        Some(format!("//{address}/?{query}"))
    }

    /// The address of an application's own samples.
    fn samples(&self, application: &Application) -> String {
        let job = application.job.as_deref();
        let job = job.map(|job| format!("?job={}", escaped(job)));
        format!(
            "metrics/app/{}{}",
            escaped(&application.instance),
            job.unwrap_or_default()
        )
    }
}

/// As part of a path or a query.
fn escaped(text: &str) -> String {
    let escaped: String = form_urlencoded::byte_serialize(text.as_bytes()).collect();
    escaped.replace('+', "%20")
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::directory::End;
    use crate::http::applications::sample::{application, ended, pulled};
    use crate::targets;

    fn page(applications: &[targets::Application], query: &str) -> String {
        let search = parse(query);
        let page = Page {
            node: "host-1:8080",
            version: "0.1.0",
            found: found(applications, search.clone()),
            search: &search,
            others: HashMap::from([("host-2:8080".into(), "10.1.0.2:8080".parse().unwrap())]),
            now: SystemTime::UNIX_EPOCH,
        };
        page.render().unwrap()
    }

    #[test]
    fn an_application_is_shown_with_its_state_and_the_reason() {
        let mut elsewhere = application("b 1/2+3", Some("shop"));
        elsewhere.node = crate::nodes::NodeId::new("host-2:8080", 2);
        let applications = [
            pulled("a-1", "timeout", "no answer in 9.5 s"),
            elsewhere,
            ended("c-1", End::Lost, "no KEEPALIVE came in time"),
        ];
        let all = page(&applications, "");
        for part in [
            "<title>1 failing · Applications",
            "<th scope=\"row\"><a href=\"metrics/app/a-1\">a-1</a>",
            "<span class=\"outcome timeout\">timeout</span> no answer in 9.5 s",
            "href=\"metrics/app/b%201%2F2%2B3?job=shop\"",
            "href=\"//10.1.0.2:8080/?filter=10.0.0.1%3A5\">host-2:8080",
            "href=\"./?filter=10.0.0.1%3A5\">host-1:8080",
            "<span class=\"state lost\">lost</span> no KEEPALIVE came in time",
            "rust 0.1.0",
        ] {
            assert!(all.contains(part), "{part} in {all}");
        }
        let failing = page(&applications, "state=failing");
        assert!(failing.contains("1 to 1 of 1"), "{failing}");
        assert!(page(&applications, "filter=shop").contains("1 to 1 of 1"));
        assert!(page(&[], "").contains("No application is known"));
    }

    #[test]
    fn what_others_wrote_stays_text() {
        let hostile = "</td><script>alert(1)</script><img src=x onerror=alert(1)>\"'";
        let applications = [
            pulled(hostile, "invalid", hostile),
            application("a", Some(hostile)),
            ended("b", End::Lost, hostile),
        ];
        let escaped: String = form_urlencoded::byte_serialize(hostile.as_bytes()).collect();
        for query in ["", &format!("filter={escaped}")] {
            let page = page(&applications, query);
            for part in ["<script>", "<img", hostile] {
                assert!(!page.contains(part), "{part} in {page}");
            }
        }
    }

    #[test]
    fn ten_thousand_applications_make_a_page_of_bounded_size() {
        let name = |number| format!("application-{number:05}");
        let applications: Vec<_> = (0..10_000)
            .map(|number| pulled(&name(number), "success", ""))
            .collect();
        let first = page(&applications, "");
        assert!(first.len() < 200_000, "{}", first.len());
        assert!(first.contains("1 to 200 of 10,000") && first.contains("Page 1 of 50"));
        let last = page(&applications, "page=99");
        assert!(last.contains("9,801 to 10,000 of 10,000"), "{last}");
        assert!(page(&applications, "filter=09999").contains("1 to 1 of 1"));
    }

    #[test]
    fn what_makes_no_sense_is_as_if_it_were_not_there() {
        for query in ["", "&&=&", "state=fine&page=-1&color=blue", "page=0"] {
            assert_eq!(parse(query), parse(""), "{query}");
        }
    }
}
