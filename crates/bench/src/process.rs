//! What Linux accounts to a process. On other systems every question is an error.

use std::fs;
use std::io;
#[cfg(target_os = "linux")]
use std::time::Duration;

#[cfg(target_os = "linux")]
use nix::{time::clock_getcpuclockid, unistd::Pid};

/// A process of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    id: u32,
}

impl Process {
    /// The process with this id.
    pub fn new(id: u32) -> Self {
        Self { id }
    }

    /// The process that asks.
    pub fn current() -> Self {
        Self::new(std::process::id())
    }

    /// CPU seconds of all threads since the process began, those of ended ones included, to the nanosecond.
    #[cfg(target_os = "linux")]
    pub fn cpu_seconds(self) -> io::Result<f64> {
        let id = i32::try_from(self.id).map_err(|_| io::ErrorKind::NotFound)?;
        let used = clock_getcpuclockid(Pid::from_raw(id))?.now()?;
        Ok(Duration::from(used).as_secs_f64())
    }

    /// Not known.
    #[cfg(not(target_os = "linux"))]
    pub fn cpu_seconds(self) -> io::Result<f64> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Bytes in memory now.
    pub fn resident_bytes(self) -> io::Result<u64> {
        self.status_bytes("VmRSS:")
    }

    /// The most bytes that were in memory at a time, since the process began or [`Process::reset_peak`].
    pub fn peak_bytes(self) -> io::Result<u64> {
        self.status_bytes("VmHWM:")
    }

    /// Begins a new peak, at what is in memory now. Needs the right to write to the process.
    pub fn reset_peak(self) -> io::Result<()> {
        fs::write(self.path("clear_refs"), "5")
    }

    fn status_bytes(self, field: &str) -> io::Result<u64> {
        let status = fs::read_to_string(self.path("status"))?;
        let kilobytes = status
            .lines()
            .find_map(|line| line.strip_prefix(field))
            .and_then(|value| value.trim().trim_end_matches(" kB").parse::<u64>().ok())
            .ok_or_else(|| io::Error::other(format!("no {field} in the status of the process")))?;
        Ok(kilobytes * 1024)
    }

    fn path(self, file: &str) -> String {
        format!("/proc/{}/{file}", self.id)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::hint::black_box;

    use super::*;

    #[test]
    fn what_a_process_does_is_accounted_to_it() {
        let process = Process::current();
        let before = process.cpu_seconds().unwrap();
        while process.cpu_seconds().unwrap() < before + 0.02 {
            black_box(before);
        }
        process.reset_peak().unwrap();
        let resident = process.resident_bytes().unwrap();
        let page = black_box(vec![1_u8; 64 << 20]);
        assert!(process.peak_bytes().unwrap() >= resident.max(page.len() as u64));
    }

    #[test]
    fn a_process_that_is_not_there_has_no_figures() {
        let nobody = Process::new(u32::MAX);
        assert!(nobody.cpu_seconds().is_err() && nobody.resident_bytes().is_err());
    }
}
