//! SIGTERM, where the system has it.

/// What becomes of the process after the push on SIGTERM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterSigterm {
    /// It ends as SIGTERM ends a process that does not handle it. For applications without a handler of their own:
    /// listening to the signal has taken its effect away.
    EndProcess,
    /// The application, which handles SIGTERM as well, ends it. With [`Builder::push_on_drop`] as well, dropping the
    /// client waits for the push that SIGTERM began.
    ///
    /// [`Builder::push_on_drop`]: crate::Builder::push_on_drop
    LeaveToApplication,
}

#[cfg(unix)]
impl AfterSigterm {
    pub(crate) fn act(self) {
        if self == Self::EndProcess
            && let Err(error) =
                signal_hook::low_level::emulate_default_handler(signal_hook::consts::SIGTERM)
        {
            tracing::error!(%error, "cannot end the process");
        }
    }
}

#[cfg(not(unix))]
impl AfterSigterm {
    pub(crate) fn act(self) {}
}

/// Comes with the process' SIGTERM, if it is `wanted`.
#[cfg(unix)]
pub(crate) async fn sigterm(wanted: bool) {
    use tokio::signal::unix::{SignalKind, signal};
    if wanted {
        match signal(SignalKind::terminate()) {
            Ok(mut signals) => {
                if signals.recv().await.is_some() {
                    return;
                }
            }
            Err(error) => tracing::error!(%error, "cannot listen to SIGTERM"),
        }
    }
    std::future::pending::<()>().await;
}

#[cfg(not(unix))]
pub(crate) async fn sigterm(_wanted: bool) {
    std::future::pending::<()>().await;
}
