//! Who was refused at entry, and why, for the status page.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::SystemTime;

use parking_lot::Mutex;

use super::Transport;
use super::metrics::ConnectionFault;

/// The latest that are remembered.
const KEPT: usize = 50;
/// Characters of a reason.
const MAX_REASON: usize = 200;

/// A connection that was refused before it was an application's, and others like it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The other end of the latest.
    pub peer: SocketAddr,
    /// What it ran over.
    pub transport: Transport,
    /// The label `exception` of `prometheus_proxy_connection_error_total`.
    pub exception: &'static str,
    /// For people; of the latest.
    pub reason: String,
    /// When the latest was refused.
    pub at: SystemTime,
    /// How many from this address were refused for this.
    pub times: u64,
}

/// The latest that were refused, each address once for each cause.
#[derive(Debug, Default)]
pub(super) struct RefusedLog(Mutex<VecDeque<Refused>>);

impl RefusedLog {
    /// One was refused.
    pub(super) fn note(
        &self,
        peer: SocketAddr,
        transport: Transport,
        fault: ConnectionFault,
        reason: &str,
    ) {
        let reason = reason.chars().take(MAX_REASON).collect();
        let exception = fault.label();
        let mut latest = self.0.lock();
        let same = latest.iter().position(|before| {
            before.peer.ip() == peer.ip()
                && before.transport == transport
                && before.exception == exception
        });
        let before = same.and_then(|at| latest.remove(at));
        latest.truncate(KEPT - 1);
        latest.push_front(Refused {
            peer,
            transport,
            exception,
            reason,
            at: SystemTime::now(),
            times: before.map_or(0, |before| before.times) + 1,
        });
    }

    /// The latest first.
    pub(super) fn latest(&self) -> Vec<Refused> {
        self.0.lock().iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_comes_again_and_again_is_one_entry_and_others_are_not_lost_by_it() {
        let log = RefusedLog::default();
        let note = |host: u8, port: u16, fault| {
            let peer = ([192, 0, 2, host], port).into();
            log.note(peer, Transport::Tcp, fault, &port.to_string());
        };
        note(1, 1, ConnectionFault::Credentials);
        for port in 0..1000 {
            note(2, port, ConnectionFault::Tls);
        }
        note(1, 2, ConnectionFault::Tls);
        let latest: Vec<_> = log
            .latest()
            .into_iter()
            .map(|refused| (refused.reason, refused.exception, refused.times))
            .collect();
        let entry = |reason: &str, exception, times| (reason.to_owned(), exception, times);
        assert_eq!(
            latest,
            [
                entry("2", "tls", 1),
                entry("999", "tls", 1000),
                entry("1", "credentials", 1)
            ]
        );
        for host in 0..=255 {
            note(host, 1, ConnectionFault::Origin);
        }
        assert_eq!(log.latest().len(), KEPT);
    }
}
