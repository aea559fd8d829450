//! `GET /`: what [`Status`] says, for people who ask why an application is not scraped; `GET /applications`; and
//! `GET /pushes`.
//!
//! They work by links and one form. A script fetches them again and again and puts their parts in place of the old ones.

mod applications;
mod listing;
mod members;
mod pushes;
mod query;
#[cfg(test)]
mod sample;
mod units;

use std::time::SystemTime;

use askama::Template;
use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use tracing::error;

use self::listing::Listing;
use self::query::{Column, Query, is_failure};
use super::Site;
use super::status::{Connection, Gone, Member, Refusal, Status};

/// Nothing from anywhere else, nothing inline, in nobody's frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// What every answer here says.
const HEADERS: [(HeaderName, &str); 4] = [
    (CONTENT_SECURITY_POLICY, POLICY),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    (CACHE_CONTROL, "no-store"),
];

const STYLE: &str = include_str!("../../../templates/status.css");
const SCRIPT: &str = include_str!("../../../templates/status.js");
const ICON: &str = include_str!("../../../templates/status.svg");

/// The page, and what it consists of.
pub(super) fn routes() -> Router<Site> {
    Router::new()
        .route("/", get(page))
        .route("/applications", get(applications::page))
        .route("/pushes", get(pushes::page))
        .route(
            "/status.css",
            get(|| asset("text/css; charset=utf-8", STYLE)),
        )
        .route(
            "/status.js",
            get(|| asset("text/javascript; charset=utf-8", SCRIPT)),
        )
        .route("/status.svg", get(|| asset("image/svg+xml", ICON)))
}

async fn asset(media_type: &'static str, text: &'static str) -> impl IntoResponse {
    (HEADERS, [(CONTENT_TYPE, media_type)], text)
}

async fn page(State(site): State<Site>, RawQuery(query): RawQuery) -> Response {
    let query = Query::parse(query.as_deref().unwrap_or_default());
    answer(render(&Status::of(&site), &query, SystemTime::now()))
}

fn answer(rendered: askama::Result<String>) -> Response {
    match rendered {
        Ok(html) => (HEADERS, Html(html)).into_response(),
        Err(failure) => {
            error!(error = %failure, "cannot write a page");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn render(status: &Status, query: &Query, now: SystemTime) -> askama::Result<String> {
    let failing = |connection: &&Connection| is_failure(connection.outcome());
    let page = Page {
        listing: Listing::new(&status.connections, query),
        failing: status.connections.iter().filter(failing).count(),
        left: listing::gone(&status.left, &query.filter),
        refused: listing::refused(&status.refused, &query.filter),
        status,
        query,
        now,
    };
    page.render()
}

#[derive(Template)]
#[template(path = "status.html")]
struct Page<'a> {
    status: &'a Status,
    query: &'a Query,
    listing: Listing<'a>,
    /// Connections whose last pull brought nothing, whatever is listed.
    failing: usize,
    left: Vec<&'a Gone>,
    refused: Vec<&'a Refusal>,
    now: SystemTime,
}

impl Page<'_> {
    /// The other nodes that a reader can go to.
    fn others(&self) -> impl Iterator<Item = &Member> {
        let others = self.status.members.iter().skip(1);
        others.filter(|member| member.state != "dead")
    }

    /// How much of the fullest node's connections these are, in percent.
    fn share(&self, connections: usize) -> usize {
        let members = self.status.members.iter();
        let most = members.map(|member| member.connections).max();
        connections * 100 / most.unwrap_or_default().max(1)
    }

    /// What the phase of rebalancing means.
    fn rebalancing(&self) -> &'static str {
        match self.status.rebalance.phase {
            "off" => "Turned off.",
            "alone" => "There is no other active node.",
            "settling" => {
                "The members changed recently. Nothing is closed until they have been stable."
            }
            "balanced" => {
                "This node has no more than its share of connections, within the tolerance."
            }
            "shedding" => "This node closes connections so that they reconnect to other nodes.",
            "frozen" => "Connections were closed. This node waits for the effect.",
            "yielding" => "Closed connections came back. Nothing is closed for a while.",
            _ => "",
        }
    }

    fn ago(&self, then: SystemTime) -> String {
        units::ago(then, self.now)
    }
}

/// What a fuzz target enters by.
#[cfg(fuzzing)]
pub(super) fn address_of(query: &str) -> String {
    query::Query::parse(query).address()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::super::status::Drain;
    use super::sample::{agent, connection, gone, member, noon, pulled, refusal, status};
    use super::*;
    use crate::rebalance::Phase;

    fn page(status: &Status, query: &str) -> String {
        let later = noon() + Duration::from_secs(3 * 3600 + 300);
        render(status, &Query::parse(query), later).expect("a page")
    }

    #[test]
    fn an_application_that_is_not_scraped_is_shown_with_the_reason() {
        let connections = vec![
            pulled(0, "success", ""),
            pulled(1, "timeout", "no answer before the scrape's deadline"),
            connection(2),
        ];
        let mut status = status(connections);
        status.left = vec![gone(3, "no KEEPALIVE came in time")];
        let page = page(&status, "");
        for part in [
            "<title>1 failing · host-1:8080",
            "<th scope=\"row\">10.0.0.1:50000</th>",
            "<span class=\"outcome timeout\">timeout</span> no answer before the scrape&#39;s deadline",
            "<span class=\"outcome unpulled\">not pulled yet</span>",
            "97.7 KiB",
            ">3 h 5 min</time>",
            "no KEEPALIVE came in time",
            "<dt>Waiting for a scrape</dt><dd>3</dd>",
        ] {
            assert!(page.contains(part), "{part} in {page}");
        }
    }

    #[test]
    fn the_targets_of_an_agent_that_fail_are_listed_with_the_reason() {
        let status = status(vec![agent(0, 0, ""), agent(1, 25, "answered 404")]);
        let all = page(&status, "");
        for part in [
            "30 of 30 targets</td>",
            "5 of 30 targets<ul",
            "<span class=\"outcome down\">down</span> {instance=&#34;web-19&#34;} answered 404</li>",
            "<li>and 5 more</li>",
        ] {
            assert!(all.contains(part), "{part} in {all}");
        }
        assert!(page(&status, "filter=web-19").contains("1 to 1 of 1"));
    }

    #[test]
    fn what_others_wrote_stays_text() {
        let hostile = "</td><script>alert(1)</script><img src=x onerror=alert(1)>\"'";
        let mut status = status(vec![pulled(1, "error", hostile)]);
        status.connections.push(agent(2, 1, hostile));
        status.left = vec![gone(3, hostile)];
        status.refused = vec![refusal(4, hostile)];
        status.pushes.pushers[0].pusher = hostile.to_owned();
        status.pushes.consumers[0].name = hostile.to_owned();
        status.members.push(member(hostile, 2, "active", 1));
        let address = form_urlencoded::byte_serialize(hostile.as_bytes());
        let query = format!("filter={}", address.collect::<String>());
        for query in ["", &query] {
            let page = page(&status, query);
            assert!(!page.contains("<script>"), "{page}");
            assert!(!page.contains("<img"), "{page}");
            assert!(!page.contains(hostile), "{page}");
            assert_eq!(page.matches("<tbody>").count(), 6, "{page}");
        }
    }

    #[test]
    fn a_disk_that_fails_is_shown_with_its_error() {
        let page = page(&status(Vec::new()), "");
        assert!(
            page.contains("2.0 KiB, 1.0 MiB free, <strong>cannot be written"),
            "{page}"
        );
        assert!(page.contains("last error: No space left on device"));
    }

    #[test]
    fn who_scrapes_pushes_is_listed_and_whether_they_wait_for_it() {
        let page = page(&status(Vec::new()), "");
        assert!(
            page.contains("<th scope=\"row\">10.1.0.9 curl</th>"),
            "{page}"
        );
        assert!(page.contains("not waited for: scraped once"), "{page}");
    }

    #[test]
    fn who_has_most_pushes_and_was_refused_some_is_listed() {
        let page = page(&status(Vec::new()), "");
        let link = "<th scope=\"row\"><a href=\"pushes?filter=backup\">backup</a></th>";
        assert!(page.contains(link), "{page}");
        assert!(page.contains("1 share, 120 backlog, last "), "{page}");
    }

    #[test]
    fn who_was_refused_is_listed_with_the_reason_and_found_by_the_filter() {
        let mut status = status(Vec::new());
        status.refused = vec![refusal(1, "unknown token"), refusal(2, "no SETUP came")];
        let all = page(&status, "");
        assert!(
            all.contains("unknown token") && all.contains("no SETUP came"),
            "{all}"
        );
        assert!(
            all.contains("<span class=\"outcome\">credentials</span>"),
            "{all}"
        );
        let one = page(&status, "filter=192.0.2.1:");
        assert!(
            one.contains("unknown token") && !one.contains("no SETUP came"),
            "{one}"
        );
    }

    #[test]
    fn other_nodes_are_linked_and_the_filter_goes_along() {
        let mut status = status(Vec::new());
        status.members.push(member("host-2:8080", 2, "active", 4));
        status.members.push(member("host-3:8080", 3, "dead", 9));
        let page = page(&status, "filter=10.0.0.9&sort=took");
        assert!(page.contains("No application is connected"), "{page}");
        let link = "href=\"//10.1.0.2:8080/?filter=10.0.0.9\">host-2:8080";
        assert_eq!(page.matches(link).count(), 2, "{page}");
        assert!(!page.contains("//10.1.0.1:8080") && !page.contains("//10.1.0.3:8080"));
        assert!(page.contains("<rect width=\"44\""), "{page}");
    }

    #[test]
    fn a_node_that_starts_says_what_it_waits_for() {
        let mut status = status(Vec::new());
        status.node.state = "starting";
        status.node.waiting_for = Some("key");
        assert!(page(&status, "").contains("is still being made"));
        status.node.waiting_for = Some("peers");
        assert!(page(&status, "").contains("not every other node knows it"));
    }

    #[test]
    fn a_node_that_drains_says_how_far_it_is() {
        let mut status = status(vec![connection(1), connection(2)]);
        status.node.state = "draining";
        status.drain = Some(Drain {
            stage: "moving connections",
            connections: 2,
            deadline: noon(),
        });
        let page = page(&status, "");
        assert!(
            page.contains("Stage: moving connections. Connections left: 2."),
            "{page}"
        );
    }

    #[test]
    fn rebalancing_is_told_in_words_and_where_there_are_others_in_numbers() {
        let mut status = status(Vec::new());
        let alone = page(&status, "");
        assert!(alone.contains("There is no other active node."), "{alone}");
        assert!(!alone.contains("Fair share"), "{alone}");
        status.rebalance.phase = "shedding";
        status.rebalance.target = 33.333;
        status.rebalance.surplus = 20.0;
        status.rebalance.shed = 1234;
        let shedding = page(&status, "");
        for part in [
            "closes connections",
            "<dd>33.3</dd>",
            "<dd>+20.0</dd>",
            "<dd>1,234</dd>",
        ] {
            assert!(shedding.contains(part), "{part} in {shedding}");
        }
        for phase in Phase::ALL {
            status.rebalance.phase = phase.name();
            let rendered = page(&status, "");
            assert!(!rendered.contains("</span> </p>"), "no words for {phase:?}");
        }
    }

    #[test]
    fn rows_follow_the_address() {
        let connections = (0..450).map(|number| pulled(number, "success", ""));
        let status = status(connections.collect());
        let page = page(&status, "sort=took&filter=10.0&page=2");
        assert!(page.contains("201 to 400 of 450"), "{page}");
        assert!(page.contains("aria-sort=\"descending\"><a id=\"sort-took\""));
        assert!(page.contains("href=\"?sort=took&#38;filter=10.0&#38;page=3#connections\""));
        assert!(page.contains("name=\"filter\" value=\"10.0\""));
        assert!(page.contains("<input type=\"hidden\" name=\"sort\" value=\"took\">"));
    }

    #[test]
    fn ten_thousand_connections_make_a_page_of_bounded_size() {
        let connections = (0..10_000).map(|number| pulled(number, "invalid", "line 1, column 5"));
        let status = status(connections.collect());
        for query in ["", "filter=column+10.0&sort=peer&order=desc"] {
            let started = Instant::now();
            let page = page(&status, query);
            println!("{} bytes in {:?}: ?{query}", page.len(), started.elapsed());
            assert!(page.len() < 200_000);
        }
    }
}
