//! What families are called in what is written, where that is not what they are called.

use std::collections::HashMap;
use std::sync::Arc;

use crate::encoding::{Encoding, Escaping};
use crate::exposition::Exposition;
use crate::metadata::SUFFIXES;
use crate::needs::Needs;

/// Names that are escaped, with those that stand for them.
#[derive(Debug, Default)]
pub(crate) struct WrittenNames(HashMap<Vec<u8>, Vec<u8>, foldhash::fast::RandomState>);

impl WrittenNames {
    /// Of all families of these parts, and of the samples of histograms and summaries.
    pub(crate) fn new(parts: &[Arc<Exposition>], encoding: Encoding) -> Self {
        let mut names = Self::default();
        let escaping = encoding.escaping;
        if escaping == Escaping::AllowUtf8 {
            return names;
        }
        for part in parts {
            for family in &part.families {
                if !(family.needs.has(Needs::QUOTED) || escaping == Escaping::Dots) {
                    continue;
                }
                let name = part.bytes(family.name);
                names.add(name.to_vec(), escaping);
                for suffix in SUFFIXES {
                    if family.kind.is_some_and(|kind| kind.takes(suffix)) {
                        names.add([name, suffix].concat(), escaping);
                    }
                }
            }
        }
        names
    }

    fn add(&mut self, name: Vec<u8>, escaping: Escaping) {
        if escaping.changes(&name) {
            let escaped = escaping.metric(&name);
            self.0.insert(name, escaped);
        }
    }

    /// Whether every name is written as it is.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What this name is written as.
    #[inline]
    pub(crate) fn of<'n>(&'n self, name: &'n [u8]) -> &'n [u8] {
        if self.0.is_empty() {
            return name;
        }
        self.0.get(name).map_or(name, Vec::as_slice)
    }
}
