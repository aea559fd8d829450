//! What another node tells of what is connected to it.

use std::time::Instant;

use super::entry::Entries;
use super::{Asked, Changes, End, MAX_BYTES};
use crate::nodes::NodeState;

/// Another node's list, as far as it is known.
#[derive(Debug)]
pub(super) struct Copy {
    pub(super) state: NodeState,
    pub(super) entries: Entries,
    /// A whole list that comes in pieces.
    begun: Option<Entries>,
    asked: Asked,
    /// When it last said that this is all; `None` before the first time.
    heard: Option<Instant>,
    /// It has answered that it knows no directory.
    pub(super) is_of_older_release: bool,
    pub(super) is_asked: bool,
    /// It is no member any more.
    pub(super) gone: Option<Gone>,
}

/// When and how a node ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gone {
    pub(super) at: Instant,
    pub(super) end: End,
}

impl Copy {
    pub(super) fn new(state: NodeState) -> Self {
        Self {
            state,
            entries: Entries::default(),
            begun: None,
            asked: Asked::default(),
            heard: None,
            is_of_older_release: false,
            is_asked: false,
            gone: None,
        }
    }

    /// What to ask for.
    pub(super) fn asked(&self) -> Asked {
        self.asked
    }

    /// When it was last known whole.
    pub(super) fn heard(&self) -> Option<Instant> {
        self.heard
    }

    /// The node is a member.
    pub(super) fn is_alive(&mut self, state: NodeState) {
        self.state = state;
        self.gone = None;
    }

    /// It is no member any more. Should it be one again, what it has does not count before it has been heard.
    pub(super) fn is_gone(&mut self, now: Instant) {
        let end = match self.state {
            NodeState::Draining => End::Moved,
            NodeState::Starting | NodeState::Active => End::Lost,
        };
        self.gone = Some(Gone { at: now, end });
        self.heard = None;
        self.is_asked = false;
    }

    /// Takes what it answered to `asked`. An answer to another question is late, and says nothing that is not known.
    pub(super) fn take(&mut self, asked: &Asked, changes: &Changes, now: Instant) -> bool {
        if *asked != self.asked || self.gone.is_some() {
            return false;
        }
        if changes.from_start {
            self.begun = Some(Entries::default());
        }
        let entries = self.begun.as_mut().unwrap_or(&mut self.entries);
        for number in &changes.removed {
            entries.remove(*number);
        }
        for entry in &changes.entries {
            entries.put(entry.clone());
        }
        if entries.bytes() > MAX_BYTES {
            *self = Self::new(self.state);
            return false;
        }
        self.asked = Asked {
            known: changes.known,
            after: changes.through,
        };
        self.is_asked = changes.in_use;
        if !changes.more {
            self.heard = Some(now);
            if let Some(entries) = self.begun.take() {
                self.entries = entries;
            }
        }
        true
    }
}
