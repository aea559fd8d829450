//! Who the application of one connection is, told to the directory whenever that changes.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use super::ConnectionId;
use super::described::Described;
use super::naming::{Facts, Text};
use super::opener::Opened;
use crate::directory::{ApplicationId, End, Named, Outcome, SharedDirectory, Target};
use crate::identity::{Identity, Table};

/// The outcome of a pull that brought a text.
const SUCCESS: &str = "success";

/// Who the application of a connection is. The directory hears of it in order, and nothing after the end.
pub(super) struct Known {
    connection: ConnectionId,
    directory: Arc<SharedDirectory>,
    state: Mutex<State>,
}

struct State {
    facts: Facts,
    speaks_for: SpeaksFor,
    /// Their names are its own words, so that it knows who is meant by one.
    described: bool,
    /// Of several, those whose last pull failed.
    failing: HashSet<ApplicationId>,
    ended: bool,
}

/// For whom a connection speaks.
enum SpeaksFor {
    /// That is not known yet, or nobody.
    Nobody,
    One(ApplicationId),
    Several,
}

impl SpeaksFor {
    fn new(targets: &[Target]) -> Self {
        match targets {
            [] => Self::Nobody,
            [one] => Self::One(one.id.clone()),
            _ => Self::Several,
        }
    }

    /// Whose pull it was: of one of them, or of all (`None`).
    fn whose<'a>(&'a self, target: Option<&'a ApplicationId>) -> Option<&'a ApplicationId> {
        match self {
            Self::Nobody => None,
            Self::One(id) => target.is_none_or(|target| target == id).then_some(id),
            Self::Several => target,
        }
    }
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Known").field(&self.connection).finish()
    }
}

impl Known {
    /// Of a connection about which this is known. Nothing is told yet.
    pub(super) fn new(
        connection: ConnectionId,
        directory: Arc<SharedDirectory>,
        facts: Facts,
    ) -> Self {
        let state = State {
            facts,
            speaks_for: SpeaksFor::Nobody,
            described: false,
            failing: HashSet::new(),
            ended: false,
        };
        Self {
            connection,
            directory,
            state: Mutex::new(state),
        }
    }

    /// Tells what is known, after this change, and gives the number of those that are described and not believed.
    fn tell(&self, change: impl FnOnce(&mut Facts)) -> usize {
        let mut state = self.state.lock();
        if state.ended {
            return 0;
        }
        change(&mut state.facts);
        let mut spoken = state.facts.spoken();
        if spoken.targets.is_none() && !matches!(state.speaks_for, SpeaksFor::Nobody) {
            // The name that it had is not its own any more.
            state.facts.text = Text::Empty;
            spoken = state.facts.spoken();
        }
        if let Some(targets) = spoken.targets {
            state.speaks_for = SpeaksFor::new(&targets);
            let named = targets.first().map(|first| first.about.named);
            state.described = named == Some(Named::Description);
            let known = |id: &ApplicationId| targets.iter().any(|target| target.id == *id);
            state.failing.retain(known);
            self.directory.connected(self.connection, targets);
        }
        spoken.denied
    }

    /// The connection is set up.
    pub(super) fn begin(&self) -> usize {
        self.tell(|_| {})
    }

    /// The application says what it is.
    pub(super) fn describe(&self, description: Described) -> usize {
        self.tell(|facts| facts.description = Some(description))
    }

    /// The file of identities was read again.
    pub(super) fn renew(&self, identity: Arc<Identity>, table: Arc<Table>) {
        self.tell(|facts| {
            facts.identity = identity;
            facts.table = table;
        });
    }

    /// A pull of all that it speaks for is over.
    pub(super) fn note_text(&self, opened: Option<&Opened>) {
        let samples = opened.map_or(0, |opened| {
            let expositions = opened.expositions();
            expositions.map(|text| text.samples()).sum()
        });
        let text = match opened {
            Some(opened) if samples > 0 => Text::Read(opened.name.clone()),
            _ => Text::Empty,
        };
        let open = {
            let facts = &self.state.lock().facts;
            facts.text.is_open() && facts.text != text
        };
        if open {
            self.tell(|facts| facts.text = text);
        }
    }

    /// Whether a text is to be looked at for a name.
    pub(super) fn looks_for_name(&self) -> bool {
        self.state.lock().facts.text.is_open()
    }

    /// Whether only a text can say who it is, and none has been asked for.
    pub(super) fn needs_text(&self) -> bool {
        let facts = &self.state.lock().facts;
        facts.text == Text::Unread && facts.spoken().targets.is_none()
    }

    /// Whether a pull of one target says which one is meant.
    pub(super) fn names_targets(&self) -> bool {
        self.state.lock().described
    }

    /// Whether it speaks for more than one.
    pub(super) fn is_several(&self) -> bool {
        matches!(self.state.lock().speaks_for, SpeaksFor::Several)
    }

    /// A pull of one of them is over, or of all (`None`). Whether that one fares otherwise than before.
    pub(super) fn pulled(&self, target: Option<&ApplicationId>, outcome: Outcome) -> bool {
        let mut state = self.state.lock();
        let Some(id) = state.speaks_for.whose(target).cloned() else {
            return false;
        };
        let changed = match outcome.outcome {
            SUCCESS => state.failing.remove(&id),
            _ => state.failing.insert(id.clone()),
        };
        if !state.ended {
            self.directory.pulled(self.connection, &id, outcome);
        }
        changed
    }

    /// The connection is no more.
    pub(super) fn end(&self, end: End, reason: &Arc<str>) {
        let mut state = self.state.lock();
        if !std::mem::replace(&mut state.ended, true) {
            self.directory.ended(self.connection, end, reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::super::Transport;
    use super::*;
    use crate::identity::{Proof, fuzzing};
    use crate::nodes::NodeId;

    const BEFORE: &str = "identities:\n\
        - {name: a, certificates: [a], instance: web}\n\
        - {name: b, certificates: [b]}\n";
    const AFTER: &str = "identities:\n\
        - {name: a, certificates: [a]}\n\
        - {name: b, certificates: [b], instance: web}\n";

    fn whose(text: &str, name: &str) -> (Arc<Identity>, Arc<Table>) {
        let table = Arc::new(fuzzing::table(text).unwrap());
        let identity = table.identity(&Proof::Certificate(name.into())).unwrap();
        (Arc::clone(identity), table)
    }

    #[test]
    fn a_name_that_the_file_gives_to_another_is_given_up_at_once() {
        let directory = SharedDirectory::new(NodeId::new("me", 1), Duration::ZERO);
        let directory = Arc::new(directory);
        let known = |connection: u64, name: &str| {
            let (identity, table) = whose(BEFORE, name);
            let facts = Facts {
                peer: ([192, 0, 2, 1], connection as u16).into(),
                transport: Transport::Tcp,
                connected_at: SystemTime::UNIX_EPOCH,
                identity,
                table,
                description: None,
                text: Text::Unread,
            };
            let known = Known::new(connection, Arc::clone(&directory), facts);
            known.begin();
            known
        };
        let names = || {
            let all = directory.applications(SystemTime::now()).into_iter();
            let connected = all.filter(|one| one.state == crate::directory::State::Connected);
            let mut names: Vec<_> = connected
                .map(|one| (one.id.to_string(), one.about.peer.port()))
                .collect();
            names.sort();
            names
        };
        let (b, a) = (known(1, "b"), known(2, "a"));
        assert_eq!(names(), [("web".to_owned(), 2)]);
        for (known, name) in [(&b, "b"), (&a, "a")] {
            let (identity, table) = whose(AFTER, name);
            known.renew(identity, table);
        }
        let expected = [("192.0.2.1:2".to_owned(), 2), ("web".to_owned(), 1)];
        assert_eq!(names(), expected);
    }
}
