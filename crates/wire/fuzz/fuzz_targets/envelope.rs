//! Whatever an application puts into an envelope: an error, or a text within the limit.
//!
//! The first byte chooses. 0: the bytes are a Snappy block in an envelope of version 1 that opens; 1: in one of version 2.
//! 2: they are the encrypted data and, of the length that the second byte gives, the metadata. 3: the same, with the
//! beginning of version 2's metadata before it. 4: an announcement.

#![no_main]

use std::sync::LazyLock;

use aes::Aes128;
use bytes::Bytes;
use ecb::cipher::block_padding::Pkcs7;
use ecb::cipher::{BlockModeEncrypt, KeyInit};
use libfuzzer_sys::fuzz_target;
use aes_gcm::aead::AeadInOut;
use aes_gcm::Aes256Gcm;
use prometheus_rsocket_wire::envelope::version2::{Purpose, Unsealer};
use prometheus_rsocket_wire::envelope::{Hold, plaintext, version1};
use prometheus_rsocket_wire::key::KeyPair;
use prometheus_rsocket_wire::{Announcement, ConnectionToken};
use rsa::pkcs8::DecodePublicKey;
use rsa::{Oaep, RsaPublicKey};
use sha1::Sha1;
use sha2::Sha256;

const MAX_TEXT: usize = 1 << 20;

static KEY: LazyLock<KeyPair> = LazyLock::new(|| {
    let pem = include_str!("../../tests/vectors/1-small/private.pem");
    KeyPair::from_pkcs8_pem(pem).expect("a recorded key")
});

const SECRET: [u8; 16] = [7; 16];

/// The secret, wrapped as a client does it.
static WRAPPED: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let public = RsaPublicKey::from_public_key_der(&KEY.spki_der()).expect("a public key");
    let padding = Oaep::<Sha256, Sha1>::new_with_mgf_hash();
    public
        .encrypt(&mut rand::rng(), padding, &SECRET)
        .expect("a wrapped secret")
});

const SECRET2: [u8; 32] = [9; 32];
const TOKEN: ConnectionToken = ConnectionToken::from_bytes([3; 16]);

/// Metadata of version 2 with the counter 0.
static METADATA2: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let public = RsaPublicKey::from_public_key_der(&KEY.spki_der()).expect("a public key");
    let wrapped = public
        .encrypt(&mut rand::rng(), Oaep::<Sha256>::new(), &SECRET2)
        .expect("a wrapped secret");
    [b"PRE\x02", &KEY.id().as_bytes()[..], &[0; 8], &wrapped].concat()
});

fn seal2(block: &[u8]) -> Vec<u8> {
    let associated = [
        &b"prometheus-rsocket-proxy envelope 2"[..],
        TOKEN.as_bytes(),
        &[2],
        &[0; 8],
    ]
    .concat();
    let mut data = block.to_vec();
    Aes256Gcm::new(&SECRET2.into())
        .encrypt_in_place(&[0; 12].into(), &associated, &mut data)
        .expect("sealed");
    data
}

fuzz_target!(|input: &[u8]| {
    let Some((choice, rest)) = input.split_first() else {
        return;
    };
    let unsealer = Unsealer::new(TOKEN);
    let open2 = |metadata: &[u8], data: Vec<u8>| {
        let block = unsealer.open(metadata, data.into(), [&*KEY], Purpose::Push)?;
        block.text(MAX_TEXT, Hold::Long)
    };
    let open1 = |metadata: &[u8], data: Bytes| {
        version1::open(metadata, data, [&*KEY])?.text(MAX_TEXT, Hold::Scrape)
    };
    let length = rest
        .first()
        .map_or(0, |length| usize::from(*length))
        .min(rest.len());
    let (metadata, data) = rest.split_at(length);
    let opened = match choice % 5 {
        0 => {
            let encryptor = ecb::Encryptor::<Aes128>::new(&SECRET.into());
            let data = encryptor.encrypt_padded_vec::<Pkcs7>(rest);
            open1(&WRAPPED, data.into())
        }
        1 => open2(&METADATA2, seal2(rest)),
        2 => {
            let data = Bytes::copy_from_slice(data);
            let _ = plaintext::open(metadata, data.clone(), MAX_TEXT);
            open1(metadata, data)
        }
        3 => {
            let opened = open2(&[&METADATA2[..4], metadata].concat(), data.to_vec());
            assert!(opened.is_err(), "nobody wrapped this");
            opened
        }
        _ => {
            let announced = [b"PRP\x01", rest].concat();
            if let Some(read) = Announcement::decode(&announced) {
                assert_eq!(Announcement::decode(&read.encode()), Some(read));
            }
            return;
        }
    };
    if let Ok(text) = opened {
        assert!(text.len() <= MAX_TEXT);
    }
});
