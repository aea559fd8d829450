//! Which packets of which senders have been opened: each opens once. No clock: times are given, in milliseconds.

use std::collections::HashMap;

/// How far a packet's time may lie from the receiver's. Also covers how far the clocks of two nodes may be apart.
pub(super) const FRESH_MILLIS: u64 = 60_000;
/// After this a sender's packets, even from a clock that runs ahead, are no longer fresh: nothing need be remembered.
const REMEMBER_MILLIS: u64 = 2 * FRESH_MILLIS;
/// Senders remembered. Only who knows the secret becomes one, and a node is one per start.
const MAX_SENDERS: usize = 4096;
/// How far packets of a sender may overtake each other.
const WINDOW: u32 = u128::BITS;

/// Why an authentic packet is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stale {
    /// Sent too long ago, or in the future.
    Time,
    /// Opened before, or so far behind that it cannot be told.
    Seen,
    /// More senders than are remembered.
    Crowded,
}

/// The windows of all senders.
#[derive(Debug, Default)]
pub(super) struct Windows {
    senders: HashMap<u64, Window>,
}

#[derive(Debug)]
struct Window {
    /// The greatest counter.
    newest: u32,
    /// Bit `n`: `newest - n` was opened.
    opened: u128,
    heard_at: u64,
}

impl Windows {
    /// Takes note of an authentic packet, unless it is not to be taken.
    pub(super) fn admit(
        &mut self,
        sender: u64,
        counter: u32,
        sent_at: u64,
        now: u64,
    ) -> Result<(), Stale> {
        if now.abs_diff(sent_at) > FRESH_MILLIS {
            return Err(Stale::Time);
        }
        if let Some(window) = self.senders.get_mut(&sender) {
            return window.admit(counter, now);
        }
        if self.senders.len() >= MAX_SENDERS {
            self.senders
                .retain(|_, window| now.saturating_sub(window.heard_at) <= REMEMBER_MILLIS);
        }
        if self.senders.len() >= MAX_SENDERS {
            return Err(Stale::Crowded);
        }
        let window = Window {
            newest: counter,
            opened: 1,
            heard_at: now,
        };
        self.senders.insert(sender, window);
        Ok(())
    }
}

impl Window {
    fn admit(&mut self, counter: u32, now: u64) -> Result<(), Stale> {
        if counter > self.newest {
            let ahead = counter - self.newest;
            self.opened = self.opened.checked_shl(ahead).unwrap_or(0) | 1;
            self.newest = counter;
        } else {
            let behind = self.newest - counter;
            let bit = 1_u128.checked_shl(behind).ok_or(Stale::Seen)?;
            if self.opened & bit != 0 {
                return Err(Stale::Seen);
            }
            self.opened |= bit;
        }
        self.heard_at = self.heard_at.max(now);
        Ok(())
    }
}

const _: () = assert!(WINDOW == 128);

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    #[test]
    fn packets_that_overtake_each_other_are_all_taken_once() {
        let mut windows = Windows::default();
        for counter in [5, 3, 4, 9, 1] {
            assert_eq!(windows.admit(1, counter, NOW, NOW), Ok(()));
            assert_eq!(windows.admit(1, counter, NOW, NOW), Err(Stale::Seen));
        }
        assert_eq!(windows.admit(2, 3, NOW, NOW), Ok(()), "another sender's");
    }

    #[test]
    fn what_is_behind_the_window_is_taken_for_seen() {
        let mut windows = Windows::default();
        assert_eq!(windows.admit(1, 1000, NOW, NOW), Ok(()));
        assert_eq!(windows.admit(1, 873, NOW, NOW), Ok(()));
        assert_eq!(windows.admit(1, 872, NOW, NOW), Err(Stale::Seen));
    }

    #[test]
    fn a_packet_of_another_time_is_not_taken() {
        let mut windows = Windows::default();
        assert_eq!(windows.admit(1, 0, NOW - FRESH_MILLIS, NOW), Ok(()));
        assert_eq!(windows.admit(1, 1, NOW + FRESH_MILLIS, NOW), Ok(()));
        for sent_at in [0, NOW - FRESH_MILLIS - 1, NOW + FRESH_MILLIS + 1, u64::MAX] {
            assert_eq!(windows.admit(1, 2, sent_at, NOW), Err(Stale::Time));
        }
    }

    #[test]
    fn senders_are_bounded_and_only_those_whose_packets_are_stale_are_forgotten() {
        let mut windows = Windows::default();
        for sender in 0..MAX_SENDERS as u64 {
            assert_eq!(windows.admit(sender, 0, NOW, NOW), Ok(()));
        }
        assert_eq!(windows.admit(u64::MAX, 0, NOW, NOW), Err(Stale::Crowded));
        let later = NOW + REMEMBER_MILLIS + 1;
        assert_eq!(windows.admit(u64::MAX, 0, later, later), Ok(()));
        assert_eq!(windows.senders.len(), 1);
        assert_eq!(windows.admit(7, 0, NOW, later), Err(Stale::Time));
    }

    proptest! {
        #[test]
        fn no_packet_is_ever_taken_twice(
            packets in prop::collection::vec((0_u64..3, prop_oneof![0_u32..400, Just(u32::MAX)], 0_u64..300_000), 0..400)
        ) {
            let mut windows = Windows::default();
            let mut taken = HashSet::new();
            for (sender, counter, at) in packets {
                if windows.admit(sender, counter, NOW + at, NOW + at).is_ok() {
                    prop_assert!(taken.insert((sender, counter)));
                }
            }
        }
    }
}
