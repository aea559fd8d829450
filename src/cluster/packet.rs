//! What travels between nodes in one UDP datagram:
//!
//! - header: `PRG` 0x01, the kind (1 byte: 1 plain, 2 sealed), and the first 8 bytes of SHA-256( the cluster's name );
//! - plain: the message;
//! - sealed: nonce (12 bytes), AES-256-GCM( time in milliseconds since 1970 (8 bytes, big-endian), message ), its tag at
//!   the end, with the header as associated data.
//!
//! A nonce is 8 random bytes, drawn at the process' start, and a counter; when the counter is used up, the bytes are
//! drawn anew. So no two packets of a node have the same, and for two starts of any nodes to draw the same 8 bytes takes
//! billions of them.
//!
//! A packet opens once at each node ([`Windows`]), within a minute of its time. A node that starts has no memory of
//! what was opened before: the time is what protects it from packets recorded earlier, so the clocks of nodes must not
//! be further apart.
//!
//! A packet does not name its receiver, which its sender cannot know for sure: between them may be a translation of
//! addresses. So an attacker who records packets, or delays them, can still bring one, within that minute, to each
//! node that has not seen it. It says nothing that its sender did not say, but it says it late: a node that is
//! gone can be made to look alive for up to a minute more.

use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, KeyInit};
use bytes::{Buf, BufMut};
use sha2::{Digest, Sha256};

use super::replay::{Stale, Windows};
use super::secret::{Purpose, Secrets};

/// The longest payload of a UDP datagram over IPv4.
pub(super) const MAX_PACKET: usize = 65_507;
/// What sealing adds to a message.
#[cfg(test)]
pub(super) const OVERHEAD: usize = HEADER_BYTES + NONCE_BYTES + TIME_BYTES + TAG_BYTES;

const MAGIC: &[u8] = b"PRG\x01";
const PLAIN: u8 = 1;
const SEALED: u8 = 2;
const CLUSTER_BYTES: usize = 8;
const HEADER_BYTES: usize = MAGIC.len() + 1 + CLUSTER_BYTES;
const NONCE_BYTES: usize = 12;
const TIME_BYTES: usize = 8;
const TAG_BYTES: usize = 16;

type Cluster = [u8; CLUSTER_BYTES];
type Nonce = [u8; NONCE_BYTES];

/// Why a packet was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Longer than a datagram gets.
    Oversized,
    /// Not a packet of this program, or of a version that is not known.
    Foreign,
    /// For a cluster of another name.
    OtherCluster,
    /// Plain, and this node has a secret.
    Unsealed,
    /// Sealed, and this node has no secret.
    Sealed,
    /// Sealed with another secret, or changed on its way.
    Unopened,
    /// Sealed too long ago, or in the future.
    OutOfTime,
    /// Opened before.
    Replayed,
    /// From more senders than are remembered.
    Crowded,
    /// Not a gossip message.
    Malformed,
    /// Faster than it can be taken.
    Overrun,
}

impl Refusal {
    /// Every reason.
    pub(super) const ALL: [Self; 11] = [
        Self::Oversized,
        Self::Foreign,
        Self::OtherCluster,
        Self::Unsealed,
        Self::Sealed,
        Self::Unopened,
        Self::OutOfTime,
        Self::Replayed,
        Self::Crowded,
        Self::Malformed,
        Self::Overrun,
    ];

    /// The word in metrics and log.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Oversized => "oversized",
            Self::Foreign => "foreign",
            Self::OtherCluster => "other_cluster",
            Self::Unsealed => "unsealed",
            Self::Sealed => "sealed",
            Self::Unopened => "unopened",
            Self::OutOfTime => "out_of_time",
            Self::Replayed => "replayed",
            Self::Crowded => "crowded",
            Self::Malformed => "malformed",
            Self::Overrun => "overrun",
        }
    }
}

impl From<Stale> for Refusal {
    fn from(stale: Stale) -> Self {
        match stale {
            Stale::Time => Self::OutOfTime,
            Stale::Seen => Self::Replayed,
            Stale::Crowded => Self::Crowded,
        }
    }
}

fn header(kind: u8, cluster: Cluster) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    let mut rest = &mut header[..];
    rest.put_slice(MAGIC);
    rest.put_u8(kind);
    rest.put_slice(&cluster);
    header
}

fn cluster(name: &str) -> Cluster {
    let digest = Sha256::digest(name);
    let mut cluster = Cluster::default();
    cluster.copy_from_slice(&digest[..CLUSTER_BYTES]);
    cluster
}

/// Makes packets of messages.
pub(super) struct Sealer {
    cluster: Cluster,
    cipher: Option<Aes256Gcm>,
    prefix: u64,
    counter: u32,
}

impl Sealer {
    /// For a cluster; plain where there is no secret.
    pub(super) fn new(cluster_name: &str, secrets: &Secrets) -> Self {
        let newest = secrets.keys(Purpose::Gossip).into_iter().next();
        Self {
            cluster: cluster(cluster_name),
            cipher: newest.map(|key| Aes256Gcm::new((&*key).into())),
            prefix: rand::random(),
            counter: 0,
        }
    }

    /// A packet with `message`, at `now` in milliseconds since 1970.
    pub(super) fn seal(&mut self, message: &[u8], now: u64) -> Result<Vec<u8>, Refusal> {
        let packet = if self.cipher.is_some() {
            self.sealed(message, now)?
        } else {
            [&header(PLAIN, self.cluster), message].concat()
        };
        if packet.len() > MAX_PACKET {
            return Err(Refusal::Oversized);
        }
        Ok(packet)
    }

    fn sealed(&mut self, message: &[u8], now: u64) -> Result<Vec<u8>, Refusal> {
        let nonce = self.next_nonce();
        let header = header(SEALED, self.cluster);
        let mut body = Vec::with_capacity(TIME_BYTES + message.len() + TAG_BYTES);
        body.put_u64(now);
        body.put_slice(message);
        if let Some(cipher) = &self.cipher {
            // Fails for more than 64 GB.
            cipher
                .encrypt_in_place(&nonce.into(), &header, &mut body)
                .map_err(|_| Refusal::Oversized)?;
        }
        Ok([&header[..], &nonce, &body].concat())
    }

    fn next_nonce(&mut self) -> Nonce {
        let mut nonce = Nonce::default();
        let mut rest = &mut nonce[..];
        rest.put_u64(self.prefix);
        rest.put_u32(self.counter);
        match self.counter.checked_add(1) {
            Some(counter) => self.counter = counter,
            None => (self.prefix, self.counter) = (rand::random(), 0),
        }
        nonce
    }
}

/// Makes messages of packets, from whomever they come.
pub(super) struct Opener {
    cluster: Cluster,
    ciphers: Vec<Aes256Gcm>,
    windows: Windows,
}

impl Opener {
    /// For a cluster; plain where there is no secret.
    pub(super) fn new(cluster_name: &str, secrets: &Secrets) -> Self {
        let keys = secrets.keys(Purpose::Gossip);
        Self {
            cluster: cluster(cluster_name),
            ciphers: keys
                .iter()
                .map(|key| Aes256Gcm::new((&**key).into()))
                .collect(),
            windows: Windows::default(),
        }
    }

    /// The message in `packet`, at `now` in milliseconds since 1970.
    pub(super) fn open(&mut self, packet: &[u8], now: u64) -> Result<Vec<u8>, Refusal> {
        if packet.len() > MAX_PACKET {
            return Err(Refusal::Oversized);
        }
        let (header, body) = packet
            .split_at_checked(HEADER_BYTES)
            .ok_or(Refusal::Foreign)?;
        let (kind, cluster) = header
            .strip_prefix(MAGIC)
            .and_then(<[u8]>::split_first)
            .ok_or(Refusal::Foreign)?;
        if cluster != self.cluster {
            return Err(Refusal::OtherCluster);
        }
        match (*kind, self.ciphers.is_empty()) {
            (PLAIN, true) => Ok(body.to_vec()),
            (PLAIN, false) => Err(Refusal::Unsealed),
            (SEALED, true) => Err(Refusal::Sealed),
            (SEALED, false) => self.open_sealed(header, body, now),
            _ => Err(Refusal::Foreign),
        }
    }

    fn open_sealed(&mut self, header: &[u8], body: &[u8], now: u64) -> Result<Vec<u8>, Refusal> {
        let (nonce, sealed) = body
            .split_first_chunk::<NONCE_BYTES>()
            .ok_or(Refusal::Foreign)?;
        let mut opened = self
            .ciphers
            .iter()
            .find_map(|cipher| decrypt(cipher, nonce, header, sealed))
            .ok_or(Refusal::Unopened)?;
        let (prefix, counter) = ((&nonce[..8]).get_u64(), (&nonce[8..]).get_u32());
        let sent_at = (&opened[..])
            .try_get_u64()
            .map_err(|_| Refusal::Malformed)?;
        self.windows.admit(prefix, counter, sent_at, now)?;
        opened.drain(..TIME_BYTES);
        Ok(opened)
    }
}

fn decrypt(cipher: &Aes256Gcm, nonce: &Nonce, header: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let mut body = sealed.to_vec();
    cipher
        .decrypt_in_place(nonce.into(), header, &mut body)
        .is_ok()
        .then_some(body)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cluster::replay::FRESH_MILLIS;

    const NOW: u64 = 1_800_000_000_000;
    const OLD: &str = "the-secret-of-last-year";
    const NEW: &str = "the-secret-of-this-year";

    fn secrets(lines: &[&str]) -> Secrets {
        let mut secrets = Secrets::default();
        secrets.add_lines(&lines.join("\n")).unwrap();
        secrets
    }

    fn pair(sealing: &[&str], opening: &[&str]) -> (Sealer, Opener) {
        (
            Sealer::new("metrics", &secrets(sealing)),
            Opener::new("metrics", &secrets(opening)),
        )
    }

    #[test]
    fn what_is_sealed_opens_once() {
        let (mut sealer, mut opener) = pair(&[NEW], &[NEW]);
        let packet = sealer.seal(b"hello", NOW).unwrap();
        assert_eq!(packet.len(), 5 + OVERHEAD);
        assert_eq!(opener.open(&packet, NOW).unwrap(), b"hello");
        assert_eq!(opener.open(&packet, NOW), Err(Refusal::Replayed));
    }

    #[test]
    fn what_was_sealed_long_ago_does_not_open_even_for_a_node_that_never_saw_it() {
        let (mut sealer, mut opener) = pair(&[NEW], &[NEW]);
        let packet = sealer.seal(b"hello", NOW).unwrap();
        let later = NOW + FRESH_MILLIS + 1;
        assert_eq!(opener.open(&packet, later), Err(Refusal::OutOfTime));
    }

    #[test]
    fn a_rotation_goes_node_by_node_without_a_gap() {
        // Step by step: everybody opens the new one; everybody seals with it; nobody knows the old one.
        let steps = [&[OLD][..], &[OLD, NEW], &[NEW, OLD], &[NEW]];
        for step in steps.windows(2) {
            for (from, to) in [(step[0], step[1]), (step[1], step[0])] {
                let (mut sealer, mut opener) = pair(from, to);
                let packet = sealer.seal(b"hello", NOW).unwrap();
                assert!(opener.open(&packet, NOW).is_ok(), "{from:?} to {to:?}");
            }
        }
        let (mut sealer, mut opener) = pair(&[OLD], &[NEW]);
        let packet = sealer.seal(b"hello", NOW).unwrap();
        assert_eq!(opener.open(&packet, NOW), Err(Refusal::Unopened));
    }

    #[test]
    fn plain_and_sealed_do_not_mix() {
        let mut plain = Sealer::new("metrics", &Secrets::default());
        let packet = plain.seal(b"hello", NOW).unwrap();
        let (mut sealer, mut opener) = pair(&[NEW], &[NEW]);
        assert_eq!(opener.open(&packet, NOW), Err(Refusal::Unsealed));
        let mut open_to_all = Opener::new("metrics", &Secrets::default());
        assert_eq!(open_to_all.open(&packet, NOW).unwrap(), b"hello");
        let sealed = sealer.seal(b"hello", NOW).unwrap();
        assert_eq!(open_to_all.open(&sealed, NOW), Err(Refusal::Sealed));
    }

    #[test]
    fn a_packet_for_another_cluster_is_told_from_one_with_another_secret() {
        let mut sealer = Sealer::new("logs", &secrets(&[NEW]));
        let (_, mut opener) = pair(&[NEW], &[NEW]);
        let packet = sealer.seal(b"hello", NOW).unwrap();
        assert_eq!(opener.open(&packet, NOW), Err(Refusal::OtherCluster));
    }

    #[test]
    fn a_message_that_does_not_fit_into_a_datagram_is_not_sent() {
        let (mut sealer, _) = pair(&[NEW], &[NEW]);
        assert!(sealer.seal(&vec![0; MAX_PACKET - OVERHEAD], NOW).is_ok());
        let over = sealer.seal(&vec![0; MAX_PACKET - OVERHEAD + 1], NOW);
        assert_eq!(over, Err(Refusal::Oversized));
    }

    #[test]
    fn a_nonce_is_not_used_twice_not_even_when_the_counter_is_used_up() {
        let (mut sealer, _) = pair(&[NEW], &[NEW]);
        sealer.counter = u32::MAX;
        let nonces = [
            sealer.next_nonce(),
            sealer.next_nonce(),
            sealer.next_nonce(),
        ];
        assert_ne!(nonces[0][..8], nonces[1][..8]);
        assert_eq!(nonces[1][..8], nonces[2][..8]);
        assert_ne!(nonces[1], nonces[2]);
    }

    proptest! {
        #[test]
        fn a_packet_that_was_changed_anywhere_does_not_open(
            message in prop::collection::vec(any::<u8>(), 0..200),
            at in any::<prop::sample::Index>(),
            flip in 1_u8..,
        ) {
            let (mut sealer, mut opener) = pair(&[NEW], &[NEW, OLD]);
            let mut packet = sealer.seal(&message, NOW).unwrap();
            let at = at.index(packet.len());
            packet[at] ^= flip;
            prop_assert!(opener.open(&packet, NOW).is_err());
        }

        #[test]
        fn a_packet_that_was_cut_or_lengthened_does_not_open(
            message in prop::collection::vec(any::<u8>(), 0..200),
            length in 0_usize..400,
        ) {
            let (mut sealer, mut opener) = pair(&[NEW], &[NEW]);
            let mut packet = sealer.seal(&message, NOW).unwrap();
            prop_assume!(length != packet.len());
            packet.resize(length, 0);
            prop_assert!(opener.open(&packet, NOW).is_err());
        }

        #[test]
        fn random_bytes_behind_a_true_header_are_survived(
            kind in 0_u8..4,
            body in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            let (_, mut opener) = pair(&[NEW], &[NEW]);
            let packet = [&header(kind, cluster("metrics"))[..], &body].concat();
            prop_assert!(opener.open(&packet, NOW).is_err());
        }
    }
}
