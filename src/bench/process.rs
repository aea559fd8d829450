//! What Linux accounts to a process, read from `/proc`. On other systems every question is an error.

use std::fs;
use std::io;

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

    /// CPU seconds of all threads since the process began.
    ///
    /// To the nanosecond while its threads live. What ended threads used is known in clock ticks of 10 ms only, and
    /// counts once that is more than what the living ones used.
    pub fn cpu_seconds(self) -> io::Result<f64> {
        let mut nanoseconds = 0.0;
        for task in fs::read_dir(self.path("task"))? {
            // A thread may have ended meanwhile.
            let text = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
            let on_cpu = text.split(' ').next().unwrap_or_default();
            nanoseconds += on_cpu.parse::<f64>().unwrap_or_default();
        }
        let stat = fs::read_to_string(self.path("stat"))?;
        // The second field, the name in parentheses, may have blanks. The user's and the system's ticks are the
        // fourteenth and the fifteenth (proc_pid_stat(5)).
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        let ticks: f64 = after_name
            .split_whitespace()
            .skip(11)
            .take(2)
            .flat_map(str::parse::<f64>)
            .sum();
        let ticks_per_second = rustix::param::clock_ticks_per_second() as f64;
        Ok((nanoseconds / 1e9).max(ticks / ticks_per_second))
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
