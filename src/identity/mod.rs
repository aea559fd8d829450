//! Who applications are: what they show, against a file that gives each identity labels and limits.
//!
//! The decision needs no network: [`Table`] is made from a file's text, and asked with what was [`Shown`]. Reading the file
//! again when it changes is all that is done besides.

mod file;
mod proof;
mod table;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

pub use file::Target;
use prometheus_rsocket_config::yaml::FileError;
use prometheus_rsocket_config::{ReadError, read_text};
pub use proof::Proof;
pub use table::{Identity, Shown, Table, Terms, Unknown};
use tokio::sync::watch;

use crate::files::{Followed, Found, Settled, Source};
use crate::passwords::Verifier;

/// Why the file cannot be used: one line.
#[derive(Debug, thiserror::Error)]
pub enum IdentitiesError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It says what cannot be.
    #[error(transparent)]
    File(#[from] FileError),
    /// It says nothing: rather an accident than that nobody is to come in.
    #[error("is empty; to refuse all applications write `identities: []`")]
    Empty,
}

/// A file, and what it said when it was last of use.
#[derive(Clone)]
pub struct Identities {
    path: PathBuf,
    text: Settled<String>,
    terms: Terms,
    table: Arc<Table>,
    verifier: Arc<Verifier>,
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identities").field(&self.path).finish()
    }
}

impl Identities {
    /// Reads the file. Where it says nothing of an application's texts, `terms` hold.
    pub fn read(path: PathBuf, terms: Terms) -> Result<Self, IdentitiesError> {
        let text = read_text(&path)?;
        let verifier = Arc::default();
        let parsed = file::parse(&text)?.ok_or(IdentitiesError::Empty)?;
        let table = Table::new(parsed, &terms, &verifier, None)?;
        Ok(Self {
            path,
            text: Settled::new(text),
            terms,
            table: Arc::new(table),
            verifier,
        })
    }

    /// Whether some can show a certificate.
    pub fn know_certificates(&self) -> bool {
        self.table.knows_certificates()
    }

    /// What holds at the moment; changes while the second of the two runs.
    pub(crate) fn followed(self) -> (watch::Receiver<Arc<Table>>, Followed<Self>) {
        Followed::new(self)
    }
}

impl Source for Identities {
    type Value = Table;
    type Error = IdentitiesError;
    const NAME: &'static str = "identities";

    fn value(&self) -> &Arc<Table> {
        &self.table
    }

    fn file(&self) -> String {
        self.path.display().to_string()
    }

    fn look(&mut self) -> Result<Found, IdentitiesError> {
        let text = read_text(&self.path)?;
        let found = self.text.look(&text);
        if found == Found::Taken {
            let parsed = file::parse(&text)?.ok_or(IdentitiesError::Empty)?;
            let table = Table::new(parsed, &self.terms, &self.verifier, Some(&self.table))?;
            self.table = Arc::new(table);
            self.text.take(text);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_that_is_empty_at_start_is_a_mistake() {
        let path = std::env::temp_dir().join(format!("identities-{}-0.yml", std::process::id()));
        for nothing in ["", "# anonymous: {}\n"] {
            fs::write(&path, nothing).unwrap();
            let refused = Identities::read(path.clone(), Terms::default()).unwrap_err();
            assert!(refused.to_string().contains("empty"), "{refused}");
        }
        let _ = fs::remove_file(&path);
    }

    #[test]
    fn a_file_that_is_being_written_revokes_nobody() {
        let path = std::env::temp_dir().join(format!("identities-{}.yml", std::process::id()));
        let identity = |name: &str| format!("- {{name: {name}, certificates: [{name}]}}\n");
        let both = format!("identities:\n{}{}", identity("a"), identity("b"));
        fs::write(&path, &both).unwrap();
        let mut identities = Identities::read(path.clone(), Terms::default()).unwrap();
        let b = Proof::Certificate("b".into());
        let mut look = |text: &str| {
            fs::write(&path, text).unwrap();
            let found = identities.look().map_err(|unusable| unusable.to_string());
            (found, identities.table.identity(&b).is_some())
        };
        let half = format!("identities:\n{}", identity("a"));
        assert_eq!(look(""), (Ok(Found::Unsettled), true));
        assert_eq!(look(&half), (Ok(Found::Unsettled), true));
        assert_eq!(look(&both), (Ok(Found::Same), true));
        for nothing in ["", "# anonymous: {}\n"] {
            assert_eq!(look(nothing), (Ok(Found::Unsettled), true));
            let (refused, stays) = look(nothing);
            assert!(stays && refused.unwrap_err().contains("empty"));
        }
        assert_eq!(look(&half), (Ok(Found::Unsettled), true));
        assert_eq!(look(&half), (Ok(Found::Taken), false));
        let _ = fs::remove_file(&path);
    }
}

/// What a fuzz target enters by, and tests of other rooms.
#[cfg(any(fuzzing, test))]
pub mod fuzzing {
    use super::{Table, Terms, file};

    /// The identities of a file.
    pub fn table(text: &str) -> Option<Table> {
        let parsed = file::parse(text).ok().flatten()?;
        Table::new(parsed, &Terms::default(), &Default::default(), None).ok()
    }
}
