//! The connections that a reader wants to see, in their order.

use std::cmp::Ordering;
use std::fmt::Write as _;
use std::time::SystemTime;

use super::query::{Column, Order, Query, Show, UNPULLED, rank};
use crate::http::status::{Connection, Gone, Refusal};
use crate::http::words::Words;

/// Rows of one page: what a phone renders without delay.
pub(super) const ROWS: usize = 200;

/// One page of connections.
#[derive(Debug)]
pub(super) struct Listing<'a> {
    pub(super) rows: Vec<&'a Connection>,
    /// How many rows all pages have.
    pub(super) matching: usize,
    /// How many rows come before.
    pub(super) before: usize,
    pub(super) page: usize,
    pub(super) pages: usize,
    pub(super) choices: Vec<Choice>,
}

/// What else may be listed.
#[derive(Debug)]
pub(super) struct Choice {
    pub(super) show: Show,
    /// How many rows that brings.
    pub(super) rows: usize,
}

impl<'a> Listing<'a> {
    pub(super) fn new(connections: &'a [Connection], query: &Query) -> Self {
        let mut words = Words::new(&query.filter);
        let found: Vec<_> = connections
            .iter()
            .filter(|connection| words.are_in(|row| describe(row, connection)))
            .collect();
        let count = |show: Show| {
            found
                .iter()
                .filter(|row| show.includes(row.outcome()))
                .count()
        };
        let choices = Show::all()
            .map(|show| Choice {
                show,
                rows: count(show),
            })
            .filter(|choice| choice.rows > 0 || matches!(choice.show, Show::All | Show::Failing))
            .collect();
        let mut rows = found.clone();
        rows.retain(|row| query.show.includes(row.outcome()));
        sort(&mut rows, query);
        let (matching, pages) = (rows.len(), rows.len().div_ceil(ROWS).max(1));
        let page = query.page.min(pages);
        let before = (page - 1) * ROWS;
        Self {
            rows: rows.into_iter().skip(before).take(ROWS).collect(),
            matching,
            before,
            page,
            pages,
            choices,
        }
    }
}

/// Those that left and contain the filter's words.
pub(super) fn gone<'a>(left: &'a [Gone], filter: &str) -> Vec<&'a Gone> {
    let mut words = Words::new(filter);
    let found = left.iter().filter(|gone| {
        words.are_in(|row| {
            let identity = gone.identity.as_deref().unwrap_or_default();
            write!(
                row,
                "{} {identity} {} {}",
                gone.peer, gone.transport, gone.reason
            )
        })
    });
    found.collect()
}

/// Those that were refused and contain the filter's words.
pub(super) fn refused<'a>(refused: &'a [Refusal], filter: &str) -> Vec<&'a Refusal> {
    let mut words = Words::new(filter);
    let found = refused.iter().filter(|one| {
        words.are_in(|row| {
            write!(
                row,
                "{} {} {} {}",
                one.peer, one.transport, one.exception, one.reason
            )
        })
    });
    found.collect()
}

fn describe(row: &mut String, connection: &Connection) -> std::fmt::Result {
    let (peer, transport) = (connection.peer, connection.transport);
    let identity = connection.identity.as_deref().unwrap_or_default();
    write!(
        row,
        "{peer} {identity} {transport} {}",
        connection.outcome()
    )?;
    if let Some(scrape) = &connection.last_scrape {
        write!(row, " {}", scrape.reason)?;
    }
    for failure in connection
        .targets
        .iter()
        .flat_map(|targets| &targets.failures)
    {
        write!(row, " {} {}", failure.target, failure.reason)?;
    }
    Ok(())
}

/// Those that are equal stay in the order of their connecting.
fn sort(rows: &mut [&Connection], query: &Query) {
    rows.sort_by(|one, other| match query.order {
        Order::Ascending => compare(query.sort, one, other),
        Order::Descending => compare(query.sort, other, one),
    });
}

fn compare(column: Column, one: &Connection, other: &Connection) -> Ordering {
    match column {
        Column::Peer => one.peer.cmp(&other.peer),
        Column::Outcome => rank(one.outcome()).cmp(&rank(other.outcome())),
        // The least time ago first, never last.
        Column::Pulled => other.pulled_at().cmp(&one.pulled_at()),
        Column::Took => one.seconds().total_cmp(&other.seconds()),
        Column::Payload => one.bytes().cmp(&other.bytes()),
        Column::Age => other.connected_at.cmp(&one.connected_at),
        Column::Transport => one.transport.cmp(other.transport),
    }
}

impl Connection {
    /// What its last pull came to.
    pub(super) fn outcome(&self) -> &'static str {
        let scrape = self.last_scrape.as_ref();
        scrape.map_or(UNPULLED, |scrape| scrape.outcome)
    }

    fn pulled_at(&self) -> Option<SystemTime> {
        self.last_scrape.as_ref().map(|scrape| scrape.at)
    }

    fn seconds(&self) -> f64 {
        let scrape = self.last_scrape.as_ref();
        scrape.map_or(0.0, |scrape| scrape.seconds)
    }

    fn bytes(&self) -> usize {
        let scrape = self.last_scrape.as_ref();
        scrape.map_or(0, |scrape| scrape.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::{connection, pulled};
    use super::*;

    fn ids(connections: &[Connection], query: &str) -> Vec<String> {
        let listing = Listing::new(connections, &Query::parse(query));
        let ids = listing.rows.iter().map(|row| row.id.clone());
        ids.collect()
    }

    fn mixed() -> Vec<Connection> {
        vec![
            pulled(0, "success", ""),
            pulled(1, "timeout", "no answer before the scrape's deadline"),
            connection(2),
            pulled(3, "invalid", "line 1, column 5: Bad label name"),
            pulled(4, "success", ""),
        ]
    }

    #[test]
    fn what_is_not_scraped_comes_first_unless_asked_otherwise() {
        assert_eq!(ids(&mixed(), ""), ["3", "1", "2", "0", "4"]);
        assert_eq!(ids(&mixed(), "order=desc"), ["0", "4", "2", "1", "3"]);
    }

    #[test]
    fn the_choices_say_how_many_rows_they_bring() {
        let connections = mixed();
        let choices = |query: &str| {
            let listing = Listing::new(&connections, &Query::parse(query));
            let named = listing.choices.into_iter();
            named
                .map(|choice| (choice.show.name(), choice.rows))
                .collect::<Vec<_>>()
        };
        let all = [
            ("all", 5),
            ("failing", 2),
            ("invalid", 1),
            ("timeout", 1),
            ("unpulled", 1),
            ("success", 2),
        ];
        assert_eq!(choices(""), all);
        assert_eq!(choices("outcome=timeout"), all);
        assert_eq!(
            choices("filter=deadline"),
            [("all", 1), ("failing", 1), ("timeout", 1)]
        );
        assert_eq!(ids(&connections, "outcome=failing"), ["3", "1"]);
        assert_eq!(ids(&connections, "outcome=unpulled"), ["2"]);
    }

    #[test]
    fn a_filter_finds_words_of_the_row_in_any_case_and_order() {
        for (filter, found) in [
            ("10.0.0.1:", &["1"][..]),
            ("NAME+invalid", &["3"]),
            ("success", &["0", "4"]),
            ("websocket", &["3", "1"]),
            ("timeout+invalid", &[]),
        ] {
            assert_eq!(
                ids(&mixed(), &format!("filter={filter}")),
                found,
                "{filter}"
            );
        }
    }

    #[test]
    fn every_column_sorts_both_ways() {
        let mut connections = mixed();
        connections[3].peer = "10.0.0.200:1".parse().unwrap();
        for (column, order) in [
            ("peer", ["0", "1", "2", "4", "3"]),
            ("pulled", ["4", "3", "1", "0", "2"]),
            ("took&order=asc", ["2", "0", "1", "3", "4"]),
            ("payload&order=asc", ["1", "2", "3", "0", "4"]),
            ("age", ["4", "3", "2", "1", "0"]),
            ("transport", ["0", "2", "4", "1", "3"]),
        ] {
            assert_eq!(
                ids(&connections, &format!("sort={column}")),
                order,
                "{column}"
            );
        }
        assert_eq!(
            ids(&connections, "sort=peer&order=desc"),
            ["3", "4", "2", "1", "0"]
        );
    }

    #[test]
    fn pages_hold_every_row_once_and_the_last_one_stands_for_all_beyond() {
        let connections: Vec<_> = (0..450).map(connection).collect();
        let mut seen = Vec::new();
        for page in 1..=3 {
            let query = Query::parse(&format!("sort=age&order=desc&page={page}"));
            let listing = Listing::new(&connections, &query);
            assert_eq!(
                (listing.page, listing.pages, listing.matching),
                (page, 3, 450)
            );
            assert_eq!(listing.before, seen.len());
            seen.extend(listing.rows.iter().map(|row| row.id.clone()));
        }
        let all: Vec<_> = connections.iter().map(|row| row.id.clone()).collect();
        assert_eq!(seen, all);
        let beyond = Listing::new(&connections, &Query::parse("page=99"));
        assert_eq!((beyond.page, beyond.rows.len()), (3, 50));
        let none = Listing::new(&[], &Query::default());
        assert_eq!((none.page, none.pages, none.rows.len()), (1, 1, 0));
    }
}
