//! The signals of a program that runs until it is told to end.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;

/// Why a program is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// SIGINT.
    Interrupt,
    /// SIGQUIT.
    Quit,
    /// SIGTERM.
    Terminate,
}

impl Ending {
    /// The number of the signal.
    pub fn number(self) -> u8 {
        match self {
            Self::Interrupt => 2,
            Self::Quit => 3,
            Self::Terminate => 15,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "SIGINT",
            Self::Quit => "SIGQUIT",
            Self::Terminate => "SIGTERM",
        }
    }
}

/// SIGTERM, SIGINT and SIGQUIT, by which a program is told to end; SIGHUP, which asks it to read its files again; SIGUSR1
/// and SIGUSR2, which are ignored.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hangup: Signal,
    _ignored: [Signal; 2],
}

impl Signals {
    /// From now on none of them ends the process by itself.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hangup: signal(SignalKind::hangup())?,
            _ignored: [
                signal(SignalKind::user_defined1())?,
                signal(SignalKind::user_defined2())?,
            ],
        })
    }

    /// Waits for the next that says to end. Until then, `read_files` is called for each SIGHUP.
    pub async fn received(&mut self, read_files: impl Fn()) -> Ending {
        loop {
            let ending = tokio::select! {
                _ = self.terminate.recv() => Ending::Terminate,
                _ = self.interrupt.recv() => Ending::Interrupt,
                _ = self.quit.recv() => Ending::Quit,
                _ = self.hangup.recv() => {
                    read_files();
                    continue;
                }
            };
            info!(signal = ending.name(), "signal received");
            return ending;
        }
    }
}
