//! The pulls of one connection: at most one at a time for each target, and one for all of them.

use std::sync::Arc;
use std::time::Instant;

use prometheus_rsocket_wire::StreamId;
use tokio::sync::oneshot;

use super::keys::Key;
use super::pull::{PullError, PullReply, PullRequest};
use crate::directory::ApplicationId;

/// Pulls of a connection from the question until the answer is opened; past it one is refused as busy. An envelope of
/// version 2 may be overtaken by a hundred others until it is opened, and no more.
pub(super) const MAX_PULLS: usize = 64;

/// The pulls of one connection.
#[derive(Debug, Default)]
pub(super) struct Pulls {
    under_way: Vec<Pull>,
    /// How many have begun.
    begun: u64,
    /// Who waits to be asked for: before the node has made its first key, or while the connection ends.
    held: Vec<PullRequest>,
    /// Each answer that is not opened yet holds it, too.
    unopened: Arc<()>,
}

/// A pull under way.
#[derive(Debug)]
pub(super) struct Pull {
    pub(super) stream: StreamId,
    pub(super) number: u64,
    pub(super) key: Key,
    pub(super) started: Instant,
    target: Option<ApplicationId>,
    deadline: tokio::time::Instant,
    /// Its time is over, which has been told.
    late: bool,
    /// Who began it. As long as this one waits, others may join.
    starter: oneshot::Sender<PullReply>,
    joined: Vec<oneshot::Sender<PullReply>>,
}

/// A pull that is to be begun.
#[derive(Debug)]
pub(super) struct NewPull {
    pub(super) number: u64,
    pub(super) request: PullRequest,
    joined: Vec<oneshot::Sender<PullReply>>,
}

impl Pull {
    /// Whether it is a pull of all targets.
    pub(super) fn is_of_all(&self) -> bool {
        self.target.is_none()
    }

    /// Gives everybody who still waits the same.
    pub(super) fn reply(self, reply: &PullReply) {
        for waiting in std::iter::once(self.starter).chain(self.joined) {
            // Nobody waits for a scrape that gave up meanwhile.
            let _ = waiting.send(reply.clone());
        }
    }

    fn is_abandoned(&self) -> bool {
        self.starter.is_closed() && self.joined.iter().all(oneshot::Sender::is_closed)
    }
}

impl NewPull {
    /// It cannot be begun.
    pub(super) fn fail(self, error: &PullError) {
        for waiting in std::iter::once(self.request.reply).chain(self.joined) {
            let _ = waiting.send(Err(error.clone()));
        }
    }
}

impl Pulls {
    /// Joins the pull of the same target that is under way, or gives the request back.
    pub(super) fn join(&mut self, request: PullRequest) -> Option<PullRequest> {
        let same = |pull: &&mut Pull| pull.target == request.target && !pull.starter.is_closed();
        let Some(pull) = self.under_way.iter_mut().find(same) else {
            return Some(request);
        };
        pull.joined.retain(|reply| !reply.is_closed());
        pull.joined.push(request.reply);
        None
    }

    /// Begins a pull, once [`Self::join`] found none to join, or refuses it. One of the same target whose starter gave up is
    /// begun anew for those who still wait, and to be cancelled: an application that lost a request must not be waited for
    /// as long as scrapes overlap.
    pub(super) fn begin(&mut self, request: PullRequest) -> (Option<NewPull>, Option<Pull>) {
        let mut targets = self.under_way.iter().map(|pull| &pull.target);
        let stale = targets.position(|target| *target == request.target);
        let mut stale = stale.map(|at| self.under_way.swap_remove(at));
        let joined = stale
            .as_mut()
            .map(|stale| std::mem::take(&mut stale.joined));
        let mut new = NewPull {
            number: self.begun,
            request,
            joined: joined.unwrap_or_default(),
        };
        new.joined.retain(|reply| !reply.is_closed());
        if self.under_way.len() + self.unopened() >= MAX_PULLS {
            new.fail(&PullError::Busy);
            return (None, stale);
        }
        self.begun += 1;
        (Some(new), stale)
    }

    /// It is under way on this stream.
    pub(super) fn begun(&mut self, new: NewPull, stream: StreamId, key: Key) {
        let NewPull {
            number,
            request,
            joined,
        } = new;
        self.under_way.push(Pull {
            stream,
            number,
            key,
            started: Instant::now(),
            target: request.target,
            deadline: request.deadline,
            late: false,
            starter: request.reply,
            joined,
        });
    }

    /// Takes out the pull whose answer has come.
    pub(super) fn answered(&mut self, stream: StreamId) -> Option<Pull> {
        let mut streams = self.under_way.iter();
        let at = streams.position(|pull| pull.stream == stream)?;
        Some(self.under_way.swap_remove(at))
    }

    /// Takes out those for whom nobody waits any more.
    pub(super) fn abandoned(&mut self) -> Vec<Pull> {
        self.held.retain(|request| !request.reply.is_closed());
        self.under_way
            .extract_if(.., |pull| pull.is_abandoned())
            .collect()
    }

    /// Whether the time of a pull is over that was begun before; said once of each.
    pub(super) fn are_late(&mut self, now: tokio::time::Instant) -> bool {
        let mut late = false;
        for pull in &mut self.under_way {
            if pull.starter.is_closed() && now >= pull.deadline {
                late |= !std::mem::replace(&mut pull.late, true);
            }
        }
        late
    }

    /// Keeps a request until [`Self::release`], or refuses it.
    pub(super) fn hold(&mut self, request: PullRequest) {
        if self.held.len() < MAX_PULLS {
            self.held.push(request);
        } else {
            let _ = request.reply.send(Err(PullError::Busy));
        }
    }

    /// Those that were kept.
    pub(super) fn release(&mut self) -> Vec<PullRequest> {
        std::mem::take(&mut self.held)
    }

    /// Whether requests are kept.
    pub(super) fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// Whether none is under way.
    pub(super) fn are_none(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Ends them all: the connection is no more.
    pub(super) fn end(self) {
        for pull in self.under_way {
            pull.reply(&Err(PullError::Closed));
        }
    }

    /// To be held by an answer until it is opened.
    pub(super) fn unopened_mark(&self) -> Arc<()> {
        Arc::clone(&self.unopened)
    }

    fn unopened(&self) -> usize {
        Arc::strong_count(&self.unopened) - 1
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot::Receiver;
    use tokio::time::Instant as Clock;

    use super::*;

    fn request(target: Option<&str>) -> (PullRequest, Receiver<PullReply>) {
        let (reply, answer) = oneshot::channel();
        let request = PullRequest {
            target: target.and_then(|target| ApplicationId::new(target, None)),
            deadline: Clock::now() + Duration::from_secs(10),
            reply,
        };
        (request, answer)
    }

    fn stream(number: u32) -> StreamId {
        StreamId::new(number).unwrap()
    }

    /// Asks, on this stream where that begins a pull; whether it does.
    fn ask(pulls: &mut Pulls, target: Option<&str>, on: u32) -> (Receiver<PullReply>, bool) {
        let (request, answer) = request(target);
        let Some(request) = pulls.join(request) else {
            return (answer, false);
        };
        let (new, stale) = pulls.begin(request);
        assert!(stale.is_none());
        let new = new.map(|new| pulls.begun(new, stream(on), Key::Plaintext));
        (answer, new.is_some())
    }

    #[test]
    fn each_target_has_a_pull_of_its_own_which_all_share_that_ask_for_it() {
        let mut pulls = Pulls::default();
        let mut answers = Vec::new();
        let asked = [None, Some("a"), Some("b"), Some("a"), None, Some("a")];
        for ((on, target), begins) in (2..)
            .step_by(2)
            .zip(asked)
            .zip([true, true, true, false, false, false])
        {
            let (answer, begun) = ask(&mut pulls, target, on);
            assert_eq!(begun, begins, "{target:?}");
            answers.push(answer);
        }
        let of_a = pulls.answered(stream(4)).unwrap();
        assert!(!of_a.is_of_all());
        of_a.reply(&Err(PullError::Memory));
        let answered = answers.iter_mut().map(|answer| answer.try_recv().is_ok());
        let answered: Vec<_> = answered.collect();
        assert_eq!(answered, [false, true, false, true, false, true]);
        assert!(pulls.answered(stream(4)).is_none() && !pulls.are_none());
    }

    #[test]
    fn past_the_most_a_pull_is_busy_and_an_answer_counts_until_it_is_opened() {
        let mut pulls = Pulls::default();
        let mut waiting = Vec::new();
        for number in 0..MAX_PULLS as u32 {
            let (answer, begun) = ask(&mut pulls, Some(&number.to_string()), 2 * number + 2);
            assert!(begun);
            waiting.push(answer);
        }
        let busy = |pulls: &mut Pulls| {
            let (mut answer, begun) = ask(pulls, Some("more"), 1000);
            let reply = answer.try_recv().map(|reply| reply.map(drop));
            !begun && reply == Ok(Err(PullError::Busy))
        };
        assert!(busy(&mut pulls));
        // Joining costs nothing.
        assert!(!ask(&mut pulls, Some("0"), 1000).1);
        let unopened = pulls.unopened_mark();
        pulls.answered(stream(2)).unwrap();
        assert!(busy(&mut pulls));
        drop(unopened);
        assert!(!busy(&mut pulls));
    }

    #[test]
    fn a_pull_whose_starter_gave_up_is_begun_anew_for_who_waits() {
        let mut pulls = Pulls::default();
        let (starter, _) = ask(&mut pulls, Some("a"), 2);
        let (mut joined, _) = ask(&mut pulls, Some("a"), 4);
        drop(starter);
        assert!(pulls.abandoned().is_empty());
        let (request, mut newcomer) = request(Some("a"));
        let request = pulls.join(request).expect("none to join");
        let (new, stale) = pulls.begin(request);
        assert_eq!(stale.unwrap().stream, stream(2));
        pulls.begun(new.unwrap(), stream(6), Key::Plaintext);
        pulls
            .answered(stream(6))
            .unwrap()
            .reply(&Err(PullError::Memory));
        assert!(joined.try_recv().is_ok() && newcomer.try_recv().is_ok());
        assert!(pulls.are_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_pull_is_late_once_when_its_time_is_over_for_who_began_it() {
        let mut pulls = Pulls::default();
        let (starter, _) = ask(&mut pulls, None, 2);
        let _joined = ask(&mut pulls, None, 4);
        let late = Clock::now() + Duration::from_secs(10);
        assert!(!pulls.are_late(late), "it waits still");
        drop(starter);
        assert!(!pulls.are_late(Clock::now()), "it gave up early");
        assert!(pulls.are_late(late));
        assert!(!pulls.are_late(late), "that is known");
    }

    #[test]
    fn who_is_held_is_bounded_and_may_give_up() {
        let mut pulls = Pulls::default();
        let mut waiting = Vec::new();
        for _ in 0..MAX_PULLS {
            let (request, answer) = request(None);
            pulls.hold(request);
            waiting.push(answer);
        }
        let (more, mut answer) = request(None);
        pulls.hold(more);
        let refused = answer.try_recv().unwrap().map(drop);
        assert_eq!(refused, Err(PullError::Busy));
        waiting.truncate(1);
        assert!(pulls.abandoned().is_empty());
        assert!(pulls.holds());
        assert_eq!(pulls.release().len(), 1);
    }
}
