//! The envelope against bytes recorded from the published Java client 1.5.3, and against the `rsa` crate.
#![cfg(feature = "open")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test may panic")]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use bytes::Bytes;
use prometheus_rsocket_wire::envelope::plaintext::{self, PLAINTEXT};
use prometheus_rsocket_wire::envelope::{Hold, OpenError, Sealed, version1};
use prometheus_rsocket_wire::key::{KeyPair, PublicKey};
use proptest::prelude::*;

const MAX_TEXT: usize = 1 << 20;

fn read(case: &str, file: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/vectors")
        .join(case)
        .join(file);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn key_pair(case: &str) -> KeyPair {
    KeyPair::from_pkcs8_pem(&String::from_utf8(read(case, "private.pem")).unwrap()).unwrap()
}

static KEY: LazyLock<KeyPair> = LazyLock::new(|| key_pair("1-small"));
static PUBLIC: LazyLock<PublicKey> =
    LazyLock::new(|| PublicKey::from_spki_der(&KEY.spki_der()).unwrap());

fn open<'k>(
    metadata: &[u8],
    data: Bytes,
    keys: impl IntoIterator<Item = &'k KeyPair>,
    max_text: usize,
) -> Result<Bytes, OpenError> {
    version1::open(metadata, data, keys)?.text(max_text, Hold::Scrape)
}

#[test]
fn opens_what_the_java_client_sealed() {
    for case in [
        "1-small",
        "2-100kb",
        "3-empty",
        "4-utf8",
        "5-rsa3072",
        "6-pushAndClose",
        "7-pushAndCloseBlockingly",
        "9-registry-scrape",
    ] {
        let text = open(
            &read(case, "metadata.bin"),
            read(case, "data.bin").into(),
            [&key_pair(case)],
            MAX_TEXT,
        );
        assert_eq!(
            text.as_deref(),
            Ok(&read(case, "plaintext.txt")[..]),
            "{case}"
        );
    }
}

#[test]
fn what_one_node_unwraps_another_opens() {
    let sealed = version1::seal(b"a 1\n", &PUBLIC).unwrap();
    let other = key_pair("2-100kb");
    let refused = version1::unwrap(&sealed.metadata, [&other]);
    assert_eq!(refused, Err(OpenError::WrongKey));
    let secret = version1::unwrap(&sealed.metadata, [&*KEY]).unwrap();
    let block = version1::open_with(&secret, sealed.data).unwrap();
    let text = block.text(MAX_TEXT, Hold::Long);
    assert_eq!(text.as_deref(), Ok(&b"a 1\n"[..]));
}

#[test]
fn takes_the_java_clients_plaintext_answer() {
    let text = plaintext::open(
        &read("8-plaintext", "metadata.bin"),
        read("8-plaintext", "data.bin").into(),
        MAX_TEXT,
    );
    assert_eq!(
        text.as_deref(),
        Ok(&read("8-plaintext", "plaintext.txt")[..])
    );
}

#[test]
fn announces_the_key_in_the_form_the_java_client_reads() {
    assert_eq!(
        key_pair("1-small").spki_der(),
        read("1-small", "public.der")
    );
}

#[test]
fn a_made_key_pair_opens_what_is_sealed_to_its_public_half() {
    let pair = KeyPair::generate().unwrap();
    assert_eq!(pair.spki_der().len(), 294);
    let public = PublicKey::from_spki_der(&pair.spki_der()).unwrap();
    let sealed = version1::seal(b"a 1\n", &public).unwrap();
    assert_eq!(
        open(&sealed.metadata, sealed.data, [&pair], MAX_TEXT).as_deref(),
        Ok(&b"a 1\n"[..])
    );
}

#[test]
fn an_earlier_key_of_the_ring_still_opens() {
    let sealed = version1::seal(b"a 1\n", &PUBLIC).unwrap();
    let keys = [KeyPair::generate().unwrap(), key_pair("1-small")];
    let text = open(&sealed.metadata, sealed.data, &keys, MAX_TEXT);
    assert_eq!(text.as_deref(), Ok(&b"a 1\n"[..]));
}

#[test]
fn an_envelope_for_another_key_does_not_open() {
    let opened = open(
        &read("2-100kb", "metadata.bin"),
        read("2-100kb", "data.bin").into(),
        [&*KEY],
        MAX_TEXT,
    );
    assert_eq!(opened, Err(OpenError::WrongKey));
}

#[test]
fn plain_text_is_not_taken_where_encryption_was_asked_for() {
    assert_eq!(
        open(PLAINTEXT, Bytes::from_static(b"a 1\n"), [&*KEY], MAX_TEXT),
        Err(OpenError::WrongKind)
    );
    let sealed = version1::seal(b"a 1\n", &PUBLIC).unwrap();
    assert_eq!(
        plaintext::open(&sealed.metadata, sealed.data, MAX_TEXT),
        Err(OpenError::WrongKind)
    );
}

#[test]
fn a_text_past_the_limit_is_refused_by_its_declared_length() {
    let sealed = version1::seal(&vec![b'a'; 10_001], &PUBLIC).unwrap();
    assert_eq!(
        open(&sealed.metadata, sealed.data, [&*KEY], 10_000),
        Err(OpenError::TooLong)
    );
}

#[test]
fn a_block_that_declares_more_than_snappy_can_expand_is_refused_before_memory_is_taken() {
    // Declares 2^32 - 1 bytes and holds none: with no limit in the way, only the expansion check stands before 4 GiB.
    let sealed = seal_block(&[0xff, 0xff, 0xff, 0xff, 0x0f]);
    assert_eq!(
        open(&sealed.metadata, sealed.data, [&*KEY], usize::MAX),
        Err(OpenError::Decompress)
    );
}

/// An envelope around bytes that need not be a Snappy block.
fn seal_block(block: &[u8]) -> Sealed {
    use ecb::cipher::block_padding::Pkcs7;
    use ecb::cipher::{BlockModeEncrypt, KeyInit};
    use rsa::pkcs8::DecodePublicKey;

    let secret = [7; 16];
    let public = rsa::RsaPublicKey::from_public_key_der(&KEY.spki_der()).unwrap();
    let padding = rsa::Oaep::<sha2::Sha256, sha1::Sha1>::new_with_mgf_hash();
    Sealed {
        metadata: public
            .encrypt(&mut rand::rng(), padding, &secret)
            .unwrap()
            .into(),
        data: ecb::Encryptor::<aes::Aes128>::new(&secret.into())
            .encrypt_padded_vec::<Pkcs7>(block)
            .into(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_sealed_opens_to_the_same_text(text in proptest::collection::vec(any::<u8>(), 0..4096)) {
        let sealed = version1::seal(&text, &PUBLIC).unwrap();
        let opened = open(&sealed.metadata, sealed.data, [&*KEY], MAX_TEXT);
        prop_assert_eq!(opened.as_deref(), Ok(&text[..]));
    }

    #[test]
    fn damage_is_an_error_or_another_text_never_a_panic(
        text in proptest::collection::vec(any::<u8>(), 0..512),
        at in any::<prop::sample::Index>(),
        bit in 0..8u8,
        cut in any::<prop::sample::Index>(),
    ) {
        let sealed = version1::seal(&text, &PUBLIC).unwrap();
        let mut data = sealed.data.to_vec();
        data[at.index(sealed.data.len())] ^= 1 << bit;
        data.truncate(cut.index(data.len() + 1));
        let _ = open(&sealed.metadata, data.into(), [&*KEY], MAX_TEXT);
        let mut metadata = sealed.metadata.to_vec();
        metadata[at.index(sealed.metadata.len())] ^= 1 << bit;
        let opened = open(&metadata, sealed.data, [&*KEY], MAX_TEXT);
        prop_assert_eq!(opened, Err(OpenError::WrongKey));
    }

    #[test]
    fn any_bytes_as_a_block_are_an_error_or_within_the_limit(block in proptest::collection::vec(any::<u8>(), 0..256)) {
        let sealed = seal_block(&block);
        if let Ok(text) = open(&sealed.metadata, sealed.data, [&*KEY], 1024) {
            prop_assert!(text.len() <= 1024);
        }
    }
}
