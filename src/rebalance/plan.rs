//! How many connections to close, and when: values in, the time among them, and values out.

use std::time::{Duration, Instant};

use super::Settings;
use super::guard::{Effect, Guard, Verdict};
use super::overview::Overview;

/// Of the way from the mean to where it begins, a node goes on until so much is left: to mean × 1.05 where it begins at
/// mean × 1.2. Having begun, it does not stop at the first that moves; and it does not strive for what nobody can keep.
const STOP_AT: f64 = 0.25;
/// Of a surplus, what one round closes. Gossip may be late, and connections on their way.
const ROUND_SHARE: f64 = 0.5;
/// Between two looks at the counts while there is nothing to do.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// What may be closed is not saved up for longer than this: no burst follows a time in which nothing could be closed.
const BURST: Duration = Duration::from_secs(1);

/// What a node knows at a moment.
#[derive(Debug, Clone, Copy)]
pub struct View {
    /// The active nodes and their connections.
    pub overview: Overview,
    /// Since when members and their states have been what they are; `None` while somebody starts or leaves.
    pub settled_since: Option<Instant>,
    /// Connections that were opened on this node, ever.
    pub opened: u64,
}

/// What rebalancing is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// There is no other active node.
    Alone,
    /// The members or their states changed lately.
    Settling,
    /// This node does not have too many connections.
    Balanced,
    /// A round: connections are closed.
    Shedding,
    /// After a round: what came of it is not known yet.
    Frozen,
    /// What is closed comes back: nothing is closed for a while.
    Yielding,
}

impl Phase {
    /// Every phase.
    pub const ALL: [Self; 6] = [
        Self::Alone,
        Self::Settling,
        Self::Balanced,
        Self::Shedding,
        Self::Frozen,
        Self::Yielding,
    ];

    /// The word in status, metrics and log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Alone => "alone",
            Self::Settling => "settling",
            Self::Balanced => "balanced",
            Self::Shedding => "shedding",
            Self::Frozen => "frozen",
            Self::Yielding => "yielding",
        }
    }
}

/// A turn that rebalancing takes, for the log.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Turn {
    /// The node has too many connections and begins to close some.
    Begun,
    /// It has its share; so many were closed since it began.
    Done {
        /// Connections closed.
        shed: u64,
    },
    /// What it closed came back.
    Ineffective,
    /// That again: it stops for so long.
    Yielding {
        /// How long.
        pause: Duration,
    },
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Step {
    /// Connections to close; how many were is to be said by [`Plan::closed`].
    pub close: usize,
    /// What is new.
    pub turn: Option<Turn>,
}

/// What has been done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Connections closed.
    pub shed: u64,
    /// Connections opened on this node from the beginning of a round to the end of its freeze, of each round no more
    /// than it closed. Which of them had been closed here cannot be told.
    pub came_back: u64,
    /// Rounds that closed something.
    pub rounds: u64,
    /// Verdicts that closing did not help.
    pub ineffective: u64,
    /// Times that it stopped for a while because of these.
    pub yields: u64,
}

/// Decides for one node.
#[derive(Debug)]
pub struct Plan {
    settings: Settings,
    stage: Stage,
    /// What was closed since the node had too many connections; `None` while it does not.
    episode: Option<u64>,
    guard: Guard,
    tally: Tally,
    looked_at: Option<Instant>,
}

#[derive(Debug)]
enum Stage {
    Idle(Phase),
    Shedding(Round),
    Frozen(Round, Instant),
}

#[derive(Debug, Clone, Copy)]
struct Round {
    before: Overview,
    opened_before: u64,
    quota: usize,
    shed: usize,
    /// Connections in a second.
    rate: f64,
    ends: Instant,
    /// What may be closed by now.
    allowance: f64,
    paced_at: Instant,
}

impl Plan {
    /// Nothing is known yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            stage: Stage::Idle(Phase::Settling),
            episode: None,
            guard: Guard::new(&settings),
            tally: Tally::default(),
            looked_at: None,
            settings,
        }
    }

    /// What it is doing.
    pub fn phase(&self) -> Phase {
        match self.stage {
            Stage::Idle(phase) => phase,
            Stage::Shedding(_) => Phase::Shedding,
            Stage::Frozen(..) => Phase::Frozen,
        }
    }

    /// What it has done.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Whether the next [`step`](Self::step) at this time would look at the counts; those of before do otherwise.
    pub fn looks(&self, now: Instant) -> bool {
        let due = |at: Instant| now >= at + LOOK_EVERY;
        match &self.stage {
            Stage::Idle(_) => self.looked_at.is_none_or(due),
            Stage::Shedding(_) => false,
            Stage::Frozen(_, until) => now >= *until,
        }
    }

    /// What to do now. To be asked several times a second.
    pub fn step(&mut self, now: Instant, view: &View) -> Step {
        if let Some(phase) = self.obstacle(now, view) {
            // What came of a round that is cut short here cannot be told from what else happens.
            self.stage = Stage::Idle(phase);
            self.episode = None;
            return Step::default();
        }
        match self.stage {
            Stage::Idle(_) if self.looks(now) => self.look(now, view),
            Stage::Shedding(round) => self.shed(now, round),
            Stage::Frozen(round, until) if now >= until => self.conclude(now, round, view),
            Stage::Idle(_) | Stage::Frozen(..) => Step::default(),
        }
    }

    /// So many connections have been closed as the last step said, or fewer where fewer were fit for it.
    pub fn closed(&mut self, connections: usize) {
        if let Stage::Shedding(round) = &mut self.stage {
            round.shed += connections;
            round.allowance -= connections as f64;
        }
        self.tally.shed += connections as u64;
        if let Some(shed) = &mut self.episode {
            *shed += connections as u64;
        }
    }

    fn obstacle(&self, now: Instant, view: &View) -> Option<Phase> {
        let settled = view
            .settled_since
            .is_some_and(|since| now >= since + self.settings.settle_time);
        if view.overview.nodes < 2 {
            Some(Phase::Alone)
        } else if !settled {
            Some(Phase::Settling)
        } else {
            self.guard.yields_until(now).map(|_| Phase::Yielding)
        }
    }

    /// Begins a round if there is need.
    fn look(&mut self, now: Instant, view: &View) -> Step {
        self.looked_at = Some(now);
        let begins = self.episode.is_none();
        if self.has_its_share(&view.overview) {
            self.stage = Stage::Idle(Phase::Balanced);
            self.guard.rest();
            let turn = self.episode.take().map(|shed| Turn::Done { shed });
            return Step { close: 0, turn };
        }
        self.episode.get_or_insert(0);
        self.stage = Stage::Shedding(self.round(now, view));
        Step {
            close: 0,
            turn: begins.then_some(Turn::Begun),
        }
    }

    /// Whether there is nothing to close: less above the mean than makes a node begin, or once it has, than makes it stop.
    fn has_its_share(&self, overview: &Overview) -> bool {
        let Settings {
            tolerance,
            min_surplus,
            ..
        } = self.settings;
        let target = overview.target;
        let limit = if self.episode.is_some() {
            target + (target * (tolerance - 1.0) * STOP_AT).max(1.0)
        } else {
            (target * tolerance).max(target + min_surplus as f64)
        };
        overview.own as f64 <= limit
    }

    fn round(&self, now: Instant, view: &View) -> Round {
        let Settings {
            max_rate,
            spread,
            min_connection_age,
            ..
        } = self.settings;
        let seconds = spread.as_secs_f64();
        let surplus = view.overview.surplus() * ROUND_SHARE;
        let most = view.overview.own as f64 * max_rate * seconds;
        let quota = surplus.min(most).ceil().max(1.0);
        Round {
            before: view.overview,
            opened_before: view.opened,
            quota: quota as usize,
            shed: 0,
            rate: quota / seconds,
            // Two scrape intervals: every connection is scraped meanwhile, and may be closed after that.
            ends: now + spread.max(min_connection_age),
            allowance: 1.0,
            paced_at: now,
        }
    }

    fn shed(&mut self, now: Instant, mut round: Round) -> Step {
        let left = round.quota.saturating_sub(round.shed);
        if left == 0 || now >= round.ends {
            self.stage = if round.shed == 0 {
                Stage::Idle(Phase::Shedding)
            } else {
                Stage::Frozen(round, now + self.settings.freeze)
            };
            return Step::default();
        }
        let passed = now.duration_since(round.paced_at).min(BURST);
        let most = (round.rate * BURST.as_secs_f64()).max(1.0);
        round.allowance = (round.allowance + round.rate * passed.as_secs_f64()).min(most);
        round.paced_at = now;
        self.stage = Stage::Shedding(round);
        Step {
            close: left.min(round.allowance as usize),
            turn: None,
        }
    }

    /// The end of a freeze: takes the round into account, and looks whether there is to be another.
    fn conclude(&mut self, now: Instant, round: Round, view: &View) -> Step {
        let opened = view.opened.saturating_sub(round.opened_before);
        self.tally.came_back += opened.min(round.shed as u64);
        self.tally.rounds += 1;
        let verdict = self.guard.judge(
            now,
            &Effect {
                shed: round.shed,
                before: round.before,
                after: view.overview,
            },
        );
        match verdict {
            Verdict::Open | Verdict::Effective => self.look(now, view),
            Verdict::Ineffective => {
                self.tally.ineffective += 1;
                let step = self.look(now, view);
                let turn = step.turn.or(Some(Turn::Ineffective));
                Step { turn, ..step }
            }
            Verdict::Yield(pause) => {
                self.tally.ineffective += 1;
                self.tally.yields += 1;
                self.stage = Stage::Idle(Phase::Yielding);
                self.episode = None;
                Step {
                    close: 0,
                    turn: Some(Turn::Yielding { pause }),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    /// A node whose plan is asked, and followed, four times a second.
    struct Node {
        plan: Plan,
        now: Instant,
        settled_since: Option<Instant>,
        own: usize,
        others: Vec<usize>,
        opened: u64,
    }

    impl Node {
        /// In a cluster that has been settled for an hour.
        fn new(own: usize, others: &[usize]) -> Self {
            let start = Instant::now();
            Self {
                plan: Plan::new(Settings::parse_from([""])),
                now: start + Duration::from_secs(3600),
                settled_since: Some(start),
                own,
                others: others.to_vec(),
                opened: own as u64,
            }
        }

        fn step(&mut self) -> Step {
            let overview = Overview::new(self.own, self.others.iter().copied());
            let view = View {
                overview,
                settled_since: self.settled_since,
                opened: self.opened,
            };
            let step = self.plan.step(self.now, &view);
            self.now += Duration::from_millis(250);
            step
        }

        /// How many connections it closes in this time; they all go to the last of the others.
        fn pass(&mut self, seconds: u64) -> usize {
            let mut closed = 0;
            for _ in 0..seconds * 4 {
                let close = self.step().close;
                self.plan.closed(close);
                self.own -= close;
                if let Some(last) = self.others.last_mut() {
                    *last += close;
                }
                closed += close;
            }
            closed
        }
    }

    #[test]
    fn it_begins_above_both_thresholds_only() {
        for (own, others, begins) in [
            (120, &[90, 90][..], false),
            (121, &[89, 90], true),
            (30, &[10], false),
            (32, &[10], true),
            (5, &[200], false),
            (7, &[0], false),
        ] {
            let mut node = Node::new(own, others);
            assert_eq!(node.pass(20) > 0, begins, "{own} {others:?}");
        }
        assert_eq!(Node::new(1_000, &[]).pass(60), 0);
    }

    #[test]
    fn having_begun_it_goes_on_until_it_is_near_the_mean() {
        let mut node = Node::new(300, &[150, 0]);
        node.pass(600);
        assert_eq!(node.plan.phase(), Phase::Balanced);
        assert!((150..=157).contains(&node.own), "{}", node.own);
        // Not far enough away to begin again.
        node.own = 175;
        assert_eq!(node.pass(60), 0);
    }

    #[test]
    fn a_round_closes_half_the_surplus_and_never_faster_than_allowed() {
        let mut node = Node::new(1_200, &[900, 900]);
        assert_eq!(node.pass(14), 0, "exactly at the tolerance");
        node.own = 1_210;
        assert_eq!(node.pass(14), 104);
        let mut node = Node::new(10_000, &[0]);
        let first = node.pass(1);
        assert!((75..=200).contains(&first), "{first} in a second");
        assert_eq!(first + node.pass(12), 1_000);
    }

    #[test]
    fn after_a_round_it_waits_for_what_comes_of_it() {
        let mut node = Node::new(400, &[0]);
        while node.plan.phase() != Phase::Frozen {
            node.pass(1);
        }
        assert_eq!(node.pass(4), 0);
        assert!(node.pass(4) > 0);
    }

    #[test]
    fn it_stops_at_once_when_the_cluster_changes_and_until_it_is_settled_again() {
        let mut node = Node::new(10_000, &[0]);
        assert!(node.pass(5) > 0);
        node.settled_since = None;
        assert_eq!(node.pass(60), 0);
        assert_eq!(node.plan.phase(), Phase::Settling);
        node.settled_since = Some(node.now);
        assert_eq!(node.pass(29), 0);
        assert!(node.pass(5) > 0);
    }

    #[test]
    fn what_could_not_be_closed_is_not_made_up_for_in_a_burst() {
        let mut node = Node::new(10_000, &[0]);
        for _ in 0..80 {
            node.step();
        }
        let close = node.step().close;
        assert!((1..=100).contains(&close), "{close}");
    }

    #[test]
    fn it_yields_where_everything_comes_back() {
        let mut node = Node::new(400, &[0]);
        let mut turns = Vec::new();
        for _ in 0..4 * 300 {
            let step = node.step();
            node.plan.closed(step.close);
            node.opened += step.close as u64;
            turns.extend(step.turn);
        }
        let pause = Duration::from_secs(600);
        assert_eq!(
            turns,
            [Turn::Begun, Turn::Ineffective, Turn::Yielding { pause }]
        );
        let tally = node.plan.tally();
        assert_eq!(tally.shed, tally.came_back);
        assert_eq!((tally.rounds, tally.yields), (2, 1));
        assert_eq!(node.plan.phase(), Phase::Yielding);
    }
}
