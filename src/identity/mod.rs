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

pub use proof::Proof;
pub use table::{Identity, Shown, Table, Terms, Unknown};
use tokio::sync::watch;

use crate::follow::{ReadError, Source, follow, read_text};
use crate::metrics::Reloads;
use crate::passwords::Verifier;
use crate::yaml::FileError;

/// Why the file is of no use: one line.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It says what cannot be.
    #[error(transparent)]
    File(#[from] FileError),
}

/// A file, and what it said when it was last of use.
#[derive(Clone)]
pub struct Identities {
    path: PathBuf,
    text: String,
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
    pub fn read(path: PathBuf, terms: Terms) -> Result<Self, Unusable> {
        let text = read_text(&path)?;
        let verifier = Arc::default();
        let table = Table::new(file::parse(&text)?, &terms, &verifier, None)?;
        Ok(Self {
            path,
            text,
            terms,
            table: Arc::new(table),
            verifier,
        })
    }

    /// Whether some can show a certificate.
    pub fn know_certificates(&self) -> bool {
        self.table.knows_certificates()
    }

    /// What holds at the moment; changes as long as the task of `follow` runs.
    pub fn followed(self) -> (watch::Receiver<Arc<Table>>, Followed) {
        let (told, table) = watch::channel(Arc::clone(&self.table));
        let identities = self;
        (table, Followed { identities, told })
    }
}

/// A file to look at again and again.
pub struct Followed {
    identities: Identities,
    told: watch::Sender<Arc<Table>>,
}

impl Followed {
    /// Reads the file when it changes, for ever. What is of no use is logged, and what it said before goes on.
    pub async fn follow(self, reloads: Reloads) {
        let Self { identities, told } = self;
        let file = identities.path.display().to_string();
        follow(
            identities,
            "identities",
            file,
            reloads,
            |identities: &Identities| {
                told.send_if_modified(|table| {
                    let changed = !Arc::ptr_eq(table, &identities.table);
                    *table = Arc::clone(&identities.table);
                    changed
                });
            },
        )
        .await;
    }
}

impl Source for Identities {
    type Error = Unusable;

    fn look(&mut self) -> Result<bool, Unusable> {
        let text = read_text(&self.path)?;
        if text == self.text {
            return Ok(false);
        }
        let parsed = file::parse(&text)?;
        let table = Table::new(parsed, &self.terms, &self.verifier, Some(&self.table))?;
        self.table = Arc::new(table);
        self.text = text;
        Ok(true)
    }
}

/// What a fuzz target enters by.
#[cfg(fuzzing)]
pub mod fuzzing {
    use super::{Table, Terms, file};

    /// The identities of a file.
    pub fn table(text: &str) -> Option<Table> {
        let parsed = file::parse(text).ok()?;
        Table::new(parsed, &Terms::default(), &Default::default(), None).ok()
    }
}
