//! What a process has cost so far, by the system's own accounting.

use std::fs;
use std::time::Duration;

use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;

use crate::Result;

/// Another process, seen from outside.
pub(crate) struct Process {
    pid: u32,
    clock: ClockId,
}

impl Process {
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let clock = clock_getcpuclockid(Pid::from_raw(i32::try_from(pid)?))?;
        Ok(Self { pid, clock })
    }

    /// CPU time of all threads, those that have ended included, in user and in kernel mode. The ticks of
    /// `/proc/PID/stat` say the same in steps of 10 ms.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        Ok(self.clock.now()?.into())
    }

    /// Resident memory in bytes.
    pub(crate) fn resident(&self) -> Result<u64> {
        self.memory("VmRSS:")
    }

    /// The most resident memory in bytes, since the start or since [`Process::forget_peak`].
    pub(crate) fn peak(&self) -> Result<u64> {
        self.memory("VmHWM:")
    }

    pub(crate) fn forget_peak(&self) -> Result<()> {
        Ok(fs::write(format!("/proc/{}/clear_refs", self.pid), "5")?)
    }

    fn memory(&self, field: &str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let value = status
            .lines()
            .find_map(|line| line.strip_prefix(field))
            .ok_or("no such field")?;
        Ok(value.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    }
}
