//! Which pushes go out in one response: no two that have a series in common, because Prometheus would keep the first
//! sample and drop the others; and of such two the older first.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

use super::PushId;

/// A push that could go out.
pub(super) struct Candidate<'a> {
    pub(super) push: &'a PushId,
    /// The lower, the older it is: see [`super::clock`].
    pub(super) order: u64,
    pub(super) series: &'a [u64],
    pub(super) part: PushPart,
}

/// What part a candidate plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PushPart {
    /// No scrape has served it yet. Unless it has waited for too long, it waits for an older one of another node.
    Fresh { patient: bool },
    /// It has been served and is retained.
    Retained,
    /// No scrape has served it yet, and another node hands it out. Unless it has waited for too long, the node that gets
    /// it is told where it is to wait.
    Elsewhere { patient: bool },
    /// It was lent, and another node said that it is to wait.
    Waiting,
}

/// What comes of the candidates.
#[derive(Debug, Default)]
pub(super) struct Selection {
    /// Go out, oldest first.
    pub(super) chosen: Vec<PushId>,
    /// Wait for another response.
    pub(super) deferred: Vec<PushId>,
    /// Retained, and replaced by newer ones.
    pub(super) replaced: Vec<PushId>,
    /// Of other nodes, and not to go out yet.
    pub(super) waiting: Vec<PushId>,
    /// Of `chosen`, those before which an older one of another node should have gone.
    pub(super) overtaking: usize,
}

/// Series of pushes: millions, looked at under the store's lock.
pub(super) type SeriesSet = HashSet<u64, BuildHasherDefault<HashedAlready>>;

/// What is known of series.
pub(super) type SeriesMap = HashMap<u64, u64, BuildHasherDefault<HashedAlready>>;

/// A series is a hash already, by a key that applications do not know ([`super::Content::series`]).
#[derive(Default)]
pub(super) struct HashedAlready(u64);

impl Hasher for HashedAlready {
    fn write_u64(&mut self, series: u64) {
        self.0 = series;
    }

    /// Half a series. A map looks at both ends of a hash.
    fn write_u32(&mut self, half: u32) {
        self.0 = u64::from(half) << 32 | u64::from(half);
    }

    /// Keys of those types call the above alone; this is right for other keys.
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Takes all of `candidates`, no two of which have a series in common.
pub(super) fn take_all(mut candidates: Vec<Candidate<'_>>) -> Selection {
    oldest_first(&mut candidates);
    let pushes = candidates.iter().map(|candidate| candidate.push.clone());
    Selection {
        chosen: pushes.collect(),
        ..Selection::default()
    }
}

/// Chooses among `candidates`. What has not been served before and has one of the `busy` series waits: a response that is
/// under way brings them, and Prometheus would drop whatever of the two it takes in second as out of order.
pub(super) fn select(mut candidates: Vec<Candidate<'_>>, busy: SeriesSet) -> Selection {
    if let [only] = &candidates[..]
        && matches!(only.part, PushPart::Fresh { .. } | PushPart::Retained)
        && busy.is_empty()
    {
        return take_all(candidates);
    }
    oldest_first(&mut candidates);
    let common = common(&candidates, &busy);
    let mut selection = Selection::default();
    let mut chosen = vec![false; candidates.len()];
    let taken = select_pending(&candidates, &common, busy, &mut selection, &mut chosen);
    select_retained(&candidates, &common, taken, &mut selection, &mut chosen);
    let order = candidates.iter().zip(chosen);
    selection.chosen = order
        .filter(|(_, chosen)| *chosen)
        .map(|(candidate, _)| candidate.push.clone())
        .collect();
    selection
}

fn oldest_first(candidates: &mut [Candidate<'_>]) {
    candidates.sort_by_key(|candidate| (candidate.order, candidate.push));
}

/// The series that two have: only these matter, and there are few as a rule.
fn common(candidates: &[Candidate<'_>], busy: &SeriesSet) -> SeriesSet {
    let series = candidates.iter().map(|candidate| candidate.series.len());
    let all = series.sum::<usize>() + busy.len();
    let mut seen = SeriesSet::with_capacity_and_hasher(all, BuildHasherDefault::new());
    seen.extend(busy);
    let series = candidates.iter().flat_map(|candidate| candidate.series);
    series.filter(|one| !seen.insert(**one)).copied().collect()
}

/// Oldest first, so that a deferred push is the first of its series the next time. Gives the series of what goes out.
fn select_pending(
    candidates: &[Candidate<'_>],
    common: &SeriesSet,
    mut waiting: SeriesSet,
    selection: &mut Selection,
    chosen: &mut [bool],
) -> SeriesSet {
    let mut taken = SeriesSet::default();
    let mut elsewhere = SeriesSet::default();
    for (candidate, chosen) in candidates.iter().zip(chosen) {
        let series = || candidate.series.iter().filter(|one| common.contains(one));
        // A push behind a deferred one of the same series must not overtake it.
        let blocked = series().any(|one| taken.contains(one) || waiting.contains(one));
        let behind = series().any(|one| elsewhere.contains(one));
        let waits = |patient: bool| blocked || (behind && patient);
        match candidate.part {
            PushPart::Retained => {}
            PushPart::Elsewhere { patient } => {
                if patient && (blocked || behind) {
                    selection.waiting.push(candidate.push.clone());
                }
                elsewhere.extend(series());
            }
            PushPart::Fresh { patient } if !waits(patient) => {
                taken.extend(series());
                *chosen = true;
                selection.overtaking += usize::from(behind);
            }
            PushPart::Fresh { .. } | PushPart::Waiting => {
                waiting.extend(series());
                selection.deferred.push(candidate.push.clone());
            }
        }
    }
    taken
}

/// Newest first: what a newer push brought again is over.
fn select_retained(
    candidates: &[Candidate<'_>],
    common: &SeriesSet,
    mut taken: SeriesSet,
    selection: &mut Selection,
    chosen: &mut [bool],
) {
    let newest_first = candidates.iter().zip(chosen).rev();
    let retained = newest_first.filter(|(candidate, _)| candidate.part == PushPart::Retained);
    for (candidate, chosen) in retained {
        let series = || candidate.series.iter().filter(|one| common.contains(one));
        if series().any(|one| taken.contains(one)) {
            selection.replaced.push(candidate.push.clone());
        } else {
            taken.extend(series());
            *chosen = true;
        }
    }
}
