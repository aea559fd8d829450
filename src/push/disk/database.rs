//! The database in the directory: redb, one transaction with one sync for each batch.

use std::any::Any;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::SystemTime;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use redb::backends::FileBackend;
use redb::{
    DatabaseError, ReadableDatabase, ReadableTable, ReadableTableMetadata, StorageBackend,
    StorageError, TableDefinition,
};

use super::queue::QueuedWrite;
use super::record::{self, StandingRecord, TextRecord, Unreadable, millis};
use crate::nodes::NodeId;
use crate::store::PushId;

/// A node's name, its generation, the number of a push.
type Key = (&'static str, u64, u64);

const TEXTS: TableDefinition<Key, &[u8]> = TableDefinition::new("texts");
const STANDINGS: TableDefinition<Key, &[u8]> = TableDefinition::new("standings");
/// Pushes whose life is over, by the time until which that is remembered.
const ENDS: TableDefinition<(u64, &str, u64, u64), ()> = TableDefinition::new("ends");
/// Records that could not be read, text and standing. They are kept: a later release may read them.
const UNREADABLE: TableDefinition<Key, (&[u8], &[u8])> = TableDefinition::new("unreadable");
const NUMBERS: TableDefinition<&str, u64> = TableDefinition::new("numbers");
/// In [`NUMBERS`]: when the last life of this node began.
const GENERATION: &str = "generation";

/// Ends on disk, as many as tombstones in the store; past it those that are needed least long are deleted.
const MAX_ENDS: u64 = 100_000;
/// Memory for pages. What is written is not read again before the next start.
const CACHE: usize = 16 << 20;
/// A file that has this much more than it needs is made smaller at the start.
const SLACK: u64 = 16 << 20;

/// What went wrong with a database.
#[derive(Debug, thiserror::Error)]
pub(super) enum DatabaseFailure {
    /// The disk's fault, or of who may write there: worth another attempt.
    #[error("{0}")]
    Storage(String),
    /// What is in the file is not a database of ours, or no longer.
    #[error("{0}")]
    Damaged(String),
}

impl DatabaseFailure {
    fn of(error: redb::Error) -> Self {
        let text = error.to_string();
        match error {
            redb::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
                Self::Damaged(text)
            }
            redb::Error::Io(_)
            | redb::Error::PreviousIo
            | redb::Error::DatabaseAlreadyOpen
            | redb::Error::DatabaseClosed => Self::Storage(text),
            _ => Self::Damaged(text),
        }
    }

    fn panicked(panic: &(dyn Any + Send)) -> Self {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| panic.downcast_ref::<&str>().copied());
        Self::Damaged(said.unwrap_or("it cannot be read").to_owned())
    }
}

impl From<io::Error> for DatabaseFailure {
    fn from(error: io::Error) -> Self {
        Self::Storage(error.to_string())
    }
}

/// What a push is on disk.
pub(super) struct Stored {
    pub(super) push: PushId,
    pub(super) text: TextRecord,
    pub(super) standing: StandingRecord,
}

/// An open database.
pub(super) struct Database(redb::Database);

impl Database {
    /// Opens the file, which is made if `create` says so.
    pub(super) fn open(path: &Path, create: bool) -> Result<Self, DatabaseFailure> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(create)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        // After a failed sync the system may take pages for written that are not: they are to come from the disk.
        let _ = posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
        Self::open_file(file)
    }

    fn open_file(file: File) -> Result<Self, DatabaseFailure> {
        let backend = FileBackend::new(file).map_err(|error| DatabaseFailure::of(error.into()))?;
        Self::with_backend(backend)
    }

    pub(super) fn with_backend(backend: impl StorageBackend) -> Result<Self, DatabaseFailure> {
        guarded(|| {
            let mut builder = redb::Builder::new();
            builder.set_cache_size(CACHE);
            builder.set_check_integrity_on_open(true);
            let database = builder.create_with_backend(backend).map_err(as_damaged)?;
            if database.begin_read()?.list_tables()?.next().is_none() {
                make_tables(&database)?;
            }
            Ok(Self(database))
        })
    }

    /// When the last life of the node began; zero for the first.
    pub(super) fn generation(&self) -> Result<u64, DatabaseFailure> {
        guarded(|| {
            let numbers = self.0.begin_read()?.open_table(NUMBERS)?;
            let generation = numbers.get(GENERATION)?;
            Ok(generation.map_or(0, |generation| generation.value()))
        })
    }

    /// Notes when this life began.
    pub(super) fn set_generation(&self, generation: u64) -> Result<(), DatabaseFailure> {
        guarded(|| {
            let transaction = self.0.begin_write()?;
            transaction
                .open_table(NUMBERS)?
                .insert(GENERATION, generation)?;
            transaction.commit()?;
            Ok(())
        })
    }

    /// Gives every push to `take`, one at a time. What that cannot read, either, is set aside; gives the number of these.
    pub(super) fn read(
        &self,
        mut take: impl FnMut(Stored) -> Result<(), Unreadable>,
    ) -> Result<usize, DatabaseFailure> {
        guarded(|| {
            let mut unreadable = Vec::new();
            let transaction = self.0.begin_read()?;
            let texts = transaction.open_table(TEXTS)?;
            let standings = transaction.open_table(STANDINGS)?;
            for entry in standings.iter()? {
                let (key, standing) = entry?;
                let push = push_of(key.value());
                let text = texts.get(key.value())?;
                let taken = text.ok_or(Unreadable).and_then(|text| {
                    take(Stored {
                        push: push.clone(),
                        text: record::decode(text.value())?,
                        standing: record::decode(standing.value())?,
                    })
                });
                if taken.is_err() {
                    unreadable.push(push);
                }
            }
            drop((texts, standings, transaction));
            if !unreadable.is_empty() {
                self.set_aside(&unreadable)?;
            }
            Ok(unreadable.len())
        })
    }

    fn set_aside(&self, pushes: &[PushId]) -> Result<(), redb::Error> {
        let transaction = self.0.begin_write()?;
        {
            let mut texts = transaction.open_table(TEXTS)?;
            let mut standings = transaction.open_table(STANDINGS)?;
            let mut unreadable = transaction.open_table(UNREADABLE)?;
            for push in pushes {
                let key = key(push);
                let text = texts.remove(key)?.map(|text| text.value().to_vec());
                let standing = standings.remove(key)?;
                let standing = standing.map(|standing| standing.value().to_vec());
                let record = (text.unwrap_or_default(), standing.unwrap_or_default());
                unreadable.insert(key, (&record.0[..], &record.1[..]))?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    /// The pushes that were set aside.
    #[cfg(test)]
    pub(super) fn unreadable(&self) -> Result<Vec<PushId>, DatabaseFailure> {
        guarded(|| {
            let unreadable = self.0.begin_read()?.open_table(UNREADABLE)?;
            let pushes = unreadable.iter()?;
            pushes.map(|entry| Ok(push_of(entry?.0.value()))).collect()
        })
    }

    /// The pushes whose end is to be remembered, and until when.
    pub(super) fn ends(&self, now: SystemTime) -> Result<Vec<(PushId, u64)>, DatabaseFailure> {
        guarded(|| {
            let ends = self.0.begin_read()?.open_table(ENDS)?;
            let ends = ends.range((millis(now), "", 0, 0)..)?.map(|entry| {
                let (key, _) = entry?;
                let (until, name, generation, sequence) = key.value();
                Ok((push_of((name, generation, sequence)), until))
            });
            ends.collect()
        })
    }

    /// Deletes pushes that are on disk.
    pub(super) fn delete(&self, pushes: &[PushId]) -> Result<(), DatabaseFailure> {
        let removed = pushes.iter().cloned();
        let removed: Vec<_> = removed.map(|push| (push, QueuedWrite::Removed)).collect();
        self.write(&removed, SystemTime::UNIX_EPOCH)
    }

    /// Writes a batch whole or not at all. It is on the disk when this has returned.
    pub(super) fn write(
        &self,
        batch: &[(PushId, QueuedWrite)],
        now: SystemTime,
    ) -> Result<(), DatabaseFailure> {
        guarded(|| {
            let transaction = self.0.begin_write()?;
            {
                let mut texts = transaction.open_table(TEXTS)?;
                let mut standings = transaction.open_table(STANDINGS)?;
                let mut ends = transaction.open_table(ENDS)?;
                for (push, write) in batch {
                    let key = key(push);
                    match write {
                        QueuedWrite::Held { content, standing } => {
                            let text = content.as_deref().and_then(TextRecord::of);
                            if let Some(text) = text {
                                texts.insert(key, &record::encode(&text)[..])?;
                            }
                            standings.insert(key, &record::encode(standing)[..])?;
                        }
                        QueuedWrite::Over { until } => {
                            texts.remove(key)?;
                            standings.remove(key)?;
                            ends.insert((*until, key.0, key.1, key.2), ())?;
                        }
                        QueuedWrite::Removed => {
                            texts.remove(key)?;
                            standings.remove(key)?;
                        }
                    }
                }
                let over = millis(now);
                loop {
                    let first = ends.first()?.map(|(first, _)| first.value().0);
                    if first.is_none_or(|until| until >= over) && ends.len()? <= MAX_ENDS {
                        break;
                    }
                    ends.pop_first()?;
                }
            }
            transaction.commit()?;
            Ok(())
        })
    }

    /// Gives back what the file has beyond its need.
    pub(super) fn compact(&mut self, file_bytes: u64) -> Result<(), DatabaseFailure> {
        guarded(|| {
            let transaction = self.0.begin_write()?;
            let stats = transaction.stats()?;
            transaction.abort()?;
            let used = stats.stored_bytes() + stats.metadata_bytes() + stats.fragmented_bytes();
            if file_bytes > used + SLACK {
                self.0.compact()?;
            }
            Ok(())
        })
    }
}

fn make_tables(database: &redb::Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(TEXTS)?;
    transaction.open_table(STANDINGS)?;
    transaction.open_table(ENDS)?;
    transaction.open_table(UNREADABLE)?;
    transaction.open_table(NUMBERS)?;
    transaction.commit()?;
    Ok(())
}

/// Opening says that a file is no database in several ways.
fn as_damaged(error: DatabaseError) -> redb::Error {
    match error {
        DatabaseError::Storage(StorageError::Io(error))
            if error.kind() == io::ErrorKind::UnexpectedEof =>
        {
            redb::Error::Corrupted("the file is too short".into())
        }
        error => error.into(),
    }
}

/// A damaged file can make the library panic.
fn guarded<R>(act: impl FnOnce() -> Result<R, redb::Error>) -> Result<R, DatabaseFailure> {
    match catch_unwind(AssertUnwindSafe(act)) {
        Ok(result) => result.map_err(DatabaseFailure::of),
        Err(panic) => Err(DatabaseFailure::panicked(&*panic)),
    }
}

fn key(push: &PushId) -> (&str, u64, u64) {
    let acceptor = &push.acceptor;
    (&acceptor.name, acceptor.generation, push.sequence)
}

fn push_of((name, generation, sequence): (&str, u64, u64)) -> PushId {
    PushId {
        acceptor: NodeId::new(name, generation),
        sequence,
    }
}
