//! Envelope version 2 against vectors that an independent implementation made (`vectors/version2/make.py`), and against
//! everything that must not open.
#![cfg(feature = "open")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test may panic")]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prometheus_rsocket_wire::envelope::version2::{
    MAX_AGE, MAX_USES, Purpose, Sealer, Unsealer, is_version2,
};
use prometheus_rsocket_wire::envelope::{Hold, OpenError, Sealed, version1};
use prometheus_rsocket_wire::key::{KeyPair, PublicKey};
use prometheus_rsocket_wire::{Announcement, ConnectionToken, Envelopes};
use proptest::prelude::*;

const MAX_TEXT: usize = 1 << 20;
const TOKEN: ConnectionToken = ConnectionToken::from_bytes([5; 16]);
/// Bytes of the metadata before the wrapped secret.
const HEAD: usize = 20;

fn read(case: &str, file: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/vectors")
        .join(case)
        .join(file);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

static KEY: LazyLock<KeyPair> = LazyLock::new(|| {
    let pem = String::from_utf8(read("1-small", "private.pem")).unwrap();
    KeyPair::from_pkcs8_pem(&pem).unwrap()
});
static PUBLIC: LazyLock<PublicKey> =
    LazyLock::new(|| PublicKey::from_spki_der(&KEY.spki_der()).unwrap());

fn seal(sealer: &Sealer, text: &[u8], purpose: Purpose) -> Sealed {
    sealer.seal(text, &PUBLIC, purpose, Instant::now()).unwrap()
}

fn open(unsealer: &Unsealer, sealed: &Sealed, purpose: Purpose) -> Result<Bytes, OpenError> {
    let data = Bytes::copy_from_slice(&sealed.data);
    let block = unsealer.open(&sealed.metadata, data, [&*KEY], purpose)?;
    block.text(MAX_TEXT, purpose.into())
}

fn answer(pull: u64) -> Purpose {
    Purpose::Answer { pull }
}

#[test]
fn opens_what_another_implementation_sealed() {
    let token = Announcement::decode(&read("version2/push", "announcement.bin"))
        .unwrap()
        .connection
        .unwrap();
    let unsealer = Unsealer::new(token);
    for case in [
        "answer",
        "answer-long",
        "answer-new-secret",
        "push",
        "push-empty",
    ] {
        let folder = format!("version2/{case}");
        let announcement = Announcement::decode(&read(&folder, "announcement.bin")).unwrap();
        assert_eq!(announcement.connection, Some(token));
        assert_eq!(
            announcement.envelopes,
            Envelopes {
                version1: true,
                version2: true
            }
        );
        assert_eq!(
            announcement.encode(),
            read(&folder, "announcement.bin"),
            "{case}"
        );
        let sealed = Sealed {
            metadata: read(&folder, "metadata.bin").into(),
            data: read(&folder, "data.bin").into(),
        };
        assert!(is_version2(&sealed.metadata));
        let purpose = announcement.pull.map_or(Purpose::Push, answer);
        let text = open(&unsealer, &sealed, purpose);
        assert_eq!(
            text.as_deref(),
            Ok(&read(&folder, "plaintext.txt")[..]),
            "{case}"
        );
    }
}

#[test]
fn what_was_sealed_for_another_place_does_not_open() {
    let sealer = Sealer::new(TOKEN);
    let unsealer = Unsealer::new(TOKEN);
    let elsewhere = Unsealer::new(ConnectionToken::random());
    for (meant, taken) in [
        (answer(3), answer(4)),
        (answer(0), Purpose::Push),
        (Purpose::Push, answer(0)),
    ] {
        let sealed = seal(&sealer, b"up 1\n", meant);
        assert_eq!(open(&unsealer, &sealed, taken), Err(OpenError::Forged));
        assert_eq!(open(&elsewhere, &sealed, meant), Err(OpenError::Forged));
        assert_eq!(
            open(&unsealer, &sealed, meant).as_deref(),
            Ok(&b"up 1\n"[..])
        );
    }
}

#[test]
fn nothing_opens_twice_even_after_a_new_secret() {
    let sealer = Sealer::new(TOKEN);
    let unsealer = Unsealer::new(TOKEN);
    let made = Instant::now();
    let first = sealer.seal(b"a 1\n", &PUBLIC, Purpose::Push, made).unwrap();
    let second = sealer
        .seal(b"a 2\n", &PUBLIC, Purpose::Push, made + MAX_AGE)
        .unwrap();
    assert_ne!(first.metadata[HEAD..], second.metadata[HEAD..]);
    // The second overtakes the first on the way to the workers.
    for sealed in [&second, &first] {
        assert!(open(&unsealer, sealed, Purpose::Push).is_ok());
    }
    for sealed in [&first, &second] {
        assert_eq!(
            open(&unsealer, sealed, Purpose::Push),
            Err(OpenError::Replayed)
        );
    }
}

#[test]
fn a_secret_serves_until_it_is_old_or_used_up_or_the_key_changes() {
    let wrapped = |sealed: Sealed| sealed.metadata.slice(HEAD..);
    let now = Instant::now();
    let sealer = Sealer::new(TOKEN);
    let at = |key: &PublicKey, now| wrapped(sealer.seal(b"", key, Purpose::Push, now).unwrap());
    let first = at(&PUBLIC, now);
    assert_eq!(at(&PUBLIC, now + MAX_AGE - Duration::from_secs(1)), first);
    let second = at(&PUBLIC, now + MAX_AGE);
    assert_ne!(second, first);
    for _ in 1..MAX_USES {
        assert_eq!(at(&PUBLIC, now + MAX_AGE), second);
    }
    assert_ne!(at(&PUBLIC, now + MAX_AGE), second);
    let other = KeyPair::generate().unwrap();
    let other = PublicKey::from_spki_der(&other.spki_der()).unwrap();
    let third = sealer.seal(b"", &other, Purpose::Push, now).unwrap();
    assert_eq!(third.metadata[4..12], other.id().as_bytes()[..]);
    assert_eq!(
        open(&Unsealer::new(TOKEN), &third, Purpose::Push),
        Err(OpenError::WrongKey)
    );
}

#[test]
fn the_versions_are_told_apart() {
    let first = version1::seal(b"up 1\n", &PUBLIC).unwrap();
    assert!(!is_version2(&first.metadata));
    let unsealer = Unsealer::new(TOKEN);
    assert_eq!(
        open(&unsealer, &first, Purpose::Push),
        Err(OpenError::WrongKind)
    );
    let second = seal(&Sealer::new(TOKEN), b"up 1\n", Purpose::Push);
    assert!(is_version2(&second.metadata));
    assert_eq!(
        version1::open(&second.metadata, second.data, [&*KEY]),
        Err(OpenError::WrongKey)
    );
}

#[test]
fn a_text_past_the_limit_is_refused() {
    let sealed = seal(&Sealer::new(TOKEN), &[b'a'; 11], Purpose::Push);
    let unsealer = Unsealer::new(TOKEN);
    let block = unsealer.open(&sealed.metadata, sealed.data, [&*KEY], Purpose::Push);
    let text = block.unwrap().text(10, Hold::Long);
    assert_eq!(text, Err(OpenError::TooLong));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_sealed_opens_to_the_same_text(
        texts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..512), 1..8),
    ) {
        let sealer = Sealer::new(TOKEN);
        let unsealer = Unsealer::new(TOKEN);
        for (pull, text) in (0..).zip(&texts) {
            let sealed = seal(&sealer, text, answer(pull));
            let opened = open(&unsealer, &sealed, answer(pull));
            prop_assert_eq!(opened.as_deref(), Ok(&text[..]));
        }
    }

    #[test]
    fn any_damage_is_an_error(
        text in proptest::collection::vec(any::<u8>(), 0..512),
        at in any::<prop::sample::Index>(),
        bit in 0..8u8,
    ) {
        let sealer = Sealer::new(TOKEN);
        let whole = seal(&sealer, &text, Purpose::Push);
        let mut sealed = whole.clone();
        let mut data = sealed.data.to_vec();
        data[at.index(whole.data.len())] ^= 1 << bit;
        sealed.data = data.into();
        prop_assert_eq!(open(&Unsealer::new(TOKEN), &sealed, Purpose::Push), Err(OpenError::Forged));
        let mut sealed = whole.clone();
        let mut metadata = sealed.metadata.to_vec();
        metadata[at.index(whole.metadata.len())] ^= 1 << bit;
        sealed.metadata = metadata.into();
        prop_assert!(open(&Unsealer::new(TOKEN), &sealed, Purpose::Push).is_err());
        for length in [0, at.index(whole.metadata.len())] {
            let sealed = Sealed { metadata: whole.metadata.slice(..length), ..whole.clone() };
            prop_assert!(open(&Unsealer::new(TOKEN), &sealed, Purpose::Push).is_err());
        }
    }

    #[test]
    fn any_metadata_is_an_announcement_or_not(metadata in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = Announcement::decode(&metadata);
        let announced = [b"PRP\x01", &metadata[..]].concat();
        if let Some(read) = Announcement::decode(&announced) {
            prop_assert_eq!(Announcement::decode(&read.encode()), Some(read));
        }
    }
}
