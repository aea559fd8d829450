//! Whatever comes as a datagram: what reaches the decoder was sealed by somebody who knows the secret, comes once, and
//! unpacks to a bounded size.
//!
//! The first byte chooses: the bytes after it are a packet for a node with a secret, a packet for one without, or a message
//! that is sealed and then opened.

#![no_main]

use libfuzzer_sys::fuzz_target;
use prometheus_rsocket_proxy::cluster::fuzzing::Gossip;

const SECRET: &str = "correct horse battery staple";
const NOW: u64 = 1_800_000_000_000;

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, bytes)) = bytes.split_first() else {
        return;
    };
    match choice % 3 {
        0 => assert_eq!(Gossip::new(SECRET).open(bytes, NOW), None),
        1 => {
            if let Some(message) = Gossip::new("").open(bytes, NOW) {
                assert!(bytes.ends_with(&message) && blocks(&message) <= 64);
            }
        }
        _ => {
            let mut gossip = Gossip::new(SECRET);
            let Some(packet) = gossip.seal(bytes, NOW) else {
                return;
            };
            if let Some(message) = gossip.open(&packet, NOW) {
                assert!(message == bytes && blocks(&message) <= 64);
            }
            assert_eq!(gossip.open(&packet, NOW), None);
        }
    }
});

/// Compressed blocks of a message, each of which unpacks to 64 kB at most.
fn blocks(message: &[u8]) -> usize {
    let streams = match message[3] {
        0 | 2 => 1,
        1 => 2,
        _ => 0,
    };
    let (mut at, mut blocks) = (4, 0);
    for _ in 0..streams {
        while message[at] != 0 {
            let length = u16::from_le_bytes([message[at + 1], message[at + 2]]);
            at += 3 + usize::from(length);
            blocks += 1;
        }
        at += 1;
    }
    blocks
}
