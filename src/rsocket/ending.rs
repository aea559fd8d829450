//! How a connection ended, as Prometheus is to see its application: lost, left or moved.

use std::time::Duration;

use prometheus_rsocket_wire::ErrorCode;
use prometheus_rsocket_wire::session::CloseReason;
use tokio::time::Instant;

use super::Cause;
use crate::directory::End;

/// An application that closes its connection in good order so soon after a push has come to its end: the published Java
/// client says no other goodbye.
const PUSHED_LAST: Duration = Duration::from_secs(2);

/// What tells how a connection ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Circumstances {
    /// Why this node closed it, if it was asked to.
    pub(super) cause: Option<Cause>,
    /// When a push came last, or was acknowledged.
    pub(super) pushed: Option<Instant>,
}

/// How it ended.
pub(super) fn end(reason: &CloseReason, circumstances: Circumstances, now: Instant) -> End {
    let Circumstances { cause, pushed } = circumstances;
    let pushed_last = pushed.is_some_and(|pushed| now < pushed + PUSHED_LAST);
    match reason {
        CloseReason::Closed(_) if cause == Some(Cause::Revoked) => End::Left,
        // A node that leaves closes it instead of acknowledging a push, too.
        CloseReason::Closed(_) => End::Moved,
        CloseReason::PeerError { code, .. } if *code == ErrorCode::CONNECTION_CLOSE => End::Left,
        CloseReason::PeerEnded if pushed_last => End::Left,
        CloseReason::PeerEnded
        | CloseReason::PeerError { .. }
        | CloseReason::Ended
        | CloseReason::Violation(_)
        | CloseReason::SetupTimeout
        | CloseReason::KeepaliveTimeout
        | CloseReason::Transport(_) => End::Lost,
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn error(code: ErrorCode) -> CloseReason {
        CloseReason::PeerError {
            code,
            message: String::new(),
        }
    }

    #[test]
    fn a_goodbye_a_break_and_a_move_are_told_apart() {
        let closed = CloseReason::Closed(ErrorCode::CONNECTION_CLOSE);
        let transport = CloseReason::Transport(io::ErrorKind::ConnectionReset);
        for (reason, cause, expected) in [
            (error(ErrorCode::CONNECTION_CLOSE), None, End::Left),
            (error(ErrorCode::CONNECTION_ERROR), None, End::Lost),
            (closed.clone(), Some(Cause::Rebalance), End::Moved),
            (closed.clone(), Some(Cause::Drain), End::Moved),
            (closed.clone(), Some(Cause::Revoked), End::Left),
            (closed, None, End::Moved),
            (CloseReason::PeerEnded, None, End::Lost),
            (CloseReason::KeepaliveTimeout, None, End::Lost),
            (transport.clone(), None, End::Lost),
            // It was asked to go, and broke before it did.
            (transport, Some(Cause::Rebalance), End::Lost),
        ] {
            let pushed = None;
            let found = end(&reason, Circumstances { cause, pushed }, Instant::now());
            assert_eq!(found, expected, "{reason:?} {cause:?}");
        }
    }

    #[test]
    fn who_closes_right_after_a_push_has_left() {
        let now = Instant::now();
        let after = |reason, passed| {
            let circumstances = Circumstances {
                cause: None,
                pushed: Some(now),
            };
            end(&reason, circumstances, now + passed)
        };
        let second = Duration::from_secs(1);
        assert_eq!(after(CloseReason::PeerEnded, second), End::Left);
        assert_eq!(after(CloseReason::PeerEnded, 2 * second), End::Lost);
        let reset = CloseReason::Transport(io::ErrorKind::ConnectionReset);
        assert_eq!(after(reset, second), End::Lost);
    }
}
