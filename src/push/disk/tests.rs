//! A directory, and a disk that fails.

use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};

use prometheus_rsocket_exposition::Exposition;
use redb::StorageBackend;
use redb::backends::InMemoryBackend;

use super::*;
use crate::metrics::OwnMetrics;
use crate::rsocket;
use crate::store::{Ownership, StoredStanding};
use crate::tenant::Tenant;

/// A directory of its own for each test, which is deleted with it.
struct TemporaryDirectory(PathBuf);

impl TemporaryDirectory {
    fn new(name: &str) -> Self {
        let path = format!(
            "prometheus-rsocket-proxy-disk-{}-{name}",
            std::process::id()
        );
        let path = std::env::temp_dir().join(path);
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join(DATABASE)
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn metrics() -> DiskMetrics {
    let own = OwnMetrics::new().unwrap();
    let rsocket = rsocket::Metrics::register(&own).unwrap();
    let metrics = super::super::Metrics::register(&own, &rsocket, 1 << 20).unwrap();
    metrics.disk.clone()
}

fn id(sequence: u64) -> PushId {
    PushId {
        acceptor: NodeId::new("node", 1),
        sequence,
    }
}

fn held(sequence: u64) -> (PushId, Write) {
    let text = Exposition::parse(format!("a {sequence}\n").into()).unwrap();
    let content = Content {
        text: Arc::new(text),
        series: Vec::new(),
        pusher: Tenant::Unknown,
    };
    let standing = StoredStanding {
        order: sequence,
        left: Duration::from_secs(60),
        ownership: Ownership {
            term: 0,
            owner: NodeId::new("node", 1),
            lost_before: false,
        },
        had: Vec::new(),
        retained: None,
    };
    let write = Write::Held {
        content: Some(Arc::new(content)),
        standing,
    };
    (id(sequence), write)
}

fn content(text: &TextRecord) -> Result<Arc<Content>, Unreadable> {
    let read = crate::cluster::calls::unpack(&text.snappy, 1000).ok_or(Unreadable)?;
    let text = Exposition::parse(read).map_err(|_| Unreadable)?;
    Ok(Arc::new(Content {
        text: Arc::new(text),
        series: Vec::new(),
        pusher: Tenant::Unknown,
    }))
}

fn read(directory: &Directory, now: SystemTime) -> Found {
    directory.read(now, content).unwrap()
}

fn sequences(found: &Found) -> Vec<u64> {
    let pushes = found.pushes.iter();
    pushes.map(|restored| restored.push.sequence).collect()
}

/// What the disk reports next.
fn next(reports: &mut Reports) -> Vec<(PushId, bool)> {
    reports.blocking_recv().unwrap()
}

fn open_error(path: &Path) -> String {
    match Directory::open(path) {
        Ok(_) => panic!("it is opened"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_is_written_is_there_after_a_restart_and_what_is_over_is_not() {
    let directory = TemporaryDirectory::new("restart");
    let disk = Directory::open(&directory.0)
        .unwrap()
        .start(metrics())
        .unwrap();
    let mut reports = disk.reports().unwrap();
    disk.write(vec![held(1), held(2), held(3)]);
    assert_eq!(
        next(&mut reports),
        [(id(1), true), (id(2), true), (id(3), true)]
    );
    let left = Duration::from_secs(30);
    disk.write(vec![(id(1), Write::Over { left }), (id(3), Write::Removed)]);
    disk.close();
    drop(disk);

    let reopened = Directory::open(&directory.0).unwrap();
    let found = read(&reopened, SystemTime::now());
    assert_eq!(sequences(&found), [2]);
    assert_eq!(found.pushes[0].content.text.text()[..], *b"a 2\n");
    assert_eq!(found.over.len(), 1);
    assert_eq!(found.over[0].0, id(1));
    assert!(found.over[0].1 <= left);

    let later = SystemTime::now() + Duration::from_secs(61);
    let found = read(&reopened, later);
    assert_eq!(
        (found.pushes.len(), found.expired.len(), found.over.len()),
        (0, 1, 0)
    );
    assert_eq!(
        read(&reopened, SystemTime::now()).expired.len(),
        0,
        "it is deleted"
    );
}

#[test]
fn the_directory_is_for_this_user_and_one_process() {
    let directory = TemporaryDirectory::new("lock");
    let open = Directory::open(&directory.0).unwrap();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory.0), 0o700);
    assert_eq!(mode(&directory.file()), 0o600);
    let error = open_error(&directory.0);
    let pid = std::process::id();
    assert!(
        error.contains(&format!("another process, probably {pid}, uses ")),
        "{error}"
    );
    drop(open);
    Directory::open(&directory.0).unwrap();
}

#[test]
fn every_life_has_a_later_generation_whatever_the_clock_says() {
    let directory = TemporaryDirectory::new("life");
    let generations = [100, 50, 200].map(|clock| {
        let open = Directory::open(&directory.0).unwrap();
        open.begin_life(clock).unwrap()
    });
    assert_eq!(generations, [100, 101, 200]);
}

#[test]
fn a_damaged_file_stops_the_start_and_stays_as_it_is() {
    let directory = TemporaryDirectory::new("damaged");
    let disk = Directory::open(&directory.0)
        .unwrap()
        .start(metrics())
        .unwrap();
    disk.write((0..200).map(held).collect());
    disk.close();
    drop(disk);
    let whole = std::fs::read(directory.file()).unwrap();
    let texts = whole.windows(4).position(|bytes| bytes == b"a 77").unwrap();
    let cut = whole.len() / 3;
    let mut flipped = whole.clone();
    flipped[texts] ^= 1;
    for damaged in [
        b"no database at all".to_vec(),
        whole[..cut].to_vec(),
        flipped,
    ] {
        std::fs::write(directory.file(), &damaged).unwrap();
        let error = open_error(&directory.0);
        assert!(
            error.contains("pushes.redb (--push.dir) is damaged: "),
            "{error}"
        );
        assert!(error.contains("move it away and start again"), "{error}");
        assert!(!error.contains('\n'), "{error}");
        assert_eq!(
            std::fs::read(directory.file()).unwrap().len(),
            damaged.len()
        );
    }
    std::fs::write(directory.file(), &whole).unwrap();
    let found = read(&Directory::open(&directory.0).unwrap(), SystemTime::now());
    assert_eq!(found.pushes.len(), 200);
}

#[test]
fn a_record_that_cannot_be_read_costs_itself_and_is_kept() {
    let directory = TemporaryDirectory::new("unreadable");
    let open = Directory::open(&directory.0).unwrap();
    let now = SystemTime::now();
    let batch = [held(1), held(2)].map(|(push, write)| (push, QueuedWrite::of(write, now)));
    open.database.write(&batch, now).unwrap();
    let refuse_first = |text: &TextRecord| {
        let content = content(text)?;
        if content.text.text()[..] == *b"a 1\n" {
            return Err(Unreadable);
        }
        Ok(content)
    };
    let found = open.read(now, refuse_first).unwrap();
    assert_eq!((sequences(&found), found.unreadable), (vec![2], 1));
    assert_eq!(open.database.unreadable().unwrap(), [id(1)]);
    assert_eq!(read(&open, now).unreadable, 0, "it is not counted again");
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let directory = TemporaryDirectory::new("file");
    std::fs::write(&directory.0, "").unwrap();
    let error = open_error(&directory.0.join("below"));
    assert!(
        error.contains("/below (--push.dir): Not a directory"),
        "{error}"
    );
    std::fs::remove_file(&directory.0).unwrap();
}

/// Memory that fails while it is told to.
#[derive(Debug, Clone)]
struct Faulty {
    memory: Arc<InMemoryBackend>,
    fails: Arc<AtomicBool>,
}

impl Faulty {
    fn check(&self) -> Result<(), io::Error> {
        if self.fails.load(Ordering::SeqCst) {
            return Err(io::Error::from_raw_os_error(nix::libc::ENOSPC));
        }
        Ok(())
    }
}

impl StorageBackend for Faulty {
    fn len(&self) -> Result<u64, io::Error> {
        self.memory.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.memory.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.check()?;
        self.memory.set_len(len)
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        self.check()?;
        self.memory.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.check()?;
        self.memory.write(offset, data)
    }
}

#[test]
fn while_the_disk_is_full_nothing_is_said_to_be_written_and_afterwards_all_is() {
    let directory = TemporaryDirectory::new("full");
    std::fs::create_dir(&directory.0).unwrap();
    let backend = Faulty {
        memory: Arc::default(),
        fails: Arc::default(),
    };
    let open = {
        let backend = backend.clone();
        move || Database::with_backend(backend.clone())
    };
    let place = Place {
        directory: File::open(&directory.0).unwrap(),
        file: directory.file(),
        _lock: None,
    };
    let database = open().unwrap();
    let disk = Disk::start(database, Box::new(open.clone()), place, metrics()).unwrap();
    let mut reports = disk.reports().unwrap();
    disk.write(vec![held(1)]);
    assert_eq!(next(&mut reports), [(id(1), true)]);

    backend.fails.store(true, Ordering::SeqCst);
    disk.write(vec![held(2)]);
    assert_eq!(next(&mut reports), [(id(2), false)]);
    let report = disk.report();
    assert!(report.failing);
    assert!(report.last_error.unwrap().contains("No space left"));
    disk.write(vec![(id(1), Write::Removed), held(3)]);
    assert!(next(&mut reports).iter().all(|(_, written)| !written));

    backend.fails.store(false, Ordering::SeqCst);
    let mut written = Vec::new();
    while written.len() < 2 {
        let reported = next(&mut reports).into_iter();
        written.extend(reported.filter(|(_, written)| *written));
    }
    written.sort();
    assert_eq!(written, [(id(2), true), (id(3), true)]);
    assert!(!disk.is_failing());
    assert!(disk.report().last_error.is_some());
    disk.close();
    let mut found = Vec::new();
    let unreadable = open().unwrap().read(|stored| {
        found.push(stored.push.sequence);
        Ok(())
    });
    assert_eq!((unreadable.unwrap(), found), (0, vec![2, 3]));
}
