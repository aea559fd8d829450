//! `--push.dir`: the pushes that this node holds, on disk.
//!
//! One thread writes what the store says is to be written ([`Write`]), everything that has gathered in one transaction
//! with one sync, and reports what is on disk. At most one write is queued for each push, so the queue is bounded by what
//! the store holds; where the disk is slow, acknowledgements wait, and where it is too slow, the store refuses them.
//!
//! A disk that fails is opened again, with longer and longer pauses, and what was to be written is written then. Meanwhile
//! pushes are refused ([`Disk::is_failing`]).
//!
//! | file | |
//! |---|---|
//! | `pushes.redb` | the database |
//! | `lock` | held while a process uses the directory; says which |

mod database;
mod queue;
mod record;
#[cfg(test)]
mod tests;

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::statvfs::fstatvfs;
use parking_lot::{Condvar, Mutex};
use tokio::sync::mpsc;
use tracing::{error, info};

use self::database::{Database, DatabaseFailure, Stored};
use self::queue::{Queue, QueuedWrite};
pub(super) use self::record::Unreadable;
use self::record::{TextRecord, left_until};
use super::metrics::DiskMetrics;
use crate::nodes::NodeId;
use crate::store::{Content, PushId, Restored, Write};

const DATABASE: &str = "pushes.redb";
const LOCK: &str = "lock";
/// Writes, and bytes of text, in one transaction; one goes whatever its size. The rest follows in the next.
const MAX_BATCH: usize = 10_000;
const MAX_BATCH_BYTES: usize = 32 << 20;
/// Reports not yet taken; past it the thread waits.
const MAX_REPORTS: usize = 64;
/// Before a disk that failed is tried again: twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Bytes of the lock file that are read: a number.
const MAX_LOCK: u64 = 32;

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The system says so.
    #[error("cannot use {path} (--push.dir): {error}")]
    Unusable {
        /// The directory, or a file in it.
        path: PathBuf,
        /// What it says.
        error: String,
    },
    /// Another process has it.
    #[error("another process{} uses {path} (--push.dir): give each node a directory of its own", process(.pid))]
    InUse {
        /// The directory.
        path: PathBuf,
        /// Its number, as the process has said.
        pid: Option<u32>,
    },
    /// Its file is not what was written.
    #[error(
        "{path} (--push.dir) is damaged: {error}; move it away and start again without what it holds, nothing is deleted"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: String,
    },
}

fn process(pid: &Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(", probably {pid},"))
}

/// A directory that this process has to itself.
pub struct Directory {
    path: PathBuf,
    database: Database,
    _lock: File,
}

/// What an earlier life of the node left.
#[derive(Default)]
pub(super) struct Found {
    pub(super) pushes: Vec<Restored>,
    /// Ends, and how much longer they are to be remembered.
    pub(super) over: Vec<(PushId, Duration)>,
    /// Owners of pushes whose time was over.
    pub(super) expired: Vec<NodeId>,
    pub(super) unreadable: usize,
}

impl Directory {
    /// Makes the directory if need be, locks it and opens what is in it.
    pub fn open(path: &Path) -> Result<Self, DirectoryError> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(path).map_err(unusable(path))?;
        let lock = lock(path)?;
        let mut directory = Self {
            path: path.to_owned(),
            database: Database::open(&path.join(DATABASE), true)
                .map_err(|failure| refused(path, &failure))?,
            _lock: lock,
        };
        sync_entries(path).map_err(unusable(path))?;
        let file = path.join(DATABASE);
        let bytes = file.metadata().map_err(unusable(&file))?.len();
        directory
            .database
            .compact(bytes)
            .map_err(|failure| refused(path, &failure))?;
        Ok(directory)
    }

    /// The generation of the life that begins now at this time, in microseconds since 1970: later than every earlier one,
    /// even if the clock has been set back.
    pub fn begin_life(&self, generation: u64) -> Result<u64, DirectoryError> {
        let noted = self.database.generation().and_then(|last| {
            let generation = generation.max(last.saturating_add(1));
            self.database.set_generation(generation)?;
            Ok(generation)
        });
        noted.map_err(|failure| refused(&self.path, &failure))
    }

    /// Reads what is there. Pushes whose time is over are deleted; those that cannot be read are set aside.
    pub(super) fn read(
        &self,
        now: SystemTime,
        content: impl Fn(&TextRecord) -> Result<Arc<Content>, Unreadable>,
    ) -> Result<Found, DirectoryError> {
        self.find(now, content)
            .map_err(|failure| refused(&self.path, &failure))
    }

    fn find(
        &self,
        now: SystemTime,
        content: impl Fn(&TextRecord) -> Result<Arc<Content>, Unreadable>,
    ) -> Result<Found, DatabaseFailure> {
        let mut found = Found::default();
        let mut expired = Vec::new();
        let database = &self.database;
        found.unreadable = database.read(|stored| {
            let Stored {
                push,
                text,
                standing,
            } = stored;
            let standing = standing.standing(now)?;
            if standing.retained.unwrap_or(standing.left).is_zero() {
                found.expired.push(standing.ownership.owner);
                expired.push(push);
                return Ok(());
            }
            found.pushes.push(Restored {
                content: content(&text)?,
                push,
                standing,
            });
            Ok(())
        })?;
        if !expired.is_empty() {
            database.delete(&expired)?;
        }
        let ends = database.ends(now)?.into_iter();
        found.over = ends
            .map(|(push, until)| (push, left_until(until, now)))
            .collect();
        Ok(found)
    }

    /// Begins to write.
    pub(super) fn start(self, metrics: DiskMetrics) -> Result<Disk, DirectoryError> {
        let path = self.path.clone();
        self.begin(metrics).map_err(unusable(&path))
    }

    fn begin(self, metrics: DiskMetrics) -> io::Result<Disk> {
        let file = self.path.join(DATABASE);
        let reopen = {
            let file = file.clone();
            move || Database::open(&file, false)
        };
        Disk::start(
            self.database,
            Box::new(reopen),
            Place {
                directory: File::open(&self.path)?,
                file,
                _lock: Some(self._lock),
            },
            metrics,
        )
    }
}

fn lock(directory: &Path) -> Result<File, DirectoryError> {
    let path = directory.join(LOCK);
    let mut lock = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(unusable(&path))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut said = String::new();
            let read = lock.take(MAX_LOCK).read_to_string(&mut said);
            return Err(DirectoryError::InUse {
                path: directory.to_owned(),
                pid: read.ok().and_then(|_| said.trim().parse().ok()),
            });
        }
        Err(TryLockError::Error(error)) => return Err(unusable(&path)(error)),
    }
    lock.set_len(0).map_err(unusable(&path))?;
    let pid = std::process::id();
    lock.write_all(format!("{pid}\n").as_bytes())
        .map_err(unusable(&path))?;
    Ok(lock)
}

/// A file that was made is there after a power cut only once its directory is on disk, and so is a directory.
fn sync_entries(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()?;
    let path = directory.canonicalize()?;
    if let Some(parent) = path.parent().and_then(|parent| File::open(parent).ok()) {
        parent.sync_all()?;
    }
    // Where the parent cannot be opened, this process has not made the directory.
    Ok(())
}

fn unusable(path: &Path) -> impl FnOnce(io::Error) -> DirectoryError + use<> {
    let path = path.to_owned();
    move |error| DirectoryError::Unusable {
        path,
        error: error.to_string(),
    }
}

fn refused(directory: &Path, failure: &DatabaseFailure) -> DirectoryError {
    let path = directory.join(DATABASE);
    let error = failure.to_string();
    match failure {
        DatabaseFailure::Storage(_) => DirectoryError::Unusable { path, error },
        DatabaseFailure::Damaged(_) => DirectoryError::Damaged { path, error },
    }
}

/// How the disk does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiskReport {
    /// Bytes of the database.
    pub bytes: u64,
    /// Bytes that are free for it.
    pub free: u64,
    /// Whether the last attempt to write failed.
    pub failing: bool,
    /// Why one last failed, however long ago.
    pub last_error: Option<String>,
}

struct Work {
    queue: Queue,
    closing: bool,
    report: DiskReport,
}

struct Shared {
    work: Mutex<Work>,
    more: Condvar,
}

/// Where the database is; keeps the lock.
struct Place {
    directory: File,
    file: PathBuf,
    _lock: Option<File>,
}

type Reopen = Box<dyn FnMut() -> Result<Database, DatabaseFailure> + Send>;
/// Pushes whose text was to be written, and whether it is.
pub(super) type Reports = mpsc::Receiver<Vec<(PushId, bool)>>;

/// The disk at work.
pub(super) struct Disk {
    shared: Arc<Shared>,
    reports: Mutex<Option<Reports>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Disk {
    fn start(
        database: Database,
        reopen: Reopen,
        place: Place,
        metrics: DiskMetrics,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            work: Mutex::new(Work {
                queue: Queue::default(),
                closing: false,
                report: DiskReport::default(),
            }),
            more: Condvar::new(),
        });
        let (report, reports) = mpsc::channel(MAX_REPORTS);
        let writer = Writer {
            shared: Arc::clone(&shared),
            database: Some(database),
            reopen,
            place,
            metrics,
            report,
        };
        writer.measure();
        let thread = std::thread::Builder::new()
            .name("push-disk".into())
            .spawn(move || writer.run())?;
        Ok(Self {
            shared,
            reports: Mutex::new(Some(reports)),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Queues what the store says is to be written.
    pub(super) fn write(&self, writes: Vec<(PushId, Write)>) {
        if writes.is_empty() {
            return;
        }
        let now = SystemTime::now();
        let mut work = self.shared.work.lock();
        for (push, write) in writes {
            work.queue.push(push, QueuedWrite::of(write, now));
        }
        drop(work);
        self.shared.more.notify_one();
    }

    /// Whether the last attempt to write failed.
    pub(super) fn is_failing(&self) -> bool {
        self.shared.work.lock().report.failing
    }

    pub(super) fn report(&self) -> DiskReport {
        self.shared.work.lock().report.clone()
    }

    /// What is on disk, as it gets there. The first caller has it.
    pub(super) fn reports(&self) -> Option<Reports> {
        self.reports.lock().take()
    }

    /// Writes what is queued and ends; blocks until then. A disk that fails is not waited for.
    pub(super) fn close(&self) {
        self.shared.work.lock().closing = true;
        self.shared.more.notify_one();
        if let Some(thread) = self.thread.lock().take() {
            // It has no way to panic that is not caught.
            let _ = thread.join();
        }
    }
}

struct Writer {
    shared: Arc<Shared>,
    /// `None` after a failure.
    database: Option<Database>,
    reopen: Reopen,
    place: Place,
    metrics: DiskMetrics,
    report: mpsc::Sender<Vec<(PushId, bool)>>,
}

impl Writer {
    fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        while let Some(batch) = self.next_batch() {
            let started = Instant::now();
            let written = self.write(&batch);
            let with_text = batch.iter().filter(|(_, write)| {
                matches!(
                    write,
                    QueuedWrite::Held {
                        content: Some(_),
                        ..
                    }
                )
            });
            let pushes = with_text.map(|(push, _)| (push.clone(), written.is_ok()));
            let pushes: Vec<_> = pushes.collect();
            match written {
                Ok(()) => {
                    self.metrics.wrote(started.elapsed());
                    self.recover();
                    pause = FIRST_PAUSE;
                    drop(batch);
                    self.measure();
                    self.tell(pushes);
                }
                Err(failure) => {
                    self.database = None;
                    self.fail(&failure, batch);
                    self.tell(pushes);
                    if self.rest(pause) {
                        return;
                    }
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Waits for something to do; `None` when all is done and the node ends.
    fn next_batch(&self) -> Option<Vec<(PushId, QueuedWrite)>> {
        let mut work = self.shared.work.lock();
        while work.queue.is_empty() {
            if work.closing {
                return None;
            }
            self.shared.more.wait(&mut work);
        }
        Some(work.queue.take(MAX_BATCH, MAX_BATCH_BYTES))
    }

    fn write(&mut self, batch: &[(PushId, QueuedWrite)]) -> Result<(), DatabaseFailure> {
        let database = match self.database.take() {
            Some(database) => database,
            None => (self.reopen)()?,
        };
        self.database
            .insert(database)
            .write(batch, SystemTime::now())
    }

    fn tell(&self, pushes: Vec<(PushId, bool)>) {
        if !pushes.is_empty() {
            // Where nobody listens any more, the node has ended.
            let _ = self.report.blocking_send(pushes);
        }
    }

    fn fail(&self, failure: &DatabaseFailure, batch: Vec<(PushId, QueuedWrite)>) {
        self.metrics.failed();
        let failure = failure.to_string();
        let mut work = self.shared.work.lock();
        work.queue.put_back(batch);
        if !work.report.failing {
            error!(
                error = failure,
                "cannot write pushes to --push.dir, they are refused"
            );
        }
        work.report.last_error = Some(failure);
        work.report.failing = true;
    }

    fn recover(&self) {
        let mut work = self.shared.work.lock();
        if std::mem::take(&mut work.report.failing) {
            self.metrics.recovered();
            info!("pushes are written to --push.dir again");
        }
    }

    /// Waits before the next attempt; says whether there is none because the node ends.
    fn rest(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        let mut work = self.shared.work.lock();
        while !work.closing {
            if self.shared.more.wait_until(&mut work, until).timed_out() {
                return false;
            }
        }
        true
    }

    /// Looks at the room there is.
    #[allow(
        clippy::useless_conversion,
        reason = "the number of blocks has another type on macOS"
    )]
    fn measure(&self) {
        let bytes = self.place.file.metadata().map_or(0, |file| file.len());
        let free = fstatvfs(&self.place.directory).map_or(0, |room| {
            u64::from(room.blocks_available()).saturating_mul(room.fragment_size())
        });
        self.metrics.measured(bytes, free);
        let mut work = self.shared.work.lock();
        work.report.bytes = bytes;
        work.report.free = free;
    }
}
