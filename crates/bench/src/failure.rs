//! What goes wrong in a run, counted by kind.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

/// What did not happen as it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// No connection could be made.
    Connect,
    /// The proxy sent no key in time, or none that can be used.
    Key,
    /// The proxy, or the way to it, ended an application's connection.
    Lost,
    /// A text could not be rendered.
    Render,
    /// A text could not be sealed.
    Seal,
    /// A scrape failed, or was not whole in time.
    Scrape,
    /// An application that is connected is missing from a scrape.
    Missing,
    /// The proxy refused a push.
    PushRefused,
    /// A push was not acknowledged in time, or its connection ended before.
    PushUnacknowledged,
    /// A push was acknowledged, and the scrape after it did not have it.
    PushLost,
}

impl FailureKind {
    /// In words, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "not connected",
            Self::Key => "no key",
            Self::Lost => "connection lost",
            Self::Render => "not rendered",
            Self::Seal => "not sealed",
            Self::Scrape => "scrape failed",
            Self::Missing => "application missing from a scrape",
            Self::PushRefused => "push refused",
            Self::PushUnacknowledged => "push not acknowledged",
            Self::PushLost => "push acknowledged and lost",
        }
    }
}

/// One thing that went wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct LoadFailure {
    /// Of which kind.
    pub kind: FailureKind,
    /// What was said about it.
    pub reason: String,
}

impl LoadFailure {
    /// Of this kind, for this reason.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "an error is handed over as it comes"
    )]
    pub fn new(kind: FailureKind, reason: impl ToString) -> Self {
        Self {
            kind,
            reason: reason.to_string(),
        }
    }
}

/// How often a kind of failure happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Count {
    /// How often.
    pub count: usize,
    /// The reason the first time.
    pub first: String,
}

/// All failures of a run: a count and one reason for each kind, however many there are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Failures(BTreeMap<FailureKind, Count>);

impl Failures {
    /// Counts one failure.
    pub fn add(&mut self, failure: LoadFailure) {
        self.add_times(failure, 1);
    }

    /// Counts a failure that happened so many times at once.
    pub fn add_times(&mut self, failure: LoadFailure, times: usize) {
        let first = failure.reason;
        let count = self
            .0
            .entry(failure.kind)
            .or_insert(Count { count: 0, first });
        count.count += times;
    }

    /// Whether nothing went wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each kind that happened.
    pub fn iter(&self) -> impl Iterator<Item = (FailureKind, &Count)> {
        self.0.iter().map(|(kind, count)| (*kind, count))
    }
}

/// One line: how often what.
impl fmt::Display for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (kind, count)) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(f, "{comma}{} × {}", count.count, kind.name())?;
        }
        Ok(())
    }
}
