//! Whether closing connections is of any use.
//!
//! A sticky balancer brings every connection back to where it was. The applications cannot be told apart through a
//! balancer, so a round is judged by counts: what has come of it, against what would have come of it with a balancer that
//! deals at random, the worst of those with which it is of use.
//!
//! Where few nodes have too many, their own counts fall by nearly all that they close. Where most have too many, what
//! each of them closes comes to the others, and hardly any count falls; what rises are the few that lack connections.
//! So a node looks at the one or the other.

use std::time::{Duration, Instant};

use super::Settings;
use super::overview::Overview;

/// Connections that a random balancer would have moved, before a verdict is given: fewer prove nothing.
const ENOUGH: f64 = 5.0;
/// Closing does not help when less than this part of them moved.
const INEFFECTIVE_BELOW: f64 = 0.5;
/// Verdicts in a row after which a node yields; once it has, the next one is enough.
const PATIENCE: u32 = 2;

/// What a round did.
#[derive(Debug, Clone, Copy)]
pub(super) struct Effect {
    pub(super) shed: usize,
    pub(super) before: Overview,
    pub(super) after: Overview,
}

impl Effect {
    /// Connections that moved to where they are needed: with a random balancer, on average, and in fact.
    fn moves(&self) -> (f64, f64) {
        let Self {
            shed,
            before,
            after,
        } = self;
        let (shed, nodes) = (*shed as f64, before.nodes as f64);
        // The others close as much of their surplus as this node does, and of all that a part comes here.
        let coming = shed * before.lacking / before.surplus().max(1.0) / nodes;
        if coming > shed / 2.0 {
            let expected = shed * before.below as f64 / nodes;
            (expected, before.lacking - after.lacking)
        } else {
            (shed - coming, before.surplus() - after.surplus())
        }
    }
}

/// What a round showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Too little was closed to tell.
    Open,
    /// Connections moved.
    Effective,
    /// They came back.
    Ineffective,
    /// They came back again: nothing is closed for this long.
    Yield(Duration),
}

/// Takes down what rounds bring, and says when to stop.
#[derive(Debug)]
pub(super) struct Guard {
    expected: f64,
    observed: f64,
    /// Verdicts in a row that closing does not help.
    ineffective: u32,
    pause: Duration,
    first_pause: Duration,
    longest_pause: Duration,
    yields_until: Option<Instant>,
}

impl Guard {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            expected: 0.0,
            observed: 0.0,
            ineffective: 0,
            pause: settings.first_pause,
            first_pause: settings.first_pause,
            longest_pause: settings.longest_pause,
            yields_until: None,
        }
    }

    /// Until when nothing is closed, if so.
    pub(super) fn yields_until(&self, now: Instant) -> Option<Instant> {
        self.yields_until.filter(|until| now < *until)
    }

    /// Takes a round into account.
    pub(super) fn judge(&mut self, now: Instant, effect: &Effect) -> Verdict {
        let (expected, observed) = effect.moves();
        self.expected += expected;
        self.observed += observed;
        if self.expected < ENOUGH {
            return Verdict::Open;
        }
        let ineffective = self.observed < self.expected * INEFFECTIVE_BELOW;
        (self.expected, self.observed) = (0.0, 0.0);
        if !ineffective {
            self.ineffective = 0;
            self.pause = self.first_pause;
            self.yields_until = None;
            return Verdict::Effective;
        }
        self.ineffective = self.ineffective.saturating_add(1);
        if self.ineffective < PATIENCE {
            return Verdict::Ineffective;
        }
        let pause = self.pause;
        self.yields_until = Some(now + pause);
        self.pause = (pause * 2).min(self.longest_pause);
        Verdict::Yield(pause)
    }

    /// The node has its share: what had been seen is of no interest any more.
    pub(super) fn rest(&mut self) {
        (self.expected, self.observed) = (0.0, 0.0);
        self.ineffective = 0;
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn guard() -> Guard {
        Guard::new(&Settings::parse_from([""]))
    }

    fn overview(own: usize, others: &[usize]) -> Overview {
        Overview::new(own, others.iter().copied())
    }

    fn effect(shed: usize, before: Overview, after: Overview) -> Effect {
        Effect {
            shed,
            before,
            after,
        }
    }

    #[test]
    fn connections_that_all_come_back_are_noticed_even_if_other_nodes_close_connections() {
        let minute = Duration::from_secs(60);
        for others in [&[0][..], &[100, 100, 100, 100, 0], &[10; 50]] {
            let (mut guard, now) = (guard(), Instant::now());
            let same = effect(40, overview(100, others), overview(100, others));
            assert_eq!(guard.judge(now, &same), Verdict::Ineffective, "{others:?}");
            assert_eq!(guard.judge(now, &same), Verdict::Yield(10 * minute));
            let later = now + 11 * minute;
            assert!(guard.yields_until(now).is_some() && guard.yields_until(later).is_none());
            assert_eq!(guard.judge(later, &same), Verdict::Yield(20 * minute));
        }
    }

    #[test]
    fn what_a_random_balancer_does_is_of_use() {
        let (mut guard, now) = (guard(), Instant::now());
        // Five donors close 12 each; each of the six nodes gets ten of these.
        let before = overview(120, &[120, 120, 120, 120, 0]);
        let after = overview(118, &[118, 118, 118, 118, 10]);
        let first = guard.judge(now, &effect(12, before, after));
        assert_eq!(first, Verdict::Open);
        let again = overview(116, &[116, 116, 116, 116, 20]);
        let second = guard.judge(now, &effect(12, after, again));
        assert_eq!(second, Verdict::Open);
        let third = guard.judge(
            now,
            &effect(12, again, overview(114, &[114, 114, 114, 114, 30])),
        );
        assert_eq!(third, Verdict::Effective);
    }

    #[test]
    fn growth_that_all_nodes_share_does_not_hide_the_effect() {
        let (mut guard, now) = (guard(), Instant::now());
        let before = overview(200, &[100, 100, 100]);
        let after = overview(225, &[140, 140, 140]);
        let verdict = guard.judge(now, &effect(20, before, after));
        assert_eq!(verdict, Verdict::Effective);
        let unmoved = overview(240, &[140, 140, 140]);
        let verdict = guard.judge(now, &effect(20, before, unmoved));
        assert_eq!(verdict, Verdict::Ineffective);
    }

    #[test]
    fn pauses_grow_to_the_longest_and_begin_anew_once_closing_is_of_use() {
        let (mut guard, now) = (guard(), Instant::now());
        let before = overview(100, &[0]);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            if let Verdict::Yield(pause) = guard.judge(now, &effect(40, before, before)) {
                pauses.push(pause.as_secs() / 60);
            }
        }
        assert_eq!(pauses, [10, 20, 40, 80, 120, 120, 120]);
        let moved = overview(80, &[20]);
        assert_eq!(
            guard.judge(now, &effect(40, before, moved)),
            Verdict::Effective
        );
        assert_eq!(guard.yields_until(now), None);
    }
}
