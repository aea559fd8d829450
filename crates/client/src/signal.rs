//! SIGTERM, where the system has it.

/// What becomes of the process after the push on SIGTERM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterSigterm {
    /// It ends as SIGTERM ends a process that does not handle it, or with exit status 143 where it is the first process
    /// of a container, which such a signal would not end. Of several clients that are told so the last to have pushed
    /// ends it. When all have ended otherwise (closed, dropped, given up), SIGTERM ends it at once.
    ///
    /// For applications without a handler of their own: listening to the signal has taken its effect away.
    EndProcess,
    /// The application, which handles SIGTERM as well, ends it. With [`Builder::push_on_drop`] as well, dropping the
    /// client waits for the push that SIGTERM began.
    ///
    /// [`Builder::push_on_drop`]: crate::Builder::push_on_drop
    LeaveToApplication,
}

#[cfg(unix)]
pub(crate) use unix::Sigterm;

#[cfg(unix)]
mod unix {
    use std::io;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, Mutex, PoisonError};

    use signal_hook::consts::SIGTERM;
    use signal_hook::{flag, low_level};
    use tokio::signal::unix::{Signal, SignalKind, signal};
    use tracing::error;

    use super::AfterSigterm;

    /// The exit status of a process that SIGTERM has ended, as shells tell it.
    const TERMINATED: i32 = 128 + SIGTERM;

    /// Listens to SIGTERM. Dropped when the client has pushed, or will not push any more.
    #[derive(Debug)]
    pub(crate) struct Sigterm {
        signals: Signal,
        pushing: Option<Pushing>,
    }

    impl Sigterm {
        /// `None`, and a line in the log, where the system does not let it.
        pub(crate) fn listen(afterwards: AfterSigterm) -> Option<Self> {
            let listening = Self::try_listen(afterwards);
            listening
                .inspect_err(|error| error!(%error, "cannot listen to SIGTERM"))
                .ok()
        }

        fn try_listen(afterwards: AfterSigterm) -> io::Result<Self> {
            // Before tokio's handler: where that fails, dropping this gives the signal its effect.
            let pushing = match afterwards {
                AfterSigterm::EndProcess => Some(Pushing::begin()?),
                AfterSigterm::LeaveToApplication => None,
            };
            let signals = signal(SignalKind::terminate())?;
            Ok(Self { signals, pushing })
        }

        /// Comes with SIGTERM.
        pub(crate) async fn received(&mut self) {
            let came_before = self.pushing.as_ref().is_some_and(Pushing::has_come);
            if !came_before && self.signals.recv().await.is_none() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// The clients that will push before SIGTERM ends the process.
    static CLIENTS: Mutex<Clients> = Mutex::new(Clients {
        count: 0,
        flags: None,
    });

    struct Clients {
        count: usize,
        /// There from the first client on.
        flags: Option<Flags>,
    }

    /// What the handler reads and writes, which cannot take a lock.
    #[derive(Debug, Clone, Default)]
    struct Flags {
        /// SIGTERM has come.
        come: Arc<AtomicBool>,
        /// No client is left that will push: the handler itself ends the process.
        nobody: Arc<AtomicBool>,
    }

    impl Flags {
        fn register() -> io::Result<Self> {
            let flags = Self::default();
            flag::register(SIGTERM, Arc::clone(&flags.come))?;
            let nobody = Arc::clone(&flags.nobody);
            if is_first_process() {
                flag::register_conditional_shutdown(SIGTERM, TERMINATED, nobody)?;
            } else {
                flag::register_conditional_default(SIGTERM, nobody)?;
            }
            Ok(flags)
        }
    }

    /// One of them, until it is dropped.
    #[derive(Debug)]
    struct Pushing(Flags);

    impl Pushing {
        fn begin() -> io::Result<Self> {
            let mut clients = CLIENTS.lock().unwrap_or_else(PoisonError::into_inner);
            let flags = match &clients.flags {
                Some(flags) => flags.clone(),
                None => clients.flags.insert(Flags::register()?).clone(),
            };
            clients.count += 1;
            flags.nobody.store(false, Ordering::SeqCst);
            Ok(Self(flags))
        }

        fn has_come(&self) -> bool {
            self.0.come.load(Ordering::SeqCst)
        }
    }

    impl Drop for Pushing {
        fn drop(&mut self) {
            let mut clients = CLIENTS.lock().unwrap_or_else(PoisonError::into_inner);
            clients.count -= 1;
            if clients.count == 0 {
                // In this order: a signal of this very moment is seen here or by the handler.
                self.0.nobody.store(true, Ordering::SeqCst);
                if self.has_come() {
                    end_process();
                }
            }
        }
    }

    fn end_process() {
        if is_first_process() {
            low_level::exit(TERMINATED);
        }
        if let Err(error) = low_level::emulate_default_handler(SIGTERM) {
            error!(%error, "cannot end the process");
        }
    }

    /// The system does not end the first process of a container by a signal that has no handler.
    fn is_first_process() -> bool {
        std::process::id() == 1
    }
}

/// Never comes.
#[cfg(not(unix))]
#[derive(Debug)]
pub(crate) struct Sigterm(std::convert::Infallible);

#[cfg(not(unix))]
impl Sigterm {
    pub(crate) fn listen(_: AfterSigterm) -> Option<Self> {
        None
    }

    pub(crate) async fn received(&mut self) {
        match self.0 {}
    }
}
